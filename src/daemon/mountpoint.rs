//! Is this a place to mount on?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StartError;
use super::args::Options;
use crate::mounts::Mount;

/// Checks the mount point and answers its absolute path. A dead mount that a killed daemon left is cleared.
pub fn check(path: &Path, store: &Path, options: &Options) -> Result<PathBuf, StartError> {
    let failed = |what: &str| StartError::failed(format!("{}: {what}", path.display()));
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(failed("is not a folder; mount on an empty one")),
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => clear_dead(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed(&format!("no such folder; make it with 'mkdir -p {}'", path.display())));
        }
        Err(error) => return Err(failed(&error.to_string())),
    }
    let absolute = path.canonicalize().map_err(|error| failed(&error.to_string()))?;
    if absolute.starts_with(store) || store.starts_with(&absolute) {
        return Err(failed("store and mount point must not lie in one another"));
    }
    if mounts().iter().any(|mount| mount.point == absolute) {
        return Err(failed("something is mounted here already; unmount it first, or choose another folder"));
    }
    let mut entries = fs::read_dir(&absolute).map_err(|error| failed(&error.to_string()))?;
    if !options.nonempty && entries.next().is_some() {
        return Err(failed("is not empty; mount on an empty folder, or say '-o nonempty'"));
    }
    Ok(absolute)
}

/// Whether the store at this absolute path is mounted anywhere.
pub fn is_mounted(store: &Path) -> bool {
    mounts().iter().any(|mount| mount.store.as_deref() == Some(store))
}

/// Device number of what sealfs has mounted at this absolute path. Nothing is asked of the mount itself: a worker that
/// waits for its own answer can never end once the thread that was to give it is gone.
pub fn device_of(at: &Path) -> Option<(u32, u32)> {
    mounts().iter().rfind(|mount| mount.store.is_some() && mount.point == at).map(|mount| mount.device)
}

/// None where `/proc` cannot be read: the kernel still refuses what is wrong.
fn mounts() -> Vec<Mount> {
    crate::mounts::read().unwrap_or_default()
}

fn clear_dead(path: &Path) -> Result<(), StartError> {
    tracing::warn!(path = %path.display(), "clearing the mount that a dead daemon left");
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH)
        .or_else(|error| {
            let status = std::process::Command::new("fusermount3").args(["-u", "-z"]).arg(path).status();
            if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(error) }
        })
        .map_err(|error| {
            let what = format!("a dead mount is in the way and cannot be cleared: {error}");
            StartError::failed(format!("{}: {what}; try 'umount -l {}'", path.display(), path.display()))
        })
}
