//! `/.seal` at the mount's root: what goes with every seal. Not listed, can be opened.
//!
//! `allowed_signers`, `keys.pem`, `checkpoint`, and below `log/` the exported log (C2SP tlog-tiles). Entry
//! bundles hold the names of everything that was ever sealed: they are for root and the role `auditor`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Attr, Caller, Fault, Kind, OPEN_TTL, Vfs};
use crate::ledger::log::{Level, Tile};
use crate::model::FileTime;
use crate::policy::Role;
use crate::seal::trust;

/// The folder's name.
pub(super) const FOLDER: &str = ".seal";

/// Numbers from here on, below the sidecars' bits, are virtual.
const BASE: u64 = 1 << 61;
/// Files and folders of the folder itself, numbered from [`BASE`] + 1.
const TOP: [(&str, Kind); 4] = [
    ("allowed_signers", Kind::File),
    ("keys.pem", Kind::File),
    ("checkpoint", Kind::File),
    ("log", Kind::Dir),
];
/// From here on what is below `log/`, as it is asked for.
const BELOW_LOG: u64 = BASE + 1024;

/// Whether a number is the folder's or of something in it.
pub(super) fn is_special(ino: u64) -> bool {
    ino & BASE != 0 && ino < BASE << 1
}

/// What was looked up below `log/`: numbers for paths. There are as many as the log has files.
#[derive(Default)]
pub(super) struct LogNumbers {
    known: Mutex<(HashMap<u64, String>, HashMap<String, u64>)>,
}

impl LogNumbers {
    fn number(&self, path: &str) -> u64 {
        let mut known = self.known.lock();
        if let Some(number) = known.1.get(path) {
            return *number;
        }
        let number = BELOW_LOG + known.0.len() as u64;
        known.0.insert(number, path.to_owned());
        known.1.insert(path.to_owned(), number);
        number
    }

    fn path(&self, number: u64) -> Option<String> {
        self.known.lock().0.get(&number).cloned()
    }
}

/// What a number stands for.
enum Node {
    Folder,
    Top(&'static str),
    /// A path below `log/`; empty for that folder itself.
    Log(String),
}

impl Vfs {
    fn special_node(&self, ino: u64) -> Result<Node, Fault> {
        if ino == BASE {
            return Ok(Node::Folder);
        }
        if ino >= BELOW_LOG {
            return self.log_numbers.path(ino).map(Node::Log).ok_or(Fault::NotFound);
        }
        let position = ino.checked_sub(BASE + 1).and_then(|n| usize::try_from(n).ok());
        let (name, kind) = position.and_then(|n| TOP.get(n)).ok_or(Fault::NotFound)?;
        Ok(if *kind == Kind::Dir { Node::Log(String::new()) } else { Node::Top(name) })
    }

