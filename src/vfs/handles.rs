//! What is open: by handle, and by inode.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::dirs::Listing;
use super::kept::Share;
use super::{Caller, Fault};

use crate::store::{Handover, LiveHandle, LiveKind, Shards};

/// The one read-only descriptor of an inode while any handle of it is open. Passthrough is registered on it
/// (a writable one would keep the lease refused), and it still reaches the inode after its name is gone.
#[derive(Debug)]
pub struct Anchor {
    ino: u64,
    file: OwnedFd,
}

impl Anchor {
    /// The descriptor.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The inode's number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }
}

/// What a handle is of.
pub(super) enum Handle {
    /// A backing file; `data`: the descriptor that reads and writes where there is no passthrough.
    File { anchor: Arc<Anchor>, writable: bool, data: Option<OwnedFd> },
    /// Content that is made here.
    Content { content: Arc<Vec<u8>>, _room: Share },
    /// A folder, listed when it is first read, and who opened it.
    Dir { ino: u64, uid: u32, listing: OnceLock<Listing> },
}

/// An open file, as told to the kernel.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The handle.
    pub handle: u64,
    /// What passthrough is registered on; none for content that is made here.
    pub anchor: Option<Arc<Anchor>>,
    /// Whether it may write.
    pub writable: bool,
    /// Whether its content can never change: the kernel may keep what it has cached of it.
    pub frozen: bool,
}

/// All open handles.
pub(super) struct Handles {
    next: AtomicU64,
    handover: Arc<Handover>,
    open: Mutex<HashMap<u64, Arc<Handle>>>,
    /// Handles that programs run from, and of which inode. A worker that takes over does not know of them.
    programs: Mutex<HashMap<u64, u64>>,
    anchors: Shards<Weak<Anchor>>,
}

impl Handles {
    /// None yet; numbers come after `last`.
    pub fn new(last: u64, handover: Arc<Handover>) -> Self {
        Handles {
            next: AtomicU64::new(last),
            handover,
            open: Mutex::default(),
            programs: Mutex::default(),
            anchors: Shards::default(),
        }
    }

    /// A number that no handle has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A handle made in answer to a request of `caller`; `ino`: of what; `process`: who opened it, where it writes.
    pub fn add(&self, number: u64, ino: u64, caller: Caller, process: Option<u32>, handle: Handle) {
        let kind = match &handle {
            Handle::File { writable: true, .. } => LiveKind::Writer,
            Handle::File { .. } => LiveKind::Reader,
            Handle::Content { .. } => LiveKind::Content,
            Handle::Dir { .. } => LiveKind::Folder,
        };
        let told = LiveHandle { ino, kind, unique: caller.unique(), process, flushed: false };
        let mut open = self.open.lock();
        self.handover.opened(number, &told);
        open.insert(number, Arc::new(handle));
    }

    /// A handle of the last worker: it is told of already.
    pub fn restore(&self, number: u64, handle: Handle) {
        self.open.lock().insert(number, Arc::new(handle));
    }

    pub fn get(&self, number: u64) -> Result<Arc<Handle>, Fault> {
        self.open.lock().get(&number).cloned().ok_or(Fault::BadHandle)
    }

    pub fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        let gone = self.take(number)?;
        self.told(number);
        Some(gone)
    }

    /// Removes it; [`Handles::told`] comes after.
    pub fn take(&self, number: u64) -> Option<Arc<Handle>> {
        self.programs.lock().remove(&number);
        self.open.lock().remove(&number)
    }

    /// The handle was opened to run a program from it.
    pub fn runs(&self, number: u64, ino: u64) {
        self.programs.lock().insert(number, ino);
    }

    /// Whether a program runs from the inode.
    pub fn is_run(&self, ino: u64) -> bool {
        self.programs.lock().values().any(|running| *running == ino)
    }

    /// A worker that takes over need not know of it any more.
    pub fn told(&self, number: u64) {
        self.handover.released(number);
    }

    /// The anchor of an inode, if it is open.
    pub fn anchor(&self, ino: u64) -> Option<Arc<Anchor>> {
        self.anchors.of(ino).lock().get(&ino)?.upgrade()
    }

    /// Whether the kernel has a file of this inode open. Looks at all handles.
    pub fn has(&self, ino: u64) -> bool {
        self.open
            .lock()
            .values()
            .any(|open| matches!(&**open, Handle::File { anchor, .. } if anchor.ino() == ino))
    }

    /// The anchor of an inode, opened by `open` if there is none.
    pub fn anchor_or(
        &self,
        ino: u64,
        open: impl FnOnce() -> Result<OwnedFd, Fault>,
    ) -> Result<Arc<Anchor>, Fault> {
        let mut anchors = self.anchors.of(ino).lock();
        if let Some(anchor) = anchors.get(&ino).and_then(Weak::upgrade) {
            return Ok(anchor);
        }
        let anchor = Arc::new(Anchor { ino, file: open()? });
        anchors.insert(ino, Arc::downgrade(&anchor));
        Ok(anchor)
    }

    /// An anchor was let go: forgets it if it was the last.
    pub fn tidy(&self, ino: u64) {
        let mut anchors = self.anchors.of(ino).lock();
        if anchors.get(&ino).is_some_and(|anchor| anchor.strong_count() == 0) {
            anchors.remove(&ino);
        }
    }
}
