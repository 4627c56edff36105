//! Changes of the index, inside one transaction.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::read::{Pending, Refusal};
use crate::clock::Anchor;
use crate::model::{ArtifactKind, FileTime, RelPath, RetentionMode, SealRecord, Timestamp};

/// Statements on the writer's connection. The caller has begun a transaction and ends it.
pub struct Writer<'a> {
    connection: &'a Connection,
    dirs: HashMap<String, i64>,
    terms: HashMap<String, i64>,
}

/// Rows kept of refusals.
const REFUSALS_KEPT: i64 = 10_000;

impl<'a> Writer<'a> {
    pub fn new(connection: &'a Connection) -> Self {
        Writer { connection, dirs: HashMap::new(), terms: HashMap::new() }
    }

    /// Position of the next entry, and the time of the last seal.
    pub fn head(&self) -> rusqlite::Result<(u64, Timestamp)> {
        let sql = "SELECT coalesce(max(idx) + 1, 0), coalesce((SELECT sealfs FROM clock), 0) FROM entry";
        self.connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), Timestamp(row.get(1)?))))
    }

    pub fn entry(&mut self, index: u64, body: &str, about: Option<&RelPath>) -> rusqlite::Result<()> {
        let index = index.cast_signed();
        self.connection.prepare_cached("INSERT INTO entry VALUES (?1, ?2)")?.execute(params![index, body])?;
        if let Some((dir, name)) = about.and_then(RelPath::split) {
            let dir = self.dir(dir)?;
            let sql = "INSERT INTO about VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(sql)?.execute(params![dir, name, index])?;
        }
        Ok(())
    }

    pub fn clock(&self, anchor: &Anchor) -> rusqlite::Result<()> {
        let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO clock VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6)";
        self.connection.prepare_cached(sql)?.execute(params![
            anchor.sealfs.0,
            anchor.boot_id,
            anchor.boottime,
            anchor.wall.0,
            nanos(anchor.believed),
            nanos(anchor.doubted)
        ])?;
        Ok(())
    }

    fn dir(&mut self, path: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.dirs.get(path) {
            return Ok(*id);
        }
        let id = intern(
            self.connection,
            "SELECT id FROM dir WHERE path = ?1",
            "INSERT INTO dir (path) VALUES (?1)",
            path,
        )?;
        self.dirs.insert(path.to_owned(), id);
        Ok(id)
    }

    fn term(&mut self, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.terms.get(text) {
            return Ok(*id);
        }
        let id = intern(
            self.connection,
            "SELECT id FROM term WHERE text = ?1",
            "INSERT INTO term (text) VALUES (?1)",
            text,
        )?;
        self.terms.insert(text.to_owned(), id);
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
            statement_signature, template, ino, ctime_s, ctime_ns, torn) VALUES \
            (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
            ?23, ?24, ?25, ?26)";
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
            record.torn_kept
        ])?;
        let id = self.connection.last_insert_rowid();
        self.drop_pending(&record.path)?;
        Ok(id)
    }

    pub fn retain(&self, artifact: i64, until: Timestamp) -> rusqlite::Result<()> {
        let sql = "UPDATE artifact SET retain_until = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![artifact, until.0])?;
        Ok(())
    }

    pub fn hold(&self, artifact: i64, name: &str, since: Option<Timestamp>) -> rusqlite::Result<bool> {
        let changed = match since {
            Some(since) => self
                .connection
                .prepare_cached("INSERT OR IGNORE INTO hold VALUES (?1, ?2, ?3)")?
                .execute(params![artifact, name, since.0])?,
            None => self
                .connection
                .prepare_cached("DELETE FROM hold WHERE artifact = ?1 AND name = ?2")?
                .execute(params![artifact, name])?,
        };
        let sql = "UPDATE artifact SET holds = (SELECT count(*) FROM hold WHERE artifact = ?1) WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute([artifact])?;
        Ok(changed > 0)
    }

    pub fn line(&self, artifact: i64, index: u64, envelope: &str) -> rusqlite::Result<()> {
        let sql = "INSERT INTO line VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(sql)?.execute(params![artifact, index.cast_signed(), envelope])?;
        Ok(())
    }

    pub fn end(&self, artifact: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("UPDATE artifact SET live = 0 WHERE id = ?1")?.execute([artifact])?;
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
            pending.demanded,
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

fn intern(c: &Connection, select: &str, insert: &str, text: &str) -> rusqlite::Result<i64> {
    if let Some(id) = c.prepare_cached(select)?.query_row([text], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    c.prepare_cached(insert)?.execute([text])?;
    Ok(c.last_insert_rowid())
}
