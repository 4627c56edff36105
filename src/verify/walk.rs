//! Files, folders and whole stores, on all cores.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Finding;
use super::disk::DiskReader;
use super::keys::KnownKeys;
use super::log::LogView;
use super::record::{Piece, check_attributes, check_content, check_entry, check_lines, check_seal};
use super::require::Facts;
use crate::crypto::PublicKey;
use crate::ledger::{EntryRow, Filter, LedgerError, ReadIndex};
use crate::model::{ArtifactKind, RelPath, SealRecord};
use crate::seal::provenance_payload;
use crate::statement::seal_statement;
use crate::store::{self, EntryKind, Layout, Tree};

/// Records on their way to the workers.
const AHEAD: usize = 1024;
/// How long a commit may take to come under a checkpoint.
const EXPORT: Duration = Duration::from_secs(2);

/// How far a verification is; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files done.
    pub files: AtomicU64,
    /// Bytes hashed.
    pub bytes: AtomicU64,
}

/// What became of one file.
#[derive(Debug)]
pub struct Checked {
    /// The record.
    pub record: SealRecord,
    /// What is to be said of it although it holds; or the first wrong thing.
    pub outcome: Result<Option<String>, Finding>,
}

/// What stands in a folder without a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsealed {
    /// A file with content, or what is no file at all: it should be sealed.
    Content,
    /// A file without content, which is only a name.
    Empty,
    /// A free symbolic link.
    Link,
}

/// Everything that a store's files are checked against.
pub struct Verifier<'a> {
    tree: Tree,
    index: &'a ReadIndex,
    origin: String,
    keys: KnownKeys,
    log: LogView<'a>,
    /// The whole log was read and found under its checkpoint: its entries need no proof one by one.
    whole: bool,
}

impl<'a> Verifier<'a> {
    /// Opens tree and log. `log_keys` are those whose checkpoints are believed. What was committed a moment ago is
    /// given two seconds to come under the checkpoint.
    ///
    /// # Errors
    /// [`Finding::Log`] if there is no checkpoint of this log, or it does not bear out the store's keys;
    /// [`Finding::Unreadable`].
    pub fn new(
        layout: &Layout,
        index: &'a ReadIndex,
        origin: String,
        log_keys: &[PublicKey],
    ) -> Result<Self, Finding> {
        let tree = Tree::open(&layout.tree()).map_err(|error| Finding::Unreadable(error.to_string()))?;
        let size = index.entries().map_err(|error| Finding::Unreadable(error.to_string()))?;
        let until = Instant::now() + EXPORT;
        let log = loop {
            let log = LogView::open(index, &origin, log_keys)?;
            if log.checkpoint().size >= size || Instant::now() >= until {
                break log;
            }
            std::thread::sleep(EXPORT / 40);
        };
        let keys = KnownKeys::read(index, &origin, &|entry| log.check_included(entry))?;
        Ok(Verifier { tree, index, origin, keys, log, whole: false })
    }

    pub(super) fn index(&self) -> &ReadIndex {
        self.index
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The log and its checkpoint.
    #[must_use]
    pub fn log(&self) -> &LogView<'a> {
        &self.log
    }

    /// Reads the whole log; see [`LogView::check_whole`]. Files are then checked against its entries without a proof for
    /// each.
    ///
    /// # Errors
    /// [`Finding::Log`].
    pub fn check_log(&mut self, seen: &dyn Fn(u64)) -> Result<(), Finding> {
        self.log.check_whole(seen)?;
        self.whole = true;
        Ok(())
    }

    /// What is known of a seal from its statements, which [`Verifier::verify`] has checked.
    ///
    /// # Errors
    /// [`Finding::Provenance`] if they cannot be rendered.
    pub fn facts(&self, record: &SealRecord) -> Result<Facts, Finding> {
        let fail = |error: &dyn std::fmt::Display| Finding::Provenance(error.to_string());
        let seal = seal_statement(record, &self.origin).map_err(|error| fail(&error))?;
        let provenance =
            provenance_payload(record, &self.origin, self.index).map_err(|error| fail(&error))?;
        let parse = |text: &str| serde_json::from_str(text).map_err(|error| fail(&error));
        let provenance = provenance.as_deref().map(parse).transpose()?;
        Ok(Facts::of(&parse(&seal)?, provenance.as_ref()))
    }

