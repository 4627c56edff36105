//! The thread that compares the index with the log: once at the start, and whenever another process has written to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::StartError;
use crate::clock::Clock;
use crate::ledger::{Change, Differences, Index, LedgerError, check_rollback, log_keys};
use crate::recovery::compare;
use crate::sched;

/// Differences that are logged by name after one comparison.
const NAMED: usize = 20;

/// What it takes.
pub struct Comparing {
    pub index: Arc<Index>,
    pub clock: Arc<Clock>,
    pub origin: String,
    /// The store's folder of keys.
    pub keys: PathBuf,
    pub read_only: bool,
}

impl Comparing {
    /// Starts it. It ends after [`crate::ledger::Belief::stop`].
    pub fn start(self) -> Result<(), StartError> {
        let run = move || {
            sched::ordinary();
            // On Linux, of this thread alone: it reads everything, and nearly nobody waits for it.
            let _ = rustix::process::setpriority_process(None, 19);
            let mut known = Arc::default();
            while let Some(number) = self.index.belief().next() {
                let begun = Instant::now();
                let found = self.compare();
                if self.index.belief().is_stopped() {
                    return;
                }
                let millis = begun.elapsed().as_millis();
                if found.is_empty() {
                    tracing::debug!(millis, "the index is what the log says");
                } else {
                    let (paths, whole) = (found.paths.len(), found.whole.as_deref().unwrap_or_default());
                    tracing::error!(paths, whole, "INDEX EDITED: it is not what the log says");
                }
                self.index.compared(number, found);
                let now = self.index.belief().found();
                if *now != *known
                    && !self.read_only
                    && let Err(error) = self.log(&now)
                {
                    tracing::error!(%error, "that the index was edited is not in the log");
                }
                known = now;
            }
        };
        let begun = std::thread::Builder::new().name("compare".to_owned()).spawn(run);
        begun.map(drop).map_err(|error| StartError::failed(format!("thread: {error}")))
    }

    fn compare(&self) -> Differences {
        let belief = self.index.belief();
        let seen = |at, of| {
            belief.went(at, of);
            !belief.is_stopped()
        };
        let keys = log_keys(&self.keys);
        let compared = check_rollback(self.index.read(), &self.origin, &keys).and_then(|checkpoint| {
            compare(self.index.read(), checkpoint.as_ref().map(|(checkpoint, _)| checkpoint), &seen)
        });
        compared.unwrap_or_else(|error| Differences::of_all(error.to_string()))
    }

    /// Says so in the log, of each path once.
    fn log(&self, found: &Differences) -> Result<(), LedgerError> {
        let mut notes = Vec::new();
        if let Some(whole) = &found.whole {
            notes.push(Change::IndexDiffers { path: None, found: whole.clone() });
        }
        for (path, what) in found.paths.iter().take(NAMED) {
            let last = self.index.read().history(path)?.pop().map(|row| row.parse()).transpose()?;
            let said = last.is_some_and(
                |entry| matches!(entry.change, Change::IndexDiffers { found, .. } if found == *what),
            );
            if !said {
                notes.push(Change::IndexDiffers { path: Some(path.clone()), found: what.clone() });
            }
        }
        if notes.is_empty() {
            return Ok(());
        }
        let mut batch = self.index.batch(&self.clock)?;
        for change in notes {
            batch.note(change)?;
        }
        batch.commit().map(drop)
    }
}
