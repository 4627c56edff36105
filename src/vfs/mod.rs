//! What a write-once tree allows, operation by operation, in our words and without FUSE types.
//!
//! Layer 4. Each operation checks first, by the state of the file and the policy; refuses with a reason that
//! is kept; and only then touches the backing tree. Operations that may have to wait for a seal take a
//! callback ([`Done`]) and answer later; those that hold a folder's lock in the kernel never wait.

mod attr;
mod census;
mod compared;
mod copy;
mod data;
mod depth;
mod dirs;
mod ending;
mod fault;
mod flags;
mod flushed;
mod habits;
mod handles;
mod kept;
mod lookup;
mod names;
mod notes;
mod open;
mod purge;
mod recheck;
mod refuse;
mod rename;
mod renew;
mod renumber;
mod resolve;
mod retained;
mod rewrite;
mod same;
mod seen;
mod setattr;
mod sidecar;
mod special;
mod symlink;
mod takeover;
mod xattr;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

pub use attr::{Attr, Kind};
pub use dirs::{DirEntry, DirPlus};
pub use fault::Fault;
pub use handles::{Anchor, Opened};
pub use notes::{Notes, NotesInbox};
pub use purge::NotPurged;
pub use refuse::Refusals;
pub use renumber::backing;
pub use resolve::Standing;
pub use setattr::Changes;
pub use xattr::XattrFlags;

use crate::clock::Clock;
use crate::ledger::Index;
use crate::model::{RelPath, SealRecord};
use crate::policy::Current;
use crate::provenance::Observer;
use crate::seal::{KeyFiles, Keys, Lives, Pipeline, Retention};
use crate::store::{Abilities, Handover, Places, Reserve, Tree};
use handles::Handles;

/// Who asks, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread; 0 where the kernel itself asks.
    pub pid: u32,
    /// The number of the request, with `AGAIN` (bit 63) if it was sent once before.
    pub request: u64,
}

/// Bit of a request's number: the kernel sends it again, since the worker that read it died before it answered
/// (`FUSE_UNIQUE_RESEND`, linux/fuse.h).
const AGAIN: u64 = 1 << 63;

impl Caller {
    /// The request's own number.
    #[must_use]
    pub fn unique(self) -> u64 {
        self.request & !AGAIN
    }

    /// Whether a worker that has died may have done already what is asked.
    #[must_use]
    pub fn again(self) -> bool {
        self.request & AGAIN != 0
    }
}

/// Is told of an inode whose attributes the kernel must not believe any more. Takes no lock.
pub type Changed = Arc<dyn Fn(u64) + Send + Sync>;

/// A callback that takes the answer, now or later.
pub type Done<T> = Box<dyn FnOnce(Result<T, Fault>) + Send>;

/// What the kernel's caches must be told.
#[derive(Debug)]
pub enum CacheEvent {
    /// Attributes of this inode changed without the kernel's doing.
    Attributes(u64),
    /// What is cached of this inode's content may never have got here.
    Content(u64),
    /// This name in this folder is gone.
    Name(u64, String),
    /// All that came before was told: somebody waits for that.
    Told(Sender<()>),
}

/// How long the kernel may keep what it was told of a file that is sealed.
pub const SEALED_TTL: Duration = Duration::from_secs(86_400);
/// How long of everything else. All changes come through this kernel, so this is only a bound.
pub const OPEN_TTL: Duration = Duration::from_secs(1);

/// Longest that somebody waits for the kernel's caches to be told.
const CACHES_TOLD: Duration = Duration::from_secs(2);

/// What the file system works with.
pub struct Parts {
    /// The backing tree.
    pub tree: Arc<Tree>,
    /// Room that is kept for removals.
    pub reserve: Arc<Reserve>,
    /// Beside it, on the same file system: where files are made that are then renamed in.
    pub staging: Tree,
    /// What a worker that takes over must know.
    pub handover: Arc<Handover>,
    /// Names by number.
    pub places: Arc<Places>,
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The index.
    pub index: Arc<Index>,
    /// Sealfs time.
    pub clock: Arc<Clock>,
    /// The policy in force.
    pub policy: Arc<Current>,
    /// Who looks at writers.
    pub observer: Arc<Observer>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// Where their files are.
    pub key_files: KeyFiles,
    /// The store's name.
    pub origin: crate::model::Origin,
    /// What the backing file system can do.
    pub abilities: Abilities,
    /// Where refusals are counted.
    pub refusals: Arc<Refusals>,
    /// Where changes of symbolic links are logged from.
    pub notes: Notes,
    /// Where the kernel's caches are told.
    pub cache: Sender<CacheEvent>,
    /// Has the kernel forget at once what attributes it has of an inode.
    pub changed: Changed,
    /// Whether data goes past the daemon. Settled before the first request.
    pub passthrough: Arc<AtomicBool>,
    /// Whether nothing may change.
    pub read_only: bool,
    /// Whether exit statuses of writers can be seen.
    pub sees_exits: bool,
}

