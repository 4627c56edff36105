//! One daemon a store.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock};

use super::Layout;

/// Why the store was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the store is in use by {0}; stop that first (unmount it, or 'sealctl status' tells where)")]
    Busy(String),
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
impl From<StoreLock> for OwnedFd {
    fn from(lock: StoreLock) -> OwnedFd {
        lock.file.into()
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
            .open(layout.lock())?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io::Error::from(error).into());
            }
            let mut holder = String::new();
            let _ = (&mut file).take(4096).read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { "another process" } else { holder };
            return Err(LockError::Busy(holder.to_owned()));
        }
        // Over what the last one left, in its block: a full disk has no other. Word is for messages; the lock holds without.
        let line = format!("{who}\n");
        if let Err(error) =
            file.write_all_at(line.as_bytes(), 0).and_then(|()| file.set_len(line.len() as u64))
        {
            tracing::debug!(%error, "who has the store could not be written down");
        }
        Ok(StoreLock { file })
    }
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
        let busy = StoreLock::take(&layout, "a third").unwrap_err();
        assert!(busy.to_string().contains("in use by another"), "{busy}");
        drop(lock);
    }
}
