//! The pipeline as the file system sees it: what happens to a file goes in, seals come out.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::before::Before;
use super::commit;
use super::early::{self, Early};
use super::gather::Gathering;
use super::journal::Journal;
use super::keys::Keys;
use super::life::{Life, LifeState, NotSealed, Outcome, Phase, Waiter, Writer};
use super::lives::Lives;
use super::observed::Observed;
use super::pieces::Pieces;
use super::queue::Queue;
use super::timer::Timer;
use super::writing::{Flusher, Looks, Writing};
use crate::clock::Clock;
use crate::ledger::Index;
use crate::model::{ArtifactKind, Asked, Event, Illegal, RelPath, State, Timestamp};
use crate::policy::Current;
use crate::provenance::Observation;
use crate::store::{Abilities, Tree};

/// Hash workers; one more takes small files only.
const WORKERS: usize = 2;
/// Unsealed closed files from which closes are held back.
const CROWDED: usize = 100_000;
/// How long a sidecar's reader waits for the kernel to release a file whose handles were all flushed.
const RELEASE_GRACE: Duration = Duration::from_millis(200);

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
    /// Whether nothing may be sealed or written down.
    pub read_only: bool,
    /// Told of the inode of each seal that is durable, before whoever waits for it: what the kernel has cached of it
    /// shows no retention. Called from the committer's thread; must not wait for requests of the kernel.
    pub sealed: Box<dyn Fn(u64) + Send + Sync>,
    /// Takes each file that needs another inode before it can be sealed, since pages of this one stay in use.
    pub renew: Sender<Arc<Life>>,
    /// Told of the inode of each file that will be torn because bytes of it are lost: the next worker has to know.
    pub lost: Box<dyn Fn(u64) + Send + Sync>,
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

impl Demand {
    /// What is kept of it until the seal is there.
    #[must_use]
    pub fn asked(self) -> Asked {
        match self {
            Demand::Sidecar => Asked::Sidecar,
            Demand::Readonly => Asked::Readonly,
            Demand::Explicit { .. } => Asked::Explicit,
        }
    }

    /// The demand that was kept.
    #[must_use]
    pub fn again(asked: Asked) -> Self {
        match asked {
            Asked::Sidecar => Demand::Sidecar,
            Asked::Readonly => Demand::Readonly,
            Asked::Explicit => Demand::Explicit { torn: false },
        }
    }
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
    pub hashed: Gathering,
    pub pieces: Pieces,
    pub early: Early,
    /// Files in a batch.
    pub committing: AtomicU64,
    /// Whether somebody has come to wait for a seal since the batch began.
    pub awaited: AtomicBool,
}

