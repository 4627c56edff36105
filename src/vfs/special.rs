//! `/.seal` at the mount's root: what goes with every seal. Not listed, can be opened.

use std::ffi::OsStr;
use std::sync::Arc;

use super::{Attr, Fault, Kind, OPEN_TTL, Vfs};
use crate::model::FileTime;
use crate::seal::trust;

/// The folder's name.
pub(super) const FOLDER: &str = ".seal";

/// Numbers from here on, below the sidecars' bits, are virtual.
const BASE: u64 = 1 << 61;
const FILES: [&str; 2] = ["allowed_signers", "keys.pem"];

/// Whether a number is the folder's or one of its files'.
pub(super) fn is_special(ino: u64) -> bool {
    ino & BASE != 0 && ino < BASE << 1
}

impl Vfs {
    fn special_make(&self, ino: u64, kind: Kind, size: u64) -> Attr {
        let time = FileTime::default();
        let dir = kind == Kind::Dir;
        Attr {
            ino,
            generation: 0,
            kind,
            perm: if dir { 0o555 } else { 0o444 },
            nlink: if dir { 2 } else { 1 },
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            size,
            blocks: size.div_ceil(512),
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            ttl: OPEN_TTL,
        }
    }

    pub(super) fn special_root(&self) -> Attr {
        self.special_make(BASE, Kind::Dir, 0)
    }

    pub(super) fn special_lookup(&self, parent: u64, name: &OsStr) -> Result<Attr, Fault> {
        let known = FILES.iter().position(|file| parent == BASE && OsStr::new(file) == name);
        let position = known.ok_or(Fault::NotFound)?;
        self.special_attr(BASE + 1 + position as u64)
    }

    pub(super) fn special_attr(&self, ino: u64) -> Result<Attr, Fault> {
        if ino == BASE {
            return Ok(self.special_root());
        }
        let size = self.special_content(ino)?.len() as u64;
        Ok(self.special_make(ino, Kind::File, size))
    }

    pub(super) fn special_content(&self, ino: u64) -> Result<Arc<Vec<u8>>, Fault> {
        let position = ino.checked_sub(BASE + 1).and_then(|n| usize::try_from(n).ok());
        let file = position.and_then(|n| FILES.get(n)).ok_or(Fault::NotFound)?;
        let text = match *file {
            "allowed_signers" => {
                let policy = self.parts.policy.get();
                let namespaces = trust::namespaces(&policy, &self.parts.index.read().namespaces()?);
                trust::allowed_signers(&self.parts.origin, &namespaces, self.parts.keys.all())
                    .map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?
            }
            _ => trust::keys_pem(self.parts.keys.all()),
        };
        Ok(Arc::new(text.into_bytes()))
    }

    /// Names in the folder, with their numbers.
    pub(super) fn special_list(&self, ino: u64) -> Vec<(u64, &'static str)> {
        if ino != BASE {
            return Vec::new();
        }
        FILES.iter().zip(BASE + 1..).map(|(name, ino)| (ino, *name)).collect()
    }
}
