//! A seal that stands, read inside the transaction that changes or ends it, and proven from what is signed.
//!
//! Rows can be edited by whoever can write to the index. So nothing is changed or ended because a row says that it
//! may be: the statement of the seal and each later line are verified first, and what they add up to must be what the
//! row says. A [`Proven`] borrows its transaction: it cannot be had earlier, nor be used in another one.

use std::collections::BTreeSet;

use super::entry::{Actor, Change, Ending, Entry, SignedStatement};
use super::{Batch, LedgerError, rules};
use crate::model::{RelPath, SealRecord, Timestamp};
use crate::policy::{RetentionRefusal, retention};

/// Says whether something was signed by a key of the store.
pub trait Vouch {
    /// The statement of a seal: path, digest, attributes, mode, and the first end of retention.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn seal(&self, record: &SealRecord) -> Result<(), String>;

    /// The statement of a later change of retention or holds.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn line(&self, record: &SealRecord, entry: &Entry) -> Result<(), String>;
}

/// Why a seal cannot be changed or ended.
#[derive(Debug, thiserror::Error)]
pub enum NotProven {
    /// It does not stand any more.
    #[error("this seal does not stand any more; look at the file again")]
    Gone,
    /// The index is not compared with the log yet.
    #[error(
        "index.db is being compared with the log, after a start or after another process has written to it; try again \
         when 'sealctl status' says no more of it"
    )]
    Comparing,
    /// The index says what was not signed.
    #[error(
        "index.db is not what was signed: {0}; nothing is changed before 'sealctl rebuild' has made it anew"
    )]
    Differs(String),
    /// The index failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A seal that stands, inside of an open transaction.
pub struct Proven<'b, 'a> {
    batch: &'b mut Batch<'a>,
    record: SealRecord,
}

/// The right to end a seal, in the transaction that it belongs to.
pub struct RemovalPermit<'b, 'a>(Proven<'b, 'a>);

impl<'a> Batch<'a> {
    /// Reads the seal that stands at a path and was made by entry `seal` of the log, and proves it. About 0.1 ms.
    ///
    /// # Errors
    /// [`NotProven`]: it does not stand, or what the index says of it is not what was signed.
    pub fn prove<'b>(
        &'b mut self,
        path: &RelPath,
        seal: u64,
        vouch: &dyn Vouch,
    ) -> Result<Proven<'b, 'a>, NotProven> {
        if self.belief().under_way().is_some() {
            return Err(NotProven::Comparing);
        }
        if let Some(what) = self.belief().differs(path) {
            return Err(differs(path, &what));
        }
        if let Some(what) = self.belief().wholly() {
            return Err(NotProven::Differs(what));
        }
        let found = self.writer().find(path).map_err(LedgerError::from)?;
        let record = found.filter(|record| record.log_index == seal).ok_or(NotProven::Gone)?;
        vouch.seal(&record).map_err(|what| differs(path, &what))?;
        let (mut until, mut holds) = (record.retain_sealed, BTreeSet::new());
        for position in self.writer().lines_about(&record).map_err(LedgerError::from)? {
            let entry = self.entry_at(position)?;
            step(&record, &entry, vouch, &mut until, &mut holds)
                .map_err(|what| differs(path, &format!("entry {position} of the log: {what}")))?;
        }
        let standing: BTreeSet<_> = record.holds.iter().map(|hold| hold.name.clone()).collect();
        if until != record.retain_until {
            let row = record.retain_until;
            return Err(differs(path, &format!("it says retained until {row}, signed is {until}")));
        }
        if standing != holds {
            return Err(differs(path, &format!("it says holds {standing:?}, signed are {holds:?}")));
        }
        Ok(Proven { batch: self, record })
    }

    /// An entry, also one of this batch.
    fn entry_at(&mut self, position: u64) -> Result<Entry, LedgerError> {
        let row = match self.writer().kept_entry(position)? {
            Some(row) => Some(row),
            None => self.readers().entry(position)?,
        };
        row.ok_or_else(|| LedgerError::Broken(format!("entry {position} of the log is missing")))?.parse()
    }
}

