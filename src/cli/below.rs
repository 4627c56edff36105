//! What is at or below the PATHs that a command was given.
//!
//! The command walks a folder itself, as its user, and asks the daemon about each file with a descriptor of that file:
//! so nobody asks about what they cannot reach.

use std::path::PathBuf;

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use crate::control::protocol::{FileView, Request};

/// A file at or below a PATH.
pub struct Below {
    /// The file.
    pub target: Target,
    /// Whether it is a symbolic link in a folder that was named: if it is free, it is passed over.
    pub link: bool,
}

/// Whether a file or link has a state of its own: it is sealed, or may be.
pub fn has_state(target: &Target) -> bool {
    access::ask_one::<FileView>(target, &Request::Stat).is_ok_and(|view| view.state.is_some())
}

/// The files and symbolic links at or below a target, in the order of their names. A target that is no folder, or that is
/// not mounted where this command can see it, stands for itself. A folder that cannot be read is reported on standard
/// error and passed over; the exit code that is returned is then that of the failure.
///
/// # Errors
/// If there is no file at all.
pub fn of(cx: &mut Context, target: &Target) -> Result<(Vec<Below>, Exit), Failure> {
    let is_folder = |target: &Target| {
        target.full.as_ref().is_some_and(|full| full.symlink_metadata().is_ok_and(|meta| meta.is_dir()))
    };
    if !is_folder(target) {
        return Ok((vec![Below { target: target.clone(), link: false }], Exit::Done));
    }
    let (mut files, mut folders, mut exit) = (Vec::new(), vec![target.clone()], Exit::Done);
    while let Some(folder) = folders.pop() {
        match list(&folder) {
            Ok((more, inner)) => {
                files.extend(more);
                folders.extend(inner.into_iter().rev());
            }
            Err(failure) => {
                cx.complain(&failure);
                exit = exit.or(failure.exit);
            }
        }
    }
    if files.is_empty() && exit == Exit::Done {
        return Err(Failure::about(&target.shown, Exit::NoFile, "there is no file in this folder"));
    }
    Ok((files, exit))
}

/// The files and the folders in a folder, by name.
fn list(folder: &Target) -> Result<(Vec<Below>, Vec<Target>), Failure> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let Some(full) = &folder.full else { return Ok((files, folders)) };
    let fail = |error| access::unreachable(folder, error);
    let mut entries = std::fs::read_dir(full).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let kind = entry.file_type().map_err(fail)?;
        let Some(text) = name.to_str() else { continue };
        let target = Target {
            store: folder.store.clone(),
            path: folder.path.join(text),
            shown: format!("{}/{text}", folder.shown.trim_end_matches('/')),
            full: Some(entry.path()),
        };
        if kind.is_dir() {
            folders.push(target);
        } else {
            files.push(Below { target, link: kind.is_symlink() });
        }
    }
    Ok((files, folders))
}

/// Does something for each file at or below each PATH, as [`Context::each`] does for each PATH. In a folder, free
/// symbolic links are passed over: nothing can be asked of them.
///
/// # Errors
/// Only if nothing more can be written.
pub fn each(
    cx: &mut Context,
    paths: &[PathBuf],
    mut work: impl FnMut(&mut Context, &Target) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    cx.each(paths, |cx, target| {
        let (files, mut exit) = of(cx, target)?;
        for file in files {
            match work(cx, &file.target) {
                Ok(more) => exit = exit.or(more),
                Err(failure) if failure.is_quiet() => return Err(failure),
                Err(failure) if file.link && failure.exit == Exit::NoFile && !has_state(&file.target) => {}
                Err(failure) => {
                    cx.complain(&failure);
                    exit = exit.or(failure.exit);
                }
            }
        }
        Ok(exit)
    })
}

/// Shows something of each of these files, beginning with an exit code. A file of which nothing is known is passed over.
///
/// # Errors
/// Only if nothing more can be written.
pub fn show_each(
    cx: &mut Context,
    files: Vec<Below>,
    mut exit: Exit,
    show: impl Fn(&mut Context, &Target) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    for file in files {
        match show(cx, &file.target) {
            Ok(more) => exit = exit.or(more),
            Err(failure) if failure.is_quiet() => return Err(failure),
            Err(failure) if failure.exit == Exit::NoFile => {}
            Err(failure) => {
                cx.complain(&failure);
                exit = exit.or(failure.exit);
            }
        }
    }
    Ok(exit)
}
