//! One commit: entries and their effects, together or not at all.

use parking_lot::MutexGuard;

use super::apply::{self, Backing};
use super::entry::{Change, Entry};
use super::index::{
    AttachmentKind, Index, Interned, Pending, ReadIndex, Refusal, SqliteError, Writer, WriterState, is_full,
};
use super::log::Edge;
use super::sealed::{Sealed, StatementDigests};
use super::{Belief, LedgerError};
use crate::clock::{Anchor, Clock};
use crate::metrics::COUNTERS;
use crate::model::{FileTime, RelPath, SealRecord, Timestamp};

/// A seal that is durable. Only a commit of the ledger makes one.
#[derive(Debug, Clone)]
pub struct Committed {
    record: SealRecord,
}

impl Committed {
    /// What was sealed.
    #[must_use]
    pub fn record(&self) -> &SealRecord {
        &self.record
    }
}

/// A record that is signed and about to be committed, with the digests of its statements.
#[derive(Debug, Clone)]
pub struct NewSeal {
    /// The record; its `id` is given by the index.
    pub record: SealRecord,
    /// What its signatures are over.
    pub digests: StatementDigests,
}

/// An open transaction. Dropped without [`Batch::commit`], nothing has happened. While it is open no other
/// batch can be: positions and times in it are final.
pub struct Batch<'a> {
    index: &'a Index,
    state: MutexGuard<'a, WriterState>,
    /// The tree with the entries of this batch.
    edge: Edge,
    known: Interned,
    now: Timestamp,
    wall: Timestamp,
    anchor: Anchor,
    sealed: Vec<SealRecord>,
    open: bool,
    unsettles: bool,
}

impl Index {
    /// Begins a transaction.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn batch(&self, clock: &Clock) -> Result<Batch<'_>, LedgerError> {
        let mut state = self.writer();
        state.connection.execute_batch("BEGIN IMMEDIATE")?;
        match state.written_by_another() {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("another process has written to index.db: it is compared with the log again");
                self.belief().doubt();
            }
            Err(error) => {
                let _ = state.connection.execute_batch("ROLLBACK");
                return Err(error.into());
            }
        }
        let anchor = clock.anchor();
        let edge = state.edge.clone();
        let mut batch = Batch {
            index: self,
            state,
            edge,
            known: Interned::default(),
            now: anchor.sealfs,
            wall: anchor.wall,
            anchor,
            sealed: Vec::new(),
            open: true,
            unsettles: false,
        };
        let next = batch.writer().next_index()?;
        if next != batch.edge.size() {
            let size = batch.edge.size();
            return Err(LedgerError::Broken(format!(
                "{next} entries, but {size} were there: who else writes?"
            )));
        }
        // Along the log, time never decreases, whatever became of the clock's anchor.
        batch.now = batch.now.max(batch.state.last);
        Ok(batch)
    }

    /// Writes over what a failed commit may have left ([`LedgerError::InDoubt`]). On return it has not happened, and
    /// no crash brings it back.
    ///
    /// # Errors
    /// If SQLite still fails: the doubt remains.
    pub fn rule_out_doubt(&self, clock: &Clock) -> Result<(), LedgerError> {
        self.batch(clock)?.commit().map(drop)
    }
}

