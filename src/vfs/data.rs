//! Read and write where there is no passthrough; what goes through the daemon in any case.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};

use super::handles::Handle;
use super::{Done, Fault, Vfs};
use crate::store;

/// Longest that a close is held back.
const HOLD: Duration = Duration::from_secs(5);

/// Closes that wait until less is waiting to be sealed.
#[derive(Default)]
pub(super) struct HeldBack {
    replies: Mutex<Vec<(Instant, Done<()>)>>,
    told: AtomicBool,
}

impl HeldBack {
    pub fn hold(&self, done: Done<()>) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("more is written than can be sealed: closes are held back");
        }
        self.replies.lock().push((Instant::now(), done));
    }

    fn let_go(&self, all: bool) {
        let due: Vec<_> = {
            let mut replies = self.replies.lock();
            let late = |held: &mut (Instant, Done<()>)| all || held.0.elapsed() > HOLD;
            replies.extract_if(.., late).collect()
        };
        for (_, done) in due {
            done(Ok(()));
        }
        if all {
            self.told.store(false, Ordering::Relaxed);
        }
    }
}

impl Vfs {
    /// Lets closes go that were held back, if less waits to be sealed or they have waited long enough.
    /// Called a few times a second.
    pub fn relieve(&self) {
        self.held_back.let_go(!self.parts.pipeline.is_crowded());
    }

    /// Reads at most `size` bytes into `buffer`, which is then exactly what was read.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read(&self, handle: u64, offset: u64, size: usize, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        buffer.clear();
        match &*self.handles.get(handle)? {
            Handle::Content { content, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                let end = start.saturating_add(size).min(content.len());
                buffer.extend_from_slice(&content[start..end]);
                Ok(())
            }
            Handle::File { anchor, .. } => {
                buffer.resize(size, 0);
                let mut filled = 0;
                while filled < size {
                    let at = offset + filled as u64;
                    match rustix::io::pread(anchor.file(), &mut buffer[filled..], at) {
                        Ok(0) => break,
                        Ok(read) => filled += read,
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                buffer.truncate(filled);
                Ok(())
            }
            Handle::Dir { .. } => Err(Fault::BadHandle),
        }
    }

    /// Writes all of `data`, hashing it on the way if it comes from beginning to end.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn write(&self, ino: u64, handle: u64, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let open = self.handles.get(handle)?;
        let Handle::File { writable: true, data: Some(file), .. } = &*open else {
            return Err(Fault::BadHandle);
        };
        let life = self.lives().get(ino);
        let epoch = life.as_ref().map(|life| life.epoch());
        let mut written = 0;
        let done = store::room::without(|| {
            while written < data.len() {
                match rustix::io::pwrite(file, &data[written..], offset + written as u64) {
                    Ok(count) => written += count,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        if let Err(error) = done {
            self.write_failed(ino);
            if let Some(life) = &life
                && matches!(error, rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)
            {
                self.parts.pipeline.found_no_room(life, offset + written as u64);
            }
            return Err(error.into());
        }
        if let Some(life) = life {
            let mut state = life.lock();
            state.writing.wrote(offset, data.len() as u64);
            // Truncated meanwhile: whether before or after these bytes came, nobody can tell.
            let same = epoch == Some(life.epoch());
            if state.stream.as_mut().is_some_and(|stream| !same || !stream.written(offset, data)) {
                state.stream = None;
            }
        }
        Ok(())
    }

    /// Makes a file durable.
    ///
    /// # Errors
    /// What `fsync(2)` reports.
    pub fn fsync(&self, ino: u64, handle: u64) -> Result<(), Fault> {
        match &*self.handles.get(handle)? {
            Handle::File { anchor, .. } => {
                let synced = crate::durable::sync_file(anchor.file());
                let Some(life) = self.lives().get(ino) else {
                    return Ok(synced.inspect_err(|error| self.parts.pipeline.suspect_flush(error))?);
                };
                match &synced {
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::EIO | libc::ENOSPC | libc::EDQUOT)) =>
                    {
                        self.parts.pipeline.sync_failed(&life, error);
                    }
                    // The kernel has told it already, to whoever asked first.
                    Ok(()) if self.parts.pipeline.is_lost(&life) => {
                        return Err(std::io::Error::from_raw_os_error(libc::EIO).into());
                    }
                    _ => {}
                }
                Ok(synced?)
            }
            Handle::Content { .. } => Ok(()),
            Handle::Dir { ino, .. } => {
                let (dir, _) = self.folder(*ino)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let synced = crate::durable::sync_dir(store::open_at(&*dir, ".", flags)?);
                Ok(synced.inspect_err(|error| self.parts.pipeline.suspect_flush(error))?)
            }
        }
    }

    /// Allocates room; `mode` as in `fallocate(2)`.
    ///
    /// # Errors
    /// [`Fault::NotSupported`] for every mode that changes what is there.
    pub fn fallocate(&self, ino: u64, handle: u64, offset: u64, length: u64, mode: i32) -> Result<(), Fault> {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return Err(Fault::NotSupported);
        }
        let open = self.handles.get(handle)?;
        let Handle::File { writable: true, data, .. } = &*open else { return Err(Fault::BadHandle) };
        let flags = if mode == 0 { FallocateFlags::empty() } else { FallocateFlags::KEEP_SIZE };
        if let Some(file) = data {
            return Ok(store::room::without(|| rustix::fs::fallocate(file, flags, offset, length))?);
        }
        let _still = self.lives().namespace.read();
        let found = self.find_ino(ino)?;
        let file = store::open_at(&*found.dir, &found.name, OFlags::WRONLY)?;
        Ok(store::room::without(|| rustix::fs::fallocate(file.as_fd(), flags, offset, length))?)
    }

    /// Finds data or holes.
    ///
    /// # Errors
    /// `ENXIO` past the end, as `lseek(2)`.
    pub fn seek(&self, handle: u64, offset: u64, hole: bool) -> Result<u64, Fault> {
        match &*self.handles.get(handle)? {
            Handle::File { anchor, .. } => {
                let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
                Ok(rustix::fs::seek(anchor.file(), from)?)
            }
            Handle::Content { .. } | Handle::Dir { .. } => Err(Fault::Invalid),
        }
    }

    /// Room on the backing file system.
    ///
    /// # Errors
    /// What `fstatvfs(3)` reports.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs, Fault> {
        Ok(rustix::fs::fstatvfs(self.parts.tree.root())?)
    }
}
