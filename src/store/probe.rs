//! What the backing file system can do, found by trying.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::freeze::{Lease, LeaseError, cached_pages, set_immutable};
use super::layout::Layout;

/// What works in this store. What does not is told once at start, and in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Read leases: the kernel proves that nobody writes.
    pub leases: bool,
    /// `FS_IMMUTABLE_FL`.
    pub immutable: bool,
    /// The kernel says how many pages of a file it has cached.
    pub pages: bool,
}

/// Tries leases, the immutable flag and `cachestat` on a scratch file beside the tree, which is removed again.
///
/// # Errors
/// If no file can be made in the store.
pub fn probe(layout: &Layout) -> io::Result<Abilities> {
    let path = layout.root().join("probe");
    // Left by a daemon that died while it tried: it may be immutable.
    if let Ok(left) = File::open(&path) {
        let _ = set_immutable(left.as_fd(), false);
        let _ = std::fs::remove_file(&path);
    }
    std::fs::write(&path, [1; 1])?;
    let tried = try_on(OwnedFd::from(File::open(&path)?));
    std::fs::remove_file(&path)?;
    Ok(tried)
}

fn try_on(file: OwnedFd) -> Abilities {
    // Just written: what is in no cache now is cached out of sight, as below a stacked file system.
    let pages = cached_pages(&file).is_some_and(|pages| pages > 0);
    let immutable = set_immutable(file.as_fd(), true).is_ok();
    if immutable {
        let _ = set_immutable(file.as_fd(), false);
    }
    let leases = match Lease::take(file) {
        Ok(_) => true,
        Err((_, error)) => !matches!(error, LeaseError::Unsupported),
    };
    Abilities { leases, immutable, pages }
}
