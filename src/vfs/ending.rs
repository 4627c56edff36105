//! Seals that end: permitted, proven and logged in one transaction, before their bytes go.

use super::{Caller, Fault, Vfs};
use crate::ledger::{Actor, Batch, Ending, LedgerError, NotProven};
use crate::model::{RelPath, SealRecord};
use crate::policy::{RetentionRefusal, retention};
use crate::seal::Signatures;

/// Why seals did not end. None of the transaction did.
pub(super) enum NotEnded {
    /// One of them is retained or held.
    Retained(RelPath, RetentionRefusal),
    /// One of them does not stand, or is not what was signed; or the index failed.
    NotProven(RelPath, NotProven),
}

impl From<LedgerError> for NotEnded {
    fn from(error: LedgerError) -> Self {
        NotEnded::NotProven(RelPath::root(), error.into())
    }
}

impl NotEnded {
    fn is_full(&self) -> bool {
        matches!(self, NotEnded::NotProven(_, NotProven::Ledger(error)) if error.is_full())
    }
}

impl Vfs {
    /// Whether a sealed file may go as it was read, with the reason if not. The transaction that ends the seal asks
    /// again; this comes before anything else is changed.
    pub(super) fn may_go(
        &self,
        caller: Caller,
        record: &SealRecord,
        operation: &'static str,
    ) -> Result<(), Fault> {
        retention::check_removal(record, self.parts.clock.now())
            .map_err(|refusal| self.refuse(caller, &record.path, operation, refusal.to_string()))
    }

    /// Ends seals, all of them or none.
    ///
    /// # Errors
    /// Refused if one of them is retained, held, or cannot be proven; nothing has then changed.
    pub(super) fn end_seals(
        &self,
        caller: Caller,
        operation: &'static str,
        ends: &[(&SealRecord, Ending)],
    ) -> Result<(), Fault> {
        let ended = self.commit_removal(|batch| {
            for (record, how) in ends {
                self.end_one(batch, record, how, Actor::Uid(caller.uid))?;
            }
            Ok(())
        });
        ended.map_err(|why| match why {
            NotEnded::Retained(path, refusal) => self.refuse(caller, &path, operation, refusal.to_string()),
            NotEnded::NotProven(_, NotProven::Gone) => Fault::Stale,
            NotEnded::NotProven(_, NotProven::Ledger(error)) => Fault::Index(error),
            NotEnded::NotProven(path, NotProven::Comparing) => Fault::Comparing(path),
            NotEnded::NotProven(path, why @ NotProven::Differs(_)) => {
                tracing::error!(%path, "its removal is refused: {why}");
                self.refuse(caller, &path, operation, why.to_string())
            }
        })?;
        for (record, how) in ends {
            self.sidecars_gone(record);
            tracing::info!(path = %record.path, ?how, uid = caller.uid, "expired seal ended");
        }
        Ok(())
    }

    /// Ends the seal that `record` was read from, in an open transaction.
    pub(super) fn end_one(
        &self,
        batch: &mut Batch<'_>,
        record: &SealRecord,
        how: &Ending,
        by: Actor,
    ) -> Result<SealRecord, NotEnded> {
        let at = || record.path.clone();
        let vouch = Signatures { keys: &self.parts.keys, origin: self.parts.origin.as_str() };
        batch
            .prove(&record.path, record.log_index, &vouch)
            .map_err(|why| NotEnded::NotProven(at(), why))?
            .permit_removal()
            .map_err(|refusal| NotEnded::Retained(at(), refusal))?
            .end(how, by)
            .map_err(NotEnded::from)
    }

    /// Commits what lets bytes go. That must not fail because the disk is full: the reserve is given up piece by
    /// piece, for others may be quicker to take what becomes free. `change` is then asked again.
    pub(super) fn commit_removal<T>(
        &self,
        change: impl Fn(&mut Batch<'_>) -> Result<T, NotEnded>,
    ) -> Result<T, NotEnded> {
        let attempt = || {
            let mut batch = self.parts.index.batch(&self.parts.clock)?;
            let done = change(&mut batch)?;
            batch.commit()?;
            Ok(done)
        };
        loop {
            match attempt() {
                Err(error) if NotEnded::is_full(&error) && self.parts.reserve.give() => {
                    tracing::info!("the disk is full: a part of the reserve is given up for a removal");
                }
                other => return other,
            }
        }
    }
}
