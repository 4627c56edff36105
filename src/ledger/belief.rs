//! How far the index is believed: not before it was compared with the log, and no further than they agree.
//!
//! Whoever can write to `index.db` can edit its rows while no daemon runs, or beside one. So the daemon compares all
//! of them with the log, once at its start and again whenever another process has written to the file
//! (`PRAGMA data_version`). Until that is done, no seal is changed or ended; where they differ, none is after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::model::RelPath;

/// Paths that are kept by name; from here on the whole index is not believed.
pub const DIFFERENCES_MAX: usize = 10_000;

/// Where the index says something else than the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// Why nothing in the index can be believed.
    pub whole: Option<String>,
    /// What is wrong at these paths.
    pub paths: BTreeMap<RelPath, String>,
}

impl Differences {
    /// Of an index that cannot be believed at all.
    #[must_use]
    pub fn of_all(why: impl Into<String>) -> Self {
        Differences { whole: Some(why.into()), paths: BTreeMap::new() }
    }

    /// Adds one.
    pub fn add(&mut self, path: RelPath, what: impl Into<String>) {
        if self.paths.len() < DIFFERENCES_MAX {
            self.paths.insert(path, what.into());
        } else if self.whole.is_none() {
            self.whole = Some(format!("more than {DIFFERENCES_MAX} of its rows are not what the log says"));
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_none() && self.paths.is_empty()
    }
}

struct State {
    /// The comparison that was asked for last, from 1, and the last one that ended.
    asked: u64,
    done: u64,
    found: Arc<Differences>,
    stopped: bool,
}

/// What is known of the index.
pub struct Belief {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether any difference is known: asked by every look at a file.
    doubtful: AtomicBool,
    seen: AtomicU64,
    of: AtomicU64,
}

impl Default for Belief {
    fn default() -> Self {
        let state = State { asked: 1, done: 0, found: Arc::default(), stopped: false };
        Belief {
            state: Mutex::new(state),
            changed: Condvar::new(),
            doubtful: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            of: AtomicU64::new(0),
        }
    }
}

impl Belief {
    /// The index must be compared again: somebody else has written to it.
    pub fn doubt(&self) {
        self.state.lock().asked += 1;
        self.changed.notify_all();
    }

    /// Waits until a comparison is asked for, and returns its number; none once [`Belief::stop`] was called.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let mut state = self.state.lock();
        while state.asked == state.done && !state.stopped {
            self.changed.wait(&mut state);
        }
        (!state.stopped).then_some(state.asked)
    }

    /// A comparison has ended; one that was asked for since is still to come.
    pub fn settle(&self, number: u64, found: Differences) {
        let mut state = self.state.lock();
        self.doubtful.store(!found.is_empty(), Ordering::Release);
        (state.done, state.found) = (number, Arc::new(found));
        self.changed.notify_all();
    }

    /// Nothing is compared any more.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether [`Belief::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// How far a comparison is: so many entries of so many.
    pub fn went(&self, seen: u64, of: u64) {
        self.seen.store(seen, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
    }

    /// How far the comparison is that is under way; none if the index is compared.
    #[must_use]
    pub fn under_way(&self) -> Option<(u64, u64)> {
        let state = self.state.lock();
        (state.asked != state.done)
            .then(|| (self.seen.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed)))
    }

    /// Waits at most so long until the index is compared; returns whether it is.
    #[must_use]
    pub fn wait(&self, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let mut state = self.state.lock();
        while state.asked != state.done && !state.stopped {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.asked == state.done
    }

    /// What the last comparison found.
    #[must_use]
    pub fn found(&self) -> Arc<Differences> {
        Arc::clone(&self.state.lock().found)
    }

    /// What is wrong with the index at a path, as far as is known.
    #[must_use]
    pub fn differs(&self, path: &RelPath) -> Option<String> {
        if !self.doubtful.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().found.paths.get(path).cloned()
    }

    /// A path at or below a folder at which the index is wrong.
    #[must_use]
    pub fn differs_below(&self, folder: &RelPath) -> Option<RelPath> {
        if !self.doubtful.load(Ordering::Acquire) {
            return None;
        }
        let found = self.found();
        found.paths.keys().find(|path| path.is_within(folder)).cloned()
    }

    /// Why nothing in the index can be believed, if that is so.
    #[must_use]
    pub fn wholly(&self) -> Option<String> {
        if !self.doubtful.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().found.whole.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_settled_before_the_last_comparison_that_was_asked_for() {
        let belief = Belief::default();
        let path = RelPath::parse("a/b").unwrap();
        assert!(!belief.wait(Duration::ZERO));
        let first = belief.next().unwrap();
        belief.doubt();
        belief.settle(first, Differences::default());
        assert!(belief.under_way().is_some(), "asked for since");
        let second = belief.next().unwrap();
        let mut found = Differences::default();
        found.add(path.clone(), "retention");
        belief.settle(second, found);
        assert!(belief.wait(Duration::ZERO));
        assert_eq!(belief.differs(&path).as_deref(), Some("retention"));
        assert_eq!(belief.differs_below(&RelPath::parse("a").unwrap()), Some(path.clone()));
        assert_eq!(belief.differs_below(&RelPath::parse("ab").unwrap()), None);
        // Known differences stay known while it is compared again.
        belief.doubt();
        assert!(belief.differs(&path).is_some() && !belief.wait(Duration::ZERO));
        belief.settle(belief.next().unwrap(), Differences::default());
        assert_eq!(belief.differs(&path), None);
        belief.stop();
        assert_eq!(belief.next(), None);
    }

    #[test]
    fn too_many_differences_are_one_of_the_whole() {
        let mut found = Differences::default();
        for n in 0..=DIFFERENCES_MAX {
            found.add(RelPath::parse(&n.to_string()).unwrap(), "row");
        }
        assert_eq!(found.paths.len(), DIFFERENCES_MAX);
        assert!(found.whole.is_some());
    }
}
