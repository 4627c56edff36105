//! Attributes as the mount shows them.

use std::time::Duration;

use crate::model::{FileTime, Timestamp};
use crate::store::{EntryKind, Meta, ROOT};

use super::{OPEN_TTL, SEALED_TTL, Vfs};

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// Attributes of an inode, and how long the kernel may keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: u64,
    /// Tells apart files that had the same number one after the other.
    pub generation: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 07777 mask.
    pub perm: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred size of I/O, bytes.
    pub blksize: u32,
    /// Access time; of a sealed file, when its retention ends.
    pub atime: FileTime,
    /// Modification time.
    pub mtime: FileTime,
    /// Change time.
    pub ctime: FileTime,
    /// How long these may be kept.
    pub ttl: Duration,
}

impl Vfs {
    /// The number that the kernel knows a backing inode by.
    pub(super) fn number(&self, backing: u64) -> u64 {
        if backing == self.root_ino { ROOT } else { backing }
    }

    /// Attributes of a backing file; `retained`: sealed, until then. `None` for what cannot come from the mount.
    pub(super) fn attr_of(&self, meta: &Meta, retained: Option<Timestamp>) -> Option<Attr> {
        let kind = match meta.kind {
            EntryKind::File => Kind::File,
            EntryKind::Dir => Kind::Dir,
            EntryKind::Symlink => Kind::Symlink,
            EntryKind::Other => return None,
        };
        let atime = retained.map_or(meta.atime, |until| {
            let (seconds, nanos) = until.to_parts();
            FileTime { seconds, nanos }
        });
        let number = self.number(meta.ino);
        let sealed = retained.is_some() && kind == Kind::File;
        Some(Attr {
            ino: if sealed { self.doubted.sealed_number(number) } else { number },
            generation: 0,
            kind,
            perm: meta.perm,
            nlink: if kind == Kind::Dir { meta.nlink } else { 1 },
            uid: meta.uid,
            gid: meta.gid,
            size: meta.size,
            blocks: meta.blocks,
            blksize: meta.blksize,
            atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            ttl: if retained.is_some() { SEALED_TTL } else { OPEN_TTL },
        })
    }
}
