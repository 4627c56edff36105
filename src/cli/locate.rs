//! Which store is meant, and where in it a PATH lies.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::exit::{Exit, Failure};
use crate::model::RelPath;
use crate::mounts::Mount;

/// Where a PATH lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The store's absolute path.
    pub store: PathBuf,
    /// The path from the mount's root.
    pub path: RelPath,
    /// The PATH as it was given, for messages.
    pub shown: String,
    /// The path by which a descriptor of it can be opened, if it is mounted here.
    pub full: Option<PathBuf>,
}

/// What the kernel has mounted, in its order: what comes later hides what came before.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn mounts() -> Result<Vec<Mount>, Failure> {
    crate::mounts::read().map_err(|error| {
        Failure::about("/proc/self/mountinfo", Exit::Failed, format_args!("{error}; is /proc mounted?"))
    })
}

/// The mount that an absolute, normal path lies in: the longest mount point above it, the last one of equals.
#[must_use]
pub fn mount_of<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

/// Where a whole store is mounted.
#[must_use]
pub fn point_of(mounts: &[Mount], store: &Path) -> Option<PathBuf> {
    let whole = |mount: &&Mount| mount.store.as_deref() == Some(store) && mount.root == Path::new("/");
    mounts.iter().rfind(whole).map(|mount| mount.point.clone())
}

/// An absolute path without symbolic links in its folders; the last component is never followed. What cannot
/// be looked at (it is not there, or its mount is dead) is made normal by its text alone.
#[must_use]
pub fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let last = match absolute.components().next_back() {
        Some(Component::Normal(name)) => name.to_owned(),
        _ => return absolute.canonicalize().unwrap_or_else(|_| normal(&absolute)),
    };
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    folder.canonicalize().unwrap_or_else(|_| normal(folder)).join(last)
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// The store named by `--store` or `SEALFS_STORE` as an absolute path.
fn explicit(store: &Path) -> PathBuf {
    store.canonicalize().unwrap_or_else(|_| resolve(store))
}

/// Where a PATH lies: in a mount, or, with an explicit store, from the mount's root.
///
/// # Errors
/// [`Exit::Usage`] if no store can be found, or it is another one than the one stated.
pub fn target(given: &Path, store: Option<&Path>, mounts: &[Mount]) -> Result<Target, Failure> {
    let shown = given.display().to_string();
    let invalid =
        |error| Failure::about(&shown, Exit::Usage, format_args!("{error}; no such name can be in a mount"));
    let store = store.map(explicit);
    let full = resolve(given);
    if let Some(mount) = mount_of(mounts, &full)
        && let Some(found) = &mount.store
    {
        if let Some(stated) = store.filter(|stated| stated != found) {
            return Err(Failure::about(
                &shown,
                Exit::Usage,
                format_args!(
                    "lies in a mount of {}, not of {}; leave --store away",
                    found.display(),
                    stated.display()
                ),
            ));
        }
        let below = full.strip_prefix(&mount.point).unwrap_or(Path::new(""));
        let path = relative(&mount.root.join(below)).map_err(invalid)?;
        return Ok(Target { store: found.clone(), path, shown, full: Some(full) });
    }
    let Some(store) = store else {
        return Err(Failure::about(
            &shown,
            Exit::Usage,
            "not in a sealfs mount; give a path in one, or --store STORE and the path from the mount's root",
        ));
    };
    let path = match full.strip_prefix(store.join("tree")) {
        Ok(below) => relative(below),
        Err(_) => relative(given),
    };
    let path = path.map_err(invalid)?;
    let full = point_of(mounts, &store).map(|point| point.join(path.as_str()));
    Ok(Target { store, path, shown, full })
}

fn relative(path: &Path) -> Result<RelPath, crate::model::NameError> {
    let mut out = RelPath::root();
    for part in path.components() {
        match part {
            Component::Normal(name) => out = out.join(crate::model::check_name(name)?),
            Component::ParentDir => out = out.parent(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(out)
}

/// The store that is meant where no PATH is given: the one stated, or that of the mount that holds the current
/// folder. Its root is the target.
///
/// # Errors
/// [`Exit::Usage`] if there is none.
pub fn here(store: Option<&Path>, mounts: &[Mount]) -> Result<Target, Failure> {
    let found = match store {
        Some(store) => Some(explicit(store)),
        None => std::env::current_dir().ok().and_then(|cwd| mount_of(mounts, &cwd)?.store.clone()),
    };
    let store = found.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "no store given, and the current folder is in no sealfs mount; give --store STORE, or set SEALFS_STORE",
        )
    })?;
    let full = point_of(mounts, &store);
    Ok(Target { shown: store.display().to_string(), store, path: RelPath::root(), full })
}

/// Whether a name is one of `.` and `..`, or empty: nothing that a copy could be called.
#[must_use]
pub fn is_plain_name(name: &OsStr) -> bool {
    !matches!(name.as_bytes(), b"" | b"." | b"..")
}

#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;
