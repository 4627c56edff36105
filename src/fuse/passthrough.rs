//! Kernel passthrough: which backing file stands for which inode.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use fuser::BackingId;
use parking_lot::Mutex;

/// Whether the kernel takes a backing file here. The one it was tried with stays registered until the daemon
/// ends: the library has no way to give a raw number back.
pub fn works(device: impl AsFd, probe: &File) -> bool {
    match BackingId::create_raw(device, probe) {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%error, "the kernel takes no backing file");
            false
        }
    }
}

/// Backing files by inode. All handles of an inode share one while any is open: the kernel refuses to mix.
#[derive(Default)]
pub struct Backings {
    open: Mutex<HashMap<u64, (Arc<BackingId>, u64)>>,
}

impl Backings {
    /// The backing of an inode for one more handle, registered by `register` if there is none.
    pub fn acquire(
        &self,
        ino: u64,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        let mut open = self.open.lock();
        if let Some((backing, handles)) = open.get_mut(&ino) {
            *handles += 1;
            return Ok(Arc::clone(backing));
        }
        let backing = Arc::new(register()?);
        open.insert(ino, (Arc::clone(&backing), 1));
        Ok(backing)
    }

    /// One handle less.
    pub fn release(&self, ino: u64) {
        let mut open = self.open.lock();
        if let Some((_, handles)) = open.get_mut(&ino) {
            *handles -= 1;
            if *handles == 0 {
                open.remove(&ino);
            }
        }
    }
}
