//! The worker's side of [`super::keeper`]: what it inherits, and what it tells.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::FdFlags;

use super::guard::{self, Guard, Guarding};
use super::link::{Link, Message};
use crate::store::{Ghosts, Handover, Live};
use crate::vfs::Vfs;

/// Tells a worker what it has inherited.
pub const ENV: &str = "SEALFS_WORKER";
/// How often it says that it is not stuck.
const BEAT: Duration = Duration::from_secs(1);

/// Numbers of inherited descriptors, and who gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// `/dev/fuse`.
    pub device: RawFd,
    /// What the kernel knows.
    pub memory: RawFd,
    /// The parent's socket.
    pub link: RawFd,
    /// The store's lock.
    pub lock: RawFd,
    /// The parent.
    pub parent: u32,
}

impl Inherited {
    /// As the value of [`ENV`]. The first word is the version of what parent and worker say to one another.
    pub fn to_text(self) -> String {
        format!("1 {} {} {} {} {}", self.device, self.memory, self.link, self.lock, self.parent)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Option<Vec<i32>> = text.split(' ').map(|word| word.parse().ok()).collect();
        match words?.as_slice() {
            &[1, device, memory, link, lock, parent]
                if [device, memory, link, lock].iter().all(|fd| *fd > 2) =>
            {
                Some(Inherited { device, memory, link, lock, parent: u32::try_from(parent).ok()? })
            }
            _ => None,
        }
    }
}

/// What a worker works with.
pub struct Start {
    /// `/dev/fuse`.
    pub device: OwnedFd,
    /// What the last worker left, and where what is to be left goes.
    pub live: Live,
    /// As `live`.
    pub handover: Arc<Handover>,
    /// Inodes without a name that the parent kept.
    pub ghosts: HashMap<u64, OwnedFd>,
    /// Tells the parent.
    pub link: Arc<Link>,
    /// How often a worker was replaced.
    pub restarts: u64,
    /// Why the last one was.
    pub why: String,
    /// Of the folder beneath the mount.
    pub guarding: Guarding,
    _lock: OwnedFd,
}

/// Whether this process is a worker.
pub fn is_worker() -> bool {
    std::env::var_os(ENV).is_some()
}

/// Takes what was inherited.
pub fn inherit() -> io::Result<Start> {
    let strange = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{ENV}: {what}"));
    let text = std::env::var(ENV).map_err(|_| strange("not text"))?;
    let inherited = Inherited::parse(&text).ok_or_else(|| strange("not of this version of sealfs"))?;
    // With the parent the lock and the mount go: nothing may be written after that.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if parent.and_then(|parent| u32::try_from(parent.get()).ok()) != Some(inherited.parent) {
        return Err(strange("the parent is gone"));
    }
    let own = |number: RawFd| -> io::Result<OwnedFd> {
        // SAFETY: only looked at; a number that is not open makes the call fail.
        rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is open, was made for this process alone by its parent, and nothing else here
        // knows its number: this is called once, before any thread is started.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let (device, lock) = (own(inherited.device)?, own(inherited.lock)?);
    let (memory, link) = (File::from(own(inherited.memory)?), Arc::new(Link::of(own(inherited.link)?)));
    let guarding = match std::env::var(guard::ENV).unwrap_or_default() {
        nothing if nothing.is_empty() => Guarding::default(),
        text => match text.parse() {
            Ok(number) if number > 2 => Guarding { guard: Some(Guard::of(own(number)?)), note: None },
            _ => Guarding { guard: None, note: Some(text) },
        },
    };
    let mut ghosts = HashMap::new();
    let (restarts, why) = loop {
        match link.receive(true)? {
            Some(Message::Ghost(ino, file)) => drop(ghosts.insert(ino, file)),
            Some(Message::Begin(restarts, why)) => break (restarts, why),
            _ => return Err(strange("the parent says nothing that makes sense")),
        }
    };
    let kept = Kept { link: Arc::clone(&link), inos: Mutex::new(ghosts.keys().copied().collect()) };
    let (handover, live) = Handover::take(memory, Box::new(kept))?;
    Ok(Start {
        device,
        live,
        handover: Arc::new(handover),
        ghosts,
        link,
        restarts,
        why,
        guarding,
        _lock: lock,
    })
}

/// Open inodes without a name, kept by the parent.
struct Kept {
    link: Arc<Link>,
    inos: Mutex<HashSet<u64>>,
}

impl Ghosts for Kept {
    fn keep(&self, ino: u64, file: BorrowedFd<'_>) {
        match self.link.send_ghost(ino, file) {
            Ok(()) => drop(self.inos.lock().insert(ino)),
            Err(error) => {
                tracing::warn!(ino, %error, "an open file without a name is not kept for a new worker");
            }
        }
    }

    fn let_go(&self, ino: u64) {
        if self.inos.lock().remove(&ino) {
            let _ = self.link.send(&Message::Gone(ino));
        }
    }
}

/// Says every second that nothing is stuck: that the lock which every name needs can be had. Ends with the process.
pub fn beat(link: &Link, vfs: &Vfs) {
    loop {
        if vfs.is_alive(BEAT) {
            let _ = link.send(&Message::Beat);
        }
        std::thread::sleep(BEAT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_is_told_and_understood() {
        let given = Inherited { device: 3, memory: 4, link: 9, lock: 12, parent: 77 };
        assert_eq!(Inherited::parse(&given.to_text()), Some(given));
        for bad in
            ["", "1", "2 3 4 9 12 77", "1 3 4 9 12", "1 0 4 9 12 77", "1 -3 4 9 12 77", "1 3 4 9 12 77 8"]
        {
            assert_eq!(Inherited::parse(bad), None, "{bad}");
        }
    }
}
