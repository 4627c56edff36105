//! The only code that makes bytes durable: fsync, syncfs, write-then-rename, directory sync.
//!
//! What each function promises on return is in its comment; an error means that nothing is promised and
//! that the same descriptor must not be trusted again (a failed fsync is reported once).
//!
//! Layer 1: it counts what it asks of the kernel, and knows nothing else.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::metrics::COUNTERS;

/// Makes a file's content and size durable.
///
/// # Errors
/// What `fsync(2)` reports.
pub fn sync_file(file: impl AsFd) -> io::Result<()> {
    COUNTERS.durable_fsync.one();
    Ok(rustix::fs::fsync(file)?)
}

/// Makes everything on the file system that holds `any` durable: contents, names, attributes.
///
/// # Errors
/// What `syncfs(2)` reports: a write-back error of *some* file since this descriptor last asked. Which one
/// it was, [`wait_written`] on that file's own descriptor tells.
pub fn sync_fs(any: impl AsFd) -> io::Result<()> {
    COUNTERS.durable_syncfs.one();
    Ok(rustix::fs::syncfs(any)?)
}

/// Makes the names in a directory durable. `dir` must be open for reading, not `O_PATH`.
///
/// # Errors
/// What `fsync(2)` reports.
pub fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    COUNTERS.durable_fsync.one();
    Ok(rustix::fs::fsync(dir)?)
}

/// Begins to write a part of a file back (`bytes` 0: all from `offset` on), without waiting: what is synced afterwards is
/// on its way by then. Promises nothing, and takes no error of the disk away from whoever syncs.
///
/// # Errors
/// What `sync_file_range(2)` reports: no room could be found on the disk. Pages are gone then, and no sync tells of it.
pub fn begin_writing(file: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    file_range(file, offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits for write-back of this file that is under way and reports an error that belongs to this file.
/// Alone it makes nothing durable.
///
/// # Errors
/// What `sync_file_range(2)` reports for this descriptor.
pub fn wait_written(file: impl AsFd) -> io::Result<()> {
    file_range(file, 0, 0, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
}

/// Hands a part of a file to the disk and waits until the disk has taken it, perhaps into its cache. Makes nothing
/// durable: what is missing of that is [`sync_file`].
///
/// # Errors
/// What `sync_file_range(2)` reports for this descriptor: a write-back error, which is told once.
pub fn write_range(file: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    let all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    file_range(file, offset, bytes, all)
}

fn file_range(file: impl AsFd, offset: u64, bytes: u64, flags: u32) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let number = |n: u64| libc::off64_t::try_from(n).map_err(io::Error::other);
    let (offset, bytes) = (number(offset)?, number(bytes)?);
    // SAFETY: the descriptor is borrowed for the call; the call touches no memory of ours.
    match unsafe { libc::sync_file_range(fd, offset, bytes, flags) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Not every backing file system has it; a sync says all there is.
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
            error => Err(error),
        },
    }
}

/// Writes a file under a name that must be free. On return content and name are durable.
///
/// # Errors
/// If the name is taken, or any step fails; a half-written file is removed.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content).and_then(|()| sync_file(&file));
    if let Err(error) = written {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    sync_parent(path)
}

/// Replaces a file: readers and power cuts see the old content or the new, never a mixture.
/// On return content and name are durable.
///
/// # Errors
/// If any step fails; the old file then still stands.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let temporary = fresh_beside(path)?;
    create(&temporary, mode, content)?;
    std::fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// As [`replace`], but only readers are promised something: durable is it after [`sync_fs`].
///
/// # Errors
/// If any step fails; the old file then still stands.
pub fn place(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let temporary = fresh_beside(path)?;
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    std::fs::rename(&temporary, path)
}

/// Makes the folders from `root`, which is there, down to `dir`, mode 0700. On return their names are durable.
///
/// # Errors
/// If `dir` is not below `root`, or any step fails.
pub fn create_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    let below = dir.strip_prefix(root).map_err(io::Error::other)?;
    let mut at = root.to_owned();
    for part in below.components() {
        at.push(part);
        match std::fs::DirBuilder::new().mode(0o700).create(&at) {
            Ok(()) => sync_parent(&at)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A name beside `path` that is free: what a crash left under it is removed.
fn fresh_beside(path: &Path) -> io::Result<std::path::PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(temporary),
    }
}

/// Makes the name of a file durable.
///
/// # Errors
/// What `open(2)` and `fsync(2)` of its folder report.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_dir(File::open(parent)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_is_exclusive_and_replace_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        create(&path, 0o600, b"one").unwrap();
        assert_eq!(create(&path, 0o600, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        replace(&path, 0o600, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
