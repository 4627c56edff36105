//! Who closes a descriptor of a file that is written, and how: whether what stands in it is half of something.

use super::handles::Anchor;
use super::{Caller, Vfs};
use crate::provenance::{self, Exit};
use crate::seal::{Flusher, Life, Looks};
use crate::store::{self, Meta};

/// Fewer free blocks than that, and the backing file system is full.
const FULL_BLOCKS: u64 = 64;

impl Vfs {
    /// Looks at the file, and at who closes a descriptor of it. Returns whether it is torn as it stands.
    pub(super) fn content_flushed(&self, caller: Caller, life: &Life, handle: u64, anchor: &Anchor) -> bool {
        let Ok(meta) = store::stat_fd(anchor.file()) else { return false };
        let looks: Looks = (meta.size, meta.mtime);
        self.parts.pipeline.flushed(life, handle, looks, || {
            let by = self.flusher(caller);
            let dies = matches!(by, Flusher::Killed { .. });
            let full = !dies && was_cut_by_a_full_disk(anchor, &meta);
            if full { Flusher::WithoutRoom } else { by }
        })
    }

    fn flusher(&self, caller: Caller) -> Flusher {
        let exit = if self.parts.sees_exits { self.parts.observer.exit_of(caller.pid) } else { Exit::Well };
        match exit {
            Exit::Well => Flusher::Living(provenance::thread_group(caller.pid)),
            Exit::Ended => Flusher::Ended { wrote: provenance::may_have_written(caller.pid) },
            Exit::Signal(_) => Flusher::Killed {
                process: provenance::thread_group(caller.pid),
                wrote: provenance::may_have_written(caller.pid),
            },
        }
    }
}

/// With passthrough the daemon does not see that a write finds no room. On a full file system such a write ends at the
/// end of a block; a file that ends elsewhere had room for all that was written.
fn was_cut_by_a_full_disk(anchor: &Anchor, meta: &Meta) -> bool {
    let block = u64::from(meta.blksize).max(512);
    meta.size > 0
        && meta.size.is_multiple_of(block)
        && rustix::fs::fstatvfs(anchor.file()).is_ok_and(|all| all.f_bavail < FULL_BLOCKS)
}
