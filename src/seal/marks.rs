//! What is closed but not sealed: marked in the index for the next boot, counted for `status`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::life::{Life, Phase};
use super::pipeline::{Counts, Inner};
use crate::ledger::Pending;
use crate::model::{SealTrigger, State};

/// Closed for so long before it is marked in the index, so that what is sealed soon needs no mark.
const MARK_AFTER: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) fn mark_closed(&self, all: bool) {
        let mut due: Vec<Arc<Life>> = Vec::new();
        for life in self.setup.lives.all() {
            let state = life.lock();
            let idle = matches!(state.phase, Phase::Idle) && state.writers.is_empty() && !state.over;
            if idle && !state.marked && (all || state.since.elapsed() >= MARK_AFTER) {
                drop(state);
                due.push(life);
            }
        }
        if due.is_empty() {
            return;
        }
        let seen: Vec<_> = due.iter().map(|life| life.epoch()).collect();
        if let Err(error) = crate::durable::sync_fs(self.setup.tree.root()) {
            tracing::error!(%error, "background sync of closed files failed");
            self.suspect_flush(&error);
            return;
        }
        let (mut rows, mut marked) = (Vec::new(), Vec::new());
        for (life, epoch) in due.iter().zip(seen) {
            let mut state = life.lock();
            if life.epoch() != epoch || state.over || !state.writers.is_empty() || state.is_frozen() {
                continue;
            }
            let Ok(meta) = self.setup.tree.stat_path(&state.path) else { continue };
            rows.push(Pending {
                path: state.path.clone(),
                ino: life.ino,
                size: meta.size,
                mtime: meta.mtime,
                torn: state.state == State::Torn,
                demanded: state.demanded,
                request: state.request,
            });
            state.marked = true;
            life.arrived();
            drop(state);
            marked.push(life);
        }
        let done = self.setup.index.batch(&self.setup.clock).and_then(|mut batch| {
            batch.pending(&rows)?;
            batch.commit().map(drop)
        });
        if let Err(error) = done {
            for life in marked {
                life.lock().marked = false;
            }
            tracing::warn!(%error, "cannot mark closed files as synced");
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            queue: self.queue.len() as u64 + self.committing.load(Ordering::Relaxed),
            ..Counts::default()
        };
        let policy = self.setup.policy.get();
        for life in self.setup.lives.all() {
            let state = life.lock();
            match state.state {
                State::Torn => counts.torn += 1,
                State::Settling => counts.settling += 1,
                State::Open | State::Sealed | State::Expired => {
                    counts.open += 1;
                    let old = state.writers.is_empty() && state.since.elapsed() > Duration::from_secs(3600);
                    if old && policy.decide(&state.path).seal == SealTrigger::Never {
                        counts.old_scratch += 1;
                    }
                }
            }
            if let Some(failure) = &state.failure
                && counts.failing.len() < 20
                && (!failure.busy || failure.tries > 10)
            {
                counts.failing.push((state.path.to_string(), failure.what.clone()));
            }
        }
        counts
    }
}
