//! Symbolic links: free and logged, or sealed like files, as policy says.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::{Attr, Caller, Fault, Standing, Vfs, renumber};
use crate::crypto;
use crate::ledger::Actor;
use crate::model::{ArtifactKind, RelPath, SealRecord};
use crate::policy::Symlinks;
use crate::seal::Life;
use crate::store::{self, EntryKind, Meta};

impl Vfs {
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`Fault`]; a target that is not UTF-8 could not be stated and is `EILSEQ`.
    pub fn make_symlink(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        target: &Path,
    ) -> Result<Attr, Fault> {
        let name = self.new_name(caller, parent, name, "symlink")?;
        let text = target.to_str().ok_or(Fault::NotUtf8)?;
        if text.chars().any(char::is_control) {
            return Err(Fault::Invalid);
        }
        let _alone = self.lives().namespace.write();
        let (dir, folder) = self.folder(parent)?;
        self.check_vacant(caller, &super::depth::room_for(folder.join(name))?, "symlink")?;
        store::symlink_at(&*dir, name, target)?;
        let made = store::open_at(&*dir, name, rustix::fs::OFlags::PATH)
            .and_then(|link| self.own(caller, &dir, name, link))
            .and_then(|()| store::stat_at(&*dir, name));
        let meta = match made {
            Ok(meta) => meta,
            Err(error) => {
                let _ = store::remove_at(&*dir, name, false);
                return Err(error.into());
            }
        };
        self.symlink_made(caller, &folder.join(name), &meta);
        let mut attr = self.attr_of(&meta, None).ok_or(Fault::NotFound)?;
        attr.generation = self.parts.places.remember(renumber::backing(attr.ino), parent, name, 1);
        Ok(attr)
    }

    /// A link without a seal or a life, under a rule that seals links, begins to settle: it came with a folder, from a
    /// backup, or before the rule. A link has no half, so nothing of it can be torn. `None`: it is free.
    pub(super) fn adopt_link(&self, path: &RelPath, meta: &Meta) -> Option<Arc<Life>> {
        if self.parts.read_only || self.parts.policy.get().decide(path).symlinks == Symlinks::Free {
            return None;
        }
        if let Some(life) = self.lives().get(meta.ino).filter(|life| !life.lock().over) {
            return Some(life);
        }
        let (kind, size) = (ArtifactKind::Symlink, meta.size.max(1));
        Some(self.parts.pipeline.adopt(meta.ino, kind, path.clone(), size))
    }

    /// Links below a folder that has just been renamed begin to settle where the rule of the new name seals links. The
    /// namespace lock is held for writing. Looks at the whole folder, but only under a policy that seals links at all.
    pub(super) fn adopt_links_below(&self, folder: &RelPath) {
        let policy = self.parts.policy.get();
        let mut rules = policy.rules().iter().chain([policy.defaults()]);
        if rules.all(|rule| rule.symlinks == Symlinks::Free) {
            return;
        }
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            let listed = self.parts.tree.dir_at(&folder).and_then(|dir| Ok((store::list(&dir)?, dir)));
            let (entries, dir) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(path = %folder, %error, "links in a renamed folder settle only once they are looked at");
                    continue;
                }
            };
            for entry in entries {
                let path = folder.join(&entry.name);
                match entry.kind {
                    EntryKind::Dir => folders.push(path),
                    EntryKind::Symlink if !self.lives().is_unsealed(entry.ino) => {
                        if let Ok(meta) = store::stat_at(&dir, &entry.name) {
                            self.adopt_link(&path, &meta);
                        }
                    }
                    EntryKind::Symlink | EntryKind::File | EntryKind::Other => {}
                }
            }
        }
    }

    /// A symbolic link stands at a path now: it settles, or its target is logged.
    pub(super) fn symlink_made(&self, caller: Caller, path: &RelPath, meta: &Meta) {
        if self.adopt_link(path, meta).is_some() {
            return;
        }
        let target = self
            .parts
            .tree
            .parent_of(path)
            .and_then(|dir| store::readlink_at(dir, path.name()))
            .map(|target| target.to_string_lossy().into_owned());
        if let Ok(target) = target {
            self.note_symlink(caller, path, Some(target));
        }
    }

    /// Logs a change of a free symbolic link, from a thread of its own: no call waits for the log here.
    pub(super) fn note_symlink(&self, caller: Caller, path: &RelPath, target: Option<String>) {
        if self.parts.policy.get().decide(path).symlinks == Symlinks::Free {
            self.parts.notes.symlink(path.clone(), target, Actor::Uid(caller.uid));
        }
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read_link(&self, ino: u64) -> Result<Vec<u8>, Fault> {
        let _still = self.lives().namespace.read();
        let found = self.find_ino(ino)?;
        let target = store::readlink_at(&*found.dir, &found.name)?.into_bytes();
        if let Standing::Sealed(record) = self.standing(&found.path, &found.meta)? {
            self.check_link(&record, &target)?;
        }
        Ok(target)
    }

    /// A link that stands under a seal must be what was sealed: a link is short, so that costs nothing, and it has
    /// no immutable flag.
    pub(super) fn check_link(&self, record: &SealRecord, target: &[u8]) -> Result<(), Fault> {
        let sha256 = crypto::sha256(target);
        if record.kind == ArtifactKind::Symlink && record.sha256 == sha256 {
            return Ok(());
        }
        let found = format!("a symbolic link, sha256 of its target {sha256}");
        self.alterations.note(&self.parts.index, &self.parts.clock, record, &found, None)?;
        Err(Fault::Altered)
    }
}
