//! The pipeline as the file system sees it: what happens to a file goes in, seals come out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::commit::{self, Hashed};
use super::digest::{self, Content};
use super::journal::Journal;
use super::keys::Keys;
use super::life::{Failure, Life, LifeState, NotSealed, Outcome, Phase, Waiter, Writer};
use super::lives::Lives;
use super::queue::Queue;
use super::timer::{Alarm, Timer};
use crate::clock::Clock;
use crate::ledger::{Index, Pending};
use crate::model::{ArtifactKind, Event, Illegal, RelPath, SealRecord, SealTrigger, State, Timestamp};
use crate::policy::Current;
use crate::store::{self, Abilities, Lease, LeaseError, Tree};

/// Hash workers; one more takes small files only.
const WORKERS: usize = 2;
/// Hashed files that may wait for a batch.
const BATCH_QUEUE: usize = 8192;
/// Unsealed closed files from which closes are held back.
const CROWDED: usize = 100_000;
/// How long a sidecar's reader waits for the kernel to release a file whose handles were all flushed.
const RELEASE_GRACE: Duration = Duration::from_millis(200);
/// Closed for so long before it is marked in the index, so that what is sealed soon needs no mark.
const MARK_AFTER: Duration = Duration::from_secs(2);

/// What the pipeline works with.
pub struct Setup {
    /// The backing tree.
    pub tree: Arc<Tree>,
    /// The unsealed files.
    pub lives: Arc<Lives>,
    /// The index.
    pub index: Arc<Index>,
    /// Sealfs time.
    pub clock: Arc<Clock>,
    /// The policy in force.
    pub policy: Arc<Current>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The store's name.
    pub origin: String,
    /// The journal.
    pub journal: Journal,
    /// What the backing file system can do.
    pub abilities: Abilities,
    /// Where seals are told, for the kernel's caches.
    pub events: Sender<SealEvent>,
}

/// What others may want to know.
#[derive(Debug, Clone)]
pub enum SealEvent {
    /// A seal is durable.
    Sealed(Arc<SealRecord>),
}

/// How a seal is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// By a sidecar's name.
    Sidecar,
    /// By taking the write bits away.
    Readonly,
    /// By `sealctl seal`; `torn`: a torn file too.
    Explicit {
        /// Whether a torn file is to be kept.
        torn: bool,
    },
}

/// How many files there are in each state, of those that are not sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Held by a writer, empty, scratch, or waiting for somebody to seal them.
    pub open: u64,
    /// Waiting for the quiet time to pass, or for the pipeline.
    pub settling: u64,
    /// Torn.
    pub torn: u64,
    /// Scratch closed for more than an hour.
    pub old_scratch: u64,
    /// Waiting for a hash worker, being hashed, or in a batch.
    pub queue: u64,
    /// Seals that failed and will be tried again: path and reason, the first few.
    pub failing: Vec<(String, String)>,
}

pub(super) struct Inner {
    pub setup: Setup,
    pub queue: Queue,
    pub timer: Timer,
    pub hashed: Sender<Hashed>,
    /// Files in a batch.
    pub committing: AtomicU64,
    /// Files hashed, for the promise of one pass a file.
    pub passes: AtomicU64,
}

