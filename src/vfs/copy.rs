//! A copy of a file inside the backing tree, shared blocks where the file system can.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::Fault;
use crate::store::{self, Meta, SetTime};

/// Copies content, mode, owner, times and user xattrs to a name that must be free.
pub(super) fn copy_file(source: &OwnedFd, to: BorrowedFd<'_>, new: &str) -> Result<Meta, Fault> {
    let meta = store::stat_fd(source)?;
    store::room::check(to)?;
    let target = store::create_at(to, new, OFlags::WRONLY, 0o600)?;
    let copied = store::room::without(|| copy_content(source, &target, meta.size))
        .and_then(|()| copy_xattrs(source, &target))
        .and_then(|()| store::set_owner(&target, Some(meta.uid), Some(meta.gid)))
        .and_then(|()| store::set_perm(&target, meta.perm & super::open::FILE_PERM))
        .and_then(|()| store::set_times(&target, SetTime::At(meta.atime), SetTime::At(meta.mtime)))
        .and_then(|()| store::stat_fd(&target));
    match copied {
        Ok(meta) => Ok(meta),
        Err(error) => {
            let _ = store::remove_at(to, new, false);
            Err(error.into())
        }
    }
}

fn copy_content(source: &OwnedFd, target: &OwnedFd, size: u64) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let (mut at_source, mut at_target) = (0u64, 0u64);
    while at_source < size {
        let rest = usize::try_from(size - at_source).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut at_source), target, Some(&mut at_target), rest) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_xattrs(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(&source, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0u8; 64 * 1024];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"user.") {
            let size = rustix::fs::fgetxattr(&source, name, &mut value)?;
            rustix::fs::fsetxattr(&target, name, &value[..size], rustix::fs::XattrFlags::empty())?;
        }
    }
    Ok(())
}
