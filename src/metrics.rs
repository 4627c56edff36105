//! Counters of the running daemon: what it was asked and what that cost, on which noise has no effect.
//!
//! Layer 0. No I/O, no locks: one static of relaxed atomics, counted where the thing happens. They begin at 0 with
//! each process (a worker that takes a mount over counts anew), only grow, and are read all together, though not in
//! one instant. `sealctl status --json` shows them as the object `counters`.
//!
//! Names are stable: new ones may come, none changes its meaning or unit. A tool that reads them must take a name
//! that is missing as 0.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $words:literal])+ $name:ident,)+) => {
        /// All counters. The name of a field is the name that is shown.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[doc = $words])+ pub $name: Counter,)+
        }

        /// Those of this process.
        pub static COUNTERS: Counters = Counters { $($name: Counter::new(),)+ };

        impl Counters {
            /// All that are not 0, by name.
            #[must_use]
            pub fn snapshot(&self) -> BTreeMap<String, u64> {
                let all = [$((stringify!($name), self.$name.get()),)+];
                all.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect()
            }
        }
    };
}

counters! {
    /// Requests of the kernel, one counter a kind; those that `fuser` answers by itself are not seen here.
    /// `FUSE_LOOKUP`, a name in a folder.
    fuse_lookup,
    /// Inodes let go, nobody waits for that: not requests, since `fuser` takes `FUSE_BATCH_FORGET`, which has many
    /// in one, apart before it tells of them.
    fuse_forget,
    /// `FUSE_GETATTR`.
    fuse_getattr,
    /// `FUSE_SETATTR`.
    fuse_setattr,
    /// `FUSE_READLINK`.
    fuse_readlink,
    /// `FUSE_MKNOD`.
    fuse_mknod,
    /// `FUSE_MKDIR`.
    fuse_mkdir,
    /// `FUSE_UNLINK`.
    fuse_unlink,
    /// `FUSE_RMDIR`.
    fuse_rmdir,
    /// `FUSE_SYMLINK`.
    fuse_symlink,
    /// `FUSE_RENAME` and `FUSE_RENAME2`.
    fuse_rename,
    /// `FUSE_LINK`.
    fuse_link,
    /// `FUSE_OPEN`.
    fuse_open,
    /// `FUSE_CREATE`.
    fuse_create,
    /// `FUSE_READ`; none where data goes past the daemon.
    fuse_read,
    /// `FUSE_WRITE`; none where data goes past the daemon.
    fuse_write,
    /// `FUSE_FLUSH`, at each close of a descriptor.
    fuse_flush,
    /// `FUSE_RELEASE`, after the last close; nobody waits for that.
    fuse_release,
    /// `FUSE_FSYNC`.
    fuse_fsync,
    /// `FUSE_OPENDIR`.
    fuse_opendir,
    /// `FUSE_READDIR`, a page of names.
    fuse_readdir,
    /// `FUSE_READDIRPLUS`, a page of names with attributes.
    fuse_readdirplus,
    /// `FUSE_RELEASEDIR`.
    fuse_releasedir,
    /// `FUSE_FSYNCDIR`.
    fuse_fsyncdir,
    /// `FUSE_STATFS`.
    fuse_statfs,
    /// `FUSE_SETXATTR`.
    fuse_setxattr,
    /// `FUSE_GETXATTR`.
    fuse_getxattr,
    /// `FUSE_LISTXATTR`.
    fuse_listxattr,
    /// `FUSE_REMOVEXATTR`.
    fuse_removexattr,
    /// `FUSE_FALLOCATE`.
    fuse_fallocate,
    /// `FUSE_LSEEK`.
    fuse_lseek,
    /// `FUSE_IOCTL`.
    fuse_ioctl,
    /// `FUSE_COPY_FILE_RANGE`.
    fuse_copy_file_range,
    /// Files whose SHA-256 was computed to the end, before sealing or again after it.
    hash_files,
    /// Bytes that went through SHA-256 for that, also those of a pass that was given up.
    hash_bytes,
    /// Transactions of the index that were committed. Each is one fsync of SQLite's, which `durable_fsync`
    /// does not count.
    index_commits,
    /// Seals that became durable with them.
    index_seals,
    /// `fsync(2)`, of files and folders, other than SQLite's.
    durable_fsync,
    /// `syncfs(2)`.
    durable_syncfs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown_by_name() {
        COUNTERS.fuse_ioctl.one();
        COUNTERS.fuse_ioctl.add(2);
        let shown = COUNTERS.snapshot();
        assert_eq!(shown.get("fuse_ioctl"), Some(&3));
        assert!(!shown.contains_key("fuse_bmap"));
        assert!(shown.values().all(|&n| n > 0));
    }
}
