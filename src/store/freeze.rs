//! The proof that nobody can write to a file, and the mark that keeps it so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::IFlags;

/// Why no lease was given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody holds a writable descriptor or a shared writable mapping.
    #[error("a writable descriptor or mapping of the backing file is still open")]
    Busy,
    /// The backing file system knows no leases.
    #[error("the backing file system has no leases")]
    Unsupported,
    /// Anything else.
    #[error("no read lease: {0}")]
    Io(#[from] io::Error),
}

/// A read lease (`F_SETLEASE`, `F_RDLCK`) on a backing file: while it is held, the kernel has proven that no
/// writable descriptor or shared writable mapping of the file existed when it was given. Given back on drop.
#[derive(Debug)]
pub struct Lease {
    file: OwnedFd,
    held: bool,
}

impl Lease {
    /// Takes the lease on a descriptor that is open for reading only.
    ///
    /// # Errors
    /// [`LeaseError::Busy`] while anybody may still write; the descriptor is handed back for another try.
    pub fn take(file: OwnedFd) -> Result<Self, (OwnedFd, LeaseError)> {
        match set_lease(&file, libc::F_RDLCK) {
            Ok(()) => Ok(Lease { file, held: true }),
            Err(error) => {
                let error = match error.raw_os_error() {
                    Some(libc::EAGAIN) => LeaseError::Busy,
                    Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOLCK | libc::ENOSYS) => {
                        LeaseError::Unsupported
                    }
                    _ => LeaseError::Io(error),
                };
                Err((file, error))
            }
        }
    }

    /// Stands in where the backing file system has no leases: the daemon's own count of handles decides.
    #[must_use]
    pub fn without(file: OwnedFd) -> Self {
        Lease { file, held: false }
    }

    /// The descriptor the lease is on.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives the lease back without closing the file, so that a writer need not wait for it. May be called
    /// from another thread than the one that reads.
    pub fn give_up(&self) {
        if self.held {
            let _ = set_lease(&self.file, libc::F_UNLCK);
        }
    }
}

fn set_lease(file: &OwnedFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: fcntl with F_SETLEASE takes an int and touches no memory of ours; the descriptor is borrowed.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the backing file carries `FS_IMMUTABLE_FL`. `false` where it has no such flags.
pub fn is_immutable(file: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(file).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

/// Sets or clears `FS_IMMUTABLE_FL` on a backing file; changes its ctime if it changes anything.
///
/// # Errors
/// What the ioctl reports: `ENOTTY` or `EOPNOTSUPP` where the file system has no such flag, `EPERM`
/// without `CAP_LINUX_IMMUTABLE`.
pub fn set_immutable(file: impl AsFd, on: bool) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(&file)?;
    if flags.contains(IFlags::IMMUTABLE) == on {
        return Ok(());
    }
    let mut wanted = flags;
    wanted.set(IFlags::IMMUTABLE, on);
    Ok(rustix::fs::ioctl_setflags(file, wanted)?)
}

/// Has the kernel drop what it has cached of a file, so that the file is read from the disk. Returns how many pages stay:
/// pages that somebody has mapped, or that a read of a device or of another process still writes into. Dirty pages stay
/// too: sync first.
///
/// # Errors
/// What `fadvise` reports. Where the kernel does not say what stays (see [`cached_pages`]), 0 is returned.
pub fn drop_cached(file: impl AsFd) -> io::Result<u64> {
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(cached_pages(file).unwrap_or(0))
}

/// How many pages of a file the kernel has cached; `None` where it does not say (before Linux 6.5, or where a filter of
/// system calls forbids the question). A stacked file system says 0 of pages that the file system below it has.
pub fn cached_pages(file: impl AsFd) -> Option<u64> {
    // Of every architecture (asm-generic/unistd.h).
    const CACHESTAT: libc::c_long = 451;
    // struct cachestat_range { off, len } with 0 for "to the end", and struct cachestat, of linux/mman.h.
    let (range, mut found) = ([0u64; 2], [0u64; 5]);
    // SAFETY: the call reads the first and writes the second, both of the kernel's size and alive through it.
    let done =
        unsafe { libc::syscall(CACHESTAT, file.as_fd().as_raw_fd(), range.as_ptr(), found.as_mut_ptr(), 0) };
    (done == 0).then_some(found[0])
}
