//! Look up a name; get attributes.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Attr, Caller, Done, Fault, Standing, Vfs, renumber, sidecar, special};
use crate::model::{Sidecar, check_name};
use crate::store::{self, EntryKind, Meta, ROOT};

impl Vfs {
    /// Looks up a name. Never waits: a sidecar of a file that is about to be sealed is answered at once, with
    /// zero times, and its attributes are asked for afterwards.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn lookup(&self, caller: Caller, parent: u64, name: &OsStr) -> Result<Attr, Fault> {
        self.habits.looks_up(caller.pid, parent);
        if special::is_special(parent) {
            return self.special_lookup(parent, name);
        }
        let name = check_name(name)?;
        if parent == ROOT && name == special::FOLDER {
            return Ok(self.special_root());
        }
        let _still = self.lives().namespace.read();
        if let Some((base, kind)) = Sidecar::parse(name) {
            return self.sidecar_lookup(parent, base, kind);
        }
        let found = match self.find(parent, name) {
            Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                let folder = self.parts.places.path(parent).ok_or(Fault::Stale)?;
                self.check_absent(&folder.join(name))?;
                return Err(Fault::NotFound);
            }
            found => found?,
        };
        let mut attr = self.attr_at(&found.path, &found.meta)?;
        attr.generation = self.parts.places.remember(renumber::backing(attr.ino), parent, name, 1);
        Ok(attr)
    }

    /// Attributes of a backing file that stands at `path`.
    pub(super) fn attr_at(&self, path: &crate::model::RelPath, meta: &Meta) -> Result<Attr, Fault> {
        let retained = if meta.kind == EntryKind::Dir || self.lives().is_unsealed(meta.ino) {
            None
        } else if let Some(until) = self.retained_until(path)? {
            Some(until)
        } else {
            // Unknown, or sealed just now.
            match self.standing(path, meta)? {
                Standing::Sealed(record) => Some(record.retain_until),
                Standing::Unsealed(_) | Standing::Free => None,
            }
        };
        self.attr_of(meta, retained).ok_or(Fault::NotFound)
    }

    /// Attributes. Of a sidecar: once the seal is durable.
    pub fn getattr(&self, _caller: Caller, ino: u64, done: Done<Attr>) {
        if special::is_special(ino) {
            return done(self.special_attr(ino));
        }
        if let Some((base, kind)) = sidecar::parse_number(ino) {
            return self.sidecar_getattr(base, kind, done);
        }
        done(self.attr_now(ino));
    }

    fn attr_now(&self, ino: u64) -> Result<Attr, Fault> {
        if ino == ROOT {
            let meta = store::stat_fd(self.parts.tree.root())?;
            return self.attr_of(&meta, None).ok_or(Fault::NotFound);
        }
        let _still = self.lives().namespace.read();
        match self.find_ino(ino) {
            Ok(found) => self.attr_at(&found.path, &found.meta),
            // The name is gone; whoever has it open still sees it.
            Err(Fault::Stale | Fault::NotFound) => self.attr_open(ino),
            Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => self.attr_open(ino),
            Err(fault) => Err(fault),
        }
    }

    fn attr_open(&self, ino: u64) -> Result<Attr, Fault> {
        if self.is_dropped(ino) {
            return Err(Fault::Stale);
        }
        let mut meta = match (self.handles.anchor(ino), self.parts.places.ghost(ino)) {
            (Some(anchor), _) => store::stat_fd(anchor.file())?,
            (None, Some(ghost)) => store::stat_fd(&*ghost)?,
            (None, None) => return Err(Fault::Stale),
        };
        meta.nlink = 0;
        let mut attr = self.attr_of(&meta, None).ok_or(Fault::Stale)?;
        attr.nlink = 0;
        attr.ttl = Duration::ZERO;
        Ok(attr)
    }

    /// The kernel forgets look-ups.
    pub fn forget(&self, ino: u64, times: u64) {
        if special::is_special(ino) {
            return;
        }
        let base = sidecar::parse_number(ino).map_or(ino, |(base, _)| base);
        if self.parts.places.forget(base, times) {
            self.doubted.forget(base);
            self.renewed.lock().remove(&base);
            self.same.forget(base);
        }
    }
}
