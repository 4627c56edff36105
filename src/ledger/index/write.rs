//! Changes of the index, inside one transaction.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::evidence::{self, AttachmentKind};
use super::read::{self, Pending, Refusal};
use super::row::mode_of;
use crate::clock::Anchor;
use crate::ledger::{EntryRow, KeyRole};
use crate::model::{ArtifactKind, Asked, Digest, FileTime, RelPath, RetentionMode, SealRecord, Timestamp};

/// Statements on the writer's connection. The caller has begun a transaction and ends it.
pub struct Writer<'a> {
    connection: &'a Connection,
    known: &'a mut Interned,
}

/// Rows of folders and terms that were found or made in this transaction, and by how much it changes the totals.
#[derive(Default)]
pub struct Interned {
    dirs: HashMap<String, i64>,
    terms: HashMap<String, i64>,
    pub totals: Totals,
}

/// Sums over all seals that stand, or by how much they change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub seals: i64,
    /// Of these, with holds.
    pub held: i64,
    /// Bytes of their files.
    pub bytes: i64,
}

impl Totals {
    /// Counts every row.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*), coalesce(sum(holds > 0), 0), coalesce(sum(size), 0) FROM artifact WHERE live = 1";
        connection.query_row(sql, [], |row| {
            Ok(Totals { seals: row.get(0)?, held: row.get(1)?, bytes: row.get(2)? })
        })
    }

    /// After a transaction.
    pub(super) fn add(&mut self, change: Totals) {
        self.seals += change.seals;
        self.held += change.held;
        self.bytes = self.bytes.saturating_add(change.bytes);
    }
}

/// A seal that stands, as far as the rules for what may follow on it go.
pub struct Row {
    pub id: i64,
    pub until: Timestamp,
    pub mode: RetentionMode,
    pub holds: usize,
}

/// Rows kept of refusals.
const REFUSALS_KEPT: i64 = 10_000;

impl<'a> Writer<'a> {
    pub fn new(connection: &'a Connection, known: &'a mut Interned) -> Self {
        Writer { connection, known }
    }

    /// Position of the next entry.
    pub fn next_index(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT coalesce(max(idx) + 1, 0) FROM entry";
        self.connection.prepare_cached(sql)?.query_row([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))
    }

    pub fn entry(&self, index: u64, body: &str) -> rusqlite::Result<()> {
        let sql = "INSERT INTO entry VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![index.cast_signed(), body])?;
        Ok(())
    }

    pub fn node(&self, level: u8, index: u64, hash: Digest) -> rusqlite::Result<()> {
        let sql = "INSERT INTO node VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute(params![level, index.cast_signed(), hash.0])?;
        Ok(())
    }

    /// Notes that an entry is about a path.
    pub fn about(&mut self, path: &RelPath, index: u64) -> rusqlite::Result<()> {
        let Some((dir, name)) = path.split() else { return Ok(()) };
        let dir = self.dir(dir)?;
        let sql = "INSERT INTO about VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute(params![dir, name, index.cast_signed()])?;
        Ok(())
    }

    /// Lets entries and nodes go that stand in full, durable bundles and tiles of a log of `size` entries.
    pub fn prune(&self, size: u64) -> rusqlite::Result<()> {
        let bundled = (size / 256 * 256).min(size.saturating_sub(1));
        self.connection.execute("DELETE FROM entry WHERE idx < ?1", [bundled.cast_signed()])?;
        let mut nodes = size;
        for level in 0u8.. {
            let tiled = nodes / 256 * 256;
            if tiled == 0 {
                break;
            }
            let sql = "DELETE FROM node WHERE level = ?1 AND idx < ?2";
            self.connection.execute(sql, params![level, tiled.cast_signed()])?;
            nodes /= 256;
        }
        self.meta("exported", &size.to_string())
    }