    /// Checks one sealed file. Answers what is to be said of it although it holds.
    ///
    /// # Errors
    /// The first wrong thing.
    pub fn verify(&self, record: &SealRecord, progress: &Progress) -> Result<Option<String>, Finding> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Finding::Missing,
            _ => Finding::Unreadable(error.to_string()),
        };
        let dir = self.tree.parent_of(&record.path).map_err(unreadable)?;
        let meta = store::stat_at(&dir, record.path.name()).map_err(unreadable)?;
        let read = |bytes| {
            progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        match (record.kind, meta.kind) {
            (ArtifactKind::File, EntryKind::File) => {
                let reopen = |flags| store::open_at(&dir, record.path.name(), flags);
                let mut file = DiskReader::open(record.size, &reopen).map_err(unreadable)?;
                check_content(record, &mut |each| file.read_all(each), &read)?;
            }
            (ArtifactKind::Symlink, EntryKind::Symlink) => {
                let target = store::readlink_at(&dir, record.path.name()).map_err(unreadable)?;
                let mut content = |each: Piece<'_>| {
                    each(target.as_bytes());
                    Ok(())
                };
                check_content(record, &mut content, &read)?;
            }
            (sealed, found) => {
                let sealed = match sealed {
                    ArtifactKind::File => "a file",
                    ArtifactKind::Symlink => "a symbolic link",
                };
                return Err(Finding::Kind { sealed, found: kind_word(found) });
            }
        }
        let ledger = |error: LedgerError| match error {
            LedgerError::Log(what) => Finding::Log(what),
            other => Finding::Unreadable(other.to_string()),
        };
        let digests = check_seal(record, &self.origin, &self.keys, self.index)?;
        let entry = self.entry(record.log_index).map_err(ledger)?;
        check_entry(record, digests, entry.as_ref())?;
        let included = |entry: &EntryRow| if self.whole { Ok(()) } else { self.log.check_included(entry) };
        if let Some(entry) = &entry {
            included(entry)?;
        }
        check_lines(record, &self.origin, &self.keys, self.index, &included)?;
        check_attributes(record, &meta)?;
        if !self.log.covers(record.log_index) {
            let what = "its entry is not under a checkpoint yet: the daemon that runs next exports it";
            return Ok(Some(what.to_owned()));
        }
        Ok(self.keys.note(&record.key))
    }

    /// An entry: where the whole log was read, as it stands there, not as the index has it.
    fn entry(&self, index: u64) -> Result<Option<EntryRow>, LedgerError> {
        if self.whole && self.log.covers(index) {
            return self.log.entry(index).map(Some);
        }
        self.index.entry(index)
    }

    /// Checks every sealed file at or below a path, on all cores, and hands the results over in the order of
    /// the index; `each` answers whether to go on.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn verify_below(
        &self,
        path: &RelPath,
        progress: &Progress,
        each: &mut dyn FnMut(Checked) -> bool,
    ) -> Result<(), LedgerError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = AtomicBool::new(false);
        let (work, records) = crossbeam_channel::bounded::<(u64, SealRecord)>(AHEAD);
        let (done, results) = crossbeam_channel::bounded::<(u64, Checked)>(AHEAD);
        std::thread::scope(|scope| {
            let stop = &stop;
            let producer = scope.spawn(move || {
                let mut number = 0;
                self.index.below(path, Filter::default(), &mut |record| {
                    number += 1;
                    work.send((number - 1, record)).is_ok() && !stop.load(Ordering::Relaxed)
                })
            });
            for _ in 0..threads {
                let (records, done) = (records.clone(), done.clone());
                scope.spawn(move || {
                    for (number, record) in records {
                        if stop.load(Ordering::Relaxed) {
                            continue;
                        }
                        let outcome = self.verify(&record, progress);
                        progress.files.fetch_add(1, Ordering::Relaxed);
                        if done.send((number, Checked { record, outcome })).is_err() {
                            return;
                        }
                    }
                });
            }
            drop((records, done));
            let (mut next, mut early) = (0, BTreeMap::new());
            for (number, checked) in results {
                early.insert(number, checked);
                while let Some(checked) = early.remove(&next) {
                    next += 1;
                    if !stop.load(Ordering::Relaxed) && !each(checked) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
            producer.join().unwrap_or_else(|_| Err(LedgerError::Broken("the reader panicked".to_owned())))
        })
    }

    /// Hands over everything at or below a folder that is not sealed, but for folders.
    ///
    /// # Errors
    /// If a folder or the index cannot be read.
    pub fn unsealed_below(
        &self,
        path: &RelPath,
        each: &mut dyn FnMut(RelPath, Unsealed),
    ) -> Result<(), LedgerError> {
        let broken = |path: &RelPath, error: io::Error| LedgerError::Broken(format!("tree/{path}: {error}"));
        let mut folders = vec![path.clone()];
        while let Some(folder) = folders.pop() {
            let dir = match self.tree.dir_at(&folder) {
                Ok(dir) => dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(broken(&folder, error)),
            };
            let mut entries = store::list(&dir).map_err(|error| broken(&folder, error))?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            // Asked after the listing: what was sealed meanwhile is not told as unsealed.
            let children = self.index.children(&folder)?;
            let sealed: HashSet<_> = children.iter().map(|record| record.path.name()).collect();
            for entry in entries {
                let path = folder.join(&entry.name);
                match entry.kind {
                    EntryKind::Dir => folders.push(path),
                    _ if sealed.contains(entry.name.as_str()) => {}
                    EntryKind::Symlink => each(path, Unsealed::Link),
                    EntryKind::File if store::stat_at(&dir, &entry.name).is_ok_and(|meta| meta.size == 0) => {
                        each(path, Unsealed::Empty);
                    }
                    EntryKind::File | EntryKind::Other => each(path, Unsealed::Content),
                }
            }
        }
        Ok(())
    }

    /// What stands at a path in the tree.
    ///
    /// # Errors
    /// `ENOENT` and the like.
    pub fn kind_of(&self, path: &RelPath) -> io::Result<EntryKind> {
        Ok(self.tree.stat_path(path)?.kind)
    }
}

fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "a file",
        EntryKind::Dir => "a folder",
        EntryKind::Symlink => "a symbolic link",
        EntryKind::Other => "a device, FIFO or socket",
    }
}
