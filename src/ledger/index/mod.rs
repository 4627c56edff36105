//! The SQLite index: the one commit point. The only room that knows SQLite.

mod below;
mod evidence;
mod names;
mod read;
mod row;
mod shared;
mod write;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard};
pub(super) use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite_migration::{M, Migrations};

use super::anchor::{self, AnchorSigner};
use super::log::Edge;
use super::{Belief, Differences, LedgerError};
use crate::clock::Anchor;
use crate::metrics::COUNTERS;
use crate::model::{RelPath, Timestamp};
use names::Names;

pub use evidence::{Attachment, AttachmentKind, KeyRow, Traced};
pub use read::{Filter, Pending, ReadIndex, Refusal, Summary};
pub use rusqlite::Error as SqliteError;
pub use write::Totals;
pub(super) use write::{Interned, Row, Writer};

/// Schema versions, in order. A step once released never changes.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(include_str!("schema.sql"))])
}

/// Memory for a [`fresh`] index, in KiB: a million seals and what finds them.
const FRESH_CACHE_KIB: i64 = 256 << 10;
/// What the write-ahead log is cut back to once no reader needs more of it, in bytes.
const WAL_KEPT: i64 = 16 << 20;
/// From this size on, in bytes, `status` warns of the write-ahead log.
pub const WAL_LARGE: u64 = 256 << 20;

