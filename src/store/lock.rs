//! One daemon a store.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock};

use super::Layout;

/// Why the store was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the store is in use by {0}; stop that first (unmount it, or 'sealctl status' tells where)")]
    Busy(String),
    /// Nothing can be written there.
    #[error(
        "cannot lock the store: its file system is read-only; 'dmesg' may tell why, mount it for writing again"
    )]
    ReadOnly,
    /// Anything else.
    #[error("cannot lock the store: {0}")]
    Io(#[from] io::Error),
}

/// The store's lock, held until dropped or until the process ends in any way.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

/// The lock is kept as long as the descriptor, or one inherited of it, is open.
impl AsFd for StoreLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl StoreLock {
    /// Takes the lock and leaves word who has it.
    ///
    /// # Errors
    /// [`LockError::Busy`] with what the holder wrote of itself.
    pub fn take(layout: &Layout, who: &str) -> Result<Self, LockError> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(layout.lock())
            .map_err(|error| match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem => LockError::ReadOnly,
                _ => LockError::Io(error),
            })?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io::Error::from(error).into());
            }
            return Err(LockError::Busy(read_holder(&mut file)));
        }
        let lock = StoreLock { file };
        lock.describe(who);
        Ok(lock)
    }

    /// Writes down who holds the lock and how the holder is, for the messages of others. The lock holds without it.
    pub fn describe(&self, who: &str) {
        // Over what was there, in its block: a full disk has no other.
        let line = format!("{who}\n");
        let written = self.file.write_all_at(line.as_bytes(), 0);
        if let Err(error) = written.and_then(|()| self.file.set_len(line.len() as u64)) {
            tracing::debug!(%error, "who has the store could not be written down");
        }
    }

    /// What the process that holds the lock has written about itself; `None` if nobody holds it.
    ///
    /// # Errors
    /// If the lock file cannot be read.
    pub fn holder(layout: &Layout) -> io::Result<Option<String>> {
        let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(layout.lock())?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_holder(&mut file))),
            Err(error) => Err(error.into()),
        }
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = Vec::new();
    let _ = file.take(4096).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).trim().replace(char::is_control, " ");
    if text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_written_over_who_had_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("store")).unwrap();
        drop(StoreLock::take(&layout, "a daemon with a long name").unwrap());
        let lock = StoreLock::take(&layout, "another").unwrap();
        assert_eq!(std::fs::read_to_string(layout.lock()).unwrap(), "another\n");
        assert_eq!(StoreLock::holder(&layout).unwrap().as_deref(), Some("another"));
        let busy = StoreLock::take(&layout, "a third").unwrap_err();
        assert!(busy.to_string().contains("in use by another"), "{busy}");
        lock.describe("another; it is not well");
        assert_eq!(StoreLock::holder(&layout).unwrap().as_deref(), Some("another; it is not well"));
        drop(lock);
        assert_eq!(StoreLock::holder(&layout).unwrap(), None);
    }
}
