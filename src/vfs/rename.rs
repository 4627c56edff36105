//! Rename: the one operation that can move what is sealed, and so must look at everything it moves.

use std::ffi::OsStr;
use std::sync::Arc;

use super::names::is_root_seal;
use super::resolve::Found;
use super::{Caller, Fault, Standing, Vfs, special};
use crate::ledger::Ending;
use crate::model::{ArtifactKind, Event, RelPath, SealRecord, Sidecar, check_name};
use crate::seal::Life;
use crate::store::{self, EntryKind, Meta};

/// What moves with a name.
enum Moving {
    /// An unsealed file.
    Life(Arc<Life>),
    /// Expired seals, which end: the file itself, or those below the folder.
    Ending(Vec<SealRecord>),
    /// Nothing that has a state.
    Plain,
    /// More seals than may end in one call.
    Many,
}

/// Most seals that end in one call: each is proven and logged while everybody waits.
const ENDING_MAX: u32 = 1000;

/// What became of a rename that was not refused.
pub(super) enum Renamed {
    /// It is done.
    Done,
    /// Nothing yet: it is over a sealed file of the same size.
    PerhapsSame,
}

impl Vfs {
    /// Renames, or says that it would be refused, but for content that may be the same, if that is `perhaps_same`.
    pub(super) fn rename_now(
        &self,
        caller: Caller,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        replace: bool,
        perhaps_same: bool,
    ) -> Result<Renamed, Fault> {
        let new_name = self.new_name(caller, new_parent, new_name, "rename")?;
        let name = check_name(name)?;
        if special::is_special(parent) || is_root_seal(parent, name) || is_root_seal(new_parent, new_name) {
            let path = RelPath::root().join(special::FOLDER);
            return Err(self.refuse(caller, &path, "rename", "'/.seal' is made by sealfs"));
        }
        let alone = self.lives().namespace.write();
        if Sidecar::parse(name).is_some() {
            let path = self.parts.places.path(parent).ok_or(Fault::Stale)?.join(name);
            return Err(self.refuse(caller, &path, "rename", "sidecars go with their file"));
        }
        let from = self.find(parent, name)?;
        let (to_dir, to_folder) = self.folder(new_parent)?;
        let to_path = super::depth::room_for(to_folder.join(new_name))?;
        let replaced = match self.find(new_parent, new_name) {
            Ok(_) if !replace => return Err(Fault::Exists),
            Ok(found) => Some(found),
            Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(fault) => return Err(fault),
        };
        if replaced.as_ref().is_some_and(|found| found.meta.ino == from.meta.ino) {
            return Ok(Renamed::Done);
        }
        if to_path.is_within(&from.path) {
            return Err(Fault::Invalid);
        }
        if replaced.is_none() {
            self.check_vacant(caller, &to_path, "rename")?;
        }
        self.kinds_fit(&from, replaced.as_ref())?;
        if let Some(replaced) = &replaced
            && perhaps_same
            && self.may_be_same(&from, replaced)
        {
            return Ok(Renamed::PerhapsSame);
        }
        if from.meta.kind == EntryKind::Dir {
            super::depth::room_below(store_dir(&from)?, &from.path, &to_path)?;
        }
        let moving = self.check_moving(caller, &from)?;
        if matches!(moving, Moving::Many) {
            // Nothing is changed, so nobody need wait for why not.
            drop(alone);
            return Err(self.too_many(caller, &from.path)?);
        }
        let covered = match replaced.as_ref().filter(|found| found.meta.kind != EntryKind::Dir) {
            Some(replaced) => self.check_replaced(caller, replaced)?,
            None => None,
        };

        // Seals end before their bytes move, all of them or none; from then on nothing is refused any more.
        let moved: &[SealRecord] = if let Moving::Ending(records) = &moving { records } else { &[] };
        self.end_moving(caller, &from.path, &to_path, moved, covered.as_deref())?;
        let ghost = replaced.as_ref().and_then(Found::ghost);
        let rename = || {
            if let Some(replaced) = &replaced {
                self.name_going(replaced.meta.ino, ghost.as_ref());
            }
            self.parts.handover.moving(from.meta.ino, new_parent, new_name);
            store::rename_at(&*from.dir, name, &*to_dir, new_name, replace).inspect_err(|_| {
                self.parts.handover.settled(from.meta.ino);
                if let Some(replaced) = &replaced {
                    self.name_stays(replaced.meta.ino);
                }
            })
        };
        match replaced.as_ref().filter(|found| found.meta.kind != EntryKind::Dir) {
            Some(replaced) if covered.is_some() => {
                self.unfreeze(replaced);
                rename()?;
            }
            Some(replaced) => {
                self.remove_name(caller, replaced, "rename over", &Ending::Replaced, rename)?;
            }
            None => rename()?,
        }
        if let Some(replaced) = &replaced {
            self.name_gone(replaced.meta.ino, ghost);
            if replaced.meta.kind == EntryKind::Dir {
                self.parts.tree.drop_dir(replaced.meta.ino);
            }
        }
        self.moved(caller, &from, &to_path, new_parent, moving);
        Ok(Renamed::Done)
    }

