//! Unlink and link.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use super::resolve::Found;
use super::{Attr, Caller, Fault, Standing, Vfs, renumber, sidecar, special};
use crate::ledger::Ending;
use crate::model::{ArtifactKind, Event, RelPath, Sidecar, State, check_name};
use crate::policy::Hardlink;
use crate::seal::{Life, Observed};
use crate::store::{self, EntryKind, ROOT};

/// How long a link waits for the kernel to release a file whose writers have all closed it.
const RELEASE_GRACE: Duration = Duration::from_millis(200);

impl Vfs {
    pub(super) fn unlink_now(&self, caller: Caller, parent: u64, name: &OsStr) -> Result<(), Fault> {
        self.changeable_tree()?;
        let name = check_name(name)?;
        if special::is_special(parent) {
            let path = crate::model::RelPath::root().join(special::FOLDER).join(name);
            return Err(self.refuse(caller, &path, "unlink", "'/.seal' is made by sealfs"));
        }
        // Alone: between the end of a life and the end of its name nobody may look. The inode itself goes when
        // the kernel forgets it, so this is quick for large files too.
        let _alone = self.lives().namespace.write();
        if let Some((base, _)) = Sidecar::parse(name) {
            return self.unlink_sidecar(caller, parent, base, name);
        }
        let found = self.find(parent, name)?;
        let ghost = found.ghost();
        let ino = found.meta.ino;
        let remove = || {
            self.name_going(ino, ghost.as_ref());
            store::remove_at(&*found.dir, name, false).inspect_err(|_| self.name_stays(ino))
        };
        self.remove_name(caller, &found, "unlink", &Ending::Removed, remove)?;
        self.name_gone(ino, ghost);
        if found.meta.kind == EntryKind::Symlink {
            self.note_symlink(caller, &found.path, None);
        }
        Ok(())
    }

