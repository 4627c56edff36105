//! Rows of the index as records.

use rusqlite::{Row, types::Type};

use crate::model::{
    ArtifactKind, Digest, FileTime, ProvenanceRef, RelPath, RetentionMode, SealRecord, Timestamp,
};

/// The columns that [`record`] reads, in its order.
pub const COLUMNS: &str = "artifact.id, dir.path, artifact.name, kind, sha256, size, perm, uid, gid, \
    mtime_s, mtime_ns, sealed_at, sealed_wall, retain_sealed, retain_until, mode, \
    (SELECT text FROM term WHERE id = policy), (SELECT text FROM term WHERE id = namespace), \
    (SELECT text FROM term WHERE id = key), log_index, signature, statement_signature, template, ino, \
    ctime_s, ctime_ns, holds, torn, provenance, provenance_signature";

/// From where [`COLUMNS`] are read.
pub const FROM: &str = "FROM artifact JOIN dir ON dir.id = artifact.dir";

fn broken(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, what.to_owned().into())
}

/// Reads a record; its holds are read by a second query if `holds` is not zero, which is the second value.
pub fn record(row: &Row<'_>) -> rusqlite::Result<(SealRecord, u32)> {
    let (dir, name): (String, String) = (row.get(1)?, row.get(2)?);
    let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
    let path = RelPath::parse(&path).map_err(|_| broken(1, "not a valid path"))?;
    let digest =
        |column: usize, text: String| text.parse::<Digest>().map_err(|_| broken(column, "not a digest"));
    let sha256: Vec<u8> = row.get(4)?;
    let signature: Option<Vec<u8>> = row.get(20)?;
    let statement_signature: Vec<u8> = row.get(21)?;
    let sized =
        |column, bytes: Vec<u8>| <[u8; 64]>::try_from(bytes).map_err(|_| broken(column, "not 64 bytes"));
    let record = SealRecord {
        id: row.get(0)?,
        path,
        kind: if row.get::<_, i64>(3)? == 1 { ArtifactKind::Symlink } else { ArtifactKind::File },
        sha256: Digest::from_slice(&sha256).map_err(|_| broken(4, "not a digest"))?,
        size: unsigned(row, 5)?,
        perm: row.get(6)?,
        uid: row.get(7)?,
        gid: row.get(8)?,
        mtime: FileTime { seconds: row.get(9)?, nanos: row.get(10)? },
        sealed_at: Timestamp(row.get(11)?),
        sealed_wall: Timestamp(row.get(12)?),
        retain_sealed: Timestamp(row.get(13)?),
        retain_until: Timestamp(row.get(14)?),
        mode: mode_of(row.get(15)?),
        policy: digest(16, row.get(16)?)?,
        namespace: row.get(17)?,
        key: row.get(18)?,
        log_index: unsigned(row, 19)?,
        signature: signature.map(|bytes| sized(20, bytes)).transpose()?,
        statement_signature: sized(21, statement_signature)?,
        provenance: provenance(row, &sized)?,
        template: row.get(22)?,
        ino: unsigned(row, 23)?,
        ctime: FileTime { seconds: row.get(24)?, nanos: row.get(25)? },
        holds: Vec::new(),
        torn_kept: row.get::<_, i64>(27)? != 0,
    };
    Ok((record, row.get(26)?))
}

fn provenance(
    row: &Row<'_>,
    sized: &dyn Fn(usize, Vec<u8>) -> rusqlite::Result<[u8; 64]>,
) -> rusqlite::Result<Option<ProvenanceRef>> {
    let Some(attachment) = row.get::<_, Option<i64>>(28)? else { return Ok(None) };
    let signature = sized(29, row.get(29)?)?;
    Ok(Some(ProvenanceRef { attachment: attachment.cast_unsigned(), signature }))
}

/// SQLite's integers are signed; what we keep in them as unsigned keeps its bits.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// The mode of retention as it is kept.
pub fn mode_of(number: i64) -> RetentionMode {
    if number == 1 { RetentionMode::Compliance } else { RetentionMode::Governance }
}