    fn kinds_fit(&self, from: &Found, replaced: Option<&Found>) -> Result<(), Fault> {
        let Some(replaced) = replaced else { return Ok(()) };
        let dir = |found: &Found| found.meta.kind == EntryKind::Dir;
        let errno = match (dir(from), dir(replaced)) {
            (true, false) => libc::ENOTDIR,
            (false, true) => libc::EISDIR,
            // The backing file system only lets an empty folder go; better to know before seals end.
            (true, true) if !store::list(store_dir(replaced)?)?.is_empty() => libc::ENOTEMPTY,
            _ => return Ok(()),
        };
        Err(Fault::Io(std::io::Error::from_raw_os_error(errno)))
    }

    fn check_moving(&self, caller: Caller, from: &Found) -> Result<Moving, Fault> {
        if from.meta.kind == EntryKind::Dir {
            return self.check_moving_dir(caller, &from.path);
        }
        match self.standing(&from.path, &from.meta)? {
            Standing::Free => Ok(Moving::Plain),
            Standing::Unsealed(life) => {
                let allowed = self.parts.pipeline.changeable(&life, Event::Renamed { settles: false });
                allowed.map(drop).map_err(|_| {
                    self.refuse(caller, &from.path, "rename", "it is being sealed at this moment")
                })?;
                // It cannot be frozen meanwhile: that needs the namespace lock, which we hold.
                Ok(Moving::Life(life))
            }
            Standing::Sealed(record) => {
                self.may_go(caller, &record, "rename")?;
                Ok(Moving::Ending(vec![*record]))
            }
        }
    }

    fn check_moving_dir(&self, caller: Caller, path: &RelPath) -> Result<Moving, Fault> {
        for life in self.lives().all() {
            let state = life.lock();
            if state.is_frozen() && !state.over && state.path.is_within(path) {
                let reason = format!("{} in it is being sealed at this moment", state.path);
                drop(state);
                return Err(self.refuse(caller, path, "rename", reason));
            }
        }
        self.check_rows_below(caller, path)?;
        let mut below = self.parts.index.read().some_below(path, None, ENDING_MAX + 1)?;
        if below.len() > ENDING_MAX as usize {
            return Ok(Moving::Many);
        }
        let now = self.parts.clock.now();
        if let Some(record) = below.iter().find(|record| !record.is_expired(now)) {
            return Err(self.refuse_moving(caller, path, record));
        }
        below.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(if below.is_empty() { Moving::Plain } else { Moving::Ending(below) })
    }

    fn refuse_moving(&self, caller: Caller, path: &RelPath, record: &SealRecord) -> Fault {
        let reason = format!("{} in it is retained until {}", record.path, record.retain_until);
        self.refuse(caller, path, "rename", reason)
    }

