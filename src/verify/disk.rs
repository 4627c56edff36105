//! A backing file as the disk has it, past the page cache: what only the raw disk shows is a finding.
//!
//! Direct I/O (`O_DIRECT`, open(2)) reads the device and evicts nothing that others read from memory. Where the backing
//! file system has none, or may read through memory all the same (btrfs with compression or inline extents), the file's
//! pages are dropped before it is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use crate::store;

/// What direct I/O asks offsets, lengths and addresses to be multiples of, in bytes: no logical block is larger.
const ALIGNMENT: usize = 4096;
/// Longest read, in bytes.
const CHUNK_MAX: usize = 1 << 20;
/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS_MAGIC: rustix::fs::FsWord = 0x9123_683E;

/// Reads a file from the disk.
pub struct DiskReader {
    file: File,
    /// With room for one chunk from an aligned address on.
    buffer: Vec<u8>,
    /// Bytes of a read.
    chunk: usize,
}

impl DiskReader {
    /// For a file of about so many bytes. `reopen` opens it with the flags that it is given.
    ///
    /// # Errors
    /// If it cannot be opened, or its pages cannot be dropped where that is needed.
    pub fn open(size: u64, reopen: &dyn Fn(OFlags) -> io::Result<OwnedFd>) -> io::Result<Self> {
        let file = match reopen(OFlags::RDONLY | OFlags::DIRECT) {
            Ok(file) if reads_through_memory(&file) => {
                drop_pages(&file)?;
                file
            }
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let file = reopen(OFlags::RDONLY)?;
                drop_pages(&file)?;
                let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::Sequential);
                file
            }
            Err(error) => return Err(error),
        };
        // One more than its size, so that the end is seen in the read that has the last bytes.
        let wanted = usize::try_from(size.saturating_add(1)).unwrap_or(CHUNK_MAX);
        let chunk = wanted.clamp(1, CHUNK_MAX).next_multiple_of(ALIGNMENT);
        Ok(DiskReader { file: file.into(), buffer: vec![0; chunk + ALIGNMENT], chunk })
    }

    /// Hands all bytes over, piece by piece.
    ///
    /// # Errors
    /// What reading reports.
    pub fn read_all(&mut self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        loop {
            let piece = &mut self.buffer[start..start + self.chunk];
            match self.file.read(piece) {
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    each(&piece[..bytes]);
                    if bytes % ALIGNMENT != 0 {
                        // The end; or a short read, after which direct I/O is not aligned any more.
                        self.go_on_through_memory()?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.is_direct() => {
                    self.go_on_through_memory()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_direct(&self) -> bool {
        rustix::fs::fcntl_getfl(&self.file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
    }

    fn go_on_through_memory(&self) -> io::Result<()> {
        if self.is_direct() {
            drop_pages(&self.file)?;
            let flags = rustix::fs::fcntl_getfl(&self.file)?;
            rustix::fs::fcntl_setfl(&self.file, flags.difference(OFlags::DIRECT))?;
        }
        Ok(())
    }
}

fn reads_through_memory(file: &OwnedFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == BTRFS_MAGIC)
}

/// Pages that somebody has mapped stay: what such a reader sees is checked then, and the disk by the next verification.
fn drop_pages(file: impl AsFd) -> io::Result<()> {
    let left = store::drop_cached(file)?;
    if left > 0 {
        tracing::debug!(pages = left, "verified from memory in part: somebody has the file mapped");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_read_whole() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        for size in
            [0, 1, 511, 4095, 4096, 4097, 65_536, CHUNK_MAX - 1, CHUNK_MAX, CHUNK_MAX + 1, 3 * CHUNK_MAX + 7]
        {
            let path = dir.path().join(size.to_string());
            let content: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            std::fs::write(&path, &content).unwrap();
            // Also where the size that is expected is not the size that is found.
            for expected in [size, 0, 2 * size] {
                let reopen = |flags: OFlags| {
                    Ok(rustix::fs::open(&path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
                };
                let mut reader = DiskReader::open(expected as u64, &reopen).unwrap();
                let mut found = Vec::new();
                reader.read_all(&mut |piece| found.extend_from_slice(piece)).unwrap();
                assert!(found == content, "{size} bytes, {expected} expected: {}", found.len());
            }
        }
    }
}
