//! Mode, owner, size and times: of what is not sealed freely, of what is sealed hardly at all.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::resolve::Found;
use super::{Attr, Caller, Fault, Standing, Vfs, sidecar, special};
use crate::ledger::{Actor, NotProven};
use crate::model::{Event, SealRecord, Timestamp};
use crate::seal::{Demand, Life, RetainError, Right, Wanted};
use crate::store::{self, EntryKind, ROOT, SetTime};

/// What is to change; `None` and [`SetTime::Omit`]: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Permission bits.
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: SetTime,
    /// Modification time.
    pub mtime: SetTime,
}

impl Vfs {
    /// Changes attributes.
    ///
    /// # Errors
    /// Refused if it is sealed and something would change; nothing has then changed.
    pub fn setattr(&self, caller: Caller, ino: u64, changes: &Changes) -> Result<Attr, Fault> {
        self.once_compared(caller, "setattr", || self.setattr_now(caller, ino, changes))
    }

    fn setattr_now(&self, caller: Caller, ino: u64, changes: &Changes) -> Result<Attr, Fault> {
        self.changeable_tree()?;
        if special::is_special(ino) || sidecar::parse_number(ino).is_some() {
            let base = sidecar::parse_number(ino).and_then(|(base, _)| self.parts.places.path(base));
            let path = base.unwrap_or_else(crate::model::RelPath::root);
            return Err(self.refuse(caller, &path, "setattr", "sidecars and '/.seal' are made by sealfs"));
        }
        let _still = self.lives().namespace.read();
        if ino == ROOT {
            let root = self.parts.tree.root().try_clone_to_owned()?;
            return self.set_on(&root, changes, 0o7777, None);
        }
        let found = match self.find_ino(ino) {
            Ok(found) => found,
            Err(fault) => {
                // The name is gone; only what is open is left, and nothing of it will be sealed.
                let Some(anchor) = self.handles.anchor(ino) else { return Err(fault) };
                let file = anchor.file().try_clone_to_owned()?;
                return self.set_on(&file, changes, super::open::FILE_PERM, None);
            }
        };
        if found.meta.kind == EntryKind::Dir {
            let dir = store::open_at(&*found.dir, &found.name, OFlags::PATH | OFlags::DIRECTORY)?;
            return self.set_on(&dir, changes, 0o7777, Some(&found));
        }
        match self.standing(&found.path, &found.meta)? {
            Standing::Sealed(record) => self.setattr_sealed(caller, &record, &found, changes),
            Standing::Unsealed(life) => self.setattr_unsealed(caller, &life, &found, changes),
            Standing::Free => {
                let link = store::open_at(&*found.dir, &found.name, OFlags::PATH)?;
                self.set_on(&link, changes, 0, Some(&found))
            }
        }
    }

    fn setattr_unsealed(
        &self,
        caller: Caller,
        life: &std::sync::Arc<Life>,
        found: &Found,
        changes: &Changes,
    ) -> Result<Attr, Fault> {
        let sealing = |_| self.refuse(caller, &found.path, "setattr", "it is being sealed at this moment");
        let before = match changes.size {
            Some(_) => Some(self.parts.pipeline.disturbed(life).map_err(sealing)?),
            None => None,
        };
        let mut state = self.parts.pipeline.changeable(life, Event::AttributesChanged).map_err(sealing)?;
        let set = store::open_at(&*found.dir, &found.name, OFlags::PATH)
            .map_err(Fault::from)
            .and_then(|file| self.set_on(&file, changes, super::open::FILE_PERM, Some(found)));
        let attr = match (set, before) {
            (Ok(attr), _) => attr,
            (Err(fault), None) => return Err(fault),
            (Err(fault), Some(before)) => {
                drop(state);
                match store::stat_at(&*found.dir, &found.name) {
                    // Cut, and only then something failed.
                    Ok(meta) if meta.size != found.meta.size => {
                        self.parts.pipeline.settle_again(life, meta.size);
                    }
                    _ => self.parts.pipeline.unchanged(life, before),
                }
                return Err(fault);
            }
        };
        // The convention of SnapLock: an access time alone, in the future, asks for retention.
        if let (SetTime::At(time), SetTime::Omit) = (changes.atime, changes.mtime)
            && time.to_timestamp() > self.parts.clock.now()
        {
            self.parts.pipeline.requested(life, &mut state, time.to_timestamp());
        }
        if changes.size.is_none() {
            let (before, after) = (&found.meta, attr.mtime);
            state.writing.looks_changed((before.size, before.mtime), (before.size, after));
        }
        drop(state);
        if attr.size == 0 && changes.size.is_some() {
            // It has no content that could be torn. Frozen meanwhile it cannot be: nothing was under way.
            let _ = self.parts.pipeline.emptied(life);
        }
        if changes.size.is_some() {
            self.parts.pipeline.settle_again(life, attr.size);
        }
        let readonly = changes.perm.is_some_and(|perm| perm & 0o222 == 0) && found.meta.perm & 0o222 != 0;
        if readonly {
            self.parts.pipeline.demand(life, Demand::Readonly, attr.size, None);
        }
        Ok(attr)
    }

