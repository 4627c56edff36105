//! Questions about the log, keys, attachments, and where artifacts came from.

use rusqlite::{Connection, OptionalExtension, params};

use super::read::{ReadIndex, with_holds};
use super::row::{COLUMNS, FROM, record};
use crate::ledger::log::{Edge, leaf_hash};
use crate::ledger::{EntryRow, KeyRole, LedgerError};
use crate::model::{Digest, RelPath, SealRecord, Timestamp};

/// What an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentKind {
    /// Who wrote: what line 2 is made of.
    Writers,
    /// Somebody else's DSSE envelope.
    Envelope,
}

/// Content that is kept once and referred to by number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// Its number, from 1.
    pub id: u64,
    /// What it is.
    pub kind: AttachmentKind,
    /// The content, verbatim.
    pub body: String,
}

/// A key of the store, as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `SHA256:…`.
    pub fingerprint: String,
    /// What for.
    pub role: KeyRole,
    /// OpenSSH line.
    pub public: String,
    /// Position in the log from which it is in use.
    pub since: u64,
    /// Position at which another took its place.
    pub until: Option<u64>,
    /// Position at which it was retired.
    pub retired: Option<u64>,
    /// From when on others may have had it.
    pub compromised: Option<Timestamp>,
}

impl ReadIndex {
    /// Every entry about a path, oldest first.
    ///
    /// # Errors
    /// If the index or the log cannot be read.
    pub fn history(&self, path: &RelPath) -> Result<Vec<EntryRow>, LedgerError> {
        let Some((dir, name)) = path.split() else { return Ok(Vec::new()) };
        let positions: Vec<u64> = self.with(|c| {
            let sql = "SELECT about.idx FROM about JOIN dir ON dir.id = about.dir WHERE dir.path = ?1 AND about.name = ?2 \
                       UNION SELECT log_index FROM artifact JOIN dir ON dir.id = artifact.dir \
                       WHERE live = 1 AND dir.path = ?1 AND artifact.name = ?2 \
                       UNION SELECT log_index FROM artifact JOIN dir ON dir.id = artifact.dir \
                       WHERE live = 0 AND dir.path = ?1 AND artifact.name = ?2 ORDER BY 1";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([dir, name], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
            rows.collect()
        })?;
        let entries = positions.into_iter().map(|index| {
            self.entry(index)?.ok_or_else(|| LedgerError::Broken(format!("entry {index} is in no bundle")))
        });
        entries.collect()
    }

    /// The last entry, by its position, about each path below a folder that has entries beside those of its seals.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn last_about(&self, path: &RelPath) -> Result<Vec<(RelPath, u64)>, LedgerError> {
        let (low, high) = (format!("{path}/"), format!("{path}0"));
        let place = if path.is_root() {
            "?1 = ?1 AND ?2 = ?2 AND ?3 = ?3"
        } else {
            "(dir.path = ?3 OR (dir.path >= ?1 AND dir.path < ?2))"
        };
        let sql = format!(
            "SELECT dir.path, about.name, max(about.idx) FROM about JOIN dir ON dir.id = about.dir WHERE {place} \
             GROUP BY about.dir, about.name ORDER BY dir.path, about.name"
        );
        let rows: Vec<(String, String, i64)> = self.with(|c| {
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map([low.as_str(), high.as_str(), path.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            rows.collect()
        })?;
        rows.into_iter()
            .map(|(dir, name, index)| {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let path = RelPath::parse(&path).map_err(|error| LedgerError::Broken(error.to_string()))?;
                Ok((path, index.cast_unsigned()))
            })
            .collect()
    }

    /// One entry of the log: from the index, or from its bundle once it has left.
    ///
    /// # Errors
    /// If the index or the bundle cannot be read.
    pub fn entry(&self, index: u64) -> Result<Option<EntryRow>, LedgerError> {
        let kept = self.kept_entry(index)?;
        if kept.is_some() || index >= self.entries()? {
            return Ok(kept);
        }
        // It may have left between our two looks.
        let bundle = self.log().full_bundle(index / 256)?;
        Ok(bundle
            .get(usize::try_from(index % 256).unwrap_or(0))
            .map(|body| EntryRow { index, body: body.clone() }))
    }

    /// An entry, if the index still has it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn kept_entry(&self, index: u64) -> Result<Option<EntryRow>, LedgerError> {
        self.with(|c| kept_entry(c, index))
    }

    /// The entries from a position on that the index has, at most `most`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn kept_entries(&self, from: u64, most: u32) -> Result<Vec<EntryRow>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT idx, body FROM entry WHERE idx >= ?1 ORDER BY idx LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map(params![from.cast_signed(), most], entry)?;
            rows.collect()
        })
    }

    /// A hash of the tree that the index has.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn node(&self, level: u8, index: u64) -> Result<Option<Digest>, LedgerError> {
        self.with(|c| {
            c.prepare_cached("SELECT hash FROM node WHERE level = ?1 AND idx = ?2")?
                .query_row(params![level, index.cast_signed()], |row| row.get(0).map(Digest))
                .optional()
        })
    }

    /// The right edge of the tree as the index has it. Its leaves are hashed again from the entries.
    ///
    /// # Errors
    /// If the index cannot be read, or entries and hashes do not fit.
    pub fn edge(&self) -> Result<Edge, LedgerError> {
        let size = self.entries()?;
        let edge = Edge::restore(size, &mut |level, index| {
            let node = self.node(level, index)?;
            let node = node.ok_or_else(|| LedgerError::Broken(format!("hash {level}/{index} is missing")))?;
            if level == 0 {
                let row = self.kept_entry(index)?;
                let row = row.ok_or_else(|| LedgerError::Broken(format!("entry {index} is missing")))?;
                if leaf_hash(row.body.as_bytes()) != node {
                    return Err(LedgerError::Broken(format!("entry {index} is not the one that was hashed")));
                }
            }
            Ok(node)
        })?;
        Ok(edge)
    }

    /// Up to where full tiles and bundles were exported when entries last left the index.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn pruned_at(&self) -> Result<u64, LedgerError> {
        self.with(|c| {
            let sql = "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'exported'), 0)";
            Ok(c.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
        })
    }

    /// An attachment by its number.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn attachment(&self, id: u64) -> Result<Option<Attachment>, LedgerError> {
        self.with(|c| {
            c.prepare_cached("SELECT id, kind, body FROM attachment WHERE id = ?1")?
                .query_row([id.cast_signed()], attachment)
                .optional()
        })
    }

    /// Bytes of an attachment; 0 if it is not there.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn attachment_length(&self, id: u64) -> Result<usize, LedgerError> {
        self.with(|c| {
            let sql = "SELECT octet_length(body) FROM attachment WHERE id = ?1";
            let length = c.prepare_cached(sql)?.query_row([id.cast_signed()], |row| row.get(0)).optional()?;
            Ok(length.unwrap_or(0))
        })
    }

    /// The attachments after a number, at most `most`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn attachments_after(&self, id: u64, most: u32) -> Result<Vec<Attachment>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT id, kind, body FROM attachment WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map(params![id.cast_signed(), most], attachment)?;
            rows.collect()
        })
    }

    /// Every key that the store ever had, by role and time.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRow>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT fingerprint, role, public, since, until, retired, compromised FROM key \
                       ORDER BY role, since, fingerprint";
            let mut statement = c.prepare_cached(sql)?;
            let position = |row: &rusqlite::Row<'_>, column| {
                row.get::<_, Option<i64>>(column).map(|value| value.map(i64::cast_unsigned))
            };
            let rows = statement.query_map([], |row| {
                Ok(KeyRow {
                    fingerprint: row.get(0)?,
                    role: if row.get::<_, i64>(1)? == 1 { KeyRole::Log } else { KeyRole::Seal },
                    public: row.get(2)?,
                    since: position(row, 3)?.unwrap_or(0),
                    until: position(row, 4)?,
                    retired: position(row, 5)?,
                    compromised: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                })
            })?;
            rows.collect()
        })
    }

    /// Every seal of this content, ended ones too, in the order of the log.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn of_content(&self, sha256: &Digest) -> Result<Vec<Traced>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS}, live {FROM} WHERE substr(sha256, 1, 6) = substr(?1, 1, 6) AND sha256 = ?1 ORDER BY log_index"
        );
        self.with(|c| traced(c, &sql, [sha256.0]))
    }

    /// Every seal whose writer claimed a commit that begins with these hexadecimal digits, in the order of the log.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn of_commit(&self, prefix: &str) -> Result<Vec<Traced>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS}, live {FROM} WHERE provenance IN \
             (SELECT attachment FROM claim WHERE commit_id >= ?1 AND commit_id < ?1 || 'g') ORDER BY log_index"
        );
        self.with(|c| traced(c, &sql, [prefix]))
    }

    /// Positions of the entries that the further lines of a seal's statements are rendered from: extensions, holds
    /// and attestations, oldest first.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn lines(&self, artifact: i64) -> Result<Vec<u64>, LedgerError> {
        self.with(|c| {
            let mut statement = c.prepare_cached("SELECT idx FROM line WHERE artifact = ?1 ORDER BY idx")?;
            let rows = statement.query_map([artifact], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
            rows.collect()
        })
    }
}

