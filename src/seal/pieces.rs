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

/// How long a piece may take while there are small seals, and while there are none: then the next one waits a little
/// longer, but the disk does more, for a flush costs milliseconds whatever its length. One that takes longer is followed
/// by a shorter one, one that takes less than half of it by a longer one.
const LONG: [Duration; 2] = [Duration::from_millis(12), Duration::from_millis(20)];
/// How long after the last batch there are small seals.
const LATELY: Duration = Duration::from_secs(1);
/// A piece that takes less was not written: it was on the disk already.
const NOTHING: Duration = Duration::from_millis(1);
/// Bytes that are not flushed for that reason, at most: a fast disk takes a short piece in as little.
const UNFLUSHED: u64 = 32 << 20;
/// Bytes a piece: at first, at least, at most.
const FIRST: u64 = 8 << 20;
const LEAST: u64 = 1 << 20;
const MOST: u64 = 64 << 20;
/// How long a piece waits for batches: small seals without end do not keep a large one from the disk.
const YIELD: Duration = Duration::from_millis(60);

/// Batches of seals.
#[derive(Default)]
struct Batches {
    under_way: usize,
    last: Option<Instant>,
}

/// Who may use the disk next.
pub struct Pieces {
    /// Held by the piece that is on its way: bytes of the next one, of a seal or an early one, as in [`LONG`].
    next: Mutex<[[u64; 2]; 2]>,
    batches: Mutex<Batches>,
    none: Condvar,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces { next: Mutex::new([[FIRST; 2]; 2]), batches: Mutex::default(), none: Condvar::new() }
    }
}

/// A piece that has the disk.
struct Turn<'a> {
    next: MutexGuard<'a, [[u64; 2]; 2]>,
    /// Which of the lengths.
    early: usize,
    quiet: usize,
    from: Instant,
}

impl Turn<'_> {
    fn bytes(&self, left: u64) -> u64 {
        self.next[self.early][self.quiet].min(left)
    }

    /// So many bytes took until now: how long the next piece is.
    fn learn(&mut self, bytes: u64) {
        let (took, long) = (self.from.elapsed(), LONG[self.quiet]);
        let next = &mut self.next[self.early][self.quiet];
        if took > long {
            *next = (bytes / 2).max(LEAST);
        } else if took < long / 2 && bytes == *next {
            *next = (bytes * 2).min(MOST);
        }
    }

    /// Whoever waits is next.
    fn over(self) {
        MutexGuard::unlock_fair(self.next);
    }
}

/// While it lives, large files wait, up to [`YIELD`] a piece.
pub struct First<'a>(&'a Pieces);

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut batches = self.0.batches.lock();
        batches.under_way -= 1;
        batches.last = Some(Instant::now());
        if batches.under_way == 0 {
            self.0.none.notify_all();
        }
    }
}

impl Pieces {
    /// A batch of seals goes first.
    pub fn first(&self) -> First<'_> {
        self.batches.lock().under_way += 1;
        First(self)
    }

    /// Makes content and size of a file of so many bytes durable. `folder`: one on the same file system; its sync
    /// flushes the disk's cache after each piece. `failed` is told of an error of that before another piece goes, for
    /// nobody else will hear of it, and of one of the last sync; `reached` of how many bytes are written.
    ///
    /// # Errors
    /// Any error of a write-back, the folder's too: a sync tells it once, so who comes later would not hear of it.
    pub fn sync(
        &self,
        file: impl AsFd,
        size: u64,
        folder: impl AsFd,
        failed: impl Fn(&io::Error),
        reached: impl Fn(u64),
    ) -> io::Result<()> {
        let (mut done, mut unflushed) = (0, 0);
        while done < size {
            let mut turn = self.turn(false);
            let bytes = turn.bytes(size - done);
            durable::write_range(&file, done, bytes)?;
            done += bytes;
            unflushed += bytes;
            // Where it was on the disk already, nothing is to be flushed, and nothing is learnt about the disk.
            let written = turn.from.elapsed() > NOTHING;
            if written || unflushed >= UNFLUSHED {
                durable::sync_dir(&folder).inspect_err(&failed)?;
                unflushed = 0;
            }
            if written {
                turn.learn(bytes);
            }
            turn.over();
            reached(done);
        }
        durable::sync_file(file).inspect_err(failed)
    }

    /// Begins to write the next piece of a file that may still grow, from `offset` on, and answers its bytes. What the
    /// disk has to tell of the file is left to [`Pieces::sync`]. `failed` as there.
    ///
    /// # Errors
    /// There is no room for the piece, or the flush failed. What the file had in memory may be gone.
    pub fn begin(
        &self,
        file: impl AsFd,
        offset: u64,
        size: u64,
        folder: impl AsFd,
        failed: impl Fn(&io::Error),
    ) -> io::Result<u64> {
        let mut turn = self.turn(true);
        let bytes = turn.bytes(size.saturating_sub(offset));
        let begun = durable::begin_writing(&file, offset, bytes);
        let flushed = durable::sync_dir(&folder).inspect_err(&failed);
        turn.learn(bytes);
        turn.over();
        begun.and(flushed)?;
        Ok(bytes)
    }

    /// Waits until no other piece is on its way, and no batch, or for long enough.
    fn turn(&self, early: bool) -> Turn<'_> {
        let next = self.next.lock();
        let until = Instant::now() + YIELD;
        let mut batches = self.batches.lock();
        while batches.under_way > 0 && !self.none.wait_until(&mut batches, until).timed_out() {}
        let quiet = batches.under_way == 0 && batches.last.is_none_or(|last| last.elapsed() > LATELY);
        Turn { next, early: usize::from(early), quiet: usize::from(quiet), from: Instant::now() }
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
        pieces.sync(&file, 3 * FIRST, &folder, |error| panic!("{error}"), |_| ()).unwrap();
        from.elapsed()
    }

    #[test]
    fn each_piece_waits_for_a_batch_but_not_for_ever() {
        let pieces = Pieces::default();
        let first = pieces.first();
        assert!(two_pieces(&pieces) >= 2 * YIELD, "it did not wait");
        drop(first);
        assert_eq!(pieces.batches.lock().under_way, 0);
        assert!(two_pieces(&pieces) < 2 * YIELD, "it waited for nobody");
    }

    #[test]
    fn a_piece_that_takes_little_is_followed_by_a_longer_one() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        let pieces = Pieces::default();
        let begin = |size| pieces.begin(&file, 0, size, &folder, |error| panic!("{error}")).unwrap();
        assert_eq!(begin(3 * FIRST), FIRST);
        assert_eq!(begin(3 * FIRST), 2 * FIRST);
        assert_eq!(begin(3 * FIRST), 3 * FIRST);
        drop(pieces.first());
        // Small seals lately: a length of their own.
        assert_eq!(begin(3 * FIRST), FIRST);
    }

    #[test]
    fn a_flush_that_fails_is_told_before_the_next_piece() {
        let (socket, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pieces, told) = (Pieces::default(), std::cell::Cell::new(false));
        let begun = pieces.begin(&socket, 0, 1, &socket, |_| {
            assert!(pieces.next.try_lock().is_none());
            told.set(true);
        });
        assert!(begun.is_err() && told.get() && pieces.next.try_lock().is_some());
    }

    #[test]
    fn write_errors_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(dir.path()).unwrap();
        let (socket, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Pieces::default().sync(&socket, 1, &folder, |_| (), |_| ()).is_err());
    }
}
