//! Seals that were opened a moment ago: as long as none ends, and the backing file looks as it did, they are opened
//! again without asking the index.

use std::collections::HashMap;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::handles::Handle;
use super::{Caller, Opened, Vfs};
use crate::model::{FileTime, SealRecord};
use crate::store;

/// Seals remembered, at least; at most twice as many.
const KEPT: usize = 32 * 1024;

struct Mark {
    path: Box<str>,
    size: u64,
    mtime: FileTime,
    ctime: FileTime,
    /// See [`crate::ledger::Index::unsettled`].
    unsettled: u64,
}

/// What is remembered, by inode: the young, and the old, which are forgotten together once there are enough young ones.
#[derive(Default)]
struct Marks {
    young: HashMap<u64, Mark>,
    old: HashMap<u64, Mark>,
}

impl Marks {
    fn add(&mut self, ino: u64, mark: Mark) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ino, mark);
    }

    /// Finds one; it is young again.
    fn get(&mut self, ino: u64) -> Option<&Mark> {
        if let Some(mark) = self.old.remove(&ino) {
            self.add(ino, mark);
        }
        self.young.get(&ino)
    }
}

/// What is remembered.
#[derive(Default)]
pub(super) struct Seen(Mutex<Marks>);

impl Seen {
    /// A seal was opened, and its backing file is as recorded; `unsettled` is from before the record was read.
    pub fn remember(&self, record: &SealRecord, unsettled: u64) {
        let (path, size, mtime, ctime) =
            (record.path.as_str().into(), record.size, record.mtime, record.ctime);
        let mut marks = self.0.lock();
        // What is old of it says less.
        marks.old.remove(&record.ino);
        marks.add(record.ino, Mark { path, size, mtime, ctime, unsettled });
    }
}

impl Vfs {
    /// Opens a seal for reading that was opened before; `None` if the index has to be asked.
    pub(super) fn open_seen(&self, caller: Caller, ino: u64) -> Option<Opened> {
        let place = self.parts.places.place(ino)?;
        let (dir, folder) = self.folder(place.parent).ok()?;
        let (size, mtime, ctime) = {
            let mut marks = self.seen.0.lock();
            let mark = marks.get(ino)?;
            let same = mark.unsettled == self.parts.index.unsettled()
                && *mark.path == *folder.join(&place.name).as_str();
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
        let handle = self.handles.number();
        let opened = Handle::File { anchor: std::sync::Arc::clone(&anchor), writable: false, data: None };
        self.handles.add(handle, ino, caller, None, opened);
        Some(Opened { handle, anchor: Some(anchor), writable: false, frozen: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_again_stays_and_the_rest_is_forgotten() {
        let mut marks = Marks::default();
        let mark = || Mark {
            path: "p".into(),
            size: 0,
            mtime: FileTime::default(),
            ctime: FileTime::default(),
            unsettled: 0,
        };
        let kept = KEPT as u64;
        for ino in 0..5 * kept {
            marks.add(ino, mark());
            assert!(marks.get(0).is_some(), "{ino}");
        }
        assert!(marks.young.len() + marks.old.len() <= 2 * KEPT);
        assert!(marks.get(kept).is_none());
        assert!((4 * kept + 1..5 * kept).all(|ino| marks.get(ino).is_some()));
    }
}