    fn special_make(&self, ino: u64, kind: Kind, size: u64) -> Attr {
        let time = FileTime::default();
        let dir = kind == Kind::Dir;
        Attr {
            ino,
            generation: 0,
            kind,
            perm: if dir { 0o555 } else { 0o444 },
            nlink: if dir { 2 } else { 1 },
            uid: self.me.0,
            gid: self.me.1,
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
        let name = name.to_str().ok_or(Fault::NotFound)?;
        match self.special_node(parent)? {
            Node::Folder => {
                let position = TOP.iter().position(|(known, _)| *known == name).ok_or(Fault::NotFound)?;
                self.special_attr(BASE + 1 + position as u64)
            }
            Node::Top(_) => Err(Fault::NotFound),
            Node::Log(folder) => {
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                let attr = self.log_attr(&path, 0)?;
                Ok(Attr { ino: self.log_numbers.number(&path), ..attr })
            }
        }
    }

    pub(super) fn special_attr(&self, ino: u64) -> Result<Attr, Fault> {
        match self.special_node(ino)? {
            Node::Folder => Ok(self.special_root()),
            Node::Top(name) => {
                let size = self.top_content(name)?.len() as u64;
                Ok(self.special_make(ino, Kind::File, size))
            }
            Node::Log(path) => self.log_attr(&path, ino),
        }
    }

    /// The content of a file, for whoever may read it.
    pub(super) fn special_content(&self, caller: Caller, ino: u64) -> Result<Arc<Vec<u8>>, Fault> {
        match self.special_node(ino)? {
            Node::Folder => Err(Fault::Invalid),
            Node::Top(name) => self.top_content(name).map(Arc::new),
            Node::Log(path) => {
                let (place, is_bundle) = self.log_file(&path)?;
                let role = Role::Auditor;
                let allowed =
                    caller.uid == 0 || self.parts.policy.get().roles.has(role, caller.uid, &[caller.gid]);
                if is_bundle && !allowed {
                    return Err(Fault::Denied);
                }
                Ok(Arc::new(std::fs::read(place)?))
            }
        }
    }

    fn top_content(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let other = |error: &dyn std::fmt::Display| Fault::Io(std::io::Error::other(error.to_string()));
        match name {
            "allowed_signers" => {
                let policy = self.parts.policy.get();
                let namespaces = trust::namespaces(&policy, &self.parts.index.read().namespaces()?);
                trust::allowed_signers(&self.parts.origin, &namespaces, &self.parts.keys.trusted())
                    .map(String::into_bytes)
                    .map_err(|error| other(&error))
            }
            "checkpoint" => self.parts.index.read().log().checkpoint()?.ok_or(Fault::NotFound),
            _ => Ok(trust::keys_pem(&self.parts.keys.trusted()).into_bytes()),
        }
    }

    /// Where a path below `log/` is on disk, and whether it is an entry bundle. Only the checkpoint and tiles are shown,
    /// by their canonical names.
    fn log_file(&self, path: &str) -> Result<(PathBuf, bool), Fault> {
        let tile = Tile::parse(path).ok();
        if tile.is_none() && path != "checkpoint" {
            return Err(Fault::NotFound);
        }
        let is_bundle = tile.is_some_and(|tile| tile.level == Level::Entries);
        Ok((self.parts.index.read().log().dir().join(path), is_bundle))
    }

    fn log_attr(&self, path: &str, ino: u64) -> Result<Attr, Fault> {
        if let Ok((place, _)) = self.log_file(path)
            && let Ok(meta) = std::fs::symlink_metadata(&place)
            && meta.is_file()
        {
            return Ok(self.special_make(ino, Kind::File, meta.len()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let fits = path.split('/').all(|part| !part.starts_with('.') && part.chars().all(plain));
        let place = self.parts.index.read().log().dir().join(path);
        if path.is_empty()
            || (fits
                && (path == "tile" || path.starts_with("tile/"))
                && std::fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir()))
        {
            return Ok(self.special_make(ino, Kind::Dir, 0));
        }
        Err(Fault::NotFound)
    }

    /// Names in a folder, with their numbers.
    pub(super) fn special_list(&self, ino: u64) -> Result<Vec<(u64, Kind, String)>, Fault> {
        match self.special_node(ino)? {
            Node::Folder => Ok(TOP
                .iter()
                .zip(BASE + 1..)
                .map(|((name, kind), ino)| (ino, *kind, (*name).to_owned()))
                .collect()),
            Node::Top(_) => Ok(Vec::new()),
            Node::Log(folder) => {
                let place = self.parts.index.read().log().dir().join(&folder);
                let mut found = Vec::new();
                for entry in std::fs::read_dir(place)? {
                    let Ok(name) = entry?.file_name().into_string() else { continue };
                    let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                    if let Ok(attr) = self.log_attr(&path, 0) {
                        found.push((self.log_numbers.number(&path), attr.kind, name));
                    }
                }
                found.sort_by(|a, b| a.2.cmp(&b.2));
                Ok(found)
            }
        }
    }
}