    /// On a sealed file: what changes nothing, or only takes write bits away, succeeds and does nothing; a
    /// later access time alone extends retention.
    fn setattr_sealed(
        &self,
        caller: Caller,
        record: &SealRecord,
        found: &Found,
        changes: &Changes,
    ) -> Result<Attr, Fault> {
        let meta = &found.meta;
        let perm_fits = changes.perm.is_none_or(|perm| {
            let (old, new) = (meta.perm, perm & super::open::FILE_PERM);
            new & !old == 0 && (old & !new) & !0o222 == 0
        });
        let fits = perm_fits
            && changes.uid.is_none_or(|uid| uid == meta.uid)
            && changes.gid.is_none_or(|gid| gid == meta.gid)
            && changes.size.is_none_or(|size| size == meta.size)
            && matches!(changes.mtime, SetTime::Omit | SetTime::At(_))
            && (changes.mtime == SetTime::Omit || changes.mtime == SetTime::At(meta.mtime));
        let mut until = record.retain_until;
        let asked = match changes.atime {
            SetTime::Omit => None,
            SetTime::At(time) if time.to_timestamp() == until => None,
            SetTime::At(time) if changes.mtime == SetTime::Omit => Some(time.to_timestamp()),
            // Both times, as `cp -a` and `touch -r` set them: the access time is no request.
            SetTime::At(_) if fits => None,
            SetTime::At(_) | SetTime::Now => Some(Timestamp(i64::MIN)),
        };
        if !fits {
            let reason = format!("it is sealed; retained until {until}");
            return Err(self.refuse(caller, &record.path, "setattr", reason));
        }
        if let Some(asked) = asked {
            until = self.extend_by_atime(caller, record, asked)?;
        }
        self.attr_of(meta, Some(until)).ok_or(Fault::NotFound)
    }

    fn extend_by_atime(
        &self,
        caller: Caller,
        record: &SealRecord,
        asked: Timestamp,
    ) -> Result<Timestamp, Fault> {
        let policy = self.parts.policy.get();
        let decision = policy.decide(&record.path);
        let until = self
            .retention()
            .set(record, Wanted::At(asked), Right::Owner(decision), None, Actor::Uid(caller.uid))
            .map_err(|error| match error {
                RetainError::NotProven(NotProven::Ledger(error)) => Fault::Index(error),
                RetainError::NotProven(NotProven::Gone) => Fault::Stale,
                RetainError::NotProven(NotProven::Comparing) => Fault::Comparing(record.path.clone()),
                refused => self.refuse(caller, &record.path, "setattr", refused.to_string()),
            })?;
        self.retention_changed(record);
        Ok(until)
    }

    /// Sets attributes of an open file or folder (`O_PATH` will do) and answers with the new ones. Set-id
    /// bits outside of `mask` are not stored.
    fn set_on(
        &self,
        file: &OwnedFd,
        changes: &Changes,
        mask: u32,
        found: Option<&Found>,
    ) -> Result<Attr, Fault> {
        if let (Some(size), Some(found)) = (changes.size, found) {
            let writable = store::open_at(&*found.dir, &found.name, OFlags::WRONLY)?;
            store::room::without(|| rustix::fs::ftruncate(&writable, size))?;
        } else if let Some(size) = changes.size {
            let again = rustix::fs::open(
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)),
                OFlags::WRONLY | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            store::room::without(|| rustix::fs::ftruncate(&again, size))?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            store::set_owner(file, changes.uid, changes.gid)?;
        }
        if let Some(perm) = changes.perm {
            store::set_perm(file, perm & mask)?;
        }
        if changes.atime != SetTime::Omit || changes.mtime != SetTime::Omit {
            match found {
                Some(found) => store::set_times_at(&*found.dir, &found.name, changes.atime, changes.mtime)?,
                None => store::set_times(file, changes.atime, changes.mtime)?,
            }
        }
        let meta = store::stat_fd(file)?;
        self.attr_of(&meta, None).ok_or(Fault::NotFound)
    }
}
