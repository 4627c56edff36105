//! Calls that end a seal, or take a folder away, after a start: the index may still be compared with the log.

use std::ffi::OsStr;
use std::time::Duration;

use super::resolve::Found;
use super::{Caller, Fault, Vfs};
use crate::model::RelPath;
use crate::store::{self, EntryKind};

/// How long such a call waits for the comparison, with no lock held here. The kernel holds a folder's lock meanwhile.
const SOON: Duration = Duration::from_secs(2);
/// Names below a folder that are looked at before it is renamed, while the index is compared.
const LOOKED_AT: u32 = 1000;

impl Vfs {
    /// Does something that may end a seal; once more, if the index was being compared and is compared soon.
    pub(super) fn once_compared<T>(
        &self,
        caller: Caller,
        operation: &'static str,
        attempt: impl Fn() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let done = match attempt() {
            Err(Fault::Comparing(_)) if self.parts.index.belief().wait(SOON) => attempt(),
            done => done,
        };
        done.map_err(|fault| match fault {
            Fault::Comparing(path) => {
                let reason = crate::ledger::NotProven::Comparing.to_string();
                self.refuse(caller, &path, operation, reason)
            }
            fault => fault,
        })
    }

    /// Removes a file's or symbolic link's name.
    ///
    /// # Errors
    /// Refused while it is retained; nothing has then changed.
    pub fn unlink(&self, caller: Caller, parent: u64, name: &OsStr) -> Result<(), Fault> {
        self.once_compared(caller, "unlink", || self.unlink_now(caller, parent, name))
    }

    /// A folder takes along what is in it: none of that may be a seal whose row is gone from the index.
    pub(super) fn check_rows_below(&self, caller: Caller, folder: &RelPath) -> Result<(), Fault> {
        let belief = self.parts.index.belief();
        self.parts.index.look_for_others(false)?;
        if let Some(path) = belief.differs_below(folder) {
            let reason = format!("index.db is not what the log says of {path} in it");
            return Err(self.refuse(caller, folder, "rename", reason));
        }
        if belief.under_way().is_some() && self.may_hold_frozen(folder, &mut LOOKED_AT.clone())? {
            return Err(Fault::Comparing(folder.clone()));
        }
        Ok(())
    }

    /// An empty folder may have held what is retained: its files were removed past the mount, their names stay.
    pub(super) fn check_bare(&self, caller: Caller, found: &Found) -> Result<(), Fault> {
        if found.meta.kind != EntryKind::Dir || !store::list(self.parts.tree.dir_at(&found.path)?)?.is_empty()
        {
            // The backing file system says what is to be said.
            return Ok(());
        }
        let now = self.parts.clock.now();
        let retained = self.parts.index.read().retained_below(&found.path, now)?.map(|record| record.path);
        match retained.or_else(|| self.parts.index.belief().differs_below(&found.path)) {
            Some(path) => {
                let reason = format!("{path} in it is retained, although its backing file is missing");
                Err(self.refuse(caller, &found.path, "rmdir", reason))
            }
            None => Ok(()),
        }
    }

    /// Whether a backing file with the immutable flag and without a row is below a folder, or there is too much in it
    /// to look.
    fn may_hold_frozen(&self, folder: &RelPath, left: &mut u32) -> Result<bool, Fault> {
        let dir = self.parts.tree.dir_at(folder)?;
        for entry in store::list(&dir)? {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Ok(true);
            }
            let path = folder.join(&entry.name);
            let frozen = match entry.kind {
                EntryKind::Dir => self.may_hold_frozen(&path, left)?,
                EntryKind::File => {
                    let file = store::open_at(&dir, &entry.name, rustix::fs::OFlags::RDONLY)?;
                    store::is_immutable(&file) && self.parts.index.read().find(&path)?.is_none()
                }
                EntryKind::Symlink | EntryKind::Other => false,
            };
            if frozen {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
