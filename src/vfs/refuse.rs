//! Refusals: told at once by errno, and in words afterwards. Counted, so that a flood of them costs nothing.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{Caller, Fault, Vfs};
use crate::ledger::{LedgerError, Refusal};
use crate::model::RelPath;
use crate::provenance;

/// Different refusals kept between two visits of the thread that writes them down.
const KEPT: usize = 4096;
/// Longest path and reason, in bytes, that are kept: below deep folders a path has no end.
const WORDS_MAX: usize = 4096;

type Key = (String, &'static str, String, u32);

/// Refusals that are not written down yet.
#[derive(Debug, Default)]
pub struct Refusals {
    fresh: Mutex<HashMap<Key, Refusal>>,
}

impl Refusals {
    /// Takes what has come since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Refusal> {
        std::mem::take(&mut *self.fresh.lock()).into_values().collect()
    }

    /// Copies what has come at a path since the last [`Refusals::take`].
    #[must_use]
    pub fn at(&self, path: &str) -> Vec<Refusal> {
        self.fresh.lock().values().filter(|refusal| refusal.path == path).cloned().collect()
    }
}

impl Vfs {
    /// Writes down the refusals that came since the last time.
    ///
    /// # Errors
    /// If the index fails; they are then lost, which costs no more than a reason.
    pub fn write_refusals(&self) -> Result<(), LedgerError> {
        let refusals = self.parts.refusals.take();
        if refusals.is_empty() || self.parts.read_only {
            return Ok(());
        }
        let mut batch = self.parts.index.batch(&self.parts.clock)?;
        batch.refusals(&refusals)?;
        batch.commit().map(drop)
    }

    /// Refuses: keeps the reason and answers with the errno that policy says for the path.
    pub(super) fn refuse(
        &self,
        caller: Caller,
        path: &RelPath,
        operation: &'static str,
        reason: impl Into<String>,
    ) -> Fault {
        let fault = Fault::Refused(self.parts.policy.get().errno_for(path));
        let reason = reason.into();
        tracing::debug!(%path, operation, uid = caller.uid, pid = caller.pid, "refused: {reason}");
        if path.as_str().len() + reason.len() > WORDS_MAX {
            return fault;
        }
        let (at, wall) = (self.parts.clock.now(), self.parts.clock.wall());
        let key = (path.to_string(), operation, reason, caller.uid);
        let mut fresh = self.parts.refusals.fresh.lock();
        if let Some(known) = fresh.get_mut(&key) {
            known.times += 1;
            (known.at, known.wall, known.pid) = (at, wall, caller.pid);
            return fault;
        }
        if fresh.len() >= KEPT {
            return fault;
        }
        let refusal = Refusal {
            path: key.0.clone(),
            operation: operation.to_owned(),
            reason: key.2.clone(),
            uid: caller.uid,
            pid: caller.pid,
            program: provenance::name_of(caller.pid),
            at,
            wall,
            times: 1,
        };
        fresh.insert(key, refusal);
        fault
    }
}
