//! Room that is kept so that what has expired can be taken away from a full disk.
//!
//! Removing is logged before the bytes go, and the log needs blocks, at a start also names. `STORE/reserve/` holds
//! files of nothing: each an inode and some blocks. When a removal finds no room, they are given up, half of them at
//! a time, since others may be quicker to take what becomes free; they are made again when there is room.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::layout::Layout;

/// How many files.
const PIECES: u32 = 16;
/// Bytes of each.
const PIECE: u64 = 256 << 10;
/// With less room than that, in bytes and inodes, a start may fail.
const SHORT: (u64, u64) = (1 << 20, 16);

/// The reserve of a store.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    /// How many are there.
    held: Mutex<u32>,
}

impl Reserve {
    /// Looks what is there; nothing is made. On a disk that is full, half of it is given up so that a daemon can
    /// start.
    #[must_use]
    pub fn open(layout: &Layout) -> Self {
        let dir = layout.reserve();
        let held = (0..PIECES).filter(|piece| dir.join(piece.to_string()).exists()).count();
        let reserve = Reserve { dir, held: Mutex::new(u32::try_from(held).unwrap_or(PIECES)) };
        let short = statvfs(layout.root()).is_ok_and(|room| {
            let bytes = room.f_bavail.saturating_mul(room.f_frsize);
            // Some file systems count no inodes.
            bytes < SHORT.0 || (room.f_files > 0 && room.f_favail < SHORT.1)
        });
        if short && reserve.give() {
            tracing::warn!("the backing file system is full: a part of the reserve is given up");
        }
        reserve
    }

    /// Gives up half of what is left, at least one; answers whether there was something.
    pub fn give(&self) -> bool {
        let mut held = self.held.lock();
        let wanted = held.div_ceil(2);
        let mut given = 0;
        for piece in 0..PIECES {
            if given < wanted && fs::remove_file(self.dir.join(piece.to_string())).is_ok() {
                given += 1;
            }
        }
        // What is gone without our doing cannot be counted on.
        *held = if given < wanted { 0 } else { *held - given };
        given > 0
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// If there is no room for all of it; what could be made stays.
    pub fn keep(&self) -> io::Result<()> {
        let mut held = self.held.lock();
        if *held >= PIECES {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for piece in 0..PIECES {
            let path = self.dir.join(piece.to_string());
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    if let Err(error) = fill(&file) {
                        let _ = fs::remove_file(&path);
                        return Err(error);
                    }
                    *held += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        *held = PIECES;
        Ok(())
    }

    /// Bytes that are kept, of how many.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        (u64::from(*self.held.lock()) * PIECE, u64::from(PIECES) * PIECE)
    }
}

fn fill(mut file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, PIECE) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let nothing = vec![0; 1 << 16];
            for _ in 0..PIECE >> 16 {
                file.write_all(&nothing)?;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_by_halves_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("store")).unwrap();
        let reserve = Reserve::open(&layout);
        assert_eq!(reserve.held().0, 0);
        assert!(!reserve.give(), "there is nothing");
        reserve.keep().unwrap();
        assert_eq!(reserve.held(), (4 << 20, 4 << 20));
        let mut given = 0;
        while reserve.give() {
            given += 1;
        }
        assert_eq!((given, reserve.held().0), (5, 0));
        reserve.keep().unwrap();
        assert_eq!(Reserve::open(&layout).held().0, 4 << 20);
    }
}
