//! One file that is not sealed: who writes it, and how far its seal has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::before::Before;
use super::digest::Stream;
use super::observed::Observed;
use super::writing::Writing;
use crate::model::{ArtifactKind, Asked, RelPath, SealRecord, State, Timestamp};
use crate::store::Lease;

/// Why somebody who asked for a seal gets none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// A writer has it.
    #[error("it is still open for writing; it is sealed after its last close")]
    StillOpen,
    /// Its writer was killed.
    #[error(
        "it is torn: its writer was killed, or found no room on the disk; write it anew, or keep it with 'sealctl seal --torn'"
    )]
    Torn,
    /// Removed meanwhile.
    #[error("it was removed")]
    Gone,
    /// The rule of its name does not seal it so.
    #[error("{0}")]
    Rule(String),
    /// The pipeline failed; it will try again where that can help.
    #[error("sealing failed: {0}")]
    Failed(String),
    /// The time given is over.
    #[error("it was not sealed in time; 'sealctl stat' tells what it waits for")]
    Late,
}

/// What became of a seal.
pub type Outcome = Result<Arc<SealRecord>, NotSealed>;

/// Somebody who waits for a seal. Called once, from a thread of the pipeline.
pub struct Waiter {
    /// Not longer than until then, if given.
    pub deadline: Option<Instant>,
    /// Whether writers only have this deadline to let go (a sidecar's reader), not the whole seal.
    pub until_released: bool,
    /// Who is told.
    pub tell: Box<dyn FnOnce(Outcome) + Send>,
}

/// How far the seal has come.
#[derive(Debug, Default)]
pub enum Phase {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Waiting for a hash worker.
    Queued,
    /// Proven and being hashed, or hashed and waiting for the batch. A writer may still come: then this is
    /// thrown away.
    Hashing(Option<Arc<Lease>>),
    /// Its bytes are durable and its name is resolved: as good as sealed. No way back but a failed commit.
    Frozen,
    /// Frozen, and its commit failed in a way that a crash may undo: until that is ruled out, nothing may change.
    InDoubt,
}

/// A writable handle.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// The process that opened it, if known.
    pub process: Option<u32>,
    /// Whether it was flushed since it was opened: somebody closed a descriptor of it.
    pub flushed: bool,
}

/// What failed last, and how often.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words.
    pub what: String,
    /// How often in a row.
    pub tries: u32,
    /// Whether it says only that somebody still writes.
    pub busy: bool,
}

/// The changing part of a [`Life`].
pub struct LifeState {
    /// Where it stands; changed only under the namespace lock.
    pub path: RelPath,
    /// Its state; never sealed or expired, for then the life is over.
    pub state: State,
    /// The name is gone, or it is sealed: this life is over.
    pub over: bool,
    /// Writable handles by number.
    pub writers: HashMap<u64, Writer>,
    /// What is known of who wrote last.
    pub writing: Writing,
    /// Whether bytes of it are known not to have reached the disk; a writer's fsync(2) tells it.
    pub lost: bool,
    /// Whether pages of the backing file may have been mapped shared and writable: it had a handle for reading and
    /// writing that went past the daemon, or nobody knows what handles it had.
    pub mapped: bool,
    /// What it was before the last of its writers came, by the handle that this one was to get.
    pub before: Option<(u64, Box<Before>)>,
    /// Whether it is looked at for an early write-back.
    pub watched: bool,
    /// How a seal was demanded, if so; it takes effect at the last close, if the rule of the name then seals at such a
    /// demand.
    pub demanded: Option<Asked>,
    /// A torn file is to be kept.
    pub keep_torn: bool,
    /// The end of retention that its writer asked for.
    pub request: Option<Timestamp>,
    /// How far the seal has come.
    pub phase: Phase,
    /// The hash of what is written, as it comes, while that is from beginning to end through the daemon.
    pub stream: Option<Stream>,
    /// When the quiet time is over.
    pub due: Option<Instant>,
    /// Bytes when it was last closed: whether it is a large file.
    pub size: u64,
    /// When it was last closed or, while open, opened.
    pub since: Instant,
    /// Whether the index has it as closed and synced.
    pub marked: bool,
    /// Who wrote what is in it, in the order in which they first opened it.
    pub observed: Observed,
    /// What failed last.
    pub failure: Option<Failure>,
    /// Who waits for the seal.
    pub waiters: Vec<Waiter>,
}

impl LifeState {
    /// Whether rename, setattr and unlink are refused as if it were sealed.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        matches!(self.phase, Phase::Frozen | Phase::InDoubt)
    }

    /// Whether somebody waits for the seal, or has asked for it and may look soon.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.demanded.is_some() || !self.waiters.is_empty()
    }

    /// Whether every writable handle has been flushed: the kernel will release them any moment.
    #[must_use]
    pub fn all_flushed(&self) -> bool {
        self.writers.values().all(|writer| writer.flushed)
    }
}

/// One file (or symbolic link) that is not sealed.
pub struct Life {
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: ArtifactKind,
    /// Counts whatever may change content: a hash begun at another count is worth nothing.
    epoch: AtomicU64,
    /// Whether bytes of it are on their way to the disk, handed over but perhaps not flushed.
    begun: AtomicBool,
    /// Lock order: after the namespace lock and the turn of a piece, before everything else. Never two lives at once.
    state: Mutex<LifeState>,
}

impl Life {
    /// A life that begins at `path`.
    #[must_use]
    pub fn new(ino: u64, kind: ArtifactKind, path: RelPath, state: State) -> Self {
        Life {
            ino,
            kind,
            epoch: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            state: Mutex::new(LifeState {
                path,
                state,
                over: false,
                writers: HashMap::new(),
                writing: Writing::default(),
                lost: false,
                mapped: false,
                before: None,
                watched: false,
                demanded: None,
                keep_torn: false,
                request: None,
                phase: Phase::Idle,
                stream: None,
                due: None,
                size: 0,
                since: Instant::now(),
                marked: false,
                observed: Observed::default(),
                failure: None,
                waiters: Vec::new(),
            }),
        }
    }

    /// Locks it.
    pub fn lock(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock()
    }

    /// The count of what may have changed content.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// It begins its way to the disk.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Nothing of it is on its way any more: what it has is on the disk for good, or it has nothing.
    pub fn arrived(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Whether it has begun its way to the disk.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Content may change from here on: whatever the pipeline has begun is thrown away, and the lease is
    /// given back so that the writer need not wait for it.
    pub fn disturb(&self, state: &mut LifeState) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        if let Phase::Hashing(Some(lease)) = &state.phase {
            lease.give_up();
        }
        state.phase = Phase::Idle;
        state.stream = None;
        state.due = None;
    }
}
