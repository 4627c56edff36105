//! Questions to the index. Any number of threads; each uses a read-only connection of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::row::{COLUMNS, FROM, record};
use crate::clock::Anchor;
use crate::ledger::anchor::KeptAnchor;
use crate::ledger::{LedgerError, LogFiles};
use crate::model::{Asked, FileTime, Hold, RelPath, SealRecord, Timestamp};

/// Connections kept for reuse.
const KEPT: usize = 8;

/// What `ls` shows of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what is expired (`Some(true)`) or not (`Some(false)`) at `now`.
    pub expired: Option<bool>,
    /// Only what retention ends for before this.
    pub ending_before: Option<Timestamp>,
    /// Sealfs time.
    pub now: Option<Timestamp>,
}

/// Counts over the whole index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sealed and retained.
    pub sealed: u64,
    /// Expired.
    pub expired: u64,
    /// With holds.
    pub held: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Entries in the log.
    pub entries: u64,
}

/// A closed file that is not sealed yet and known to be synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Where.
    pub path: RelPath,
    /// Backing inode.
    pub ino: u64,
    /// Size then.
    pub size: u64,
    /// Modification time then.
    pub mtime: FileTime,
    /// Whether it is torn.
    pub torn: bool,
    /// How its seal was demanded, if so.
    pub demanded: Option<Asked>,
    /// The retention its writer asked for.
    pub request: Option<Timestamp>,
}

/// Refused calls on one path for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// What it was about.
    pub path: String,
    /// What was tried, in a word.
    pub operation: String,
    /// Why it was refused, in words.
    pub reason: String,
    /// Who tried last.
    pub uid: u32,
    /// With which process.
    pub pid: u32,
    /// And which program.
    pub program: String,
    /// When it was last tried, sealfs time.
    pub at: Timestamp,
    /// The same by the wall clock.
    pub wall: Timestamp,
    /// How often.
    pub times: u64,
}

/// Read-only access to an index. Works beside a running daemon, and without one.
pub struct ReadIndex {
    pub(super) path: PathBuf,
    kept: Mutex<Vec<Connection>>,
    log: LogFiles,
}