fn differs(path: &RelPath, what: &str) -> NotProven {
    NotProven::Differs(format!("{path}: {what}"))
}

/// What an entry about a path makes of the retention and the holds of the seal that stands there.
fn step(
    record: &SealRecord,
    entry: &Entry,
    vouch: &dyn Vouch,
    until: &mut Timestamp,
    holds: &mut BTreeSet<String>,
) -> Result<(), String> {
    let seal = match &entry.change {
        Change::Extended { seal, .. }
        | Change::Shortened { seal, .. }
        | Change::Held { seal, .. }
        | Change::Released { seal, .. } => *seal,
        // No matter of retention.
        _ => return Ok(()),
    };
    if entry.path() != Some(&record.path) || seal != record.log_index {
        return Err("it is about another seal".to_owned());
    }
    vouch.line(record, entry)?;
    match &entry.change {
        Change::Extended { retain_until, .. } => {
            rules::extended(*until, *retain_until)?;
            *until = *retain_until;
        }
        Change::Shortened { retain_until, reason, .. } => {
            rules::shortened(record.mode, *until, *retain_until, reason)?;
            *until = *retain_until;
        }
        Change::Held { hold, .. } => {
            rules::held(holds.contains(hold), hold)?;
            holds.insert(hold.clone());
        }
        Change::Released { hold, .. } => {
            rules::released(holds.contains(hold), hold)?;
            holds.remove(hold);
        }
        _ => {}
    }
    Ok(())
}

impl<'b, 'a> Proven<'b, 'a> {
    /// The seal as it stands now.
    #[must_use]
    pub fn record(&self) -> &SealRecord {
        &self.record
    }

    /// Sealfs time of the transaction.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.batch.now()
    }

    /// Position in the log of the change that comes next: a line about it is signed for this place.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.batch.next_index()
    }

    /// Changes the end of retention, with the signed line about it; with a reason if that is earlier.
    ///
    /// # Errors
    /// If it cannot be written, or may not follow on what stands.
    pub fn retain(
        self,
        retain_until: Timestamp,
        by: Actor,
        reason: Option<&str>,
        statement: SignedStatement,
    ) -> Result<(), LedgerError> {
        let (path, seal) = (self.record.path.clone(), self.record.log_index);
        let change = match reason.map(str::to_owned) {
            Some(reason) => Change::Shortened { path, seal, retain_until, reason, by, statement },
            None => Change::Extended { path, seal, retain_until, by, statement },
        };
        self.batch.note(change).map(drop)
    }

    /// Places or removes a hold, with the signed line about it.
    ///
    /// # Errors
    /// If it cannot be written, or stands (does not stand) already.
    pub fn hold(
        self,
        name: &str,
        placed: bool,
        by: Actor,
        statement: SignedStatement,
    ) -> Result<(), LedgerError> {
        let (path, seal, hold) = (self.record.path.clone(), self.record.log_index, name.to_owned());
        self.batch
            .note(if placed {
                Change::Held { path, seal, hold, by, statement }
            } else {
                Change::Released { path, seal, hold, by, statement }
            })
            .map(drop)
    }

    /// Whether the seal may end now.
    ///
    /// # Errors
    /// [`RetentionRefusal::Retained`]: until when, and which holds.
    pub fn permit_removal(self) -> Result<RemovalPermit<'b, 'a>, RetentionRefusal> {
        retention::check_removal(&self.record, self.batch.now())?;
        Ok(RemovalPermit(self))
    }
}

impl RemovalPermit<'_, '_> {
    /// Ends the seal. Returns it as it stood.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(self, how: &Ending, by: Actor) -> Result<SealRecord, LedgerError> {
        let Proven { batch, record } = self.0;
        let (path, seal) = (record.path.clone(), record.log_index);
        batch.unsettle();
        batch.note(Change::Ended { path, seal, how: how.clone(), by })?;
        Ok(record)
    }
}
