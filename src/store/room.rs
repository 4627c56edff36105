//! The room that the backing file system keeps for root, which is not for those who write into the mount.
//!
//! ext4 and f2fs give it to whoever has `CAP_SYS_RESOURCE`, and to user 0 without any capability (`resuid=`, 0 by
//! default): so what is written on behalf of others is written as a user that nobody is asked about. Index and log,
//! which the daemon writes for itself, have the reserve: a full disk can still be cleared.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Magic numbers (`statfs(2)`) of the file systems that keep room by user. Others may ask this user for permissions.
const KEEPING: [i64; 2] = [0xef53, 0xf2f5_2010];
/// Users without privileges, on whose behalf nobody does anything: the first for whom no room is kept is taken.
const NOBODIES: [libc::uid_t; 3] = [65534, 65533, 65532];

/// The one that was taken.
static ANYBODY: AtomicU32 = AtomicU32::new(NOBODIES[0]);

/// Whether the backing file system keeps room for user 0, and we are that.
static KEEPS: AtomicBool = AtomicBool::new(false);

/// Looks, once, whether the file system of the backing tree keeps room for root; `kept_for`: for which users it says that it
/// does (`mount -o resuid=65534`). Rooms that groups have are nobody's here: the daemon gives its other groups up.
///
/// # Errors
/// What `fstatfs(2)` reports.
pub fn look(root: impl AsFd, kept_for: &[u32]) -> io::Result<()> {
    let nobody = NOBODIES.into_iter().find(|user| !kept_for.contains(user));
    ANYBODY.store(nobody.unwrap_or(NOBODIES[0]), Ordering::Relaxed);
    #[expect(clippy::useless_conversion, reason = "the type differs between targets")]
    let kind = i64::from(rustix::fs::fstatfs(root)?.f_type);
    KEEPS.store(KEEPING.contains(&kind) && rustix::process::geteuid().is_root(), Ordering::Relaxed);
    Ok(())
}

/// This thread's calls to file systems are `ANYBODY`'s until it is dropped.
struct Anybody(PhantomData<*const ()>);

impl Anybody {
    fn begin() -> Self {
        // SAFETY: a system call for this thread alone (glibc does not spread it to others), without pointers.
        unsafe { libc::setfsuid(ANYBODY.load(Ordering::Relaxed)) };
        Anybody(PhantomData)
    }
}

impl Drop for Anybody {
    fn drop(&mut self) {
        // SAFETY: as above. It is the effective user's number again (see `KEEPS`), which is always allowed.
        unsafe { libc::setfsuid(0) };
    }
}

/// Does something that takes room on behalf of others: on open descriptors, since this thread may meanwhile open only
/// what everybody may.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    let _anybody = KEEPS.load(Ordering::Relaxed).then(Anybody::begin);
    work()
}

/// For what takes a block and cannot be done by anybody: whether there is room beside the reserve.
///
/// # Errors
/// `ENOSPC` if not.
pub fn check(at: impl AsFd) -> io::Result<()> {
    if KEEPS.load(Ordering::Relaxed) && rustix::fs::fstatvfs(at)?.f_bavail == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    Ok(())
}
