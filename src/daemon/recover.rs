//! What the last daemon left: closed files settle on, open ones are torn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::ledger::{Index, LedgerError};
use crate::model::{ArtifactKind, Asked, RelPath, Timestamp};
use crate::seal::{Demand, Found, Life, Pipeline, Writer};
use crate::store::{self, EntryKind, Live, LiveKind, Meta, Tree};

/// How long a start waits for the comparison of the index with the log, if it found a file that was frozen when the last
/// daemon died.
const COMPARED: std::time::Duration = std::time::Duration::from_secs(60);

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
    for (ino, mut found) in files {
        let Some((path, meta)) = place(ino, &found.path, live, tree) else { continue };
        found.path = path;
        let kind = match meta.kind {
            EntryKind::File => ArtifactKind::File,
            EntryKind::Symlink => ArtifactKind::Symlink,
            EntryKind::Dir | EntryKind::Other => continue,
        };
        // The seal was committed, and only the journal did not hear of it.
        if index.read().find(&found.path).is_ok_and(|record| record.is_some()) {
            continue;
        }
        let frozen = tree.open_path(&found.path).ok().filter(|file| store::is_immutable(file));
        // Frozen for a seal that was not committed; or sealed, and its row is gone: the log says which. A live mount
        // cannot wait for that.
        if frozen.is_some() && live.is_none() {
            let _ = index.belief().wait(COMPARED);
        }
        if index.belief().differs(&found.path).is_some() {
            continue;
        }
        if let Some(file) = frozen.filter(|_| kind == ArtifactKind::File && !read_only) {
            let _ = store::set_immutable(file, false);
        }
        let writers = live.map(|live| writers(live, ino)).unwrap_or_default();
        if let Some(live) = live
            && (found.open || !writers.is_empty())
            && !found.torn
        {
            let killed = live.killed.get(&ino).copied();
            let claimed = !writers.is_empty();
            let life = pipeline.adopt_open(ino, found.path, writers, killed);
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

/// Finds the path of an inode and its attributes. The journal's path is tried first; if the journal has missed a rename,
/// the kernel's path is right. None if the inode is at neither.
fn place(ino: u64, journaled: &RelPath, live: Option<&Live>, tree: &Tree) -> Option<(RelPath, Meta)> {
    let told = live.and_then(|live| live.path(ino));
    [Some(journaled.clone()), told].into_iter().flatten().find_map(|path| {
        let meta = tree.stat_path(&path).ok().filter(|meta| meta.ino == ino)?;
        Some((path, meta))
    })
}

/// Adds the files that somebody has open for writing and that the journal does not have.
pub fn add_written(files: &mut Vec<(u64, Found)>, live: &Live, index: &Index, tree: &Tree) {
    let known: HashSet<u64> = files.iter().map(|(ino, _)| *ino).collect();
    let written: HashSet<u64> = live
        .handles
        .values()
        .filter(|handle| handle.kind == LiveKind::Writer && !known.contains(&handle.ino))
        .map(|handle| handle.ino)
        .collect();
    for ino in written {
        let Some(path) = live.path(ino) else { continue };
        let stands = tree.stat_path(&path).is_ok_and(|meta| meta.ino == ino && meta.kind == EntryKind::File);
        if stands && !index.read().find(&path).is_ok_and(|record| record.is_some()) {
            tracing::warn!(%path, "open for writing, and not in the journal");
            let (open, torn, demanded, request) = (true, false, None, None);
            files.push((ino, Found { path, open, torn, demanded, request }));
        }
    }
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
