//! The one table from faults to errno.

use fuser::Errno;

use crate::policy::RefusalErrno;
use crate::vfs::Fault;

/// The errno of a fault. No arm for "the rest": a new fault must choose.
pub fn of(fault: &Fault) -> Errno {
    match fault {
        Fault::Refused(RefusalErrno::Eperm) | Fault::NotPermitted | Fault::Comparing(_) => Errno::EPERM,
        Fault::Refused(RefusalErrno::Erofs) | Fault::ReadOnly => Errno::EROFS,
        Fault::Refused(RefusalErrno::Eacces) | Fault::Denied => Errno::EACCES,
        Fault::NotFound => Errno::ENOENT,
        Fault::Exists => Errno::EEXIST,
        Fault::Stale => Errno::ESTALE,
        Fault::NotUtf8 => Errno::EILSEQ,
        Fault::Invalid => Errno::EINVAL,
        Fault::NameTooLong => Errno::ENAMETOOLONG,
        Fault::NotSupported => Errno::EOPNOTSUPP,
        Fault::NoData => Errno::ENODATA,
        Fault::Range => Errno::ERANGE,
        Fault::BadHandle => Errno::EBADF,
        Fault::Altered => Errno::EIO,
        Fault::Index(error) if error.is_full() => Errno::ENOSPC,
        Fault::Index(error) => {
            tracing::error!(%error, "index failed");
            Errno::EIO
        }
        Fault::Io(error) => match error.raw_os_error() {
            Some(errno) => Errno::from_i32(errno),
            None => {
                tracing::error!(%error, "unexpected failure");
                Errno::EIO
            }
        },
    }
}
