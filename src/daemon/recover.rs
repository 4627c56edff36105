//! What the last daemon left: closed files settle on, open ones are torn.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ledger::{Index, LedgerError};
use crate::model::{ArtifactKind, Asked, RelPath, Timestamp};
use crate::seal::{Demand, Found, Life, Pipeline, Writer};
use crate::store::{self, EntryKind, Live, LiveKind, Tree};

/// In the same boot the journal knows all; after a reboot only what was marked as synced can be trusted.
pub fn known(journal: Option<HashMap<u64, Found>>, index: &Index) -> Result<Vec<(u64, Found)>, LedgerError> {
    if let Some(files) = journal {
        return Ok(files.into_iter().collect());
    }
    let pending = index.read().pending()?;
    Ok(pending
        .into_iter()
        .map(|mark| {
            let found = Found {
                path: mark.path,
                open: false,
                torn: mark.torn,
                demanded: mark.demanded,
                request: mark.request,
            };
            (mark.ino, found)
        })
        .collect())
}

/// After a reboot, a mark counts only while size and modification time are those it was made with.
pub fn trusted(files: &mut [(u64, Found)], index: &Index, tree: &Tree) -> Result<(), LedgerError> {
    let marks: HashMap<RelPath, _> =
        index.read().pending()?.into_iter().map(|mark| (mark.path.clone(), mark)).collect();
    for (_, found) in files {
        let same = marks.get(&found.path).is_some_and(|mark| {
            tree.stat_path(&found.path).is_ok_and(|meta| meta.size == mark.size && meta.mtime == mark.mtime)
        });
        found.torn |= !same;
    }
    Ok(())
}

/// What came of it.
#[derive(Default)]
pub struct Adopted {
    /// Files that settle on.
    pub settling: u64,
    /// Files that are torn.
    pub torn: u64,
    /// Files that are open still, since the mount lives.
    pub open: u64,
    /// Of these, those that nobody has open by what was kept: their open or close is among what the kernel says
    /// again, or else they are closed.
    pub unclaimed: Vec<Arc<Life>>,
}

/// Begins the lives again. With `live`, the mount has outlived the last worker.
pub fn adopt(
    files: Vec<(u64, Found)>,
    live: Option<&Live>,
    index: &Index,
    tree: &Tree,
    pipeline: &Pipeline,
    read_only: bool,
) -> Adopted {
    let mut adopted = Adopted::default();
    for (ino, found) in files {
        let Ok(meta) = tree.stat_path(&found.path) else { continue };
        let kind = match meta.kind {
            EntryKind::File => ArtifactKind::File,
            EntryKind::Symlink => ArtifactKind::Symlink,
            EntryKind::Dir | EntryKind::Other => continue,
        };
        // Another file has the name, or the seal was committed and only the journal did not hear of it.
        if meta.ino != ino || index.read().find(&found.path).is_ok_and(|record| record.is_some()) {
            continue;
        }
        // Its row is gone, its seal is in the log: it stays frozen.
        if index.belief().differs(&found.path).is_some() {
            continue;
        }
        if kind == ArtifactKind::File
            && !read_only
            && let Ok(file) = tree.open_path(&found.path)
        {
            // Frozen for a seal that was not committed.
            let _ = store::set_immutable(file, false);
        }
        let writers = live.map(|live| writers(live, ino)).unwrap_or_default();
        if let Some(live) = live
            && (found.open || !writers.is_empty())
            && !found.torn
        {
            let killed = live.killed.get(&ino);
            let claimed = !writers.is_empty();
            let (by_own, last) = (killed.copied().unwrap_or(false), killed.is_some());
            let life = pipeline.adopt_open(ino, found.path, writers, by_own, last);
            carry_over(&life, found.request, found.demanded, pipeline, meta.size);
            adopted.open += 1;
            if !claimed {
                adopted.unclaimed.push(life);
            }
            continue;
        }
        let is_torn = (found.torn || found.open) && meta.size > 0;
        let life = pipeline.adopt_unknown(ino, kind, found.path, meta.size, is_torn);
        carry_over(&life, found.request, found.demanded.filter(|_| !is_torn), pipeline, meta.size);
        if is_torn {
            adopted.torn += 1;
        } else {
            adopted.settling += 1;
        }
    }
    adopted
}

fn writers(live: &Live, ino: u64) -> HashMap<u64, Writer> {
    let of_it =
        live.handles.iter().filter(|(_, handle)| handle.ino == ino && handle.kind == LiveKind::Writer);
    of_it.map(|(number, at)| (*number, Writer { process: at.process, flushed: at.flushed })).collect()
}

fn carry_over(
    life: &Arc<Life>,
    request: Option<Timestamp>,
    demanded: Option<Asked>,
    pipeline: &Pipeline,
    size: u64,
) {
    if let Some(until) = request {
        pipeline.requested(life, &mut life.lock(), until);
    }
    if let Some(asked) = demanded {
        pipeline.demand(life, Demand::again(asked), size, None);
    }
}
