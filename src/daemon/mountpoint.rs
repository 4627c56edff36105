//! Is this a place to mount on?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StartError;
use super::args::Options;

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
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| unescape(at) == absolute);
    if mounted {
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
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        let source = line.split_once(" - fuse.sealfs ").and_then(|(_, rest)| rest.split(' ').next());
        source.is_some_and(|source| unescape(source) == store)
    })
}

/// Device number of what sealfs has mounted at this absolute path. Nothing is asked of the mount itself: a worker that
/// waits for its own answer can never end once the thread that was to give it is gone.
pub fn device_of(at: &Path) -> Option<(u32, u32)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let last = mounts.lines().rfind(|line| {
        line.contains(" - fuse") && line.split(' ').nth(4).is_some_and(|point| unescape(point) == at)
    })?;
    let (major, minor) = last.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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

/// Decodes the octal escapes of mountinfo (proc(5)).
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}