/// The running pipeline.
pub struct Pipeline {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts the threads: a timer, a few hash workers, one committer.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::bounded(BATCH_QUEUE);
        let inner = Arc::new(Inner {
            setup,
            queue: Queue::default(),
            timer: Timer::default(),
            hashed: sender,
            committing: AtomicU64::new(0),
            passes: AtomicU64::new(0),
        });
        let mut threads = Vec::new();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        for n in 0..=WORKERS {
            let inner = Arc::clone(&inner);
            threads.push(thread(&format!("seal-hash-{n}")).spawn(move || inner.work(n == WORKERS))?);
        }
        let timed = Arc::clone(&inner);
        threads.push(thread("seal-timer").spawn(move || timed.watch())?);
        let committing = Arc::clone(&inner);
        let committer = thread("seal-commit").spawn(move || commit::run(&committing, &receiver))?;
        Ok(Pipeline { inner, threads: Mutex::new(threads), committer: Mutex::new(Some(committer)) })
    }

    /// The unsealed files.
    #[must_use]
    pub fn lives(&self) -> &Arc<Lives> {
        &self.inner.setup.lives
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.inner.setup.journal
    }

    /// A writer opens the file; `truncate`: from scratch. What was begun of a seal is thrown away.
    ///
    /// # Errors
    /// If its state does not allow that; then nothing has changed.
    pub fn writer_opened(
        &self,
        life: &Arc<Life>,
        handle: u64,
        process: Option<u32>,
        truncate: bool,
    ) -> Result<(), Illegal> {
        let mut state = life.lock();
        let event = Event::WriterOpened { truncate };
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event });
        }
        let first = state.writers.is_empty();
        state.state = state.state.on(event)?;
        life.disturb(&mut state);
        if truncate {
            state.killed = false;
            state.last_flush_killed = false;
            state.request = None;
        }
        state.failure = None;
        state.writers.insert(handle, Writer { process, flushed: false });
        let marked = std::mem::take(&mut state.marked);
        if first {
            state.since = Instant::now();
            self.journal().opened(life.ino, &state.path);
        }
        if marked {
            self.inner.unmark(&state.path);
        }
        Ok(())
    }

    /// A descriptor of a writable handle was closed by `process`; `killed`: it is dying from a signal.
    pub fn flushed(&self, life: &Arc<Life>, handle: u64, process: Option<u32>, killed: bool) {
        let mut state = life.lock();
        state.last_flush_killed = killed;
        if let Some(writer) = state.writers.get_mut(&handle) {
            writer.flushed = true;
            if killed && writer.process.is_some() && writer.process == process {
                state.killed = true;
            }
        }
    }

    /// The kernel has released a writable handle; the file is `size` bytes long.
    pub fn released(&self, life: &Arc<Life>, handle: u64, size: u64) {
        let mut state = life.lock();
        if state.writers.remove(&handle).is_none() || !state.writers.is_empty() || state.over {
            return;
        }
        state.since = Instant::now();
        if state.killed || state.last_flush_killed {
            // The empty name that a killed writer leaves has no content to be torn.
            if size > 0 {
                self.inner.tear(life, &mut state);
                return;
            }
            state.killed = false;
            state.last_flush_killed = false;
        }
        self.inner.settle(life, &mut state, size, |settles| Event::LastClosed { settles });
    }

    /// The file was renamed to `path`; the caller holds the namespace lock for writing.
    ///
    /// # Errors
    /// If its seal has gone too far; ask before renaming.
    pub fn renamed(&self, life: &Arc<Life>, path: RelPath, size: u64) {
        let mut state = life.lock();
        let marked = std::mem::take(&mut state.marked);
        if marked {
            self.inner.unmark(&state.path);
        }
        state.path = path;
        if state.over || !state.writers.is_empty() || state.is_frozen() {
            return;
        }
        // What is queued or hashed goes on under the new name, unless that is scratch.
        let underway = !matches!(state.phase, Phase::Idle);
        let rule = self.inner.setup.policy.get();
        let scratch = rule.decide(&state.path).seal == SealTrigger::Never;
        if underway && !scratch {
            return;
        }
        life.disturb(&mut state);
        state.demanded &= !scratch;
        self.inner.settle(life, &mut state, size, |settles| Event::Renamed { settles });
    }

    /// A life begins for a closed file that stands at `path`, as after a link, a rename out of an expired
    /// seal, or a restart.
    pub fn adopt(&self, ino: u64, kind: ArtifactKind, path: RelPath, size: u64, torn: bool) -> Arc<Life> {
        let lives = self.lives();
        let life = lives.begin(ino, kind, path, if torn { State::Torn } else { State::Open });
        let mut state = life.lock();
        if torn {
            self.journal().torn(ino, &state.path);
        } else {
            self.inner.settle(&life, &mut state, size, |settles| Event::LastClosed { settles });
        }
        drop(state);
        life
    }

    /// The file's content is gone (truncated to nothing) while nobody has it open.
    pub fn emptied(&self, life: &Arc<Life>) -> Result<(), Illegal> {
        let mut state = life.lock();
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event: Event::Emptied });
        }
        state.state = state.state.on(Event::Emptied)?;
        state.killed = false;
        state.last_flush_killed = false;
        life.disturb(&mut state);
        Ok(())
    }

    /// Content changes otherwise (truncate without a handle): what was begun is thrown away, the quiet time
    /// begins again.
    ///
    /// # Errors
    /// If its state does not allow that; then nothing has changed.
    pub fn disturbed(&self, life: &Arc<Life>) -> Result<(), Illegal> {
        let mut state = life.lock();
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event: Event::WriterOpened { truncate: false } });
        }
        life.disturb(&mut state);
        Ok(())
    }

    /// After [`Pipeline::emptied`] or [`Pipeline::disturbed`]: settles again if nobody writes.
    pub fn settle_again(&self, life: &Arc<Life>, size: u64) {
        let mut state = life.lock();
        if !state.over && state.writers.is_empty() {
            state.since = Instant::now();
            self.inner.settle(life, &mut state, size, |settles| Event::LastClosed { settles });
        }
    }

    /// Asks whether name and attributes may still change, and if so keeps the pipeline from freezing them
    /// until the answer is dropped.
    ///
    /// # Errors
    /// If its seal has gone too far.
    pub fn changeable<'a>(
        &self,
        life: &'a Life,
        event: Event,
    ) -> Result<parking_lot::MutexGuard<'a, LifeState>, Illegal> {
        let state = life.lock();
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event });
        }
        state.state.on(event)?;
        Ok(state)
    }

    /// The name is gone. The caller has checked that it may go.
    pub fn removed(&self, life: &Arc<Life>, state: &mut LifeState) {
        state.over = true;
        life.disturb(state);
        self.journal().over([life.ino]);
        self.lives().end(life);
        if std::mem::take(&mut state.marked) {
            self.inner.unmark(&state.path);
        }
        for waiter in state.waiters.drain(..) {
            (waiter.tell)(Err(NotSealed::Gone));
        }
    }

    /// The writer asks for retention until then.
    pub fn requested(&self, life: &Arc<Life>, state: &mut LifeState, until: Timestamp) {
        state.request = Some(until);
        self.journal().requested(life.ino, until);
    }

    /// Asks for a seal. The waiter, if any, is told when it is durable, or why it will not be.
    pub fn demand(&self, life: &Arc<Life>, demand: Demand, size: u64, waiter: Option<Waiter>) {
        let mut state = life.lock();
        if let Err(refusal) = self.inner.demand_checked(life, &mut state, demand, size) {
            drop(state);
            if let Some(waiter) = waiter {
                (waiter.tell)(Err(refusal));
            }
            return;
        }
        if let Some(mut waiter) = waiter {
            if demand == Demand::Sidecar && !state.writers.is_empty() {
                waiter.until_released = true;
                waiter.deadline = Some(Instant::now() + RELEASE_GRACE);
            }
            self.inner.await_seal(life, &mut state, waiter);
        }
    }

    /// Waits for a seal without asking for one.
    pub fn wait(&self, life: &Arc<Life>, waiter: Waiter) {
        let mut state = life.lock();
        if state.over {
            drop(state);
            (waiter.tell)(Err(NotSealed::Gone));
        } else {
            self.inner.await_seal(life, &mut state, waiter);
        }
    }

    /// Whether so many files wait to be sealed that closes should be held back.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.lives().len() > CROWDED && self.inner.queue.len() > 1000
    }

    /// Marks what is closed and not sealed soon as synced, so that it goes on after a reboot. One syncfs and
    /// one transaction for all. Called from a thread that nothing waits for.
    pub fn mark_closed(&self, all: bool) {
        self.inner.mark_closed(all);
    }

    /// Counts of the unsealed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// How often a file was hashed.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.inner.passes.load(Ordering::Relaxed)
    }

    /// Finishes the seals under way and ends the threads. What settles goes on with the next daemon.
    pub fn stop(&self) {
        self.inner.timer.stop();
        self.inner.queue.stop();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        let _ = self.inner.hashed.send(Hashed::Stop);
        if let Some(thread) = self.committer.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn unmark(&self, path: &RelPath) {
        let done = self.setup.index.batch(&self.setup.clock).and_then(|mut batch| {
            batch.drop_pending(path)?;
            batch.commit().map(drop)
        });
        if let Err(error) = done {
            // Size and modification time in the mark still tell, unless the host dies in between.
            tracing::warn!(%path, %error, "cannot take the mark 'closed' away");
        }
    }

    fn tear(&self, life: &Arc<Life>, state: &mut LifeState) {
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
        if next == State::Torn {
            return;
        }
        self.setup.journal.closed(life.ino, &state.path);
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

    fn enqueue(&self, life: &Arc<Life>, state: &mut LifeState, size: u64) {
        if matches!(state.phase, Phase::Idle) {
            state.phase = Phase::Queued;
            self.queue.push(Arc::clone(life), size);
        }
    }

    fn demand_checked(
        &self,
        life: &Arc<Life>,
        state: &mut LifeState,
        demand: Demand,
        size: u64,
    ) -> Result<(), NotSealed> {
        if state.over {
            return Err(NotSealed::Gone);
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

    fn await_seal(&self, life: &Arc<Life>, state: &mut LifeState, waiter: Waiter) {
        if let Some(deadline) = waiter.deadline {
            self.timer.set(deadline, Alarm::Deadline(life.ino));
        }
        state.waiters.push(waiter);
    }

    /// The timer's thread.
    fn watch(&self) {
        while let Some(alarm) = self.timer.next() {
            let (Alarm::Settle(ino) | Alarm::Deadline(ino) | Alarm::Retry(ino)) = alarm;
            let Some(life) = self.setup.lives.get(ino) else { continue };
            let mut state = life.lock();
            let now = Instant::now();
            match alarm {
                Alarm::Settle(_) | Alarm::Retry(_) => {
                    if state.writers.is_empty() && !state.over && state.due.is_some_and(|due| due <= now) {
                        self.enqueue_by_size(&life, &mut state);
                    }
                }
                Alarm::Deadline(_) => {
                    let late = take_late(&mut state, now);
                    drop(state);
                    for (waiter, why) in late {
                        (waiter.tell)(Err(why));
                    }
                }
            }
        }
    }

    fn enqueue_by_size(&self, life: &Arc<Life>, state: &mut LifeState) {
        let size = self.setup.tree.stat_path(&state.path).map_or(0, |meta| meta.size);
        self.enqueue(life, state, size);
    }

    /// A hash worker's thread.
    fn work(&self, only_small: bool) {
        while let Some(life) = self.queue.pop(only_small) {
            match self.prove_and_hash(&life) {
                Ok(Some(hashed)) => {
                    self.committing.fetch_add(1, Ordering::Relaxed);
                    let _ = self.hashed.send(hashed);
                }
                Ok(None) => {}
                Err((what, busy)) => self.failed(&life, &what, busy),
            }
            self.queue.done();
        }
    }

    /// Proves that nobody can write, and hashes. `None` if the file was disturbed.
    fn prove_and_hash(&self, life: &Arc<Life>) -> Result<Option<Hashed>, (String, bool)> {
        let failed = |error: io::Error| (error.to_string(), false);
        for _ in 0..3 {
            let mut state = life.lock();
            if !matches!(state.phase, Phase::Queued) || state.over || !state.writers.is_empty() {
                if matches!(state.phase, Phase::Queued) {
                    state.phase = Phase::Idle;
                }
                return Ok(None);
            }
            let epoch = life.epoch();
            let path = state.path.clone();
            if life.kind == ArtifactKind::Symlink {
                state.phase = Phase::Hashing(None);
                drop(state);
                return match self.read_link(&path, life.ino).map_err(failed)? {
                    Some(content) => Ok(Some(Hashed::of(life, epoch, None, content))),
                    None => continue,
                };
            }
            let file = match self.setup.tree.open_path(&path) {
                Ok(file) if store::stat_fd(&file).is_ok_and(|meta| meta.ino == life.ino) => file,
                // Renamed before we came: the path is looked up again.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let lease = match Lease::take(file) {
                Ok(lease) => Arc::new(lease),
                Err((file, LeaseError::Unsupported)) if !self.setup.abilities.leases => {
                    Arc::new(Lease::without(file))
                }
                Err((_, error @ LeaseError::Busy)) => return Err((error.to_string(), true)),
                Err((_, error)) => return Err((error.to_string(), false)),
            };
            state.phase = Phase::Hashing(Some(Arc::clone(&lease)));
            let stream = state.stream.take();
            drop(state);
            let size = store::stat_fd(lease.file()).map_err(failed)?.size;
            let content = match stream.and_then(|stream| stream.finish(size)) {
                Some(content) => Some(content),
                None => digest::hash_life(lease.file(), life, epoch).map_err(failed)?,
            };
            self.passes.fetch_add(1, Ordering::Relaxed);
            let Some(content) = content else { return Ok(None) };
            return Ok(Some(Hashed::of(life, epoch, Some(lease), content)));
        }
        Err(("its name moves faster than it can be sealed".to_owned(), true))
    }

    fn read_link(&self, path: &RelPath, ino: u64) -> io::Result<Option<Content>> {
        let dir = self.setup.tree.parent_of(path)?;
        if store::stat_at(&dir, path.name())?.ino != ino {
            return Ok(None);
        }
        let target = store::readlink_at(&dir, path.name())?;
        let bytes = target.as_bytes();
        Ok(Some(Content { sha256: crate::crypto::sha256(bytes), size: bytes.len() as u64 }))
    }

    /// A try at a seal has failed: it is told, kept, and tried again.
    pub(super) fn failed(&self, life: &Arc<Life>, what: &str, busy: bool) {
        let mut state = life.lock();
        state.phase = Phase::Idle;
        if state.over {
            return;
        }
        let tries = state.failure.as_ref().map_or(0, |failure| failure.tries) + 1;
        let pause = if busy {
            Duration::from_millis(1 << tries.min(12)).min(Duration::from_secs(5))
        } else {
            Duration::from_secs(1 << tries.min(8)).min(Duration::from_secs(300))
        };
        state.failure = Some(Failure { what: what.to_owned(), tries, busy });
        let due = Instant::now() + pause;
        state.due = Some(due);
        self.timer.set(due, Alarm::Retry(life.ino));
        let path = state.path.clone();
        // Whoever closed last has let go within milliseconds; longer is somebody outside.
        let told = if busy && tries < 11 { Vec::new() } else { std::mem::take(&mut state.waiters) };
        drop(state);
        if !busy || tries == 11 {
            tracing::warn!(%path, tries, "cannot seal yet: {what}");
        }
        for waiter in told {
            (waiter.tell)(Err(NotSealed::Failed(what.to_owned())));
        }
    }

    /// A write-back error is final: the bytes on disk are not those that were written.
    pub(super) fn lost(&self, life: &Arc<Life>, what: &str) {
        let mut state = life.lock();
        state.phase = Phase::Idle;
        state.failure = Some(Failure { what: what.to_owned(), tries: 1, busy: false });
        let path = state.path.clone();
        self.tear(life, &mut state);
        drop(state);
        tracing::error!(%path, "write-back failed, the file is torn: {what}");
    }

    fn mark_closed(&self, all: bool) {
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
            return;
        }
        let mut rows = Vec::new();
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
        }
        let done = self.setup.index.batch(&self.setup.clock).and_then(|mut batch| {
            batch.pending(&rows)?;
            batch.commit().map(drop)
        });
        if let Err(error) = done {
            tracing::warn!(%error, "cannot mark closed files as synced");
        }
    }

    fn counts(&self) -> Counts {
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

/// Waiters whose time is over. A sidecar's reader only waits so long for writers to let go; once they have,
/// it waits for the seal.
fn take_late(state: &mut LifeState, now: Instant) -> Vec<(Waiter, NotSealed)> {
    let (mut late, mut kept) = (Vec::new(), Vec::new());
    let written = !state.writers.is_empty();
    for mut waiter in state.waiters.drain(..) {
        match waiter.deadline {
            Some(deadline) if deadline <= now => {
                if !waiter.until_released {
                    late.push((waiter, NotSealed::Late));
                } else if written {
                    late.push((waiter, NotSealed::StillOpen));
                } else {
                    waiter.deadline = None;
                    kept.push(waiter);
                }
            }
            _ => kept.push(waiter),
        }
    }
    state.waiters = kept;
    late
}

pub(super) fn tell_all(waiters: Vec<Waiter>, outcome: &Outcome) {
    for waiter in waiters {
        (waiter.tell)(outcome.clone());
    }
}

pub(super) type HashedReceiver = Receiver<Hashed>;
