//! Writing an expired file anew: a new inode takes the name, readers keep the old bytes.

use std::sync::atomic::Ordering;

use rustix::fs::OFlags;

use super::resolve::Found;
use super::{CacheEvent, Caller, Fault, Opened, Vfs};
use crate::ledger::Ending;
use crate::model::{ArtifactKind, SealRecord};
use crate::store;

/// What is refused, in words.
const OPERATION: &str = "open for writing";

impl Vfs {
    /// A writer of a sealed file: refused, but for a rewrite from scratch of an expired one. That ends the
    /// old seal, swaps an empty file in, and answers "stale": the kernel looks up again and opens that.
    pub(super) fn open_sealed_for_writing(
        &self,
        caller: Caller,
        record: &SealRecord,
        found: &Found,
        flags: i32,
    ) -> Result<Opened, Fault> {
        self.may_go(caller, record, OPERATION)?;
        if flags & libc::O_TRUNC == 0 {
            let reason =
                "its content is frozen for ever; it is expired, so remove it or write it from scratch";
            return Err(self.refuse(caller, &record.path, OPERATION, reason));
        }
        let _alone = self.lives().namespace.write();
        let meta = store::stat_at(&*found.dir, &found.name)?;
        if meta.ino != found.meta.ino {
            return Err(Fault::Stale);
        }
        let ghost = found.ghost();
        let (swap, staging) = (self.staged_name(), self.parts.staging.root());
        let new = store::create_at(staging, &swap, OFlags::RDONLY, meta.perm & 0o777)?;
        let swapped = store::set_owner(&new, Some(meta.uid), Some(meta.gid))
            .and_then(|()| store::set_perm(&new, meta.perm & super::open::FILE_PERM))
            .map_err(Fault::from)
            .and_then(|()| self.end_seals(caller, OPERATION, &[(record, Ending::Rewritten)]))
            .and_then(|()| {
                self.unfreeze(found);
                self.name_going(meta.ino, ghost.as_ref());
                let swapped = store::rename_at(staging, &swap, &*found.dir, &found.name, true);
                Ok(swapped.inspect_err(|_| self.name_stays(meta.ino))?)
            });
        if let Err(fault) = swapped {
            let _ = store::remove_at(staging, &swap, false);
            return Err(fault);
        }
        let made = store::stat_fd(&new)?;
        self.name_gone(meta.ino, ghost);
        // A listing that the kernel has kept tells the old number.
        let folder = self.number(store::stat_fd(&*found.dir)?.ino);
        let _ = self.parts.cache.send(CacheEvent::Name(folder, found.name.clone()));
        self.parts.pipeline.adopt(made.ino, ArtifactKind::File, record.path.clone(), 0);
        Err(Fault::Stale)
    }

    /// A fresh name in the staging folder, for a file that is not to be seen yet.
    pub(super) fn staged_name(&self) -> String {
        self.next_staged.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Takes the immutable flag from a backing file whose seal has ended.
    pub(super) fn unfreeze(&self, found: &Found) {
        if found.meta.kind == store::EntryKind::File
            && let Ok(file) = store::open_at(&*found.dir, &found.name, OFlags::RDONLY)
        {
            let _ = store::set_immutable(file, false);
        }
    }
}
