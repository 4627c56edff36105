//! Immutable flags that are missing: of a store that was restored, or copied with `cp -a`. They are set again after the
//! start, slowly, once the bytes are known to be those that were sealed.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Vfs;
use super::recheck::is_as_recorded;
use crate::ledger::{Filter, LedgerError};
use crate::model::{ArtifactKind, RelPath, SealRecord};
use crate::seal::hash_file;
use crate::store;

/// Files that are looked at without a pause, and the pause: five thousand files a second.
const STEP: u64 = 100;
const PAUSE: Duration = Duration::from_millis(20);

impl Vfs {
    /// Looks at every sealed file once, and sets the flag where it is missing, until `stopped`.
    pub fn set_flags_again(&self, stopped: &AtomicBool) {
        if self.parts.read_only || !self.parts.abilities.immutable {
            return;
        }
        let mut looked = 0;
        let done = self.parts.index.read().below(&RelPath::root(), Filter::default(), &mut |record| {
            looked += 1;
            if looked % STEP == 0 {
                std::thread::sleep(PAUSE);
            }
            if record.kind == ArtifactKind::File
                && let Err(error) = self.set_flag_again(&record)
            {
                tracing::warn!(path = %record.path, %error, "its immutable flag is missing, and cannot be set again");
            }
            !stopped.load(Ordering::Acquire)
        });
        if let Err(error) = done {
            tracing::warn!(%error, "immutable flags were not looked at to the end");
        }
        let set = self.reflagged();
        if set > 0 {
            tracing::warn!(files = set, "backing files without the immutable flag carry it again");
        }
    }

    /// How many backing files got their immutable flag again since the start.
    #[must_use]
    pub fn reflagged(&self) -> u64 {
        self.reflagged.load(Ordering::Relaxed)
    }

    fn set_flag_again(&self, record: &SealRecord) -> Result<(), LedgerError> {
        let Ok(file) = self.parts.tree.open_path(&record.path) else { return Ok(()) };
        if store::is_immutable(&file) {
            return Ok(());
        }
        let broken = |error: std::io::Error| LedgerError::Broken(error.to_string());
        let before = store::stat_fd(&file).map_err(broken)?;
        if !is_as_recorded(&before, record) {
            // Large files are hashed here; who opens the file meanwhile hashes for himself.
            match hash_file(file.as_fd(), |_| true) {
                Ok(Some(content)) if content.sha256 == record.sha256 && content.size == record.size => {}
                // The next open, and `verify`, find it altered.
                _ => return Ok(()),
            }
        }
        // Nobody ends the seal or changes the name meanwhile; and it is still this seal, and this content.
        let _still = self.lives().namespace.read();
        let stands = self.parts.index.read().find(&record.path)?.is_some_and(|now| now.id == record.id);
        let now = store::stat_fd(&file).map_err(broken)?;
        let same_name = self.parts.tree.stat_path(&record.path).is_ok_and(|at| at.ino == now.ino);
        if !stands
            || !same_name
            || (now.size, now.mtime, now.ctime) != (before.size, before.mtime, before.ctime)
        {
            return Ok(());
        }
        store::set_immutable(&file, true).map_err(broken)?;
        let after = store::stat_fd(&file).map_err(broken)?;
        let mut batch = self.parts.index.batch(&self.parts.clock)?;
        batch.proven(record, after.ino, after.ctime)?;
        batch.commit()?;
        self.reflagged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