/// The file system.
pub struct Vfs {
    parts: Parts,
    /// User and group of the daemon.
    me: (u32, u32),
    root_ino: u64,
    handles: Arc<Handles>,
    /// Handles that the last worker made, by request: if the kernel sends that again, it never heard of them.
    unanswered: Mutex<HashMap<u64, (u64, u64)>>,
    log_numbers: special::LogNumbers,
    next_staged: AtomicU64,
    held_back: data::HeldBack,
    alterations: Arc<recheck::Alterations>,
    seen: seen::Seen,
    habits: habits::Habits,
    retained: retained::Retained,
    doubted: renumber::Doubted,
    kept: kept::Kept,
    /// Inodes whose file is another inode now, until the kernel forgets them: which one, and where that was put.
    renewed: Mutex<HashMap<u64, (u64, RelPath)>>,
    same: same::Same,
    strays: AtomicU64,
    /// Backing files that got their immutable flag again.
    reflagged: AtomicU64,
}

impl Vfs {
    /// Makes the file system over its parts. Handles are numbered after `last_handle`.
    ///
    /// # Errors
    /// If the tree's root cannot be looked at.
    pub fn new(parts: Parts, last_handle: u64) -> std::io::Result<Self> {
        let root_ino = crate::store::stat_fd(parts.tree.root())?.ino;
        let handles = Arc::new(Handles::new(last_handle, Arc::clone(&parts.handover)));
        Ok(Vfs {
            parts,
            me: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            root_ino,
            handles,
            unanswered: Mutex::default(),
            log_numbers: special::LogNumbers::default(),
            next_staged: AtomicU64::new(0),
            held_back: data::HeldBack::default(),
            alterations: Arc::default(),
            seen: seen::Seen::default(),
            habits: habits::Habits::default(),
            retained: retained::Retained::default(),
            doubted: renumber::Doubted::default(),
            kept: kept::Kept::default(),
            renewed: Mutex::default(),
            same: same::Same::default(),
            strays: AtomicU64::new(0),
            reflagged: AtomicU64::new(0),
        })
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    fn lives(&self) -> &Arc<Lives> {
        self.parts.pipeline.lives()
    }

    /// What changes retention.
    #[must_use]
    pub fn retention(&self) -> Retention<'_> {
        Retention {
            index: &self.parts.index,
            clock: &self.parts.clock,
            keys: &self.parts.keys,
            origin: self.parts.origin.as_str(),
        }
    }

    /// Retention of a sealed file has changed: its `st_atime` shows it.
    pub fn retention_changed(&self, record: &SealRecord) {
        let _ = self.parts.cache.send(CacheEvent::Attributes(record.ino));
        let number = self.doubted.sealed_number(record.ino);
        if number != record.ino {
            let _ = self.parts.cache.send(CacheEvent::Attributes(number));
        }
        let statements = sidecar::number(record.ino, crate::model::Sidecar::Statements);
        let _ = self.parts.cache.send(CacheEvent::Attributes(statements));
    }

    /// Waits, not for long, until the kernel's caches have been told of everything that was done so far: whoever hears
    /// that it is done sees it. Not for threads that serve the kernel: the notice of a name may wait for one.
    pub fn wait_for_caches(&self) {
        let (tell, told) = crossbeam_channel::bounded(1);
        if self.parts.cache.send(CacheEvent::Told(tell)).is_ok() {
            let _ = told.recv_timeout(CACHES_TOLD);
        }
    }

    fn passthrough(&self) -> bool {
        self.parts.passthrough.load(Ordering::Relaxed)
    }

    fn changeable_tree(&self) -> Result<(), Fault> {
        if self.parts.read_only { Err(Fault::ReadOnly) } else { Ok(()) }
    }
}
