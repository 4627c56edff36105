//! What a closed file was before somebody tried to change it: if that fails, it is so again.

use std::sync::Arc;
use std::time::Instant;

use super::life::{Failure, Life, LifeState, Phase};
use super::observed::Observed;
use super::pipeline::Inner;
use super::timer::Alarm;
use super::writing::Writing;
use crate::model::{State, Timestamp};

/// What is known of a closed file, and how far its seal had come.
pub struct Before {
    state: State,
    writing: Writing,
    lost: bool,
    request: Option<Timestamp>,
    observed: Observed,
    failure: Option<Failure>,
    due: Option<Instant>,
    since: Instant,
    size: u64,
    /// Its seal was under way.
    underway: bool,
}

impl Before {
    /// As it is now.
    pub(super) fn of(state: &LifeState) -> Self {
        Before {
            state: state.state,
            writing: state.writing,
            lost: state.lost,
            request: state.request,
            observed: state.observed.clone(),
            failure: state.failure.clone(),
            due: state.due,
            since: state.since,
            size: state.size,
            underway: matches!(state.phase, Phase::Queued | Phase::Hashing(_)),
        }
    }

    /// What was known of its writers stands, whatever became of who wanted to be one more.
    pub(super) fn is_still_so(&self, state: &mut LifeState) {
        state.writing = self.writing;
        state.lost |= self.lost;
    }
}

impl Inner {
    /// It is as it was; its seal is asked for again where that was under way.
    pub(super) fn restore(&self, life: &Arc<Life>, state: &mut LifeState, before: Before) {
        let Before { underway, .. } = before;
        state.state = before.state;
        (state.writing, state.lost) = (before.writing, before.lost);
        (state.request, state.observed, state.failure) = (before.request, before.observed, before.failure);
        (state.due, state.since, state.size) = (before.due, before.since, before.size);
        if before.state == State::Torn {
            self.setup.journal.torn(life.ino, &state.path);
        } else {
            self.setup.journal.closed(life.ino, &state.path);
        }
        if underway || (state.is_awaited() && (before.state != State::Torn || state.keep_torn)) {
            let size = state.size;
            if self.is_wanted(life, state) {
                self.enqueue(life, state, size);
            }
        } else if let Some(due) = before.due {
            self.timer.set(due, Alarm::Settle(life.ino));
        }
    }
}