impl ReadIndex {
    /// Opens an index for reading.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let log = LogFiles::new(path.with_file_name("log"));
        let index = ReadIndex { path: path.to_owned(), kept: Mutex::default(), log };
        index.with(|connection| connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(())))?;
        Ok(index)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        super::shared::install();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(super::BUSY)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    pub(super) fn with<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let kept = self.kept.lock().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = ask(&connection)?;
        let mut kept = self.kept.lock();
        if kept.len() < KEPT {
            kept.push(connection);
        }
        Ok(answer)
    }

    /// The exported log beside the index.
    #[must_use]
    pub fn log(&self) -> &LogFiles {
        &self.log
    }

    /// Writes a consistent copy of the index into a new file, mode 0600, also while a daemon commits (SQLite's backup
    /// API). Durable is it when the caller has synced it.
    ///
    /// # Errors
    /// If the file exists or SQLite fails.
    pub fn backup_to(&self, path: &Path) -> Result<(), LedgerError> {
        crate::durable::create(path, 0o600, b"").map_err(|error| LedgerError::Broken(error.to_string()))?;
        let from = self.connect()?;
        let mut to = Connection::open(path)?;
        let backup = rusqlite::backup::Backup::new(&from, &mut to)?;
        backup.run_to_completion(4096, std::time::Duration::ZERO, None)?;
        Ok(())
    }

    /// The store's origin.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn origin(&self) -> Result<String, LedgerError> {
        self.with(|c| c.query_row("SELECT value FROM meta WHERE key = 'origin'", [], |row| row.get(0)))
    }

    /// The clock's last anchor, as the row says it: for showing, never for decisions.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn anchor(&self) -> Result<Option<Anchor>, LedgerError> {
        Ok(self.kept_anchor()?.map(|kept| kept.anchor))
    }

    /// The clock's last anchor with its signature, which the caller has to check.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn kept_anchor(&self) -> Result<Option<KeptAnchor>, LedgerError> {
        let nanos = |n: i64| std::time::Duration::from_nanos(u64::try_from(n).unwrap_or(0));
        self.with(|c| {
            c.query_row(
                "SELECT sealfs, boot_id, boottime, wall, believed, doubted, signature FROM clock",
                [],
                |row| {
                    let anchor = Anchor {
                        sealfs: Timestamp(row.get(0)?),
                        boot_id: row.get(1)?,
                        boottime: row.get(2)?,
                        wall: Timestamp(row.get(3)?),
                        believed: nanos(row.get(4)?),
                        doubted: nanos(row.get(5)?),
                    };
                    let signature: Option<Vec<u8>> = row.get(6)?;
                    let signature = signature.and_then(|bytes| bytes.try_into().ok());
                    Ok(KeptAnchor { anchor, signature })
                },
            )
            .optional()
        })
    }

    /// The seal that stands at a path.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn find(&self, path: &RelPath) -> Result<Option<SealRecord>, LedgerError> {
        self.with(|c| find(c, path))
    }

    /// Until when what is sealed at a path is retained; none if nothing is. Cheaper than to read the record.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn retained_until(&self, path: &RelPath) -> Result<Option<Timestamp>, LedgerError> {
        let Some((dir, name)) = path.split() else { return Ok(None) };
        self.with(|c| {
            let sql = "SELECT retain_until FROM dir JOIN artifact ON artifact.dir = dir.id \
                       WHERE dir.path = ?1 AND live = 1 AND artifact.name = ?2";
            let mut statement = c.prepare_cached(sql)?;
            statement.query_row([dir, name], |row| Ok(Timestamp(row.get(0)?))).optional()
        })
    }

    /// Whether a seal stands there. Cheaper than to read it.
    pub(super) fn has(&self, dir: &str, name: &str) -> Result<bool, LedgerError> {
        self.with(|c| {
            let sql = "SELECT 1 FROM dir JOIN artifact ON artifact.dir = dir.id \
                       WHERE dir.path = ?1 AND live = 1 AND artifact.name = ?2";
            c.prepare_cached(sql)?.exists([dir, name])
        })
    }

    /// Folder and name of every seal.
    pub(super) fn each_name(&self, each: &mut dyn FnMut(&str, &str)) -> Result<(), LedgerError> {
        self.with(|c| {
            let sql = "SELECT dir.path, artifact.name FROM dir CROSS JOIN artifact ON artifact.dir = dir.id WHERE live = 1";
            let mut statement = c.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
            }
            Ok(())
        })
    }

    /// The seals of a folder's own files.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn children(&self, dir: &RelPath) -> Result<Vec<SealRecord>, LedgerError> {
        let sql = format!("SELECT {COLUMNS} {FROM} WHERE live = 1 AND dir.path = ?1");
        self.with(|c| collect(c, &sql, [dir.as_str()]))
    }

    /// Name → inode and end of retention of everything sealed in a folder itself; of `most`, if there is more.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn retention_in(
        &self,
        dir: &RelPath,
        most: u32,
    ) -> Result<HashMap<String, (u64, Timestamp)>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT artifact.name, ino, retain_until FROM artifact JOIN dir ON dir.id = artifact.dir \
                       WHERE live = 1 AND dir.path = ?1 LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map(params![dir.as_str(), most], |row| {
                Ok((row.get(0)?, (row.get::<_, i64>(1)?.cast_unsigned(), Timestamp(row.get(2)?))))
            })?;
            rows.collect()
        })
    }

    /// Seals below a folder in any order, at most `most`; with `retained_at` only those that are retained or held then.
    /// No more rows are looked at than it takes to find them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn some_below(
        &self,
        dir: &RelPath,
        retained_at: Option<Timestamp>,
        most: u32,
    ) -> Result<Vec<SealRecord>, LedgerError> {
        let (low, high) = range(dir);
        let place = if dir.is_root() { "1" } else { "(dir.path = ?1 OR (dir.path >= ?2 AND dir.path < ?3))" };
        let sql = format!(
            "SELECT {COLUMNS} FROM dir CROSS JOIN artifact ON artifact.dir = dir.id WHERE live = 1 AND {place} \
             AND (?4 IS NULL OR holds > 0 OR retain_until > ?4) AND ?1 = ?1 AND ?2 = ?2 AND ?3 = ?3 LIMIT ?5"
        );
        self.with(|c| {
            let mut statement = c.prepare_cached(&sql)?;
            let values = params![dir.as_str(), low, high, retained_at.map(|time| time.0), most];
            let found: Vec<_> = statement.query_map(values, record)?.collect::<rusqlite::Result<_>>()?;
            found.into_iter().map(|found| with_holds(c, found)).collect()
        })
    }

    /// One seal below a folder that is retained at `now`, if there is any.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn retained_below(&self, dir: &RelPath, now: Timestamp) -> Result<Option<SealRecord>, LedgerError> {
        let mut found = None;
        let filter = Filter { expired: Some(false), now: Some(now), ..Filter::default() };
        self.below(dir, filter, &mut |record| {
            found = Some(record);
            false
        })?;
        Ok(found)
    }

    /// Seals that have ended at a path, oldest first.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn ended(&self, path: &RelPath) -> Result<Vec<SealRecord>, LedgerError> {
        let Some((dir, name)) = path.split() else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {COLUMNS} {FROM} WHERE live = 0 AND dir.path = ?1 AND artifact.name = ?2 ORDER BY log_index"
        );
        self.with(|c| collect(c, &sql, [dir, name]))
    }

    /// Seals that have ended, of rows after this number, at most `most`, in the order in which they were made.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn ended_after(&self, id: i64, most: u32) -> Result<Vec<SealRecord>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS} {FROM} WHERE live = 0 AND artifact.id > ?1 ORDER BY artifact.id LIMIT ?2"
        );
        self.with(|c| collect(c, &sql, params![id, most]))
    }

    /// Seals that stand, of rows after this number, at most `most`, in the order in which they were made.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn standing_after(&self, id: i64, most: u32) -> Result<Vec<SealRecord>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS} {FROM} WHERE live = 1 AND artifact.id > ?1 ORDER BY artifact.id LIMIT ?2"
        );
        self.with(|c| collect(c, &sql, params![id, most]))
    }

    /// How many entries the log has.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn entries(&self) -> Result<u64, LedgerError> {
        self.with(|c| {
            let sql = "SELECT coalesce(max(idx) + 1, 0) FROM entry";
            Ok(c.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
        })
    }

    /// Every namespace that a seal was ever made under.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn namespaces(&self) -> Result<Vec<String>, LedgerError> {
        self.with(|c| {
            let sql =
                "SELECT text FROM term WHERE id IN (SELECT DISTINCT namespace FROM artifact) ORDER BY text";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// Files that were closed and synced but not sealed when they were last marked.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn pending(&self) -> Result<Vec<Pending>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT path, ino, size, mtime_s, mtime_ns, torn, demanded, request FROM pending";
            let mut statement = c.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                let text: String = row.get(0)?;
                let path = RelPath::parse(&text).map_err(|_| rusqlite::Error::InvalidQuery)?;
                Ok(Pending {
                    path,
                    ino: row.get::<_, i64>(1)?.cast_unsigned(),
                    size: row.get::<_, i64>(2)?.cast_unsigned(),
                    mtime: FileTime { seconds: row.get(3)?, nanos: row.get(4)? },
                    torn: row.get(5)?,
                    demanded: row.get::<_, Option<String>>(6)?.as_deref().and_then(Asked::of_word),
                    request: row.get::<_, Option<i64>>(7)?.map(Timestamp),
                })
            })?;
            rows.collect()
        })
    }

    /// The last refusals at a path, newest first.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn refusals(&self, path: &str) -> Result<Vec<Refusal>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT path, operation, reason, uid, pid, program, at, wall, times FROM refusal \
                       WHERE path = ?1 ORDER BY at DESC, id DESC";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([path], |row| {
                Ok(Refusal {
                    path: row.get(0)?,
                    operation: row.get(1)?,
                    reason: row.get(2)?,
                    uid: row.get(3)?,
                    pid: row.get(4)?,
                    program: row.get(5)?,
                    at: Timestamp(row.get(6)?),
                    wall: Timestamp(row.get(7)?),
                    times: row.get::<_, i64>(8)?.cast_unsigned(),
                })
            })?;
            rows.collect()
        })
    }

    /// Paths whose backing file was found altered while their seal stands, a few of them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn altered(&self) -> Result<Vec<String>, LedgerError> {
        self.with(|c| {
            let sql = "SELECT DISTINCT CASE dir.path WHEN '' THEN artifact.name ELSE dir.path || '/' || artifact.name END \
                       FROM altered JOIN artifact ON artifact.id = altered.artifact JOIN dir ON dir.id = artifact.dir \
                       WHERE artifact.live = 1 ORDER BY 1 LIMIT 20";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// How many seals have expired. Only their rows are looked at.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn expired(&self, now: Timestamp) -> Result<u64, LedgerError> {
        self.with(|c| {
            let sql = "SELECT count(*) FROM artifact INDEXED BY artifact_until \
                       WHERE live = 1 AND retain_until <= ?1 AND holds = 0";
            c.prepare_cached(sql)?.query_row([now.0], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        })
    }

    /// Counts over the whole index, row by row; a running daemon has [`super::Index::totals`].
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn summary(&self, now: Timestamp) -> Result<Summary, LedgerError> {
        self.with(|c| {
            let sql = "SELECT count(*), coalesce(sum(holds = 0 AND retain_until <= ?1), 0), \
                       coalesce(sum(holds > 0), 0), coalesce(sum(size), 0), \
                       (SELECT coalesce(max(idx) + 1, 0) FROM entry) FROM artifact WHERE live = 1";
            c.prepare_cached(sql)?.query_row([now.0], |row| {
                let get = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                let (all, expired) = (get(0)?, get(1)?);
                Ok(Summary {
                    sealed: all - expired,
                    expired,
                    held: get(2)?,
                    bytes: get(3)?,
                    entries: get(4)?,
                })
            })
        })
    }
}

/// The seal that stands at a path.
pub(super) fn find(c: &Connection, path: &RelPath) -> rusqlite::Result<Option<SealRecord>> {
    let Some((dir, name)) = path.split() else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE live = 1 AND dir.path = ?1 AND artifact.name = ?2");
    let found = c.prepare_cached(&sql)?.query_row([dir, name], record).optional()?;
    found.map(|found| with_holds(c, found)).transpose()
}

pub(super) fn with_holds(c: &Connection, found: (SealRecord, u32)) -> rusqlite::Result<SealRecord> {
    let (mut record, holds) = found;
    if holds > 0 {
        let mut statement =
            c.prepare_cached("SELECT name, since FROM hold WHERE artifact = ?1 ORDER BY name")?;
        let rows = statement
            .query_map([record.id], |row| Ok(Hold { name: row.get(0)?, since: Timestamp(row.get(1)?) }))?;
        record.holds = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(record)
}

pub(super) fn collect<P: rusqlite::Params>(
    c: &Connection,
    sql: &str,
    params: P,
) -> rusqlite::Result<Vec<SealRecord>> {
    let mut statement = c.prepare_cached(sql)?;
    let found: Vec<_> = statement.query_map(params, record)?.collect::<rusqlite::Result<_>>()?;
    found.into_iter().map(|found| with_holds(c, found)).collect()
}

/// The half-open range of the paths of folders below `path`: from `path/` up to, but without, `path0` ('0' comes
/// after '/').
pub(super) fn range(path: &RelPath) -> (String, String) {
    (format!("{path}/"), format!("{path}0"))
}
