//! Going on where a worker died: what the kernel knows by number means the same again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::OFlags;

use super::handles::Handle;
use super::{Caller, Fault, Vfs, sidecar, special};
use crate::store::{self, Live, LiveHandle, LiveKind};

/// Stands for whoever opened what a worker takes over.
const TAKEN_OVER: u32 = u32::MAX;

impl Vfs {
    /// Takes the handles over that the kernel has. One whose file cannot be reached any more is told; its calls
    /// fail with `EBADF`.
    pub fn take_over(self: &Arc<Self>, live: &Live) {
        self.doubt_again(live);
        for (number, handle) in &live.handles {
            self.unanswered.lock().insert(handle.unique, (*number, handle.ino));
            let restored = match handle.kind {
                LiveKind::Folder => {
                    Ok(Handle::Dir { ino: handle.ino, uid: TAKEN_OVER, listing: OnceLock::new() })
                }
                LiveKind::Content => {
                    self.remake(*number, handle.ino);
                    continue;
                }
                LiveKind::Reader | LiveKind::Writer => self.reopen(handle),
            };
            match restored {
                Ok(restored) => self.handles.restore(*number, restored),
                Err(error) => {
                    tracing::warn!(ino = handle.ino, %error, "an open file cannot be reached any more");
                }
            }
        }
    }

    /// Takes a name away, so that a worker that takes over in the middle of it finds out whether it is gone.
    ///
    /// # Errors
    /// What the backing file system says; the name is then still there.
    pub(super) fn take_name(
        &self,
        dir: &OwnedFd,
        name: &str,
        ino: u64,
        ghost: Option<OwnedFd>,
        is_dir: bool,
    ) -> std::io::Result<()> {
        self.name_going(ino, ghost.as_ref());
        store::remove_at(dir, name, is_dir).inspect_err(|_| self.name_stays(ino))?;
        self.name_gone(ino, ghost);
        Ok(())
    }

    /// A name is about to be taken away. If the inode is open, a worker that takes over could not find it again: it is
    /// kept.
    pub(super) fn name_going(&self, ino: u64, ghost: Option<&OwnedFd>) {
        self.parts.handover.going(ino);
        if let Some(ghost) = ghost
            && self.handles.anchor(ino).is_some()
        {
            self.parts.handover.keep(ino, ghost.as_fd());
        }
    }

    /// It was not taken away.
    pub(super) fn name_stays(&self, ino: u64) {
        self.parts.handover.settled(ino);
        self.parts.handover.let_go(ino);
    }

    /// It was taken away.
    pub(super) fn name_gone(&self, ino: u64, ghost: Option<OwnedFd>) {
        self.parts.places.unlinked(ino, ghost);
        self.parts.handover.settled(ino);
    }

    /// Whether the lock that every name needs can be had within `longest`: no operation hangs in it.
    #[must_use]
    pub fn is_alive(&self, longest: Duration) -> bool {
        self.lives().namespace.try_read_for(longest).is_some()
    }

    /// Whether the handle is open here.
    #[must_use]
    pub fn knows_handle(&self, handle: u64) -> bool {
        self.handles.get(handle).is_ok()
    }

    /// A request that was sent before is done anew: the handle that was made for it, if so, is as if it had never
    /// been. Answers what it was of.
    pub fn forget_unanswered(&self, caller: Caller) -> Option<u64> {
        if !caller.again() {
            return None;
        }
        let (handle, ino) = self.unanswered.lock().remove(&caller.unique())?;
        // It may be known to the life alone: the worker died before it had noted where the inode stands.
        let known = self.handles.remove(handle).is_some();
        self.handles.told(handle);
        self.handles.tidy(ino);
        if let Some(life) = self.lives().get(ino) {
            life.lock().writers.remove(&handle);
        }
        known.then_some(ino)
    }

    fn reopen(&self, handle: &LiveHandle) -> Result<Handle, Fault> {
        let writable = handle.kind == LiveKind::Writer;
        let found = self.find_ino(handle.ino);
        let open = |flags: OFlags| -> Result<OwnedFd, Fault> {
            match (&found, self.parts.places.ghost(handle.ino)) {
                (Ok(found), _) => Ok(store::open_at(&*found.dir, &found.name, flags)?),
                (Err(_), Some(ghost)) => Ok(store::reopen(&*ghost, flags)?),
                (Err(_), None) => Err(Fault::Stale),
            }
        };
        let data = if writable && !self.passthrough() { Some(open(OFlags::RDWR)?) } else { None };
        let anchor = self.handles.anchor_or(handle.ino, || open(OFlags::RDONLY))?;
        Ok(Handle::File { anchor, writable, data })
    }

    /// Content that is made here is made again: of a sealed file it is the same, of the log what it is now.
    fn remake(self: &Arc<Self>, number: u64, ino: u64) {
        let root = Caller { uid: 0, gid: 0, pid: 0, request: 0 };
        let (handles, kept) = (Arc::clone(&self.handles), self.kept.clone());
        let made = move |content: Arc<Vec<u8>>| {
            let share = kept.room(TAKEN_OVER, content.len())?;
            handles.restore(number, Handle::Content { content, _room: share });
            Ok(())
        };
        let restore = move |content: Result<Arc<Vec<u8>>, Fault>| match content.and_then(made) {
            Ok(()) => {}
            Err(error) => tracing::warn!(ino, %error, "an open sidecar cannot be made again"),
        };
        match sidecar::parse_number(ino) {
            _ if special::is_special(ino) => restore(self.special_content(root, ino)),
            Some((base, kind)) => self.sidecar_content(base, kind, Box::new(restore)),
            None => {}
        }
    }
}
