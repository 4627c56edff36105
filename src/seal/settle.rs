//! What comes after the last close, and what a demand does: decisions on one life, under its lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::life::{Failure, Life, LifeState, NotSealed, Phase, Waiter};
use super::pipeline::{Demand, Inner};
use super::timer::Alarm;
use crate::model::{ArtifactKind, Event, FileTime, RelPath, SealTrigger, State};
use crate::policy::{Decision, Symlinks};

/// How soon, at the earliest, an unfinished file is looked at again.
const UNFINISHED_LOOK: Duration = Duration::from_secs(1);

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
        if !self.is_wanted(life, state) {
            return;
        }
        // Who only waits does not ask for half a file.
        if state.is_awaited() && self.unfinished(life, state).is_none() {
            self.enqueue(life, state, size);
        } else if closes {
            let quiet = if has_content { rule.settle } else { rule.settle_empty };
            let due = Instant::now() + quiet.longest();
            state.due = Some(due);
            if quiet.longest().is_zero()
                && let Some(marker) = self.unfinished(life, state)
            {
                self.wait_for_the_rest(life, state, &marker);
            } else if quiet.longest().is_zero() {
                self.enqueue(life, state, size);
            } else {
                self.timer.set(due, Alarm::Settle(life.ino));
            }
        }
    }

    /// What says that the file is not finished, in words: a control file beside it, or the time 0 that rsync leaves on what
    /// it has kept of an interrupted transfer. Nothing if its seal was asked for.
    pub(super) fn unfinished(&self, life: &Life, state: &LifeState) -> Option<String> {
        if life.kind != ArtifactKind::File || state.demanded.is_some() {
            return None;
        }
        let tree = &self.setup.tree;
        let zero = FileTime { seconds: 0, nanos: 0 };
        if tree.stat_path(&state.path).is_ok_and(|meta| meta.mtime == zero) {
            return Some("its modification time is 0, as rsync leaves it on half a file".to_owned());
        }
        let (_, name) = state.path.split()?;
        let policy = self.setup.policy.get();
        let mut markers =
            policy.decide(&state.path).unfinished.iter().map(|marker| marker.replace("{}", name));
        markers
            // One that is sealed controls nothing any more.
            .find(|marker| {
                tree.stat_path(&state.path.parent().join(marker))
                    .is_ok_and(|meta| self.setup.lives.get(meta.ino).is_some())
            })
            .map(|marker| format!("'{marker}' stands beside it: it is not finished"))
    }

    /// Looks again after another quiet time.
    pub(super) fn wait_for_the_rest(&self, life: &Life, state: &mut LifeState, why: &str) {
        let policy = self.setup.policy.get();
        let due = Instant::now() + policy.decide(&state.path).settle.longest().max(UNFINISHED_LOOK);
        state.due = Some(due);
        state.failure = Some(Failure { what: why.to_owned(), tries: 0, busy: true });
        self.timer.set(due, Alarm::Settle(life.ino));
    }

    /// Whether the rule of the name, as it is now, seals the file as it was asked for. If not, what was asked for under
    /// another name or another policy does not stand any more: nothing is sealed that the rule leaves alone.
    pub(super) fn is_wanted(&self, life: &Arc<Life>, state: &mut LifeState) -> bool {
        let policy = self.setup.policy.get();
        let rule = policy.decide(&state.path);
        let is_free = life.kind == ArtifactKind::Symlink && rule.symlinks == Symlinks::Free;
        if !is_free && rule.seal.seals(state.demanded) {
            return true;
        }
        if matches!(state.phase, Phase::Queued | Phase::Hashing(_)) {
            life.disturb(state);
        }
        state.due = None;
        if state.state == State::Settling
            && let Ok(open) = state.state.on(Event::LastClosed { settles: false })
        {
            state.state = open;
        }
        let demanded = state.demanded.take().is_some();
        if demanded {
            self.setup.journal.demanded(life.ino, None);
        }
        let why = NotSealed::Rule(refusal(rule));
        // Who only waits, and not for long at a time, may see it asked for yet.
        let asks = |waiter: &mut Waiter| demanded || waiter.until_released || waiter.deadline.is_none();
        for waiter in state.waiters.extract_if(.., asks).collect::<Vec<_>>() {
            (waiter.tell)(Err(why.clone()));
        }
        if is_free {
            self.let_go(life, state);
        }
        false
    }

    /// The file, or link, is nothing that will be sealed: its life is over, what stands under its name stays.
    fn let_go(&self, life: &Arc<Life>, state: &mut LifeState) {
        state.over = true;
        self.setup.journal.over([life.ino]);
        self.setup.lives.end(life);
        if std::mem::take(&mut state.marked) {
            self.unmark(&state.path);
        }
        for waiter in state.waiters.drain(..) {
            (waiter.tell)(Err(NotSealed::Gone));
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
        let asked = demand.asked();
        if !rule.seal.seals(state.demanded.max(Some(asked))) {
            return Err(NotSealed::Rule(refusal(rule)));
        }
        if demand == Demand::Sidecar
            && let Some(why) = self.unfinished(life, state)
        {
            return Err(NotSealed::Rule(why));
        }
        let keep_torn = demand == Demand::Explicit { torn: true };
        if state.state == State::Torn && !keep_torn && !state.keep_torn {
            return Err(NotSealed::Torn);
        }
        if !state.writers.is_empty() && demand == Demand::Sidecar {
            return if state.all_flushed() { Ok(()) } else { Err(NotSealed::StillOpen) };
        }
        state.keep_torn |= keep_torn;
        if state.demanded < Some(asked) {
            state.demanded = Some(asked);
            self.setup.journal.demanded(life.ino, state.demanded);
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

/// Why a rule does not seal a file, and what would.
fn refusal(rule: &Decision) -> String {
    let label = &rule.label;
    match rule.seal {
        SealTrigger::Never => {
            format!("it is scratch ({label}, seal = \"never\"); rename it to a name that is sealed")
        }
        SealTrigger::Explicit => format!("{label} says seal = \"explicit\"; use 'sealctl seal'"),
        SealTrigger::Readonly => {
            format!("{label} says seal = \"readonly\"; use 'chmod a-w' or 'sealctl seal'")
        }
        SealTrigger::Close => format!("{label} says symlinks = \"free\""),
    }
}
