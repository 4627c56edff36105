//! Seals that were opened a moment ago: as long as none ends, and the backing file looks as it did, they are opened
//! again without asking the index.

use std::collections::HashMap;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::handles::Handle;
use super::{Caller, Opened, Vfs};
use crate::model::{FileTime, RelPath, SealRecord};
use crate::store;

/// Seals remembered.
const KEPT: usize = 16 * 1024;

struct Mark {
    path: RelPath,
    size: u64,
    mtime: FileTime,
    ctime: FileTime,
    /// See [`crate::ledger::Index::unsettled`].
    unsettled: u64,
}

/// What is remembered, by inode.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<u64, Mark>>);

impl Seen {
    /// A seal was opened, and its backing file is as recorded; `unsettled` is from before the record was read.
    pub fn remember(&self, record: &SealRecord, unsettled: u64) {
        let mut marks = self.0.lock();
        if marks.len() >= KEPT {
            marks.clear();
        }
        let (path, size, mtime, ctime) = (record.path.clone(), record.size, record.mtime, record.ctime);
        marks.insert(record.ino, Mark { path, size, mtime, ctime, unsettled });
    }
}

impl Vfs {
    /// Opens a seal for reading that was opened before; `None` if the index has to be asked.
    pub(super) fn open_seen(&self, caller: Caller, ino: u64) -> Option<Opened> {
        let place = self.parts.places.place(ino)?;
        let (dir, folder) = self.folder(place.parent).ok()?;
        let (size, mtime, ctime) = {
            let marks = self.seen.0.lock();
            let mark = marks.get(&ino)?;
            let same =
                mark.unsettled == self.parts.index.unsettled() && mark.path == folder.join(&place.name);
            same.then_some((mark.size, mark.mtime, mark.ctime))?
        };
        let open = || Ok(store::open_at(&*dir, &place.name, OFlags::RDONLY)?);
        let anchor = self.handles.anchor_or(ino, open).ok()?;
        let meta = store::stat_fd(anchor.file()).ok()?;
        if (meta.ino, meta.size, meta.mtime, meta.ctime) != (ino, size, mtime, ctime) {
            drop(anchor);
            self.handles.tidy(ino);
            return None;
        }
        let frozen = !self.doubted.lock().contains(&ino);
        let handle = self.handles.number();
        let opened = Handle::File { anchor: std::sync::Arc::clone(&anchor), writable: false, data: None };
        self.handles.add(handle, ino, caller, None, opened);
        Some(Opened { handle, anchor: Some(anchor), writable: false, frozen })
    }
}
