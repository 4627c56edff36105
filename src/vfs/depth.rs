//! How long paths can be: every name that is not sealed costs the daemon its path, in memory and in the journal.

use std::os::fd::AsFd;

use rustix::fs::OFlags;

use super::Fault;
use crate::model::{NAME_MAX, PATH_MAX, RelPath};
use crate::store::{self, EntryKind};

/// Folders that are looked into at most while a folder is moved: everybody waits meanwhile.
const FOLDERS_MAX: usize = 20_000;

/// Hands the path of what is to be made back, if it is not too long.
///
/// # Errors
/// [`Fault::NameTooLong`].
pub(super) fn room_for(path: RelPath) -> Result<RelPath, Fault> {
    if path.as_str().len() > PATH_MAX { Err(Fault::NameTooLong) } else { Ok(path) }
}

/// Whether everything in a folder has room under its new path. Only folders are looked into, and only where paths get
/// longer: what a folder without folders holds is taken to have the longest names there are, unless that would not fit.
///
/// # Errors
/// [`Fault::NameTooLong`]; `EBUSY` if there are more folders than can be looked into: they can be moved in parts.
pub(super) fn room_below(dir: impl AsFd, from: &RelPath, to: &RelPath) -> Result<(), Fault> {
    let (from, to) = (from.as_str().len(), to.as_str().len());
    if to <= from {
        return Ok(());
    }
    let mut left = FOLDERS_MAX;
    below(dir, to, &mut left)
}

/// `length`: of the folder's own path. Recursion ends, for each step makes the path longer.
fn below(dir: impl AsFd, length: usize, left: &mut usize) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or_else(|| std::io::Error::from_raw_os_error(libc::EBUSY))?;
    // Where links are counted, each folder in it is one more.
    if store::stat_fd(&dir)?.nlink == 2 && length + 1 + NAME_MAX <= PATH_MAX {
        return Ok(());
    }
    for entry in store::list(&dir)? {
        let length = length + 1 + entry.name.len();
        if length > PATH_MAX {
            return Err(Fault::NameTooLong);
        }
        if entry.kind == EntryKind::Dir {
            below(store::open_at(&dir, &entry.name, OFlags::RDONLY | OFlags::DIRECTORY)?, length, left)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_moved_folder_holds_must_fit_under_its_new_path() {
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("a/b");
        std::fs::create_dir_all(&made).unwrap();
        std::fs::write(made.join("f".repeat(200)), "x").unwrap();
        let dir = std::fs::File::open(root.path().join("a")).unwrap();
        let path = |length: usize| RelPath::parse(&vec!["p"; length.div_ceil(2)].join("/")).unwrap();
        // "/b/" and 200 bytes stand below.
        let most = PATH_MAX - 203;
        assert!(room_below(&dir, &path(1), &path(most - 1)).is_ok());
        assert!(matches!(room_below(&dir, &path(1), &path(most + 2)), Err(Fault::NameTooLong)));
        assert!(room_below(&dir, &path(most + 2), &path(most + 2)).is_ok(), "no longer than it was");
        for n in 0..10 * 20 {
            std::fs::create_dir(root.path().join(format!("a/b/{n}"))).unwrap();
        }
        let mut left = 20;
        assert!(
            matches!(below(&dir, 10, &mut left), Err(Fault::Io(error)) if error.raw_os_error() == Some(libc::EBUSY))
        );
    }
}
