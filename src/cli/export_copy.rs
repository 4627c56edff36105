//! Where exported bytes come from, and how one copy is made.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::access::{self, Reading};
use super::exit::{Exit, Failure};
use super::export::cannot_make;
use super::locate::Target;
use crate::crypto::Hasher;
use crate::model::{Digest, FileTime, RelPath, SealRecord, Sidecar};
use crate::seal::{Public, render_lines};
use crate::statement::render_signature;
use crate::store::{self, Meta, SetTime, Tree};

/// The files behind a target: those of the mount, where it lies in one, else the store's own.
pub struct Source<'a> {
    /// The target.
    pub target: &'a Target,
    /// The folder that paths below are relative to.
    pub tree: Tree,
    /// The target's path in that folder.
    pub base: RelPath,
    reading: Option<&'a Reading>,
}

/// What is known of a seal.
pub struct Seal {
    sha256: Digest,
}

impl<'a> Source<'a> {
    /// Opens the folder that holds the target.
    pub fn open(target: &'a Target, reading: Option<&'a Reading>) -> Result<Self, Failure> {
        let (folder, base) = match (&target.full, reading) {
            (Some(full), _) if target.path.is_root() => (full.clone(), RelPath::root()),
            (Some(full), _) => {
                let parent = full.parent().unwrap_or(Path::new("/")).to_owned();
                (parent, RelPath::root().join(target.path.name()))
            }
            (None, Some(reading)) => (reading.layout.tree(), target.path.clone()),
            (None, None) => {
                return Err(Failure::about(
                    &target.shown,
                    Exit::Refused,
                    "only the store's owner reads it directly; give a path in its mount",
                ));
            }
        };
        let tree = Tree::open(&folder).map_err(|error| access::unreachable(target, error))?;
        Ok(Source { target, tree, base, reading })
    }

    /// A path as the user would call it.
    pub fn shown(&self, path: &RelPath) -> String {
        match path.rebased(&self.base, &RelPath::root()) {
            Some(rest) => format!("{}{rest}", self.target.shown),
            None if path.is_root() => self.target.shown.clone(),
            None => format!("{}/{path}", self.target.shown.trim_end_matches('/')),
        }
    }

    /// The same path from the mount's root.
    fn in_store(&self, path: &RelPath) -> RelPath {
        if self.base.is_root() {
            return path
                .as_str()
                .split('/')
                .filter(|part| !part.is_empty())
                .fold(self.target.path.clone(), |all, part| all.join(part));
        }
        path.rebased(&self.base, &self.target.path).unwrap_or_else(|| path.clone())
    }

    fn record(&self, path: &RelPath) -> Result<Option<SealRecord>, Failure> {
        match self.reading {
            Some(reading) => Ok(reading.index.find(&self.in_store(path))?),
            None => Ok(None),
        }
    }

    /// The seal of a file, from the index, or as the mount tells it; `None`: it is not sealed.
    pub fn seal(&self, path: &RelPath) -> Result<Option<Seal>, Failure> {
        if self.reading.is_some() {
            return Ok(self.record(path)?.map(|record| Seal { sha256: record.sha256 }));
        }
        let fail = |error: io::Error| Failure::about(self.shown(path), Exit::Failed, error);
        let file = match self.tree.open_path(path) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mut value = [0u8; 64];
        match rustix::fs::fgetxattr(&file, "user.seal.sha256", &mut value) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&value[..length]);
                let sha256 =
                    text.parse().map_err(|error| Failure::about(self.shown(path), Exit::Failed, error))?;
                Ok(Some(Seal { sha256 }))
            }
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(fail(error.into())),
        }
    }

    /// A sidecar's content; `None` where it has no such sidecar, or no name for it.
    pub fn sidecar(&self, path: &RelPath, kind: Sidecar) -> Result<Option<Vec<u8>>, Failure> {
        let fail = |error: &dyn std::fmt::Display| Failure::about(self.shown(path), Exit::Failed, error);
        if kind.name_of(path.name()).is_none() {
            return Ok(None);
        }
        if let (Some(reading), Some(record)) = (self.reading, self.record(path)?) {
            let text = match kind {
                Sidecar::Signature => {
                    let keys = Public::read(&reading.index)?;
                    keys.known.get(&record.key).and_then(|key| render_signature(&record, key))
                }
                Sidecar::Statements => Some(
                    render_lines(&record, &reading.origin, &reading.index).map_err(|error| fail(&error))?,
                ),
            };
            return Ok(text.map(String::into_bytes));
        }
        let Some(name) = kind.name_of(path.name()) else { return Ok(None) };
        let sidecar = self.tree.open_path(&path.parent().join(&name));
        let mut bytes = Vec::new();
        sidecar.and_then(|file| File::from(file).read_to_end(&mut bytes)).map_err(|error| fail(&error))?;
        Ok(Some(bytes))
    }
}