    /// Checks that a name may go, has it go by `remove`, and ends what stands under it: the seal in the ledger, which
    /// comes before its bytes go; or the life, which goes on if they do not.
    pub(super) fn remove_name(
        &self,
        caller: Caller,
        found: &Found,
        operation: &'static str,
        how: &Ending,
        remove: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<(), Fault> {
        match self.standing(&found.path, &found.meta)? {
            Standing::Free => {}
            Standing::Unsealed(life) => {
                let mut state = self.parts.pipeline.changeable(&life, Event::Removed).map_err(|_| {
                    self.refuse(caller, &found.path, operation, "it is being sealed at this moment")
                })?;
                remove()?;
                self.parts.pipeline.removed(&life, &mut state);
                return Ok(());
            }
            Standing::Sealed(record) => {
                self.end_seals(caller, operation, &[(&record, how.clone())])?;
                self.unfreeze(found);
            }
        }
        Ok(remove()?)
    }

    /// Sidecars go with their file; removing an expired file's first does nothing, so that `rm -r` works.
    fn unlink_sidecar(&self, caller: Caller, parent: u64, base: &str, name: &str) -> Result<(), Fault> {
        let found = self.find(parent, base)?;
        let expired = match self.standing(&found.path, &found.meta)? {
            Standing::Free => return Err(Fault::NotFound),
            Standing::Sealed(record) => record.is_expired(self.parts.clock.now()),
            Standing::Unsealed(_) => false,
        };
        if expired {
            return Ok(());
        }
        let path = found.path.parent().join(name);
        Err(self.refuse(caller, &path, "unlink", "sidecars go with their file, and not before"))
    }

    /// A hard link: refused, or a new, independent file with the same content, as policy says.
    ///
    /// # Errors
    /// [`Fault`]; nothing is left behind.
    pub fn link(&self, caller: Caller, ino: u64, parent: u64, name: &OsStr) -> Result<Attr, Fault> {
        let name = self.new_name(caller, parent, name, "link")?;
        if special::is_special(ino) || sidecar::parse_number(ino).is_some() {
            let path = self.parts.places.path(parent).ok_or(Fault::Stale)?.join(name);
            return Err(self.refuse(caller, &path, "link", "sidecars and '/.seal' stay with their files"));
        }
        let still = self.lives().namespace.write();
        let source = self.find_ino(ino)?;
        let sealed = match self.standing(&source.path, &source.meta)? {
            Standing::Sealed(record) => Some(record),
            Standing::Unsealed(_) | Standing::Free => None,
        };
        let (dir, folder) = self.folder(parent)?;
        let path = super::depth::room_for(folder.join(name))?;
        self.check_vacant(caller, &path, "link")?;
        let life = self.lives().get(source.meta.ino).filter(|_| sealed.is_none());
        let epoch = life.as_ref().map(|life| life.epoch());
        self.check_closed(caller, &path, life.as_deref(), epoch)?;
        let policy = self.parts.policy.get();
        if policy.decide(&path).hardlink == Hardlink::Refuse {
            self.refuse(caller, &path, "link", "policy refuses hard links here (hardlink = \"refuse\")");
            return Err(Fault::NotPermitted);
        }
        let meta = match source.meta.kind {
            EntryKind::File => {
                // Gigabytes may be copied: aside, while others may rename.
                let file = store::open_at(&*source.dir, &source.name, rustix::fs::OFlags::RDONLY)?;
                // Whoever wrote the source wrote these bytes.
                let observed = self.lives().get(source.meta.ino).map(|life| life.lock().observed.clone());
                drop(still);
                let (staged, staging) = (self.staged_name(), self.parts.staging.root());
                // What is copied is what was sealed: before it is read, and still so afterwards.
                let unaltered =
                    || sealed.as_ref().map_or(Ok(()), |record| self.check_unaltered(record, &file));
                unaltered()?;
                let meta = super::copy::copy_file(&file, staging, &staged)?;
                if let Err(fault) = unaltered() {
                    let _ = store::remove_at(staging, &staged, false);
                    return Err(fault);
                }
                let still = self.lives().namespace.write();
                // A writer may have come while it was copied.
                if let Err(fault) = self.check_closed(caller, &path, life.as_deref(), epoch) {
                    let _ = store::remove_at(staging, &staged, false);
                    return Err(fault);
                }
                // Before it can be seen: a worker that takes over in between must know what it is.
                let journal = self.parts.pipeline.journal();
                let made = self.parts.places.path(parent).ok_or(Fault::Stale).map(|folder| folder.join(name));
                let made = made.and_then(super::depth::room_for).inspect_err(|_| {
                    let _ = store::remove_at(staging, &staged, false);
                })?;
                journal.closed(meta.ino, &made);
                if let Err(error) = store::rename_at(staging, &staged, &*dir, name, false) {
                    journal.over([meta.ino]);
                    let _ = store::remove_at(staging, &staged, false);
                    return Err(error.into());
                }
                return self.linked(&still, caller, parent, name, &meta, observed);
            }
            EntryKind::Symlink => {
                let target = store::readlink_at(&*source.dir, &source.name)?;
                if let Some(record) = &sealed {
                    self.check_link(record, target.as_bytes())?;
                }
                let target = std::path::Path::new(OsStr::new(target.to_str().map_err(|_| Fault::NotUtf8)?));
                store::symlink_at(&*dir, name, target)?;
                store::stat_at(&*dir, name)?
            }
            EntryKind::Dir | EntryKind::Other => return Err(Fault::NotPermitted),
        };
        self.linked(&still, caller, parent, name, &meta, None)
    }

    /// Whether every writer of a file has closed it, and the kernel has not said so yet: its RELEASE comes only after
    /// `close(2)` has returned.
    #[must_use]
    pub fn is_closing(&self, ino: u64) -> bool {
        let Some(life) = self.lives().get(ino) else { return false };
        let state = life.lock();
        !state.over && !state.writers.is_empty() && state.all_flushed()
    }

    /// Waits, not for long, until the kernel has released a file that every writer has closed. Not for threads that
    /// serve the kernel.
    pub fn await_release(&self, ino: u64) {
        let until = Instant::now() + RELEASE_GRACE;
        while self.is_closing(ino) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Refuses to link what somebody writes, or has written since `epoch`: the copy would be cut where he has come to. Who
    /// gets `EPERM` renames instead.
    fn check_closed(
        &self,
        caller: Caller,
        path: &RelPath,
        life: Option<&Life>,
        epoch: Option<u64>,
    ) -> Result<(), Fault> {
        let Some(life) = life else { return Ok(()) };
        let state = life.lock();
        let reason = if !state.writers.is_empty() || Some(life.epoch()) != epoch {
            "the file is still open for writing: close it first, or rename it"
        } else if state.state == State::Torn {
            "the file is torn: half a file gets no second name; write it anew, or rename it"
        } else {
            return Ok(());
        };
        drop(state);
        self.refuse(caller, path, "link", reason);
        Err(Fault::NotPermitted)
    }

    /// What a hard link became begins its own life; the namespace lock is held.
    fn linked(
        &self,
        _still: &parking_lot::RwLockWriteGuard<'_, ()>,
        caller: Caller,
        parent: u64,
        name: &str,
        meta: &store::Meta,
        observed: Option<Observed>,
    ) -> Result<Attr, Fault> {
        let path = self.parts.places.path(parent).ok_or(Fault::Stale)?.join(name);
        if meta.kind == EntryKind::File {
            let life = self.parts.pipeline.adopt(meta.ino, ArtifactKind::File, path, meta.size);
            let mut state = life.lock();
            state.observed = observed.unwrap_or_default();
            // Who asks for the copy wrote it too.
            state.observed.add(self.parts.observer.observe(caller.pid));
        } else {
            self.symlink_made(caller, &path, meta);
        }
        let mut attr = self.attr_of(meta, None).ok_or(Fault::NotFound)?;
        attr.generation = self.parts.places.remember(renumber::backing(attr.ino), parent, name, 1);
        Ok(attr)
    }
}

/// The root has no name that could be renamed or removed.
pub(super) fn is_root_seal(parent: u64, name: &str) -> bool {
    parent == ROOT && name == special::FOLDER
}
