//! Metadata out and in: index, log, public keys and policy. Artifacts are copied by other tools, private keys by
//! their owner.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::crypto::PublicKey;
use crate::durable;
use crate::ledger::log::{Checkpoint, tiles_between};
use crate::ledger::{LedgerError, LogFiles, ReadIndex, check_rollback, log_keys};
use crate::store::{Layout, LayoutError};

/// How often a copy is begun anew because the log moved on under it.
const TRIES: u32 = 20;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Index or log say no.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Something is in the way.
    #[error("{path}: {what}", path = .0.display(), what = .1)]
    Taken(PathBuf, &'static str),
    /// The copy that is to be brought back does not hold together.
    #[error("{0}")]
    Broken(String),
    /// The disk.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
}

/// What was copied, or brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Entries that the checkpoint covers.
    pub exported: u64,
    /// Entries in the index.
    pub entries: u64,
    /// Sealed files that are not in the tree.
    pub missing: Vec<String>,
}

fn io(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |error| BackupError::Io(path.to_owned(), error)
}

/// Copies the metadata of a store into a new folder, mode 0700, also while a daemon runs. On return it is durable.
///
/// # Errors
/// [`BackupError`]; an unfinished copy has no `index.db`.
pub fn backup(
    layout: &Layout,
    index: &ReadIndex,
    origin: &str,
    log_keys: &[PublicKey],
    dest: &Path,
) -> Result<Restored, BackupError> {
    make_folder(dest)?;
    let log = index.log();
    for _ in 0..TRIES {
        // The log first: an index that is older than it would be taken for one that was put back.
        let note =
            log.checkpoint()?.ok_or_else(|| BackupError::Broken("log/checkpoint is missing".to_owned()))?;
        let (checkpoint, _) = Checkpoint::open(&note, origin, log_keys)
            .map_err(|error| BackupError::Broken(format!("log/checkpoint: {error}")))?;
        if !copy_log(log, checkpoint.size, &dest.join("log"))? {
            continue;
        }
        let place = dest.join("index.db.new");
        remove(&place)?;
        index.backup_to(&place)?;
        let copy = ReadIndex::open(&place)?;
        let (entries, pruned) = (copy.entries()?, copy.pruned_at()?);
        drop(copy);
        if pruned > checkpoint.size {
            continue;
        }
        copy_plain(layout, dest)?;
        durable::replace(&dest.join("log/checkpoint"), 0o600, &note).map_err(io(dest))?;
        durable::sync_fs(fs::File::open(dest).map_err(io(dest))?).map_err(io(dest))?;
        for suffix in ["-wal", "-shm"] {
            remove(&PathBuf::from(format!("{}{suffix}", place.display())))?;
        }
        fs::rename(&place, dest.join("index.db")).map_err(io(dest))?;
        durable::sync_parent(&dest.join("index.db")).map_err(io(dest))?;
        return Ok(Restored { exported: checkpoint.size, entries, missing: Vec::new() });
    }
    Err(BackupError::Broken("the log grows faster than it can be copied; try again later".to_owned()))
}

