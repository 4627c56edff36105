//! A file of which pages stay in use is sealed as another inode with the same content, which nobody ever had open.
//!
//! A page of a file that was mapped shared and writable, and that is pinned by a direct read, is written to when that
//! read ends, long after mapping and descriptor are gone. Where the pages of a file cannot be dropped from memory, nobody
//! can say whether one is pinned so, or only mapped by somebody who reads or runs the file. That may last for ever, and
//! must not keep the file from being sealed: it is copied (reflinked where the backing file system can), the copy takes
//! its name, and whoever has the old inode open keeps that. A crash leaves the old inode under the name, or the new one,
//! which is known to be closed.

use std::sync::Arc;

use rustix::fs::OFlags;

use super::{CacheEvent, Fault, Vfs};
use crate::seal::Life;
use crate::store::{self, Meta};

impl Vfs {
    /// Gives each file that comes another inode, until the pipeline is gone. On a thread of its own: a copy may take long.
    pub fn renew_all(&self, files: &crossbeam_channel::Receiver<Arc<Life>>) {
        for life in files {
            match self.renew(&life) {
                Ok(None) => {}
                Ok(Some(renewed)) => {
                    // Whoever opens the name from here on opens what is sealed.
                    self.wait_for_caches();
                    self.parts.pipeline.seal_renewed(&renewed);
                }
                Err(fault) => self.parts.pipeline.not_renewed(&life, &fault.to_string()),
            }
        }
    }

    /// Copies a file and puts the copy in its place; `None` if it was sealed, changed or removed meanwhile.
    fn renew(&self, life: &Arc<Life>) -> Result<Option<Arc<Life>>, Fault> {
        let still = self.lives().namespace.read();
        let (path, epoch) = {
            let state = life.lock();
            if state.over || state.is_frozen() || !state.writers.is_empty() {
                return Ok(None);
            }
            (state.path.clone(), life.epoch())
        };
        let file = self.parts.tree.open_path(&path)?;
        let before = store::stat_fd(&file)?;
        drop(still);
        if before.ino != life.ino {
            return Ok(None);
        }
        let (staged, staging) = (self.staged_name(), self.parts.staging.root());
        let copy = super::copy::copy_file(&file, staging, &staged)?;
        let put = self.put_in_place(life, epoch, &before, &staged, &copy);
        if !matches!(put, Ok(Some(_))) {
            let _ = store::remove_at(staging, &staged, false);
        }
        put
    }

    fn put_in_place(
        &self,
        life: &Arc<Life>,
        epoch: u64,
        before: &Meta,
        staged: &str,
        copy: &Meta,
    ) -> Result<Option<Arc<Life>>, Fault> {
        let _alone = self.lives().namespace.write();
        let mut state = life.lock();
        let busy = state.over || state.is_frozen() || !state.writers.is_empty() || life.epoch() != epoch;
        let dir = self.parts.tree.parent_of(&state.path)?;
        let name = state.path.name().to_owned();
        // Its mode, owner or attributes may have changed while it was copied; the time of access says nothing.
        let now = store::stat_at(&dir, &name)?;
        let changed = (now.ino, now.size, now.ctime) != (before.ino, before.size, before.ctime);
        if busy || changed || self.parts.pipeline.is_stopped() {
            return Ok(None);
        }
        let journal = self.parts.pipeline.journal();
        journal.closed(copy.ino, &state.path);
        let ghost = store::open_at(&dir, &name, OFlags::PATH).ok();
        self.name_going(life.ino, ghost.as_ref());
        if let Err(error) = store::rename_at(self.parts.staging.root(), staged, &dir, &name, true) {
            self.name_stays(life.ino);
            journal.over([copy.ino]);
            return Err(error.into());
        }
        if self.parts.places.place(life.ino).is_some() {
            self.renewed.lock().insert(life.ino, (copy.ino, state.path.clone()));
        }
        self.name_gone(life.ino, ghost);
        let renewed = self.parts.pipeline.renewed(life, &mut state, copy.ino, copy.size);
        drop(state);
        tracing::info!(
            path = %renewed.lock().path,
            "pages of the file are in use: it is sealed as another inode with the same content"
        );
        let folder = self.number(store::stat_fd(&dir)?.ino);
        let _ = self.parts.cache.send(CacheEvent::Name(folder, name));
        Ok(Some(renewed))
    }
}
