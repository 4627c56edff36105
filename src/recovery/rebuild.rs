//! `sealctl rebuild`: a new index from log and tree.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::replay::{Source, replay};
use crate::crypto::PublicKey;
use crate::durable;
use crate::ledger::log::Checkpoint;
use crate::ledger::{Backing, LedgerError, LogFiles, ReadIndex};
use crate::model::SealRecord;
use crate::store::{self, EntryKind, Layout, StoreLock, Tree};

/// Why there is no new index. The old one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The log does not hold together.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The checkpoint is missing, or not signed by the log's key.
    #[error("log/checkpoint: {0}; put log/ back from a backup")]
    Checkpoint(String),
    /// The entries do not add up to what the checkpoint says.
    #[error(
        "the entries in log/tile/entries do not have the root that log/checkpoint was signed over; put log/ back \
         from a backup"
    )]
    Root,
    /// The disk.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
}

/// What came of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Entries of the log.
    pub entries: u64,
    /// Of these, so many were not exported yet and come from the old index.
    pub salvaged: u64,
    /// Seals that stand.
    pub seals: u64,
    /// Sealed files that are not in the tree, or not what was sealed.
    pub missing: Vec<String>,
    /// Seals of which it is not known any more who wrote them.
    pub without_writers: u64,
    /// Where the old index is now.
    pub kept: Option<PathBuf>,
}

/// Makes the index anew. The lock says that no daemon runs. On return it is durable; the old index stands beside it
/// as `index.db.old`.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild(
    layout: &Layout,
    _lock: &StoreLock,
    origin: Option<&str>,
    log_keys: &[PublicKey],
    seen: &dyn Fn(u64),
) -> Result<Rebuilt, RebuildError> {
    let io = |path: PathBuf| move |error| RebuildError::Io(path, error);
    let log = LogFiles::new(layout.log());
    let old = ReadIndex::open(&layout.index()).ok();
    let checkpoint = checkpoint(&log, origin, log_keys)?;
    let index = old.as_ref().and_then(|index| continues(index, &checkpoint));
    let source = Source { log: &log, exported: checkpoint.size, index: old.as_ref().zip(index) };
    let tree = Tree::open(&layout.tree()).map_err(io(layout.tree()))?;
    let fresh = layout.root().join("index.db.new");
    remove(&fresh).map_err(io(fresh.clone()))?;
    let replayed = replay(&source, &fresh, &|record| backing_of(&tree, record), seen)?;
    if replayed.exported_root != checkpoint.root {
        let _ = remove(&fresh);
        return Err(RebuildError::Root);
    }
    drop(old);
    let kept = put_in_place(layout, &fresh).map_err(io(layout.index()))?;
    let mut rebuilt = Rebuilt {
        entries: replayed.size,
        salvaged: replayed.size - checkpoint.size,
        without_writers: replayed.without_writers,
        kept,
        ..Rebuilt::default()
    };
    let index = ReadIndex::open(&layout.index())?;
    index.below(&crate::model::RelPath::root(), crate::ledger::Filter::default(), &mut |record| {
        rebuilt.seals += 1;
        if record.ino == 0 {
            rebuilt.missing.push(record.path.to_string());
        }
        true
    })?;
    Ok(rebuilt)
}

fn checkpoint(log: &LogFiles, origin: Option<&str>, keys: &[PublicKey]) -> Result<Checkpoint, RebuildError> {
    let fail = |what: &dyn std::fmt::Display| RebuildError::Checkpoint(what.to_string());
    let note = log.checkpoint()?.ok_or_else(|| fail(&"missing"))?;
    let first = String::from_utf8_lossy(&note).lines().next().unwrap_or_default().to_owned();
    let (checkpoint, _) =
        Checkpoint::open(&note, origin.unwrap_or(&first), keys).map_err(|error| fail(&error))?;
    Ok(checkpoint)
}

/// How many entries the old index has, if it is a longer form of what was exported: then the last of them were
/// committed and not exported yet.
fn continues(old: &ReadIndex, checkpoint: &Checkpoint) -> Option<u64> {
    let size = old.entries().ok().filter(|size| *size > checkpoint.size)?;
    old.edge().ok().filter(|edge| edge.size() == size)?;
    (old.root(checkpoint.size).ok()? == checkpoint.root).then_some(size)
}

/// What the tree knows of a seal: nothing, if what stands there is not it by the look of it.
fn backing_of(tree: &Tree, record: &SealRecord) -> Backing {
    let kind = match record.kind {
        crate::model::ArtifactKind::File => EntryKind::File,
        crate::model::ArtifactKind::Symlink => EntryKind::Symlink,
    };
    let found = tree.parent_of(&record.path).and_then(|dir| store::stat_at(&dir, record.path.name()));
    match found {
        Ok(meta) if meta.kind == kind && meta.size == record.size && meta.mtime == record.mtime => {
            Backing { ino: meta.ino, ctime: meta.ctime }
        }
        _ => Backing::default(),
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The old index with its WAL is set aside, the new one takes its name. A crash in between leaves no index: then
/// this is done again.
fn put_in_place(layout: &Layout, fresh: &std::path::Path) -> io::Result<Option<PathBuf>> {
    let index = layout.index();
    let aside = layout.root().join("index.db.old");
    remove(&aside)?;
    let mut kept = None;
    for suffix in ["-wal", "-shm", ""] {
        let named = |path: &std::path::Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        match fs::rename(named(&index), named(&aside)) {
            Ok(()) => kept = Some(aside.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::rename(fresh, &index)?;
    durable::sync_parent(&index)?;
    Ok(kept)
}
