//! The thread that compares the index with the log: once at the start, and whenever another process has written to it.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use crate::clock::Clock;
use crate::ledger::{Change, Differences, Index, LedgerError, check_rollback, log_keys};
use crate::recovery::compare;
use crate::sched;

/// Differences that are logged by name after one comparison.
const NAMED: usize = 20;
/// A comparison that takes longer is nobody's concern but its own.
const QUICK: Duration = Duration::from_millis(200);
/// Comparisons that fail one after the other (the disk, not the index) before nothing in the index is believed.
const FAILURES: u32 = 3;
/// How soon a failed one is tried again: at first, and from then on.
const AGAIN_SOON: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(60);
/// How often it is looked whether the daemon ends, while nothing is done.
const STEP: Duration = Duration::from_millis(50);

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
            let (mut known, mut failures) = (Arc::default(), 0);
            while let Some(number) = self.index.belief().next() {
                let compared = self.compare();
                if self.index.belief().is_stopped() {
                    return;
                }
                let found = match compared {
                    Ok(found) => found,
                    Err(error) if failures < FAILURES => {
                        tracing::warn!(%error, "the index cannot be compared with the log; tried again soon");
                        failures += 1;
                        self.pause(AGAIN_SOON);
                        continue;
                    }
                    Err(error) => Differences::of_all(format!("it cannot be compared with the log: {error}")),
                };
                let failed = failures >= FAILURES;
                failures = 0;
                if !found.is_empty() {
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
                if failed {
                    self.pause(AGAIN);
                    self.index.belief().doubt();
                }
            }
        };
        let begun = std::thread::Builder::new().name("compare".to_owned()).spawn(run);
        begun.map(drop).map_err(|error| StartError::failed(format!("thread: {error}")))
    }

    /// Compares, in a thread of its own: one that takes long steps back behind all others.
    fn compare(&self) -> Result<Differences, LedgerError> {
        let belief = self.index.belief();
        let begun = Instant::now();
        let compare = move || {
            let behind = Cell::new(false);
            let seen = |at, of| {
                belief.went(at, of);
                if begun.elapsed() > QUICK && !behind.replace(true) {
                    // On Linux, of this thread alone.
                    let _ = rustix::process::setpriority_process(None, 19);
                }
                !belief.is_stopped()
            };
            let keys = log_keys(&self.keys);
            let checkpoint = check_rollback(self.index.read(), &self.origin, &keys)?;
            compare(self.index.read(), checkpoint.as_ref().map(|(checkpoint, _)| checkpoint), &seen)
        };
        let done = std::thread::scope(|scope| scope.spawn(compare).join());
        let done = done.unwrap_or_else(|_| Err(LedgerError::Broken("the comparison panicked".to_owned())));
        tracing::debug!(millis = begun.elapsed().as_millis(), ok = done.is_ok(), "index and log compared");
        done
    }

    fn pause(&self, long: Duration) {
        let until = Instant::now() + long;
        while Instant::now() < until && !self.index.belief().is_stopped() {
            std::thread::sleep(STEP);
        }
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
