//! What the last daemon left: closed files settle on, open ones are torn.

use std::collections::HashMap;

use crate::ledger::{Index, LedgerError};
use crate::model::{ArtifactKind, RelPath, Timestamp};
use crate::seal::{Found, Pipeline};
use crate::store::{self, EntryKind, Tree};

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

/// Begins the lives again.
pub fn adopt(
    files: Vec<(u64, Found)>,
    index: &Index,
    tree: &Tree,
    pipeline: &Pipeline,
    read_only: bool,
) -> (u64, u64) {
    let (mut settling, mut torn) = (0, 0);
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
        if kind == ArtifactKind::File
            && !read_only
            && let Ok(file) = tree.open_path(&found.path)
        {
            // Frozen for a seal that was not committed.
            let _ = store::set_immutable(file, false);
        }
        let is_torn = (found.torn || found.open) && meta.size > 0;
        let life = pipeline.adopt(ino, kind, found.path, meta.size, is_torn);
        carry_over(&life, found.request, found.demanded && !is_torn, pipeline, meta.size);
        if is_torn {
            torn += 1;
        } else {
            settling += 1;
        }
    }
    (settling, torn)
}

fn carry_over(
    life: &std::sync::Arc<crate::seal::Life>,
    request: Option<Timestamp>,
    demanded: bool,
    pipeline: &Pipeline,
    size: u64,
) {
    if let Some(until) = request {
        pipeline.requested(life, &mut life.lock(), until);
    }
    if demanded {
        pipeline.demand(life, crate::seal::Demand::Explicit { torn: false }, size, None);
    }
}
