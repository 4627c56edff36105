//! How far a large file is on the disk: its hash follows.
//!
//! A core hashes several times as fast as most disks write. Let loose, the hash of a gigabyte would keep a core busy for
//! half a second, and then wait for the disk for seconds; and on a virtual machine the disk itself may have to wait for
//! that core.

use parking_lot::{Condvar, Mutex};

/// Bytes that are hashed ahead of what is on the disk, at most: enough that neither waits for the other at the end.
const AHEAD: u64 = 32 << 20;

#[derive(Default)]
struct Reached {
    bytes: u64,
    over: bool,
}

/// How far a file is on the disk.
#[derive(Default)]
pub struct Progress {
    reached: Mutex<Reached>,
    more: Condvar,
}

impl Progress {
    /// So many bytes are written.
    pub fn reached(&self, bytes: u64) {
        self.reached.lock().bytes = bytes;
        self.more.notify_one();
    }

    /// Waits until the byte at `offset` may be hashed.
    pub fn follow(&self, offset: u64) {
        let mut reached = self.reached.lock();
        while !reached.over && offset >= reached.bytes + AHEAD {
            self.more.wait(&mut reached);
        }
    }

    /// All is written, or no more will be, once what this answers is dropped.
    pub fn until_over(&self) -> impl Drop + '_ {
        Over(self)
    }
}

struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.reached.lock().over = true;
        self.0.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hash_follows_and_ends_when_the_writing_does() {
        let (progress, at) = (Progress::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for offset in (0..4 * AHEAD).step_by(1 << 20) {
                    progress.follow(offset);
                    at.store(offset, Ordering::Relaxed);
                }
            });
            let settled = || {
                std::thread::sleep(Duration::from_millis(100));
                at.load(Ordering::Relaxed)
            };
            let over = progress.until_over();
            assert_eq!(settled(), AHEAD - (1 << 20));
            progress.reached(AHEAD);
            assert_eq!(settled(), 2 * AHEAD - (1 << 20));
            drop(over);
        });
        assert_eq!(at.into_inner(), 4 * AHEAD - (1 << 20));
    }
}
