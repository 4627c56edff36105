//! A window into a file in memory, through which lines are written without a system call each: several are written for
//! every file that is made.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// Bytes that are mapped at a time.
const LENGTH: usize = 1 << 20;
/// Where mappings may begin: a multiple of every page size there is.
const ALIGNED: u64 = 64 << 10;

/// A part of a file, mapped; only a file that is never made shorter may be looked at so.
#[derive(Debug)]
pub struct Window {
    at: NonNull<u8>,
    offset: u64,
}

// SAFETY: it is memory that only this window writes to, and each write has the window alone (`&mut`).
unsafe impl Send for Window {}

impl Window {
    /// Maps the part that begins at or before `offset`, and gives it its room: where the system has none, that is told
    /// here, and not by a signal later.
    ///
    /// # Errors
    /// What `fallocate(2)` and `mmap(2)` report.
    fn open(file: &File, offset: u64) -> io::Result<Self> {
        let offset = offset / ALIGNED * ALIGNED;
        rustix::fs::fallocate(file, FallocateFlags::empty(), offset, LENGTH as u64)?;
        // SAFETY: a new mapping, where the kernel likes; nothing else of this process lies there.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )?
        };
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Window { at, offset })
    }

    /// Writes a line at `offset`, in `window` or in another one that takes its place. Killed in between, it is not a
    /// line: its last byte is written last.
    ///
    /// # Errors
    /// If it is longer than a window, or the system has no room; nothing is written then.
    pub fn write(window: &mut Option<Self>, file: &File, line: &[u8], offset: u64) -> io::Result<()> {
        let Some((last, body)) = line.split_last() else { return Ok(()) };
        let fits = |window: &Window| {
            let start = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
            (start.checked_add(line.len())? <= LENGTH).then_some(start)
        };
        let found = window.as_ref().and_then(fits);
        let start = match found {
            Some(start) => start,
            None => {
                let new = Window::open(file, offset)?;
                let start = fits(&new).ok_or(io::ErrorKind::InvalidInput)?;
                *window = Some(new);
                start
            }
        };
        let Some(window) = window else { return Ok(()) };
        // SAFETY: `start` and the length of the line lie within the mapping; the file has room for all of it and is never
        // made shorter; nobody else writes there, and whoever reads does so when this process is gone.
        unsafe {
            let to = window.at.as_ptr().add(start);
            std::ptr::copy_nonoverlapping(body.as_ptr(), to, body.len());
            compiler_fence(Ordering::Release);
            to.add(body.len()).write_volatile(*last);
        }
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: it is mapped there, as long as this, and nobody has a reference into it.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn lines_stand_one_after_the_other_across_windows() {
        let file = tempfile::tempfile().unwrap();
        let (mut window, mut end, mut written) = (None, 8, Vec::new());
        while written.len() < 3 * LENGTH {
            let line = format!("line {end} of {}\n", "x".repeat(written.len() % 900));
            Window::write(&mut window, &file, line.as_bytes(), end).unwrap();
            written.extend_from_slice(line.as_bytes());
            end += line.len() as u64;
        }
        let mut read = vec![0; written.len()];
        file.read_exact_at(&mut read, 8).unwrap();
        assert!(read == written);
        // Somewhere else, as after it was written anew.
        Window::write(&mut window, &file, b"far\n", end + 5 * LENGTH as u64).unwrap();
        Window::write(&mut window, &file, b"near\n", 8).unwrap();
        file.read_exact_at(&mut read[..5], 8).unwrap();
        assert_eq!(&read[..5], b"near\n");
        let long = vec![b'x'; LENGTH + 1];
        assert!(Window::write(&mut window, &file, &long, 8).is_err());
    }
}
