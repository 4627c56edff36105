//! Kernel passthrough: which backing file stands for which inode.
//!
//! Backing files are known to the kernel by number, and outlive the worker that registered them: the numbers are
//! kept for the next one ([`Handover`]).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use fuser::BackingId;
use parking_lot::Mutex;

use crate::store::{Handover, Live, LiveHandle, LiveKind, Shards};

/// `FUSE_DEV_IOC_BACKING_CLOSE` of linux/fuse.h: `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;
/// Numbers after the last kept one among which one may be registered: workers that probe whether the kernel takes backing
/// files use some up.
const UNKEPT: u32 = 64;

/// Whether the kernel takes a backing file here.
pub fn works(device: impl AsFd, probe: &File) -> bool {
    match BackingId::create_raw(&device, probe) {
        Ok(id) => {
            close(&device, id);
            true
        }
        Err(error) => {
            tracing::debug!(%error, "the kernel takes no backing file");
            false
        }
    }
}

/// Gives a number back. One that is not registered is passed over: closing is repeated after a takeover.
fn close(device: impl AsFd, id: u32) {
    // SAFETY: the request reads four bytes at the pointer, which is to a number that lives through the call.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_CLOSE, &raw const id) };
    if done < 0 {
        tracing::trace!(id, error = %io::Error::last_os_error(), "backing file not closed");
    }
}

/// Backing files by inode. All handles of an inode share one while any is open: the kernel refuses to mix.
pub struct Backings {
    device: OnceLock<OwnedFd>,
    handover: Arc<Handover>,
    /// Number, and how many handles; 0: none yet, since the worker died that was to register it.
    open: Shards<(u32, u64)>,
    /// Held while a number is registered or given back and that is kept: whoever takes over finds the last one of each.
    /// A lower number that is kept later than a higher one would be found by nobody.
    in_order: Mutex<()>,
}

impl Backings {
    /// None yet.
    pub fn new(handover: Arc<Handover>) -> Self {
        Backings { device: OnceLock::new(), handover, open: Shards::default(), in_order: Mutex::default() }
    }

    /// The device they are registered with.
    ///
    /// # Errors
    /// If its descriptor cannot be duplicated.
    pub fn attach(&self, device: impl AsFd) -> io::Result<()> {
        let _ = self.device.set(device.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Takes over what the last worker had registered; what no handle that is `known` needs is closed.
    pub fn take_over(&self, live: &Live, known: impl Fn(u64) -> bool) {
        let Some(device) = self.device.get() else { return };
        let mut counts: HashMap<u64, u64> = HashMap::new();
        let file = |handle: &LiveHandle| matches!(handle.kind, LiveKind::Reader | LiveKind::Writer);
        for (_, handle) in live.handles.iter().filter(|(number, handle)| file(handle) && known(**number)) {
            *counts.entry(handle.ino).or_default() += 1;
        }
        for (ino, id) in &live.backings {
            if !counts.contains_key(ino) {
                close(device, *id);
            }
        }
        // Every handle is counted: one that was never answered is released, too.
        for (ino, handles) in counts {
            self.open.of(ino).lock().insert(ino, (live.backings.get(&ino).copied().unwrap_or(0), handles));
        }
        if live.given_back != 0 {
            close(device, live.given_back);
        }
        // Registered, but not kept any more when the worker died. Numbers are given in order.
        for id in live.last_backing + 1..=live.last_backing + UNKEPT {
            close(device, id);
        }
    }

    /// The backing of an inode for one more handle, registered from `file` if there is none.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn acquire(&self, ino: u64, file: impl AsFd) -> io::Result<u32> {
        let device = self.device.get().ok_or(io::ErrorKind::NotConnected)?;
        let mut open = self.open.of(ino).lock();
        if let Some((id, handles)) = open.get_mut(&ino)
            && *id != 0
        {
            *handles += 1;
            return Ok(*id);
        }
        let _alone = self.in_order.lock();
        // What is written through it is written with the credentials that this thread has now.
        let id = crate::store::room::without(|| BackingId::create_raw(device, file))?;
        self.handover.backing(ino, id);
        let (number, handles) = open.entry(ino).or_default();
        (*number, *handles) = (id, *handles + 1);
        Ok(id)
    }

    /// One handle less.
    pub fn release(&self, ino: u64) {
        let mut open = self.open.of(ino).lock();
        if let Some((id, handles)) = open.get_mut(&ino) {
            *handles -= 1;
            if *handles == 0 {
                if let Some(device) = self.device.get()
                    && *id != 0
                {
                    let _alone = self.in_order.lock();
                    // In this order: a number that is gone must not be taken for one that can be used. The last
                    // one is given back again by whoever takes over.
                    self.handover.backing(ino, 0);
                    close(device, *id);
                }
                open.remove(&ino);
            }
        }
    }
}