/// Brings metadata back into a store that has none: a new folder, or one with only `tree/`. On return it is durable.
///
/// # Errors
/// [`BackupError`]; nothing that was there is touched.
pub fn restore(source: &Path, store: &Path) -> Result<Restored, BackupError> {
    let from = |name: &str| source.join(name);
    if !from("index.db").is_file() {
        return Err(BackupError::Broken(format!(
            "{}: no backup (no index.db in it); 'sealctl backup DEST' makes one",
            source.display()
        )));
    }
    for name in ["index.db", "log/checkpoint", "policy.toml"] {
        if store.join(name).exists() {
            return Err(BackupError::Taken(
                store.join(name),
                "is there; a store with its log is mended by 'sealctl rebuild', else move this away first",
            ));
        }
    }
    let index = ReadIndex::open(&from("index.db"))?;
    let origin = index.origin()?;
    // The copy vouches for itself only: whoever restores it trusts it.
    let keys = log_keys(&from("keys"));
    let checkpoint = check_rollback(&index, &origin, &keys)?;
    let layout = if store.exists() && fs::read_dir(store).map_err(io(store))?.next().is_some() {
        Layout::open_damaged(store)?
    } else {
        Layout::create(store)?
    };
    for folder in [layout.log(), layout.keys(), layout.staging()] {
        durable::create_dirs(layout.root(), &folder).map_err(io(&folder))?;
    }
    copy_below(&from("log"), &layout.log())?;
    copy_below(&from("keys"), &layout.keys())?;
    copy(&from("policy.toml"), &layout.policy(), 0o600)?;
    let place = layout.root().join("index.db.new");
    remove(&place)?;
    index.backup_to(&place)?;
    let root = fs::File::open(layout.root()).map_err(io(layout.root()))?;
    durable::sync_fs(root).map_err(io(layout.root()))?;
    for suffix in ["-wal", "-shm"] {
        remove(&PathBuf::from(format!("{}{suffix}", place.display())))?;
    }
    fs::rename(&place, layout.index()).map_err(io(&place))?;
    durable::sync_parent(&layout.index()).map_err(io(&place))?;
    let restored = ReadIndex::open(&layout.index())?;
    let mut missing = Vec::new();
    let tree = crate::store::Tree::open(&layout.tree()).map_err(io(layout.root()))?;
    restored.below(&crate::model::RelPath::root(), crate::ledger::Filter::default(), &mut |record| {
        if tree.stat_path(&record.path).is_err() {
            missing.push(record.path.to_string());
        }
        true
    })?;
    Ok(Restored {
        exported: checkpoint.map_or(0, |(checkpoint, _)| checkpoint.size),
        entries: restored.entries()?,
        missing,
    })
}

fn make_folder(dest: &Path) -> Result<(), BackupError> {
    match fs::read_dir(dest) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(BackupError::Taken(dest.to_owned(), "is not empty; choose another place"));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().mode(0o700).create(dest).map_err(io(dest))?;
        }
        Err(error) => return Err(io(dest)(error)),
    }
    for name in ["log", "keys"] {
        let folder = dest.join(name);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(io(&folder))?;
    }
    Ok(())
}

/// Copies the tiles and bundles of a log of this size; false if one of them went away meanwhile.
fn copy_log(log: &LogFiles, size: u64, dest: &Path) -> Result<bool, BackupError> {
    let attachments = log.attachments_path();
    if attachments.exists() {
        copy(&attachments, &dest.join("attachments.jsonl"), 0o600)?;
    }
    for tile in tiles_between(0, size) {
        let to = dest.join(tile.path());
        if to.exists() {
            continue;
        }
        let Some(bytes) = log.tile(&tile)? else { return Ok(false) };
        let parent = to.parent().unwrap_or(dest);
        durable::create_dirs(dest, parent).map_err(io(parent))?;
        durable::place(&to, 0o600, &bytes).map_err(io(&to))?;
    }
    Ok(true)
}

/// Policy and public keys.
fn copy_plain(layout: &Layout, dest: &Path) -> Result<(), BackupError> {
    copy(&layout.policy(), &dest.join("policy.toml"), 0o600)?;
    for entry in fs::read_dir(layout.keys()).map_err(io(&layout.keys()))? {
        let path = entry.map_err(io(&layout.keys()))?.path();
        if path.extension().is_some_and(|ending| ending == "pub") {
            let name = path.file_name().unwrap_or_default();
            copy(&path, &dest.join("keys").join(name), 0o644)?;
        }
    }
    Ok(())
}

fn copy_below(from: &Path, to: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(from).map_err(io(from))? {
        let entry = entry.map_err(io(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(io(&path))?;
        if kind.is_dir() {
            durable::create_dirs(to, &target).map_err(io(&target))?;
            copy_below(&path, &target)?;
        } else if kind.is_file() && !target.exists() {
            let public = target.extension().is_some_and(|ending| ending == "pub");
            copy(&path, &target, if public { 0o644 } else { 0o600 })?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), BackupError> {
    let bytes = fs::read(from).map_err(io(from))?;
    durable::place(to, mode, &bytes).map_err(io(to))
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}
