//! Threads that look at writers, so that those who serve the kernel need not.
//!
//! A look may wait: a process in execve(2) holds what `/proc/PID/environ` needs, and waits for us while its
//! close-on-exec descriptors are flushed. So each look has a deadline, after which the writer is unknown and whoever
//! waited goes on; and a thread that hangs is replaced.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::chain::{self, Identity};
use super::executable::Executables;
use super::process::{Exit, exit_of, thread_group};
use super::recent::Recent;
use super::writer::{Settings, Writer};

/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Threads that look.
const THREADS: usize = 2;
/// Threads that may hang before no more are started.
const HANGING: usize = 8;
/// Looks that may wait for a thread.
const WAITING: usize = 4096;
/// Processes remembered.
const KEPT: usize = 4096;

/// What came of a look.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The kernel showed it.
    Known(Arc<Writer>),
    /// It is not known, for this reason.
    Unknown(&'static str),
}

type Told = Box<dyn FnOnce() + Send>;

enum State {
    Looking(Vec<Told>),
    Done(Outcome),
}

/// A look at one process, that is under way or done.
pub struct Observation {
    pid: u32,
    begun: Instant,
    state: Mutex<State>,
}

impl Observation {
    /// What came of it; none while it is under way.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &*self.state.lock() {
            State::Done(outcome) => Some(outcome.clone()),
            State::Looking(_) => None,
        }
    }

    /// Calls back once it is done, at the latest after its deadline; at once if it is.
    pub fn when_done(&self, tell: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        if let State::Looking(waiting) = &mut *state {
            waiting.push(tell);
            return;
        }
        drop(state);
        tell();
    }

    fn done(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        let State::Looking(waiting) = &mut *state else { return };
        let waiting = std::mem::take(waiting);
        *state = State::Done(outcome);
        drop(state);
        for tell in waiting {
            tell();
        }
    }

    #[cfg(test)]
    fn wait(&self) -> Outcome {
        let (told, tell) = crossbeam_channel::bounded(1);
        self.when_done(Box::new(move || {
            let _ = told.send(());
        }));
        tell.recv_timeout(Duration::from_secs(10)).expect("a deadline");
        self.outcome().expect("done")
    }
}

/// Looks that wait for a thread. (No channel: its receivers spin before they sleep, on cores that writers need.)
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Arc<Observation>>>,
    more: Condvar,
}

impl Queue {
    fn push(&self, observation: &Arc<Observation>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING {
            return false;
        }
        waiting.push_back(Arc::clone(observation));
        self.more.notify_one();
        true
    }

    fn pop(&self) -> Arc<Observation> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(observation) = waiting.pop_front() {
                return observation;
            }
            self.more.wait(&mut waiting);
        }
    }
}

struct Shared {
    queue: Queue,
    settings: RwLock<Settings>,
    known: Mutex<HashMap<Identity, Arc<Writer>>>,
    recent: Recent,
    executables: Executables,
    /// Looks that were asked for, for the deadline.
    pending: Mutex<Vec<Weak<Observation>>>,
    /// Threads that are there, and those of them that are looking at something since long.
    threads: AtomicUsize,
    busy: Mutex<HashMap<u64, Instant>>,
    reads: AtomicUsize,
}

/// Looks at writers.
pub struct Observer {
    shared: Arc<Shared>,
}

