//! Why an operation was not done, in our words; the adapter turns each into an errno.

use std::io;

use crate::ledger::LedgerError;
use crate::model::{NameError, RelPath};
use crate::policy::RefusalErrno;

/// Why an operation was not done. Nothing has then changed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The write-once tree or its policy says no; with the errno that policy chose.
    #[error("refused")]
    Refused(RefusalErrno),
    /// Hard links, device nodes: never, whatever policy says of errno.
    #[error("not permitted")]
    NotPermitted,
    /// Whoever asks may not read it.
    #[error("permission denied")]
    Denied,
    /// No such name.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("exists")]
    Exists,
    /// The inode is another one now; the kernel looks up again.
    #[error("stale")]
    Stale,
    /// A name that is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A name with a control character, or arguments that make no sense.
    #[error("invalid")]
    Invalid,
    /// A name of more than 255 bytes.
    #[error("name too long")]
    NameTooLong,
    /// Never offered: punching holes, ACLs, foreign xattrs.
    #[error("not supported")]
    NotSupported,
    /// No such extended attribute.
    #[error("no data")]
    NoData,
    /// The value is longer than the room for it.
    #[error("range")]
    Range,
    /// The mount is read-only.
    #[error("read-only mount")]
    ReadOnly,
    /// A handle that is not open, or not for this.
    #[error("bad handle")]
    BadHandle,
    /// The backing file is not what was sealed.
    #[error("the backing file, or its row in index.db, was altered")]
    Altered,
    /// The index is still compared with the log, which this has to wait for.
    #[error("index.db is being compared with the log; try again soon")]
    Comparing(RelPath),
    /// The index failed.
    #[error("index: {0}")]
    Index(#[from] LedgerError),
    /// The backing file system said so.
    #[error("backing file system: {0}")]
    Io(#[from] io::Error),
}

impl Fault {
    /// Whether it says that what is to be made is there.
    #[must_use]
    pub fn is_existing(&self) -> bool {
        match self {
            Fault::Exists => true,
            Fault::Io(error) => error.kind() == io::ErrorKind::AlreadyExists,
            _ => false,
        }
    }

    /// Whether it says that what is to go is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Fault::NotFound | Fault::NoData => true,
            Fault::Io(error) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl From<NameError> for Fault {
    fn from(error: NameError) -> Self {
        match error {
            NameError::NotUtf8 => Fault::NotUtf8,
            NameError::Control => Fault::Invalid,
            NameError::TooLong => Fault::NameTooLong,
        }
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Fault::Io(error.into())
    }
}
