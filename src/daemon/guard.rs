//! The guard of the bare mount point: while a store is mounted, the folder beneath carries the immutable flag.
//!
//! Without it, an agent that does not see the mount would write into that folder, and nothing would be sealed: after
//! the daemon was killed and its dead mount was taken away, or in a mount namespace that the mount has not reached.
//! A clean unmount clears the flag at once. A crash leaves it, and the next mount on the same folder takes it over. An
//! extended attribute marks the flag as ours: one that an administrator has set stays when the store is unmounted.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, XattrFlags, inotify};

use super::args::Options;
use super::mountpoint;
use crate::store;

/// How a worker learns of the guard that its parent has set: the number of an inherited descriptor, or a note.
pub const ENV: &str = "SEALFS_GUARD";

/// Marks an immutable flag that sealfs has set. Only processes with `CAP_SYS_ADMIN` see it (xattr(7)).
const MARK: &str = "trusted.sealfs.guard";

/// The guard of a mount point, or why there is none.
#[derive(Debug, Default)]
pub struct Guarding {
    /// The guard, if it is ours.
    pub guard: Option<Guard>,
    /// Why the folder is not guarded.
    pub note: Option<String>,
}

impl Guarding {
    /// Guards the folder before it is mounted on, unless the options say otherwise.
    pub fn begin(mountpoint: &Path, options: &Options) -> Self {
        let root = rustix::process::geteuid().is_root();
        let set = match (root, options.guard) {
            (false, _) => Err("it needs root".to_owned()),
            (true, false) => Err("it is off".to_owned()),
            (true, true) => Guard::set(mountpoint),
        };
        match set {
            Ok(guard) => Guarding { guard, note: None },
            Err(note) => Guarding { guard: None, note: Some(note) },
        }
    }

    /// The value of [`ENV`] for a worker that inherits the descriptor.
    pub fn to_env(&self) -> String {
        match (&self.guard, &self.note) {
            (Some(guard), _) => guard.folder.as_raw_fd().to_string(),
            (None, Some(note)) => note.clone(),
            (None, None) => String::new(),
        }
    }

    /// Clears the flag, if it is ours: the session has ended. Where the mount is still there, dead (its connection was
    /// aborted), the folder stays guarded as after a crash.
    pub fn lift(&self, mountpoint: &Path) {
        let Some(guard) = &self.guard else { return };
        // First, and then looked at: whoever has unmounted may remove the folder next.
        guard.lift();
        if mountpoint::device_of(mountpoint).is_some()
            && let Err(error) = guard.raise()
        {
            tracing::warn!(%error, "the folder beneath the dead mount is not guarded");
        }
    }
}

/// Lifts the guard in the moment in which the mount goes. The session's threads would notice it too, but only after a
/// millisecond or so, in which whoever has unmounted may try to remove the folder. Calls `watching` once the mount is
/// watched, and returns when it is gone.
///
/// # Errors
/// If the mount cannot be watched: then the end of the session lifts the guard.
pub fn lift_at_unmount(
    mountpoint: &Path,
    guarding: &Guarding,
    watching: impl FnOnce(),
) -> std::io::Result<()> {
    let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    // An event of the root that never happens; that its file system is unmounted is always reported.
    inotify::add_watch(&events, mountpoint, inotify::WatchFlags::DELETE_SELF)?;
    watching();
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&events, &mut buffer);
    loop {
        match reader.next() {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(event) if event.events().contains(inotify::ReadFlags::UNMOUNT) => break,
            Ok(_) => {}
        }
    }
    guarding.lift(mountpoint);
    Ok(())
}

/// A guarded folder. Dropped without [`Guard::lift`], as in a crash, it stays guarded.
#[derive(Debug)]
pub struct Guard {
    folder: OwnedFd,
}

impl Guard {
    /// Guards the folder, before anything is mounted on it. `None`: it carries a flag that somebody else has set.
    ///
    /// # Errors
    /// In words, why it cannot be guarded; nothing has then changed.
    pub fn set(mountpoint: &Path) -> Result<Option<Self>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(mountpoint, flags, Mode::empty()).map_err(|error| error.to_string())?;
        if store::is_immutable(&folder) {
            return Ok(is_marked(&folder).then_some(Guard { folder }));
        }
        let guard = Guard { folder };
        guard.raise()?;
        Ok(Some(guard))
    }

    fn raise(&self) -> Result<(), String> {
        // The mark comes first: an immutable folder takes no attributes.
        rustix::fs::fsetxattr(&self.folder, MARK, b"1", XattrFlags::empty())
            .map_err(|error| format!("its file system keeps no trusted attributes: {error}"))?;
        store::set_immutable(&self.folder, true).map_err(|error| {
            let _ = rustix::fs::fremovexattr(&self.folder, MARK);
            format!("its file system has no immutable flag: {error}")
        })
    }

    /// A guard that was inherited.
    pub fn of(folder: OwnedFd) -> Self {
        Guard { folder }
    }

    /// Clears the flag. May be called more than once, and by more than one process.
    fn lift(&self) {
        if !is_marked(&self.folder) {
            return;
        }
        let lifted = store::set_immutable(&self.folder, false)
            .and_then(|()| Ok(rustix::fs::fremovexattr(&self.folder, MARK)?));
        if let Err(error) = lifted
            && is_marked(&self.folder)
        {
            tracing::warn!(%error, "the mount point keeps its immutable flag; clear it with 'chattr -i'");
        }
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn is_marked(folder: &OwnedFd) -> bool {
    rustix::fs::fgetxattr(folder, MARK, &mut [0u8; 8]).is_ok()
}