    pub fn meta(&self, key: &str, value: &str) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![key, value])?;
        Ok(())
    }

    /// The number of an attachment with this content; it is added if it is new.
    pub fn attach(&self, kind: AttachmentKind, body: &str, commits: &[String]) -> rusqlite::Result<u64> {
        let digest = crate::crypto::sha256(body.as_bytes());
        let sql = "SELECT id FROM attachment WHERE sha256 = ?1";
        let known =
            self.connection.prepare_cached(sql)?.query_row([digest.0], |row| row.get(0)).optional()?;
        if let Some(id) = known {
            return Ok(i64::cast_unsigned(id));
        }
        let sql = "INSERT INTO attachment (kind, sha256, body) VALUES (?1, ?2, ?3)";
        let kind = i64::from(kind == AttachmentKind::Envelope);
        self.connection.prepare_cached(sql)?.execute(params![kind, digest.0, body])?;
        let id = self.connection.last_insert_rowid();
        for commit in commits {
            let sql = "INSERT OR IGNORE INTO claim VALUES (?1, ?2)";
            self.connection.prepare_cached(sql)?.execute(params![commit, id])?;
        }
        Ok(id.cast_unsigned())
    }

    pub fn key_made(
        &self,
        fingerprint: &str,
        role: KeyRole,
        public: &str,
        since: u64,
    ) -> rusqlite::Result<()> {
        let sql = "UPDATE key SET until = ?2 WHERE role = ?1 AND until IS NULL";
        let (role, since) = (role_number(role), since.cast_signed());
        self.connection.prepare_cached(sql)?.execute(params![role, since])?;
        let sql = "INSERT INTO key VALUES (?1, ?2, ?3, ?4, NULL, NULL, NULL)";
        self.connection.prepare_cached(sql)?.execute(params![fingerprint, role, public, since])?;
        Ok(())
    }

    pub fn key_retired(
        &self,
        fingerprint: &str,
        role: KeyRole,
        index: u64,
        since: Timestamp,
    ) -> rusqlite::Result<bool> {
        let sql = "UPDATE key SET retired = ?3, compromised = ?4 \
                   WHERE fingerprint = ?1 AND role = ?2 AND retired IS NULL";
        let values = params![fingerprint, role_number(role), index.cast_signed(), since.0];
        Ok(self.connection.prepare_cached(sql)?.execute(values)? > 0)
    }

    /// The seal that stands at a path, as this transaction sees it.
    pub fn find(&self, path: &RelPath) -> rusqlite::Result<Option<SealRecord>> {
        read::find(self.connection, path)
    }

    /// An entry, if the index still has it, as this transaction sees it.
    pub fn kept_entry(&self, index: u64) -> rusqlite::Result<Option<EntryRow>> {
        evidence::kept_entry(self.connection, index)
    }

    /// Positions of all entries about a seal after its own, oldest first: its lines, and what else is about its path.
    pub fn lines_about(&self, record: &SealRecord) -> rusqlite::Result<Vec<u64>> {
        let (dir, name) = record.path.split().unwrap_or(("", ""));
        let sql = "SELECT idx FROM line WHERE artifact = ?1 UNION SELECT about.idx FROM about JOIN dir ON dir.id = about.dir \
                   WHERE dir.path = ?2 AND about.name = ?3 AND about.idx > ?4 ORDER BY 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let values = params![record.id, dir, name, record.log_index.cast_signed()];
        let rows = statement.query_map(values, |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
        rows.collect()
    }

    /// The seal that stands at a path and was made at this place in the log.
    pub fn standing(&mut self, path: &RelPath, seal: u64) -> rusqlite::Result<Option<Row>> {
        let Some((dir, name)) = path.split() else { return Ok(None) };
        let dir = self.dir(dir)?;
        let sql = "SELECT id, retain_until, mode, holds FROM artifact \
                   WHERE live = 1 AND dir = ?1 AND name = ?2 AND log_index = ?3";
        let values = params![dir, name, seal.cast_signed()];
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Row {
                id: row.get(0)?,
                until: Timestamp(row.get(1)?),
                mode: mode_of(row.get(2)?),
                holds: row.get(3)?,
            })
        };
        self.connection.prepare_cached(sql)?.query_row(values, row).optional()
    }

    pub fn has_hold(&self, artifact: i64, name: &str) -> rusqlite::Result<bool> {
        let sql = "SELECT count(*) > 0 FROM hold WHERE artifact = ?1 AND name = ?2";
        self.connection.prepare_cached(sql)?.query_row(params![artifact, name], |row| row.get(0))
    }

    pub fn clock(&self, anchor: &Anchor, signature: Option<[u8; 64]>) -> rusqlite::Result<()> {
        let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO clock VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.connection.prepare_cached(sql)?.execute(params![
            anchor.sealfs.0,
            anchor.boot_id,
            anchor.boottime,
            anchor.wall.0,
            nanos(anchor.believed),
            nanos(anchor.doubted),
            signature
        ])?;
        Ok(())
    }

    fn dir(&mut self, path: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.dirs.get(path) {
            return Ok(*id);
        }
        let id = intern(
            self.connection,
            "SELECT id FROM dir WHERE path = ?1",
            "INSERT INTO dir (path) VALUES (?1)",
            path,
        )?;
        self.known.dirs.insert(path.to_owned(), id);
        Ok(id)
    }

    fn term(&mut self, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.terms.get(text) {
            return Ok(*id);
        }
        let id = intern(
            self.connection,
            "SELECT id FROM term WHERE text = ?1",
            "INSERT INTO term (text) VALUES (?1)",
            text,
        )?;
        self.known.terms.insert(text.to_owned(), id);
        Ok(id)
    }

    /// Adds a record under a free name and answers its number. Whatever was pending at its path is over.
    pub fn seal(&mut self, record: &SealRecord) -> rusqlite::Result<i64> {
        let (dir, name) = record.path.split().unwrap_or(("", ""));
        let dir = self.dir(dir)?;
        let policy = self.term(&record.policy.to_hex())?;
        let namespace = self.term(&record.namespace)?;
        let key = self.term(&record.key)?;
        let sql = "INSERT INTO artifact (dir, name, live, kind, sha256, size, perm, uid, gid, mtime_s, mtime_ns, \
            sealed_at, sealed_wall, retain_sealed, retain_until, mode, policy, namespace, key, log_index, signature, \
            statement_signature, template, ino, ctime_s, ctime_ns, torn, provenance, provenance_signature) VALUES \
            (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
            ?23, ?24, ?25, ?26, ?27, ?28)";
        self.connection.prepare_cached(sql)?.execute(params![
            dir,
            name,
            i64::from(record.kind == ArtifactKind::Symlink),
            record.sha256.0,
            record.size.cast_signed(),
            record.perm,
            record.uid,
            record.gid,
            record.mtime.seconds,
            record.mtime.nanos,
            record.sealed_at.0,
            record.sealed_wall.0,
            record.retain_sealed.0,
            record.retain_until.0,
            i64::from(record.mode == RetentionMode::Compliance),
            policy,
            namespace,
            key,
            record.log_index.cast_signed(),
            record.signature,
            record.statement_signature,
            record.template,
            record.ino.cast_signed(),
            record.ctime.seconds,
            record.ctime.nanos,
            record.torn_kept,
            record.provenance.map(|made| made.attachment.cast_signed()),
            record.provenance.map(|made| made.signature)
        ])?;
        let id = self.connection.last_insert_rowid();
        self.known.totals.add(Totals { seals: 1, held: 0, bytes: record.size.cast_signed() });
        self.drop_pending(&record.path)?;
        Ok(id)
    }

    pub fn retain(&self, artifact: i64, until: Timestamp) -> rusqlite::Result<()> {
        let sql = "UPDATE artifact SET retain_until = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![artifact, until.0])?;
        Ok(())
    }

    pub fn hold(&mut self, artifact: i64, name: &str, since: Option<Timestamp>) -> rusqlite::Result<()> {
        match since {
            Some(since) => self
                .connection
                .prepare_cached("INSERT INTO hold VALUES (?1, ?2, ?3)")?
                .execute(params![artifact, name, since.0])?,
            None => self
                .connection
                .prepare_cached("DELETE FROM hold WHERE artifact = ?1 AND name = ?2")?
                .execute(params![artifact, name])?,
        };
        let sql = "UPDATE artifact SET holds = (SELECT count(*) FROM hold WHERE artifact = ?1) WHERE id = ?1 \
                   RETURNING holds";
        let holds: i64 = self.connection.prepare_cached(sql)?.query_row([artifact], |row| row.get(0))?;
        let held = match (since, holds) {
            (Some(_), 1) => 1,
            (None, 0) => -1,
            _ => 0,
        };
        self.known.totals.add(Totals { held, ..Totals::default() });
        Ok(())
    }

    pub fn line(&self, artifact: i64, index: u64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO line VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![artifact, index.cast_signed()])?;
        Ok(())
    }

    pub fn end(&mut self, artifact: i64) -> rusqlite::Result<()> {
        // What only its backing file knew is gone with that.
        let sql = "UPDATE artifact SET live = 0, ino = 0, ctime_s = 0, ctime_ns = 0 WHERE id = ?1 \
                   RETURNING size, holds > 0";
        let (bytes, held): (i64, i64) = self
            .connection
            .prepare_cached(sql)?
            .query_row([artifact], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.known.totals.add(Totals { seals: -1, held: -held, bytes: -bytes });
        Ok(())
    }

    pub fn proven(&self, artifact: i64, ino: u64, ctime: FileTime) -> rusqlite::Result<()> {
        let sql = "UPDATE artifact SET ino = ?2, ctime_s = ?3, ctime_ns = ?4 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            artifact,
            ino.cast_signed(),
            ctime.seconds,
            ctime.nanos
        ])?;
        Ok(())
    }

    pub fn altered(&self, artifact: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("INSERT OR IGNORE INTO altered VALUES (?1)")?.execute([artifact])?;
        Ok(())
    }

    pub fn add_pending(&self, pending: &Pending) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO pending VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.connection.prepare_cached(sql)?.execute(params![
            pending.path.as_str(),
            pending.ino.cast_signed(),
            pending.size.cast_signed(),
            pending.mtime.seconds,
            pending.mtime.nanos,
            pending.torn,
            pending.demanded.map(Asked::word),
            pending.request.map(|time| time.0)
        ])?;
        Ok(())
    }

    pub fn drop_pending(&self, path: &RelPath) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM pending WHERE path = ?1")?.execute([path.as_str()])?;
        Ok(())
    }

    pub fn refusal(&self, refusal: &Refusal) -> rusqlite::Result<()> {
        let sql = "INSERT INTO refusal (path, operation, reason, uid, pid, program, at, wall, times) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET \
                   pid = excluded.pid, program = excluded.program, at = excluded.at, wall = excluded.wall, \
                   times = times + excluded.times";
        self.connection.prepare_cached(sql)?.execute(params![
            refusal.path,
            refusal.operation,
            refusal.reason,
            refusal.uid,
            refusal.pid,
            refusal.program,
            refusal.at.0,
            refusal.wall.0,
            refusal.times.cast_signed()
        ])?;
        Ok(())
    }

    pub fn trim_refusals(&self) -> rusqlite::Result<()> {
        let sql =
            "DELETE FROM refusal WHERE id <= (SELECT id FROM refusal ORDER BY id DESC LIMIT 1 OFFSET ?1)";
        self.connection.execute(sql, [REFUSALS_KEPT])?;
        Ok(())
    }
}

/// How a role is kept.
pub fn role_number(role: KeyRole) -> i64 {
    match role {
        KeyRole::Seal => 0,
        KeyRole::Log => 1,
    }
}

fn intern(c: &Connection, select: &str, insert: &str, text: &str) -> rusqlite::Result<i64> {
    if let Some(id) = c.prepare_cached(select)?.query_row([text], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    c.prepare_cached(insert)?.execute([text])?;
    Ok(c.last_insert_rowid())
}