impl Observer {
    /// Starts the threads. They end with the process.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(settings: Settings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            settings: RwLock::new(settings),
            known: Mutex::default(),
            recent: Recent::default(),
            executables: Executables::default(),
            pending: Mutex::default(),
            threads: AtomicUsize::new(0),
            busy: Mutex::default(),
            reads: AtomicUsize::new(0),
        });
        for _ in 0..THREADS {
            spawn(&shared)?;
        }
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("observer-watch".to_owned()).spawn(move || watch(&watched))?;
        Ok(Observer { shared })
    }

    /// From now on other things are told of writers.
    pub fn set(&self, env: Vec<String>, arguments: bool) {
        let mut settings = self.shared.settings.write();
        if settings.env != env || settings.arguments != arguments {
            (settings.env, settings.arguments) = (env, arguments);
            drop(settings);
            self.shared.known.lock().clear();
            self.shared.recent.clear();
        }
    }

    /// Begins to look at the process that this thread belongs to. Costs microseconds. The thread must be waiting in a call
    /// of ours that this is done for (see `recent`).
    #[must_use]
    pub fn observe(&self, pid: u32) -> Arc<Observation> {
        self.observe_process(pid).0
    }

    /// As [`Observer::observe`], with the number of the thread's process, if that can be told.
    #[must_use]
    pub fn observe_process(&self, pid: u32) -> (Arc<Observation>, Option<u32>) {
        if let Some((writer, process)) = self.shared.recent.find(pid) {
            let state = Mutex::new(State::Done(Outcome::Known(writer)));
            return (Arc::new(Observation { pid, begun: Instant::now(), state }), Some(process));
        }
        (self.begin(pid), thread_group(pid))
    }

    /// How a thread that flushes is doing; as [`exit_of`], but cheaper for one that was seen a moment ago.
    #[must_use]
    pub fn exit_of(&self, tid: u32) -> Exit {
        if self.shared.recent.lives(tid) { Exit::Well } else { exit_of(tid) }
    }

    fn begin(&self, pid: u32) -> Arc<Observation> {
        let state = Mutex::new(State::Looking(Vec::new()));
        let observation = Arc::new(Observation { pid, begun: Instant::now(), state });
        if pid == 0 {
            observation.done(Outcome::Unknown("the kernel names no process (another PID namespace)"));
            return observation;
        }
        self.shared.pending.lock().push(Arc::downgrade(&observation));
        if !self.shared.queue.push(&observation) {
            observation.done(Outcome::Unknown("too many writers at once"));
        }
        observation
    }

    /// Processes that were read, not only remembered.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.shared.reads.load(Ordering::Relaxed)
    }
}

fn spawn(shared: &Arc<Shared>) -> std::io::Result<()> {
    let shared = Arc::clone(shared);
    shared.threads.fetch_add(1, Ordering::Relaxed);
    std::thread::Builder::new().name("observer".to_owned()).spawn(move || work(&shared)).map(drop)
}

fn work(shared: &Shared) {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    // Executables are hashed here.
    crate::sched::ordinary();
    let me = NEXT.fetch_add(1, Ordering::Relaxed);
    loop {
        let observation = shared.queue.pop();
        if observation.outcome().is_some() {
            continue;
        }
        shared.busy.lock().insert(me, Instant::now());
        let outcome = shared.look(observation.pid);
        if let Outcome::Known(writer) = &outcome {
            shared.recent.remember(observation.pid, writer.process(), writer);
        }
        observation.done(outcome);
        shared.busy.lock().remove(&me);
        // It hung, and another has its place.
        let threads = shared.threads.load(Ordering::Relaxed);
        if threads > THREADS + shared.hanging() {
            shared.threads.fetch_sub(1, Ordering::Relaxed);
            return;
        }
    }
}

impl Shared {
    fn look(&self, tid: u32) -> Outcome {
        let Some(before) = thread_group(tid).and_then(chain::stat) else {
            return Outcome::Unknown("it ended before it could be looked at");
        };
        if let Some(writer) = self.known.lock().get(&before.identity) {
            return Outcome::Known(Arc::clone(writer));
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let settings = self.settings.read().clone();
        match Writer::read(&before, &settings, &self.executables) {
            Ok(writer) => {
                let writer = Arc::new(writer);
                let mut known = self.known.lock();
                if known.len() >= KEPT {
                    known.clear();
                }
                // Two threads may have looked at once: one of the two is told of from now on.
                Outcome::Known(Arc::clone(known.entry(before.identity).or_insert(writer)))
            }
            Err(why) => Outcome::Unknown(why),
        }
    }

    fn hanging(&self) -> usize {
        self.busy.lock().values().filter(|since| since.elapsed() > DEADLINE).count()
    }
}

/// Deadlines, and threads in the place of those that hang.
fn watch(shared: &Arc<Shared>) {
    loop {
        let late: Vec<_> = {
            let mut pending = shared.pending.lock();
            let mut late = Vec::new();
            pending.retain(|observation| {
                let Some(observation) = observation.upgrade() else { return false };
                if observation.outcome().is_some() {
                    return false;
                }
                if observation.begun.elapsed() >= DEADLINE {
                    late.push(observation);
                    return false;
                }
                true
            });
            late
        };
        for observation in late {
            observation.done(Outcome::Unknown("late: /proc did not answer in time"));
        }
        let (threads, hanging) = (shared.threads.load(Ordering::Relaxed), shared.hanging());
        if threads < THREADS + hanging && hanging <= HANGING {
            tracing::warn!(hanging, "a look at a writer hangs; another thread goes on");
            let _ = spawn(shared);
        }
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