    /// Why a folder of many seals cannot be moved in one call. Where all have expired, `EXDEV`: whoever gets that copies
    /// file by file and then removes the old ones, as `mv` does, and each step is short.
    fn too_many(&self, caller: Caller, path: &RelPath) -> Result<Fault, Fault> {
        let now = self.parts.clock.now();
        if let Some(record) = self.parts.index.read().some_below(path, Some(now), 1)?.first() {
            return Ok(self.refuse_moving(caller, path, record));
        }
        let reason = format!(
            "more than {ENDING_MAX} expired files in it would have to end at once; mv copies them and removes the old ones"
        );
        self.refuse(caller, path, "rename", reason);
        Ok(Fault::Io(std::io::Error::from_raw_os_error(libc::EXDEV)))
    }

    /// Whether what has the new name may go. Returns its seal, if it has one.
    fn check_replaced(&self, caller: Caller, replaced: &Found) -> Result<Option<Box<SealRecord>>, Fault> {
        match self.standing(&replaced.path, &replaced.meta)? {
            Standing::Free => Ok(None),
            Standing::Unsealed(life) => {
                let allowed = self.parts.pipeline.changeable(&life, Event::Removed);
                allowed.map(|_| None).map_err(|_| {
                    self.refuse(caller, &replaced.path, "rename over", "it is being sealed at this moment")
                })
            }
            Standing::Sealed(record) => {
                self.may_go(caller, &record, "rename over")?;
                Ok(Some(record))
            }
        }
    }

    fn end_moving(
        &self,
        caller: Caller,
        from: &RelPath,
        to: &RelPath,
        records: &[SealRecord],
        covered: Option<&SealRecord>,
    ) -> Result<(), Fault> {
        let mut ends = Vec::with_capacity(records.len() + 1);
        for record in records {
            let new = record.path.rebased(from, to).ok_or(Fault::Stale)?;
            ends.push((record, Ending::Renamed(new)));
        }
        ends.extend(covered.map(|covered| (covered, Ending::Replaced)));
        if ends.is_empty() {
            return Ok(());
        }
        self.end_seals(caller, "rename", &ends)?;
        for record in records {
            if let Ok(file) = self.parts.tree.open_path(&record.path) {
                let _ = store::set_immutable(file, false);
            }
        }
        Ok(())
    }

    /// Bookkeeping after the rename: names by number, lives, journal, log.
    fn moved(&self, caller: Caller, from: &Found, to: &RelPath, new_parent: u64, moving: Moving) {
        // The journal first: what a worker that takes over is told of the name, it takes for written down there too.
        self.parts.pipeline.journal().renamed(&from.path, to);
        self.parts.places.moved(from.meta.ino, new_parent, to.name());
        self.parts.handover.settled(from.meta.ino);
        if let Moving::Life(life) = &moving {
            self.parts.pipeline.renamed(life, to.clone(), from.meta.size);
        }
        if from.meta.kind == EntryKind::Dir {
            for life in self.lives().all() {
                let path = life.lock().path.rebased(&from.path, to);
                if let Some(path) = path {
                    let size = self.parts.tree.stat_path(&path).map_or(0, |meta| meta.size);
                    self.parts.pipeline.renamed(&life, path, size);
                }
            }
            self.adopt_links_below(to);
        }
        if let Moving::Ending(records) = moving {
            for record in records {
                if let Some(path) = record.path.rebased(&from.path, to)
                    && let Ok(meta) = self.parts.tree.stat_path(&path)
                {
                    self.begin_anew(record.kind, path, &meta);
                }
            }
        } else if from.meta.kind == EntryKind::Symlink {
            self.note_symlink(caller, &from.path, None);
            if self.lives().get(from.meta.ino).is_none() {
                self.symlink_made(caller, to, &from.meta);
            }
        }
    }

    /// What an ended seal leaves begins a new life under its new name.
    fn begin_anew(&self, kind: ArtifactKind, path: RelPath, meta: &Meta) {
        match kind {
            ArtifactKind::Symlink => drop(self.adopt_link(&path, meta)),
            ArtifactKind::File => drop(self.parts.pipeline.adopt(meta.ino, kind, path, meta.size)),
        }
        // The kernel keeps long what is sealed; this is not any more.
        let _ = self.parts.cache.send(super::CacheEvent::Attributes(meta.ino));
    }
}

fn store_dir(found: &Found) -> Result<std::os::fd::OwnedFd, Fault> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    Ok(store::open_at(&*found.dir, &found.name, flags)?)
}
