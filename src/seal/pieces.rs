//! Large files on their way to the disk: a piece at a time, and small seals go first.
//!
//! A disk takes what it is handed in order, and a flush of its cache waits for all that it has taken. A small file that is
//! synced while a gigabyte is on its way waits for the gigabyte (a second and more where this was measured, on a disk that
//! takes 700 MiB/s). So large files are handed over in pieces, each flushed by itself, one piece at a time for all files;
//! the length of a piece is what this disk does in some milliseconds. Before each piece, batches of seals go first.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::durable;

/// How long a piece may take; one that takes longer is followed by a shorter one.
const LONG: Duration = Duration::from_millis(20);
/// A piece that takes less is followed by a longer one.
const SHORT: Duration = Duration::from_millis(8);
/// Bytes a piece: at first, at least, at most.
const FIRST: u64 = 8 << 20;
const LEAST: u64 = 1 << 20;
const MOST: u64 = 64 << 20;
/// How long a piece waits for batches: small seals without end do not keep a large one from the disk.
const YIELD: Duration = Duration::from_millis(20);

/// Who may use the disk next.
pub struct Pieces {
    /// Held by the piece that is on its way: bytes of the next one.
    next: Mutex<u64>,
    /// Batches under way.
    batches: Mutex<usize>,
    none: Condvar,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces { next: Mutex::new(FIRST), batches: Mutex::new(0), none: Condvar::new() }
    }
}

/// While it lives, large files wait, up to [`YIELD`] a piece.
pub struct First<'a>(&'a Pieces);

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut batches = self.0.batches.lock();
        *batches -= 1;
        if *batches == 0 {
            self.0.none.notify_all();
        }
    }
}

impl Pieces {
    /// A batch of seals goes first.
    pub fn first(&self) -> First<'_> {
        *self.batches.lock() += 1;
        First(self)
    }

    /// Makes content and size of a file of so many bytes durable. `folder`: one on the same file system; its sync
    /// flushes the disk's cache after each piece.
    ///
    /// # Errors
    /// Any error of a write-back, the folder's too: a sync tells it once, so who comes later would not hear of it.
    pub fn sync(&self, file: impl AsFd, size: u64, folder: impl AsFd) -> io::Result<()> {
        let mut done = 0;
        while done < size {
            let mut next = self.next.lock();
            self.let_pass();
            let (bytes, from) = ((*next).min(size - done), Instant::now());
            durable::write_range(&file, done, bytes)?;
            durable::sync_dir(&folder)?;
            done += bytes;
            let took = from.elapsed();
            if took > LONG {
                *next = (bytes / 2).max(LEAST);
            } else if took < SHORT && bytes == *next {
                *next = (bytes * 2).min(MOST);
            }
            MutexGuard::unlock_fair(next);
        }
        durable::sync_file(file)
    }

    fn let_pass(&self) {
        let until = Instant::now() + YIELD;
        let mut batches = self.batches.lock();
        while *batches > 0 && !self.none.wait_until(&mut batches, until).timed_out() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a file takes that fills two pieces, in memory: no disk takes its time.
    fn two_pieces(pieces: &Pieces) -> Duration {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        file.set_len(3 * FIRST).unwrap();
        let from = Instant::now();
        pieces.sync(&file, 3 * FIRST, &folder).unwrap();
        from.elapsed()
    }

    #[test]
    fn each_piece_waits_for_a_batch_but_not_for_ever() {
        let pieces = Pieces::default();
        let first = pieces.first();
        assert!(two_pieces(&pieces) >= 2 * YIELD, "it did not wait");
        drop(first);
        assert_eq!(*pieces.batches.lock(), 0);
        assert!(two_pieces(&pieces) < 2 * YIELD, "it waited for nobody");
    }

    #[test]
    fn a_piece_that_takes_little_is_followed_by_a_longer_one() {
        let pieces = Pieces::default();
        two_pieces(&pieces);
        assert!(*pieces.next.lock() > FIRST);
    }

    #[test]
    fn write_errors_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let (socket, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Pieces::default().sync(&socket, 1, &folder).is_err());
    }
}
