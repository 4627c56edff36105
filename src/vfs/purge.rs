//! Removing what has expired, many at a time.

use super::ending::NotEnded;
use super::{CacheEvent, Fault, Vfs};
use crate::ledger::{Actor, Ending, Filter, NotProven};
use crate::model::{RelPath, SealRecord};
use crate::seal::RetainError;
use crate::store;

/// Why the name of a retained file was not freed.
#[derive(Debug)]
pub enum NotPurged {
    /// Its retention, a hold, or what was signed stands against it; in words.
    Refused(String),
    /// The mount or the index.
    Fault(Fault),
}

impl From<Fault> for NotPurged {
    fn from(fault: Fault) -> Self {
        NotPurged::Fault(fault)
    }
}

/// Files a transaction.
const BATCH: usize = 100;

impl Vfs {
    /// Removes every expired file at or below `path` that `wanted` says yes to: logged first, then the bytes.
    /// Answers with what was (or, in a `dry_run`, would be) removed.
    ///
    /// # Errors
    /// If the index fails; what was removed before that stays removed.
    pub fn purge(
        &self,
        path: &RelPath,
        dry_run: bool,
        how: &Ending,
        by: Actor,
        wanted: &dyn Fn(&SealRecord) -> bool,
    ) -> Result<Vec<SealRecord>, Fault> {
        if !dry_run {
            self.changeable_tree()?;
        }
        let now = self.parts.clock.now();
        let mut due = Vec::new();
        let filter = Filter { expired: Some(true), now: Some(now), ..Filter::default() };
        self.parts.index.read().below(path, filter, &mut |record| {
            if wanted(&record) {
                due.push(record);
            }
            true
        })?;
        if dry_run {
            return Ok(due);
        }
        let mut gone = Vec::with_capacity(due.len());
        for batch in due.chunks(BATCH) {
            gone.extend(self.purge_batch(batch, how, by)?);
        }
        Ok(gone)
    }

    /// Frees the name of a sealed file although it is retained: retention ends now, for this reason, and the seal with
    /// it, in one transaction. Both stay in the log.
    ///
    /// # Errors
    /// [`NotPurged`]; nothing has then changed.
    pub fn purge_retained(
        &self,
        record: &SealRecord,
        by: Actor,
        reason: &str,
    ) -> Result<SealRecord, NotPurged> {
        self.changeable_tree()?;
        let _alone = self.lives().namespace.write();
        let _steady = self.parts.keys.steady();
        let refused = std::cell::Cell::new(None);
        let ended = self.commit_removal(|batch| match self.retention().end_now(batch, record, by, reason) {
            Ok(()) => self.end_one(batch, record, &Ending::Purged, by),
            Err(RetainError::NotProven(why)) => Err(NotEnded::NotProven(record.path.clone(), why)),
            Err(error) => {
                refused.set(Some(error));
                Err(NotEnded::NotProven(record.path.clone(), NotProven::Gone))
            }
        });
        if let Some(error) = refused.take() {
            return Err(NotPurged::Refused(error.to_string()));
        }
        let ended = ended.map_err(|why| match why {
            NotEnded::Retained(_, refusal) => NotPurged::Refused(refusal.to_string()),
            NotEnded::NotProven(_, NotProven::Ledger(error)) => NotPurged::Fault(Fault::Index(error)),
            NotEnded::NotProven(path, NotProven::Comparing) => NotPurged::Fault(Fault::Comparing(path)),
            NotEnded::NotProven(_, why) => NotPurged::Refused(why.to_string()),
        })?;
        self.sidecars_gone(&ended);
        tracing::warn!(path = %ended.path, ?by, reason, "a retained file is removed under governance");
        if let Err(error) = self.remove_bytes(&ended) {
            tracing::warn!(path = %ended.path, %error, "logged as removed, but its bytes are left");
        }
        Ok(ended)
    }

    fn purge_batch(&self, records: &[SealRecord], how: &Ending, by: Actor) -> Result<Vec<SealRecord>, Fault> {
        let _alone = self.lives().namespace.write();
        let going = self.commit_removal(|batch| {
            let mut going = Vec::with_capacity(records.len());
            for record in records {
                match self.end_one(batch, record, how, by) {
                    Ok(ended) => going.push(ended),
                    // Extended, held or rewritten meanwhile: it stays.
                    Err(NotEnded::Retained(..) | NotEnded::NotProven(_, NotProven::Gone)) => {}
                    Err(why @ NotEnded::NotProven(_, NotProven::Ledger(_) | NotProven::Comparing)) => {
                        return Err(why);
                    }
                    Err(NotEnded::NotProven(path, why)) => {
                        tracing::error!(%path, "expired, and not removed: {why}");
                    }
                }
            }
            Ok(going)
        });
        let going = going.map_err(|why| match why {
            NotEnded::NotProven(_, NotProven::Ledger(error)) => Fault::Index(error),
            NotEnded::NotProven(path, NotProven::Comparing) => Fault::Comparing(path),
            NotEnded::Retained(..) | NotEnded::NotProven(..) => Fault::Stale,
        })?;
        for record in &going {
            self.sidecars_gone(record);
            if let Err(error) = self.remove_bytes(record) {
                tracing::warn!(path = %record.path, %error, "expired and logged as removed, but its bytes are left");
            }
        }
        Ok(going)
    }

    fn remove_bytes(&self, record: &SealRecord) -> std::io::Result<()> {
        let dir = self.parts.tree.parent_of(&record.path)?;
        let name = record.path.name();
        let meta = store::stat_at(&dir, name)?;
        if meta.kind == store::EntryKind::File
            && let Ok(file) = store::open_at(&dir, name, rustix::fs::OFlags::RDONLY)
        {
            let _ = store::set_immutable(file, false);
        }
        let ghost = store::open_at(&dir, name, rustix::fs::OFlags::PATH).ok();
        self.take_name(&dir, name, meta.ino, ghost, false)?;
        let folder = self.number(store::stat_fd(&dir)?.ino);
        let _ = self.parts.cache.send(CacheEvent::Name(folder, name.to_owned()));
        Ok(())
    }
}
