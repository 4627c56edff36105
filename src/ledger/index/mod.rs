//! The SQLite index: the one commit point. The only room that knows SQLite.

mod read;
mod row;
mod write;

use std::path::Path;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
pub(super) use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite_migration::{M, Migrations};

use super::LedgerError;

pub use read::{Filter, Pending, ReadIndex, Refusal, Summary};
pub use rusqlite::Error as SqliteError;
pub(super) use write::Writer;

/// Schema versions, in order. A step once released never changes.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(include_str!("schema.sql"))])
}

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);

/// The index of a store: one writer, and readers beside it.
pub struct Index {
    writer: Mutex<Connection>,
    readers: ReadIndex,
}

impl Index {
    /// Makes the index of a new store, mode 0600. On return it is durable.
    ///
    /// # Errors
    /// If the file exists or SQLite fails.
    pub fn create(path: &Path, origin: &str) -> Result<Self, LedgerError> {
        crate::durable::create(path, 0o600, b"").map_err(|error| LedgerError::Broken(error.to_string()))?;
        let index = Self::open(path)?;
        index.writer.lock().execute("INSERT INTO meta VALUES ('origin', ?1)", [origin])?;
        Ok(index)
    }

    /// Opens the index for the daemon, and brings its schema up to date.
    ///
    /// # Errors
    /// If SQLite fails, or the schema is newer than this program.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut writer = Connection::open_with_flags(path, flags)?;
        writer.busy_timeout(BUSY)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        writer.set_prepared_statement_cache_capacity(64);
        migrations().to_latest(&mut writer).map_err(|error| {
            LedgerError::Broken(format!("schema: {error}; a newer sealfs may have written it"))
        })?;
        Ok(Index { writer: Mutex::new(writer), readers: ReadIndex::open(path)? })
    }

    /// The readers.
    #[must_use]
    pub fn read(&self) -> &ReadIndex {
        &self.readers
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock()
    }
}
