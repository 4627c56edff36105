//! One commit: entries and their effects, together or not at all.

use parking_lot::MutexGuard;

use super::LedgerError;
use super::entry::{Actor, Ending, EntryBody};
use super::index::{Connection, Index, Pending, Refusal, Writer};
use crate::clock::{Anchor, Clock};
use crate::model::{Digest, FileTime, RelPath, SealRecord, Timestamp};

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

/// A record that is signed and about to be committed, with the digest of its statement.
#[derive(Debug, Clone)]
pub struct NewSeal {
    /// The record; its `id` is given by the index.
    pub record: SealRecord,
    /// SHA-256 of the seal statement.
    pub statement: Digest,
}

/// An open transaction. Dropped without [`Batch::commit`], nothing has happened. While it is open no other
/// batch can be: positions and times in it are final.
pub struct Batch<'a> {
    connection: MutexGuard<'a, Connection>,
    next: u64,
    now: Timestamp,
    wall: Timestamp,
    anchor: Anchor,
    sealed: Vec<SealRecord>,
    open: bool,
}

impl Index {
    /// Begins a transaction.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn batch(&self, clock: &Clock) -> Result<Batch<'_>, LedgerError> {
        let connection = self.writer();
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let anchor = clock.anchor();
        let mut batch = Batch {
            connection,
            next: 0,
            now: anchor.sealfs,
            wall: anchor.wall,
            anchor,
            sealed: Vec::new(),
            open: true,
        };
        let (next, last) = Writer::new(&batch.connection).head()?;
        batch.next = next;
        // Along the log, time never decreases, whatever became of the clock's anchor.
        batch.now = batch.now.max(last);
        Ok(batch)
    }
}

impl Batch<'_> {
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
        self.next
    }

    /// Adds an entry that has no other effect and answers its position.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, body: &EntryBody<'_>) -> Result<u64, LedgerError> {
        let index = self.next;
        let text = body.canonical(index, self.now, self.wall)?;
        Writer::new(&self.connection).entry(index, &text, body.path())?;
        self.next += 1;
        Ok(index)
    }

    /// Adds seals. Their `log_index` must be the positions from [`Batch::next_index`] on, in order, and
    /// their `sealed_at` this batch's time: they were signed so.
    ///
    /// # Errors
    /// If one cannot be written, or the name has a seal already.
    pub fn seal(&mut self, seals: Vec<NewSeal>) -> Result<(), LedgerError> {
        for NewSeal { mut record, statement } in seals {
            if record.log_index != self.next || record.sealed_at != self.now {
                return Err(LedgerError::Broken("a seal was signed for another place in the log".to_owned()));
            }
            self.note(&EntryBody::Sealed { record: &record, statement })?;
            record.id = Writer::new(&self.connection).seal(&record)?;
            self.sealed.push(record);
        }
        Ok(())
    }

    /// Changes the end of retention, with the signed line about it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn retain(
        &mut self,
        record: &SealRecord,
        until: Timestamp,
        by: Actor,
        reason: Option<&str>,
        line: (Digest, &str),
    ) -> Result<(), LedgerError> {
        let index = self.note(&EntryBody::Retention { record, until, by, reason, statement: line.0 })?;
        let writer = Writer::new(&self.connection);
        writer.retain(record.id, until)?;
        writer.line(record.id, index, line.1)?;
        Ok(())
    }

    /// Places or removes a hold, with the signed line about it; answers whether that changed anything (if
    /// not, drop the batch).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn hold(
        &mut self,
        record: &SealRecord,
        name: &str,
        placed: bool,
        by: Actor,
        line: (Digest, &str),
    ) -> Result<bool, LedgerError> {
        let index = self.note(&EntryBody::Hold { record, name, placed, by, statement: line.0 })?;
        let writer = Writer::new(&self.connection);
        let changed = writer.hold(record.id, name, placed.then_some(self.now))?;
        writer.line(record.id, index, line.1)?;
        Ok(changed)
    }

    /// Ends a seal. The caller has a permit for that.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, record: &SealRecord, how: &Ending, by: Actor) -> Result<(), LedgerError> {
        self.note(&EntryBody::Ended { record, how, by })?;
        Writer::new(&self.connection).end(record.id)?;
        Ok(())
    }

    /// Logs that a backing file was found altered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn altered(&mut self, record: &SealRecord, found: &str) -> Result<(), LedgerError> {
        self.note(&EntryBody::Altered { record, found })?;
        Ok(Writer::new(&self.connection).altered(record.id)?)
    }

    /// Keeps what the backing file looked like when its content was last proven.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn proven(&mut self, record: &SealRecord, ino: u64, ctime: FileTime) -> Result<(), LedgerError> {
        Ok(Writer::new(&self.connection).proven(record.id, ino, ctime)?)
    }

    /// Marks files as closed and synced.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn pending(&mut self, files: &[Pending]) -> Result<(), LedgerError> {
        let writer = Writer::new(&self.connection);
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
        Ok(Writer::new(&self.connection).drop_pending(path)?)
    }

    /// Adds to the counts of refusals.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn refusals(&mut self, refusals: &[Refusal]) -> Result<(), LedgerError> {
        let writer = Writer::new(&self.connection);
        for refusal in refusals {
            writer.refusal(refusal)?;
        }
        writer.trim_refusals()?;
        Ok(())
    }

    /// Commits. On return everything in the batch is durable.
    ///
    /// # Errors
    /// If SQLite fails; then nothing of it has happened.
    pub fn commit(mut self) -> Result<Vec<Committed>, LedgerError> {
        let anchor = Anchor { sealfs: self.now, ..self.anchor.clone() };
        Writer::new(&self.connection).clock(&anchor)?;
        self.connection.execute_batch("COMMIT")?;
        self.open = false;
        Ok(std::mem::take(&mut self.sealed).into_iter().map(|record| Committed { record }).collect())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