/// The running pipeline.
pub struct Pipeline {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts the threads: a timer, a few hash workers, one that begins to write large files back, one committer.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            setup,
            queue: Queue::default(),
            timer: Timer::default(),
            hashed: Gathering::default(),
            pieces: Pieces::default(),
            early: Early::default(),
            committing: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        for n in 0..=WORKERS {
            let inner = Arc::clone(&inner);
            threads.push(thread(&format!("seal-hash-{n}")).spawn(move || inner.work(n == WORKERS))?);
        }
        let timed = Arc::clone(&inner);
        threads.push(thread("seal-timer").spawn(move || timed.watch())?);
        let beginning = Arc::clone(&inner);
        threads.push(thread("seal-early").spawn(move || early::run(&beginning))?);
        let committing = Arc::clone(&inner);
        let committer = thread("seal-commit").spawn(move || commit::run(&committing))?;
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
        observation: Arc<Observation>,
        truncate: bool,
    ) -> Result<(), Illegal> {
        let mut state = life.lock();
        let event = Event::WriterOpened { truncate };
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event });
        }
        let first = state.writers.is_empty();
        let after = state.state.on(event)?;
        state.before = Some((handle, Box::new(Before::of(&state))));
        state.state = after;
        life.disturb(&mut state);
        if truncate {
            life.arrived();
            state.writing = Writing::default();
            state.lost = false;
            state.request = None;
            state.observed = Observed::default();
        }
        state.observed.add(observation);
        if !state.lost {
            state.failure = None;
        }
        state.writers.insert(handle, Writer { process, flushed: false });
        let marked = std::mem::take(&mut state.marked);
        if first {
            state.since = Instant::now();
            self.journal().opened(life.ino, &state.path);
            self.inner.early.opened(life, &mut state);
        }
        if marked {
            self.inner.unmark(&state.path);
        }
        Ok(())
    }

    /// A descriptor of a writable handle was closed by a process; `content` is what the file looks like now. Returns
    /// whether the file is torn as it stands.
    pub fn flushed(&self, life: &Life, handle: u64, content: Looks, by: impl FnOnce() -> Flusher) -> bool {
        let mut state = life.lock();
        let opener = state.writers.get_mut(&handle).and_then(|writer| {
            writer.flushed = true;
            writer.process
        });
        if state.writing.is_as_seen(content) {
            return state.writing.is_torn();
        }
        state.writing.flushed(content, &by(), opener);
        state.writing.is_torn()
    }

    /// The file looks like this to a writer who has just come.
    pub fn begins_with(&self, life: &Life, content: Looks) {
        let mut state = life.lock();
        if state.writers.len() == 1 {
            state.writing.begins_with(content);
        }
    }

    /// A write to the file found no room at `offset`.
    pub fn found_no_room(&self, life: &Life, offset: u64) {
        life.lock().writing.found_no_room(offset);
    }

    /// Bytes of the file did not reach the disk. That is told once, and what is read now may be what the
    /// disk does not have: the file is torn when it is closed, unless it is written from scratch.
    pub fn sync_failed(&self, life: &Arc<Life>, error: &io::Error) {
        self.inner.sync_failed(life, &error.to_string());
        self.inner.suspect_flush(error);
    }

    /// A sync failed that may have been of these and other bytes: it flushes the whole disk.
    pub fn suspect_flush(&self, error: &io::Error) {
        self.inner.suspect_flush(error);
    }

    /// Whether bytes of the file are known not to have reached the disk.
    #[must_use]
    pub fn is_lost(&self, life: &Life) -> bool {
        life.lock().lost
    }

    /// A file goes on as the last worker left it: with its writers, if it had any; `killed`: a writer that was killed
    /// wrote last, and whether bytes of it are lost besides. Who wrote it so far is not known any more.
    pub fn adopt_open(
        &self,
        ino: u64,
        path: RelPath,
        writers: HashMap<u64, Writer>,
        killed: Option<bool>,
    ) -> Arc<Life> {
        let life = self.lives().begin(ino, ArtifactKind::File, path, State::Open);
        let mut state = life.lock();
        state.writers = writers;
        state.mapped = true;
        if killed.is_some() {
            state.writing = Writing::torn();
        }
        state.lost = killed == Some(true);
        self.journal().opened(ino, &state.path);
        self.inner.early.opened(&life, &mut state);
        drop(state);
        life
    }

    /// The kernel has released a writable handle; the file is `size` bytes long.
    pub fn released(&self, life: &Arc<Life>, handle: u64, size: u64) {
        let mut state = life.lock();
        if state.writers.remove(&handle).is_none() || !state.writers.is_empty() || state.over {
            return;
        }
        state.since = Instant::now();
        if state.writing.is_torn() || state.lost {
            // The empty name that a killed writer leaves has no content to be torn.
            if size > 0 {
                self.inner.tear(life, &mut state);
                return;
            }
            state.writing = Writing::default();
            state.lost = false;
        }
        self.inner.settle(life, &mut state, size, |settles| Event::LastClosed { settles });
    }

    /// After an unmount: what was closed but whose release the kernel had no time to tell is released. (Only
    /// a detached mount leaves files that are really open; those were not flushed, and will be torn.)
    pub fn release_flushed(&self) {
        for life in self.lives().all() {
            let (handles, path) = {
                let state = life.lock();
                if state.over || state.writers.is_empty() || !state.all_flushed() {
                    continue;
                }
                (state.writers.keys().copied().collect::<Vec<_>>(), state.path.clone())
            };
            let size = self.inner.setup.tree.stat_path(&path).map_or(0, |meta| meta.size);
            for handle in handles {
                self.released(&life, handle, size);
            }
        }
    }

    /// A file that was open when a worker died, and that by now nobody has said to have open: its last close was
    /// heard of by that worker, or will never be.
    pub fn unclaimed(&self, life: &Arc<Life>, size: u64) {
        let mut state = life.lock();
        if state.over || !state.writers.is_empty() || state.state != State::Open {
            return;
        }
        if (state.writing.is_torn() || state.lost) && size > 0 {
            self.inner.tear(life, &mut state);
        } else {
            self.inner.settle(life, &mut state, size, |settles| Event::LastClosed { settles });
        }
    }

    /// The file was renamed to `path`; the caller holds the namespace lock for writing, and has asked
    /// [`Pipeline::changeable`] before.
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
        // What is queued or hashed goes on under the new name, if its rule seals what was asked for so.
        let underway = !matches!(state.phase, Phase::Idle);
        if !self.inner.is_wanted(life, &mut state) {
            if !state.over {
                self.inner.settle(life, &mut state, size, |settles| Event::Renamed { settles });
            }
            return;
        }
        if underway {
            return;
        }
        life.disturb(&mut state);
        self.inner.settle(life, &mut state, size, |settles| Event::Renamed { settles });
    }

    /// A life begins for a closed file that stands at `path`, as after a link or a rename out of an expired seal: nobody
    /// ever had it open for writing since it was last proven.
    pub fn adopt(&self, ino: u64, kind: ArtifactKind, path: RelPath, size: u64) -> Arc<Life> {
        let life = self.lives().begin(ino, kind, path, State::Open);
        self.inner.settle(&life, &mut life.lock(), size, |settles| Event::LastClosed { settles });
        life
    }

    /// A life begins for a closed file of which nobody knows who had it open, as after a restart.
    pub fn adopt_unknown(
        &self,
        ino: u64,
        kind: ArtifactKind,
        path: RelPath,
        size: u64,
        torn: bool,
    ) -> Arc<Life> {
        let begins = if torn { State::Torn } else { State::Open };
        let (life, has_begun) = self.lives().begin_unless_known(ino, kind, path, begins);
        let mut state = life.lock();
        // Another look at the same file may have been quicker, and a writer may have come since.
        if has_begun && state.writers.is_empty() {
            state.mapped = true;
            if torn {
                self.journal().torn(ino, &state.path);
            } else {
                self.inner.settle(&life, &mut state, size, |settles| Event::LastClosed { settles });
            }
        }
        drop(state);
        life
    }

    /// The file's content is gone (truncated to nothing).
    ///
    /// # Errors
    /// If its state does not allow that; then nothing has changed.
    pub fn emptied(&self, life: &Arc<Life>) -> Result<(), Illegal> {
        let mut state = life.lock();
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event: Event::Emptied });
        }
        state.state = state.state.on(Event::Emptied)?;
        life.arrived();
        state.writing = Writing::default();
        state.lost = false;
        state.observed = Observed::default();
        life.disturb(&mut state);
        Ok(())
    }

    /// Content is about to change without a handle (truncate): what was begun is thrown away. Returns what that was, for
    /// [`Pipeline::unchanged`].
    ///
    /// # Errors
    /// If its state does not allow that; then nothing has changed.
    pub fn disturbed(&self, life: &Arc<Life>) -> Result<Before, Illegal> {
        let mut state = life.lock();
        if state.is_frozen() || state.over {
            return Err(Illegal { state: State::Sealed, event: Event::WriterOpened { truncate: false } });
        }
        let before = Before::of(&state);
        life.disturb(&mut state);
        Ok(before)
    }

    /// After [`Pipeline::emptied`] or [`Pipeline::disturbed`]: settles again if nobody writes.
    pub fn settle_again(&self, life: &Arc<Life>, size: u64) {
        let mut state = life.lock();
        if !state.over && state.writers.is_empty() {
            state.since = Instant::now();
            self.inner.settle(life, &mut state, size, |settles| Event::LastClosed { settles });
        }
    }

    /// What was about to change a closed file has failed, and changed nothing: it settles on as before.
    pub fn unchanged(&self, life: &Arc<Life>, before: Before) {
        let mut state = life.lock();
        if !state.over && state.writers.is_empty() && matches!(state.phase, Phase::Idle) {
            self.inner.restore(life, &mut state, before);
        }
    }

    /// A handle that [`Pipeline::writer_opened`] counts could not be opened, and nothing was changed: a closed file is as it
    /// was before, torn or settling.
    pub fn not_opened(&self, life: &Arc<Life>, handle: u64) {
        let mut state = life.lock();
        let before = state.before.take_if(|(opened, _)| *opened == handle);
        if state.writers.remove(&handle).is_none() || state.over {
            return;
        }
        match before {
            Some((_, before)) if state.writers.is_empty() => self.inner.restore(life, &mut state, *before),
            // Others write: what is known of them stands.
            Some((_, before)) => before.is_still_so(&mut state),
            None => {}
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

    /// Whether the pipeline is ending or has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.inner.queue.wait_stopped(Duration::ZERO)
    }

    pub(super) fn unmark(&self, path: &RelPath) {
        self.inner.unmark(path);
    }

    pub(super) fn enqueue(&self, life: &Arc<Life>, state: &mut LifeState, size: u64) {
        self.inner.enqueue(life, state, size);
    }

    /// Counts of the unsealed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Finishes the seals under way and ends the threads. What settles goes on with the next daemon.
    pub fn stop(&self) {
        self.inner.timer.stop();
        self.inner.early.stop();
        self.inner.queue.stop();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        self.inner.hashed.stop();
        if let Some(thread) = self.committer.lock().take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn tell_all(waiters: Vec<Waiter>, outcome: &Outcome) {
    for waiter in waiters {
        (waiter.tell)(outcome.clone());
    }
}
