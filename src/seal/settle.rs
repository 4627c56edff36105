//! What comes after the last close, and what a demand does: decisions on one life, under its lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::life::{Life, LifeState, NotSealed, Phase, Waiter};
use super::pipeline::{Demand, Inner};
use super::timer::Alarm;
use crate::model::{ArtifactKind, Event, RelPath, SealTrigger, State};

impl Inner {
    pub(super) fn unmark(&self, path: &RelPath) {
        let done = self.setup.index.batch(&self.setup.clock).and_then(|mut batch| {
            batch.drop_pending(path)?;
            batch.commit().map(drop)
        });
        if let Err(error) = done {
            // Size and modification time in the mark still tell, unless the host dies in between.
            tracing::warn!(%path, %error, "cannot take the mark 'closed' away");
        }
    }

    pub(super) fn tear(&self, life: &Arc<Life>, state: &mut LifeState) {
        if let Ok(torn) = state.state.on(Event::WriterKilled) {
            state.state = torn;
        }
        state.due = None;
        self.setup.journal.torn(life.ino, &state.path);
        if state.keep_torn {
            self.enqueue(life, state, 0);
            return;
        }
        for waiter in state.waiters.drain(..) {
            (waiter.tell)(Err(NotSealed::Torn));
        }
    }

    /// Nobody writes any more: what comes next, by the rule of the name.
    pub(super) fn settle(
        &self,
        life: &Arc<Life>,
        state: &mut LifeState,
        size: u64,
        event: impl Fn(bool) -> Event,
    ) {
        let policy = self.setup.policy.get();
        let rule = policy.decide(&state.path);
        let closes = rule.seal == SealTrigger::Close;
        let has_content = size > 0 || life.kind == ArtifactKind::Symlink;
        let Ok(next) = state.state.on(event(closes && has_content)) else { return };
        state.state = next;
        if next == State::Torn || self.setup.read_only {
            return;
        }
        self.setup.journal.closed(life.ino, &state.path);
        state.size = size;
        if state.demanded || !state.waiters.is_empty() {
            self.enqueue(life, state, size);
        } else if closes {
            let quiet = if has_content { rule.settle } else { rule.settle_empty };
            let due = Instant::now() + quiet.0;
            state.due = Some(due);
            if quiet.0.is_zero() {
                self.enqueue(life, state, size);
            } else {
                self.timer.set(due, Alarm::Settle(life.ino));
            }
        }
    }

    pub(super) fn enqueue(&self, life: &Arc<Life>, state: &mut LifeState, size: u64) {
        if matches!(state.phase, Phase::Idle) {
            state.phase = Phase::Queued;
            self.queue.push(Arc::clone(life), size, state.is_awaited());
        }
    }

    pub(super) fn demand_checked(
        &self,
        life: &Arc<Life>,
        state: &mut LifeState,
        demand: Demand,
        size: u64,
    ) -> Result<(), NotSealed> {
        if state.over {
            return Err(NotSealed::Gone);
        }
        if self.setup.read_only {
            return Err(NotSealed::Rule("the mount is read-only".to_owned()));
        }
        let policy = self.setup.policy.get();
        let rule = policy.decide(&state.path);
        let fits = match demand {
            Demand::Sidecar => rule.seal == SealTrigger::Close || state.demanded,
            Demand::Readonly => matches!(rule.seal, SealTrigger::Close | SealTrigger::Readonly),
            Demand::Explicit { .. } => rule.seal != SealTrigger::Never,
        };
        if !fits {
            return Err(NotSealed::Rule(match rule.seal {
                SealTrigger::Never => {
                    format!(
                        "it is scratch ({}, seal = \"never\"); rename it to a name that is sealed",
                        rule.label
                    )
                }
                SealTrigger::Explicit => {
                    format!("{} says seal = \"explicit\"; use 'sealctl seal'", rule.label)
                }
                _ => format!("{} says seal = \"readonly\"; use 'chmod a-w' or 'sealctl seal'", rule.label),
            }));
        }
        let keep_torn = demand == Demand::Explicit { torn: true };
        if state.state == State::Torn && !keep_torn && !state.keep_torn {
            return Err(NotSealed::Torn);
        }
        if !state.writers.is_empty() && demand == Demand::Sidecar {
            return if state.all_flushed() { Ok(()) } else { Err(NotSealed::StillOpen) };
        }
        state.keep_torn |= keep_torn;
        if !state.demanded {
            state.demanded = true;
            self.setup.journal.demanded(life.ino);
        }
        if state.writers.is_empty() {
            self.enqueue(life, state, size);
        }
        Ok(())
    }

    pub(super) fn await_seal(&self, life: &Arc<Life>, state: &mut LifeState, waiter: Waiter) {
        if let Some(deadline) = waiter.deadline {
            self.timer.set(deadline, Alarm::Deadline(life.ino));
        }
        state.waiters.push(waiter);
        self.awaited.store(true, Ordering::Relaxed);
        match state.phase {
            Phase::Queued => self.queue.hurry(),
            Phase::Hashing(_) => self.hashed.hurry(),
            Phase::Idle | Phase::Frozen | Phase::InDoubt => {}
        }
    }
}
