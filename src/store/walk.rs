//! Everything below a tree's root, name by name, with one open folder a level: the largest tree needs no memory.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, OFlags};

use super::Tree;
use super::tree::{EntryKind, open_at, stat_at};
use crate::model::RelPath;

/// Walks a tree that may change meanwhile. What cannot be read is passed over.
pub struct Walk {
    open: Vec<(RelPath, OwnedFd, Dir)>,
}

impl Walk {
    /// From the root on.
    #[must_use]
    pub fn of(tree: &Tree) -> Self {
        let mut walk = Walk { open: Vec::new() };
        if let Ok(root) = open_at(tree.root(), ".", OFlags::RDONLY | OFlags::DIRECTORY) {
            walk.enter(RelPath::root(), root);
        }
        walk
    }

    fn enter(&mut self, path: RelPath, folder: OwnedFd) {
        match Dir::read_from(&folder) {
            Ok(names) => self.open.push((path, folder, names)),
            Err(error) => tracing::debug!(%path, %error, "folder not listed"),
        }
    }
}

impl Iterator for Walk {
    /// Path, inode number, kind.
    type Item = (RelPath, u64, EntryKind);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, folder, names) = self.open.last_mut()?;
            let Some(Ok(entry)) = names.next() else {
                self.open.pop();
                continue;
            };
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Dir,
                FileType::Symlink => EntryKind::Symlink,
                FileType::Unknown => match stat_at(&*folder, name) {
                    Ok(meta) => meta.kind,
                    Err(_) => continue,
                },
                _ => EntryKind::Other,
            };
            let (path, ino) = (path.join(name), entry.ino());
            if kind == EntryKind::Dir
                && let Ok(below) = open_at(&*folder, name, OFlags::RDONLY | OFlags::DIRECTORY)
            {
                self.enter(path.clone(), below);
            }
            return Some((path, ino, kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        for name in ["f", "a/f", "a/b/c/f", "a/b/c/g"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let mut found: Vec<String> = Walk::of(&tree).map(|(path, _, _)| path.to_string()).collect();
        found.sort();
        assert_eq!(found, ["a", "a/b", "a/b/c", "a/b/c/f", "a/b/c/g", "a/f", "a/up", "empty", "f"]);
    }
}
