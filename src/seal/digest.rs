//! One SHA-256 pass over a file that nobody can write.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::Advice;

use super::life::Life;
use super::progress::Progress;
use crate::crypto::Hasher;
use crate::metrics::COUNTERS;
use crate::model::Digest;

/// Bytes a read: what stays in a core's cache between the read and the hash.
const CHUNK: usize = 64 << 10;

/// What a read of a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// SHA-256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

thread_local! {
    /// Each thread that hashes keeps its buffer: most files are small.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Hashes a file from its beginning to its end; `None` once `go_on`, which is asked before each read from an offset, says
/// no.
///
/// # Errors
/// What reading reports.
pub fn hash_file(file: impl AsFd, go_on: impl Fn(u64) -> bool) -> io::Result<Option<Content>> {
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
    BUFFER.with_borrow_mut(|buffer| hash_through(file.as_fd(), buffer, go_on))
}

fn hash_through(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    go_on: impl Fn(u64) -> bool,
) -> io::Result<Option<Content>> {
    let (mut hasher, mut offset) = (Hasher::new(), 0u64);
    loop {
        if !go_on(offset) {
            return Ok(None);
        }
        let read = match rustix::io::pread(file, &mut *buffer, offset) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if read == 0 {
            COUNTERS.hash_files.one();
            return Ok(Some(Content { sha256: hasher.finish(), size: offset }));
        }
        hasher.update(&buffer[..read]);
        COUNTERS.hash_bytes.add(read as u64);
        offset += read as u64;
    }
}

/// Hashes a file while its life is at `epoch`.
///
/// # Errors
/// What reading reports.
pub fn hash_life(file: impl AsFd, life: &Life, epoch: u64) -> io::Result<Option<Content>> {
    hash_file(file, |_| life.epoch() == epoch)
}

/// The same, no faster than the file is written to the disk.
///
/// # Errors
/// What reading reports.
pub fn hash_life_behind(
    file: impl AsFd,
    life: &Life,
    epoch: u64,
    progress: &Progress,
) -> io::Result<Option<Content>> {
    hash_file(file, |offset| progress.follow(offset) && life.epoch() == epoch)
}

/// The hash of a file that is written through the daemon from beginning to end, as it comes.
pub struct Stream {
    hasher: Hasher,
    next: u64,
}

impl Stream {
    /// For a file that is empty.
    #[must_use]
    pub fn new() -> Self {
        Stream { hasher: Hasher::new(), next: 0 }
    }

    /// Takes what was written; answers whether the stream is still of use.
    #[must_use]
    pub fn written(&mut self, offset: u64, data: &[u8]) -> bool {
        if offset != self.next {
            return false;
        }
        self.hasher.update(data);
        COUNTERS.hash_bytes.add(data.len() as u64);
        self.next += data.len() as u64;
        true
    }

    /// The digest, if exactly `size` bytes have come.
    #[must_use]
    pub fn finish(self, size: u64) -> Option<Content> {
        (self.next == size).then(|| {
            COUNTERS.hash_files.one();
            Content { sha256: self.hasher.finish(), size }
        })
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}