/// An empty index in a new file, in one open transaction and without any durability.
pub(super) fn fresh(path: &Path) -> Result<Connection, LedgerError> {
    crate::durable::create(path, 0o600, b"").map_err(|error| LedgerError::Broken(error.to_string()))?;
    shared::install();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Rows come in the order of the log, and go all over the indexes: without memory each would cost a read and a write.
    connection.pragma_update(None, "cache_size", -FRESH_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrations().to_latest(&mut connection).map_err(|error| LedgerError::Broken(error.to_string()))?;
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

/// Ends the transaction of a [`fresh`] index and closes it, as one that the daemon opens.
pub(super) fn close_fresh(connection: Connection) -> Result<(), LedgerError> {
    connection.execute_batch("COMMIT")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Whether SQLite says that the disk is full, also where it wanted room for what it shares with readers.
pub(super) fn is_full(error: &SqliteError) -> bool {
    let shared = [rusqlite::ffi::SQLITE_IOERR_SHMSIZE, rusqlite::ffi::SQLITE_IOERR_SHMMAP];
    error.sqlite_error().is_some_and(|error| {
        error.code == rusqlite::ErrorCode::DiskFull || shared.contains(&error.extended_code)
    })
}

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);

/// The writer's connection, and the right edge of the tree as it was last committed.
pub(super) struct WriterState {
    pub connection: Connection,
    pub edge: Edge,
    /// Time of the last entry, or of the last commit of this process. The clock's row is not asked.
    pub last: Timestamp,
    /// `PRAGMA data_version` when it was last looked at: another number says that another process has written.
    version: i64,
}

impl WriterState {
    /// Whether another connection has written since this was last asked. Inside of a transaction: whether it had,
    /// before that began.
    pub fn written_by_another(&mut self) -> Result<bool, SqliteError> {
        let version = data_version(&self.connection)?;
        Ok(std::mem::replace(&mut self.version, version) != version)
    }
}

fn data_version(connection: &Connection) -> Result<i64, SqliteError> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The index of a store: one writer, and readers beside it.
pub struct Index {
    writer: Mutex<WriterState>,
    readers: ReadIndex,
    committed: Mutex<Option<Sender<()>>>,
    names: Names,
    unsettled: AtomicU64,
    revision: AtomicU64,
    belief: Belief,
    /// Once they were asked for. Lock order: after the writer.
    totals: Mutex<Option<Totals>>,
    /// Signs the clock's anchors, for the store of this name.
    anchors: OnceLock<(String, AnchorSigner)>,
}

impl Index {
    /// Makes the index of a new store, mode 0600. On return it is durable.
    ///
    /// # Errors
    /// If the file exists or SQLite fails.
    pub fn create(path: &Path, origin: &str) -> Result<Self, LedgerError> {
        crate::durable::create(path, 0o600, b"").map_err(|error| LedgerError::Broken(error.to_string()))?;
        let index = Self::open(path)?;
        Writer::new(&index.writer.lock().connection, &mut Interned::default()).meta("origin", origin)?;
        Ok(index)
    }

    /// Opens the index for the daemon, and brings its schema up to date. What stands in it of the log must hold
    /// together; whether it is the log that was exported, [`crate::ledger::check_rollback`] says.
    ///
    /// # Errors
    /// If SQLite fails, the schema is newer than this program, or entries and hashes do not fit.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        shared::install();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        migrations().to_latest(&mut connection).map_err(|error| {
            LedgerError::Broken(format!("schema: {error}; a newer sealfs may have written it"))
        })?;
        // What SQLite has just found in the write-ahead log may be there in memory only: a sync that failed, in a daemon
        // that died of it. From here on all of it is in the index itself, and synced, or else the log is still needed.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log of the index cannot be brought into it; tried again later");
        }
        let readers = ReadIndex::open(path)?;
        let edge = readers.edge()?;
        let last = edge.size().checked_sub(1).map(|last| readers.entry(last)).transpose()?.flatten();
        let last = last.map(|row| row.parse()).transpose()?.map_or(Timestamp(0), |entry| entry.time);
        let version = data_version(&connection)?;
        let writer = Mutex::new(WriterState { connection, edge, last, version });
        Ok(Index {
            writer,
            readers,
            committed: Mutex::default(),
            names: Names::default(),
            unsettled: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            belief: Belief::default(),
            totals: Mutex::default(),
            anchors: OnceLock::new(),
        })
    }

    /// From now on nothing is written by this process: whatever tries to fails, and the index stays as it is.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn refuse_writes(&self) -> Result<(), LedgerError> {
        Ok(self.writer.lock().connection.pragma_update(None, "query_only", true)?)
    }

    /// The size of the write-ahead log, in bytes, if it is large: then a reader keeps a transaction open, and nothing
    /// that was written since can be taken out of it.
    #[must_use]
    pub fn large_log(&self) -> Option<u64> {
        let mut path = self.readers.path.as_os_str().to_owned();
        path.push("-wal");
        std::fs::metadata(path).ok().map(|meta| meta.len()).filter(|bytes| *bytes > WAL_LARGE)
    }

    /// From now on every commit signs the clock's anchor with this. Without it, the row is not believed by the next
    /// daemon. Only the first call counts.
    pub fn sign_anchors(&self, origin: &str, signer: AnchorSigner) {
        let _ = self.anchors.set((origin.to_owned(), signer));
    }

    /// Signs the clock's row as it stands, of an index that was made anew from the log. Durable on return.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn sign_kept_anchor(&self) -> Result<(), LedgerError> {
        if let Some(anchor) = self.readers.anchor()? {
            let signature = self.sign_anchor(&anchor)?;
            let state = self.writer();
            Writer::new(&state.connection, &mut Interned::default()).clock(&anchor, signature)?;
        }
        Ok(())
    }

    pub(super) fn sign_anchor(&self, anchor: &Anchor) -> Result<Option<[u8; 64]>, LedgerError> {
        let Some((origin, sign)) = self.anchors.get() else { return Ok(None) };
        Ok(Some(sign(&anchor::message(anchor, origin)?)))
    }

    /// How far it is believed.
    #[must_use]
    pub fn belief(&self) -> &Belief {
        &self.belief
    }

    /// Looks whether another process has written to it, which a batch does by itself; if so, it is compared again.
    /// While a batch is open nobody else can write, and that one has looked: unless `surely`, it is not waited for.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn look_for_others(&self, surely: bool) -> Result<(), LedgerError> {
        let state = if surely { Some(self.writer.lock()) } else { self.writer.try_lock() };
        if let Some(mut state) = state
            && state.written_by_another()?
        {
            tracing::warn!("another process has written to index.db: it is compared with the log again");
            self.belief.doubt();
        }
        Ok(())
    }

    /// A comparison with the log has ended. What was read of a seal before stands no more if something was found.
    pub fn compared(&self, number: u64, found: Differences) {
        let doubtful = !found.is_empty();
        self.belief.settle(number, found);
        if doubtful {
            self.unsettle();
            self.revise();
        }
    }

    /// The readers.
    #[must_use]
    pub fn read(&self) -> &ReadIndex {
        &self.readers
    }

    /// Whether a seal stands at a path. For a name that has none, no query is needed.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn has(&self, path: &RelPath) -> Result<bool, LedgerError> {
        let Some((dir, name)) = path.split() else { return Ok(false) };
        if !self.names.may_have(dir, name) {
            return Ok(false);
        }
        self.readers.has(dir, name)
    }

    /// Grows whenever a seal has ended, or what its backing file should look like has changed: what was read of a seal
    /// before stands as long as this number does.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Acquire)
    }

    /// Grows with every commit: what was read before stands as long as this number does.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Sums over all seals that stand. The first time every row is counted; from then on each commit adds to them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        if let Some(totals) = *self.totals.lock() {
            return Ok(totals);
        }
        let state = self.writer.lock();
        let read = Totals::read(&state.connection)?;
        Ok(*self.totals.lock().get_or_insert(read))
    }

    pub(super) fn add_totals(&self, change: Totals) {
        if let Some(totals) = &mut *self.totals.lock() {
            totals.add(change);
        }
    }

    pub(super) fn revise(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn unsettle(&self) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
    }

    /// Reads the names of all seals, for [`Index::has`]. Takes a second for a million; nothing waits for it.
    ///
    /// # Errors
    /// If the index cannot be read: then every name is asked for by query.
    pub fn read_names(&self) -> Result<(), LedgerError> {
        self.readers.each_name(&mut |dir, name| self.names.add(dir, name))?;
        self.names.complete();
        Ok(())
    }

    /// A seal is about to be committed there.
    pub(super) fn name_added(&self, path: &RelPath) {
        if let Some((dir, name)) = path.split() {
            self.names.add(dir, name);
        }
    }

    /// From now on a word is sent after every commit that added entries.
    pub fn tell_commits(&self, to: Sender<()>) {
        *self.committed.lock() = Some(to);
    }

    pub(super) fn committed(&self) {
        if let Some(to) = &*self.committed.lock() {
            // Full: a word is waiting already.
            let _ = to.try_send(());
        }
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, WriterState> {
        self.writer.lock()
    }

    /// Lets go what is durable in full tiles and bundles of an exported log of `size` entries.
    pub(super) fn prune(&self, size: u64) -> Result<(), LedgerError> {
        let state = self.writer.lock();
        let transaction = state.connection.unchecked_transaction()?;
        Writer::new(&transaction, &mut Interned::default()).prune(size)?;
        transaction.commit()?;
        COUNTERS.index_commits.one();
        Ok(())
    }
}