impl Batch<'_> {
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.state.connection, &mut self.known)
    }

    pub(super) fn belief(&self) -> &Belief {
        self.index.belief()
    }

    pub(super) fn readers(&self) -> &ReadIndex {
        self.index.read()
    }

    /// What was read of a seal before this commits stands no more after it.
    pub(super) fn unsettle(&mut self) {
        self.unsettles = true;
    }

    /// Sealfs time of every entry of this batch.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What the wall clock said when the batch began.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.wall
    }

    /// Position of the next entry.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.edge.size()
    }

    /// Adds an entry and does what it says. Answers its position.
    ///
    /// # Errors
    /// If it cannot be written, or does not follow from what the index says.
    pub fn note(&mut self, change: Change) -> Result<u64, LedgerError> {
        let index = self.next_index();
        self.append(change, Backing::default())?;
        Ok(index)
    }

    fn append(&mut self, change: Change, backing: Backing) -> Result<Option<SealRecord>, LedgerError> {
        let entry = Entry::new(self.next_index(), self.now, self.wall, change);
        let text = entry.canonical()?;
        let mut writer = Writer::new(&self.state.connection, &mut self.known);
        apply::append(&mut writer, &mut self.edge, &entry, &text, backing)
    }

    /// Adds a seal. Its `log_index` must be [`Batch::next_index`], and its `sealed_at` this batch's time: it was
    /// signed so.
    ///
    /// # Errors
    /// If it cannot be written, or the name has a seal already.
    pub fn seal(&mut self, NewSeal { record, digests }: NewSeal) -> Result<(), LedgerError> {
        if record.log_index != self.next_index() || record.sealed_at != self.now {
            return Err(LedgerError::Broken("a seal was signed for another place in the log".to_owned()));
        }
        self.index.name_added(&record.path);
        let backing = Backing { ino: record.ino, ctime: record.ctime };
        let change = Change::Sealed(Box::new(Sealed::of(&record, digests)));
        if let Some(made) = self.append(change, backing)? {
            self.sealed.push(made);
        }
        Ok(())
    }

    /// The number under which this content is kept once for all that refer to it. `commits` are those that it
    /// claims.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn attach(
        &mut self,
        kind: AttachmentKind,
        body: &str,
        commits: &[String],
    ) -> Result<u64, LedgerError> {
        Ok(self.writer().attach(kind, body, commits)?)
    }

    /// Logs that a backing file was found altered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn altered(&mut self, record: &SealRecord, found: &str) -> Result<(), LedgerError> {
        let (path, seal) = (record.path.clone(), record.log_index);
        self.unsettles = true;
        self.note(Change::Altered { path, seal, found: found.to_owned() }).map(drop)
    }

    /// Keeps what the backing file looked like when its content was last proven.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn proven(&mut self, record: &SealRecord, ino: u64, ctime: FileTime) -> Result<(), LedgerError> {
        self.unsettles = true;
        Ok(self.writer().proven(record.id, ino, ctime)?)
    }

    /// Marks files as closed and synced.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn pending(&mut self, files: &[Pending]) -> Result<(), LedgerError> {
        let writer = self.writer();
        for file in files {
            writer.add_pending(file)?;
        }
        Ok(())
    }

    /// Takes the mark away: the file is written again, renamed or gone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn drop_pending(&mut self, path: &RelPath) -> Result<(), LedgerError> {
        Ok(self.writer().drop_pending(path)?)
    }

    /// Adds to the counts of refusals.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn refusals(&mut self, refusals: &[Refusal]) -> Result<(), LedgerError> {
        let writer = self.writer();
        for refusal in refusals {
            writer.refusal(refusal)?;
        }
        writer.trim_refusals()?;
        Ok(())
    }

    /// Commits. On return everything in the batch is durable; tiles and checkpoint follow it.
    ///
    /// # Errors
    /// If SQLite fails. Then nothing of it has happened, and nothing of it can come back after a crash, unless it is
    /// [`LedgerError::InDoubt`].
    pub fn commit(mut self) -> Result<Vec<Committed>, LedgerError> {
        let anchor = Anchor { sealfs: self.now, ..self.anchor.clone() };
        let signature = self.index.sign_anchor(&anchor)?;
        self.writer().clock(&anchor, signature)?;
        if let Err(error) = self.state.connection.execute_batch("COMMIT") {
            return Err(self.not_committed(error, &anchor, signature));
        }
        COUNTERS.index_commits.one();
        COUNTERS.index_seals.add(self.sealed.len() as u64);
        self.open = false;
        self.index.add_totals(self.known.totals);
        self.state.last = self.now;
        self.index.revise();
        if self.unsettles {
            self.index.unsettle();
        }
        if self.edge.size() != self.state.edge.size() {
            self.state.edge = std::mem::take(&mut self.edge);
            self.index.committed();
        }
        Ok(std::mem::take(&mut self.sealed).into_iter().map(|record| Committed { record }).collect())
    }
}

impl Batch<'_> {
    /// A commit that failed may stand in the write-ahead log all the same, whole and valid: written, but its sync not
    /// answered. Readers do not see it, yet whoever opens the index after a crash would. Another commit writes over it,
    /// and as soon as that one is durable, it is gone for good.
    fn not_committed(
        mut self,
        error: SqliteError,
        anchor: &Anchor,
        signature: Option<[u8; 64]>,
    ) -> LedgerError {
        self.roll_back();
        if is_full(&error) {
            // It was not written to its end.
            return error.into();
        }
        let over = self.begin_again().and_then(|()| {
            self.writer().clock(anchor, signature)?;
            self.state.connection.execute_batch("COMMIT")
        });
        match over {
            Ok(()) => {
                COUNTERS.index_commits.one();
                self.open = false;
                error.into()
            }
            Err(_) => LedgerError::InDoubt(error),
        }
    }

    fn begin_again(&mut self) -> Result<(), SqliteError> {
        self.state.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.open = true;
        Ok(())
    }

    fn roll_back(&mut self) {
        if std::mem::take(&mut self.open) {
            // SQLite may have done so itself.
            let _ = self.state.connection.execute_batch("ROLLBACK");
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.roll_back();
    }
}
