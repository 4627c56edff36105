//! What the backing file system can do, found by trying.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::freeze::{Lease, LeaseError, set_immutable};
use super::layout::Layout;

/// What works in this store. What does not is told once at start, and in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Read leases: the kernel proves that nobody writes.
    pub leases: bool,
    /// `FS_IMMUTABLE_FL`.
    pub immutable: bool,
}

/// Tries leases and the immutable flag on a scratch file beside the tree, which is removed again.
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
    File::create(&path)?;
    let tried = try_on(OwnedFd::from(File::open(&path)?));
    std::fs::remove_file(&path)?;
    Ok(tried)
}

fn try_on(file: OwnedFd) -> Abilities {
    let immutable = set_immutable(file.as_fd(), true).is_ok();
    if immutable {
        let _ = set_immutable(file.as_fd(), false);
    }
    let leases = match Lease::take(file) {
        Ok(_) => true,
        Err((_, error)) => !matches!(error, LeaseError::Unsupported),
    };
    Abilities { leases, immutable }
}