/// Copies a file under a free name. What does not have the sealed hash is not left behind.
pub fn copy_file(
    source: &Source<'_>,
    path: &RelPath,
    seal: &Seal,
    meta: &Meta,
    dest: &Path,
    shown: &str,
) -> Result<u64, Failure> {
    let read = |error: io::Error| Failure::about(shown, Exit::Failed, error);
    let mut from = File::from(source.tree.open_path(path).map_err(read)?);
    // Not readable by others before it is whole.
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dest)
        .map_err(|e| cannot_make(dest, &e))?;
    let copied = pour(&mut from, &mut to, shown, dest).and_then(|(found, bytes)| {
        if found != seal.sha256 {
            let what = format!(
                "the content was altered: its SHA-256 is {found}, sealed was {}; not exported",
                seal.sha256
            );
            return Err(Failure::about(shown, Exit::Verification, what));
        }
        finish(&to, meta.perm & 0o777, meta.mtime).map_err(|error| cannot_make(dest, &error))?;
        Ok(bytes)
    });
    if copied.is_err() {
        let _ = fs::remove_file(dest);
    }
    copied
}

fn pour(from: &mut File, to: &mut File, shown: &str, dest: &Path) -> Result<(Digest, u64), Failure> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 18]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                hasher.update(&buffer[..bytes]);
                to.write_all(&buffer[..bytes]).map_err(|error| cannot_make(dest, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::about(shown, Exit::Failed, error)),
        }
    }
    let bytes = hasher.bytes();
    Ok((hasher.finish(), bytes))
}

fn finish(file: &File, perm: u32, mtime: FileTime) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(perm))?;
    file.set_times(FileTimes::new().set_modified(system(mtime)))
}

fn system(time: FileTime) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    whole.and_then(|time| time.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Writes a sidecar beside a copy, with the copy's read bits and time.
pub fn write_sidecar(copy: &Path, kind: Sidecar, content: &[u8], meta: &Meta) -> Result<(), Failure> {
    let mut name = copy.file_name().unwrap_or_default().to_owned();
    name.push(kind.suffix());
    let dest: PathBuf = copy.with_file_name(name);
    let made = File::options().write(true).create_new(true).mode(0o600).open(&dest);
    let mut file = made.map_err(|error| cannot_make(&dest, &error))?;
    let written = file.write_all(content).and_then(|()| finish(&file, meta.perm & 0o444, meta.mtime));
    written.map_err(|error| {
        let _ = fs::remove_file(&dest);
        cannot_make(&dest, &error)
    })
}

/// Copies a symbolic link; of a sealed one the target must be the sealed one.
pub fn copy_link(source: &Source<'_>, path: &RelPath, dest: &Path, shown: &str) -> Result<(), Failure> {
    let target = source.tree.parent_of(path).and_then(|dir| store::readlink_at(dir, path.name()));
    let target = target.map_err(|error| Failure::about(shown, Exit::Failed, error))?;
    if let Some(record) = source.record(path)?
        && crate::crypto::sha256(target.as_bytes()) != record.sha256
    {
        return Err(Failure::about(
            shown,
            Exit::Verification,
            "the link was altered: it points elsewhere; not exported",
        ));
    }
    let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
    std::os::unix::fs::symlink(target, dest).map_err(|error| cannot_make(dest, &error))
}

/// Gives a copied folder its mode and time, once everything is in it.
pub fn finish_folder(dest: &Path, meta: &Meta) -> Result<(), Failure> {
    let fail = |error: io::Error| cannot_make(dest, &error);
    fs::set_permissions(dest, Permissions::from_mode(meta.perm & 0o777)).map_err(fail)?;
    let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = dest.file_name().unwrap_or_default().to_string_lossy();
    // A name that is not UTF-8 is the user's own DEST; its time is of no weight.
    if let Ok(dir) = File::open(parent) {
        let _ = store::set_times_at(dir, &name, SetTime::Omit, SetTime::At(meta.mtime));
    }
    Ok(())
}