/// A seal, and whether it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// The record.
    pub record: SealRecord,
    /// Whether it still has its name.
    pub stands: bool,
}

/// Columns of a record.
const WIDTH: usize = 30;

fn traced<P: rusqlite::Params>(c: &Connection, sql: &str, params: P) -> rusqlite::Result<Vec<Traced>> {
    let mut statement = c.prepare_cached(sql)?;
    let found: Vec<_> = statement
        .query_map(params, |row| Ok((record(row)?, row.get::<_, i64>(WIDTH)? == 1)))?
        .collect::<rusqlite::Result<_>>()?;
    found.into_iter().map(|(found, stands)| Ok(Traced { record: with_holds(c, found)?, stands })).collect()
}

fn attachment(row: &rusqlite::Row<'_>) -> rusqlite::Result<Attachment> {
    let kind = if row.get::<_, i64>(1)? == 1 { AttachmentKind::Envelope } else { AttachmentKind::Writers };
    Ok(Attachment { id: row.get::<_, i64>(0)?.cast_unsigned(), kind, body: row.get(2)? })
}

/// An entry, if the index still has it.
pub(super) fn kept_entry(c: &Connection, index: u64) -> rusqlite::Result<Option<EntryRow>> {
    c.prepare_cached("SELECT idx, body FROM entry WHERE idx = ?1")?
        .query_row([index.cast_signed()], entry)
        .optional()
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<EntryRow> {
    Ok(EntryRow { index: row.get::<_, i64>(0)?.cast_unsigned(), body: row.get(1)? })
}
