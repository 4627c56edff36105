//! Where data goes through the daemon, the kernel caches content by the mount's inode. A page of it that was mapped
//! shared and writable may be pinned by a direct read, which ends, and writes into the page, after the file is sealed;
//! and a page of which the write-back failed stays as well. The daemon hears of neither. So a sealed file of which the
//! kernel may have such pages has another number than it had before: to the kernel that is another inode, of which
//! nothing is cached and that nobody ever had open for writing. Whoever has the old one open keeps it.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::{CacheEvent, Vfs};
use crate::store::Live;

/// What the other number has more than the first one. No backing file system numbers so high.
const SEALED_BIT: u64 = 1 << 60;

/// The backing inode's number, of both numbers of a file.
#[must_use]
pub fn backing(number: u64) -> u64 {
    number & !SEALED_BIT
}

/// Inodes of which the kernel may have cached what the daemon never got, until it forgets them.
#[derive(Default)]
pub(super) struct Doubted(Mutex<HashSet<u64>>);

impl Doubted {
    /// Whether it may.
    pub fn has(&self, ino: u64) -> bool {
        self.0.lock().contains(&ino)
    }

    /// Whether this number of the file is the one that a sealed file has no longer.
    pub fn is_old(&self, number: u64) -> bool {
        backing(number) == number && self.has(number)
    }

    /// The number of the file once it is sealed.
    pub fn sealed_number(&self, ino: u64) -> u64 {
        if self.has(ino) { ino | SEALED_BIT } else { ino }
    }

    /// The kernel has forgotten it.
    pub fn forget(&self, ino: u64) {
        self.0.lock().remove(&ino);
    }
}

impl Vfs {
    /// A file is opened with these flags: only who may both read and write can map it shared and writable.
    pub(super) fn may_be_mapped(&self, life: &crate::seal::Life, flags: i32) {
        if flags & libc::O_ACCMODE != libc::O_RDWR {
            return;
        }
        if self.passthrough() {
            life.lock().mapped = true;
        } else {
            self.doubt(life.ino);
        }
    }

    fn doubt(&self, ino: u64) {
        if self.doubted.0.lock().insert(ino) {
            self.parts.handover.doubted(ino);
        }
    }

    /// A write failed. Of a shared mapping the kernel keeps the page all the same: it is told to drop what it has.
    pub(super) fn write_failed(&self, ino: u64) {
        self.doubt(ino);
        let _ = self.parts.cache.send(CacheEvent::Content(ino));
    }

    /// A writer has closed it: the kernel lets go of what it has cached, pinned pages too, so that who has it open for
    /// reading since before the seal asks here. What is cached again is from here.
    pub(super) fn drop_doubted(&self, ino: u64) {
        if self.doubted.has(ino) {
            let _ = self.parts.cache.send(CacheEvent::Content(ino));
        }
    }

    /// What the last worker knew.
    pub(super) fn doubt_again(&self, live: &Live) {
        self.doubted.0.lock().extend(&live.doubted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doubted_files_have_another_number_once_sealed() {
        let doubted = Doubted::default();
        doubted.0.lock().insert(7);
        assert_eq!((doubted.sealed_number(7), doubted.sealed_number(8)), (7 | SEALED_BIT, 8));
        assert_eq!((backing(7 | SEALED_BIT), backing(7)), (7, 7));
        assert!(doubted.is_old(7) && !doubted.is_old(7 | SEALED_BIT) && !doubted.is_old(8));
        doubted.forget(7);
        assert!(!doubted.is_old(7));
    }
}
