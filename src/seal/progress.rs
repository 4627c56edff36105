//! How far a large file is on the disk: its hash follows.
//!
//! A core hashes several times as fast as most disks write. Let loose, the hash of a gigabyte would keep a core busy for
//! half a second, and then wait for the disk for seconds; and on a virtual machine the disk itself may have to wait for
//! that core.

use parking_lot::{Condvar, Mutex};

/// Bytes that are hashed ahead of what is written, at most: what is left to hash in the end is less than a piece.
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

    /// Waits until the byte at `offset` may be hashed; answers whether it ever may.
    pub fn follow(&self, offset: u64) -> bool {
        let mut reached = self.reached.lock();
        while offset >= reached.bytes.saturating_add(AHEAD) {
            if reached.over {
                return false;
            }
            self.more.wait(&mut reached);
        }
        true
    }

    /// No more will be written once what this answers is dropped.
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
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_hash_follows_and_ends_when_the_writing_does() {
        let (progress, at) = (Progress::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for offset in (0..4 * AHEAD).step_by(1 << 20) {
                    if !progress.follow(offset) {
                        return;
                    }
                    at.store(offset + (1 << 20), Ordering::Relaxed);
                }
            });
            // As far as that, in time, and no farther.
            let stands_at = |expected| {
                let until = Instant::now() + Duration::from_secs(20);
                while at.load(Ordering::Relaxed) < expected && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(Duration::from_millis(50));
                assert_eq!(at.load(Ordering::Relaxed), expected);
            };
            let over = progress.until_over();
            stands_at(AHEAD);
            progress.reached(AHEAD);
            stands_at(2 * AHEAD);
            drop(over);
        });
        assert_eq!(at.into_inner(), 2 * AHEAD, "what was not written is hashed no more");
    }
}
