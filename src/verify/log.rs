//! The log as a whole: every entry, every tile, the root, the checkpoint.

use std::collections::BTreeMap;

use super::Finding;
use crate::crypto::PublicKey;
use crate::ledger::log::{
    Checkpoint, Edge, Level, TILE_WIDTH, Tile, inclusion_proof, leaf_hash, tiles_between, verify_consistency,
    verify_inclusion,
};
use crate::ledger::{Entry, EntryRow, LedgerError, LogFiles, ReadIndex, check_rollback};
use crate::model::{Digest, Timestamp};
use crate::recovery::Source;

/// The exported log of a store under its signed checkpoint.
pub struct LogView<'a> {
    index: &'a ReadIndex,
    checkpoint: Checkpoint,
    note: Vec<u8>,
}

impl<'a> LogView<'a> {
    /// Reads the checkpoint and compares it with the index.
    ///
    /// # Errors
    /// [`Finding::Log`] if it is missing, not signed by one of `keys`, or of another log than the index.
    pub fn open(index: &'a ReadIndex, origin: &str, keys: &[PublicKey]) -> Result<Self, Finding> {
        match check_rollback(index, origin, keys) {
            Ok(Some((checkpoint, note))) => Ok(LogView { index, checkpoint, note }),
            Ok(None) => Err(Finding::Log("log/checkpoint is missing".to_owned())),
            Err(error) => Err(Finding::Log(plain(&error))),
        }
    }

    /// The checkpoint as it is signed.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether an entry is under the checkpoint's root, by the tiles alone. One that was committed a moment ago, or by
    /// a daemon that was killed before it could export, is not yet: see [`LogView::covers`].
    ///
    /// # Errors
    /// [`Finding::Log`] if it should be and is not.
    pub fn check_included(&self, entry: &EntryRow) -> Result<(), Finding> {
        if !self.covers(entry.index) {
            return Ok(());
        }
        let size = self.checkpoint.size;
        let proof = inclusion_proof(entry.index, size, &self.index.log().hashes(size));
        let proof = proof.map_err(|error| Finding::Log(plain(&error)))?;
        let leaf = leaf_hash(entry.body.as_bytes());
        verify_inclusion(leaf, entry.index, size, &proof, self.checkpoint.root)
            .map_err(|_| Finding::Log(format!("entry {} is not the one under the checkpoint", entry.index)))
    }

    /// An entry out of its bundle.
    ///
    /// # Errors
    /// If the bundle cannot be read.
    pub fn entry(&self, index: u64) -> Result<EntryRow, LedgerError> {
        let (bundle, at) = (index / 256, usize::try_from(index % 256).unwrap_or(0));
        let width = (self.checkpoint.size - bundle * 256).min(256);
        let files = self.index.log();
        let body = if width == 256 {
            files.full_bundle(bundle)?.get(at).cloned()
        } else {
            files.bundle(bundle, u16::try_from(width).unwrap_or(256))?.into_iter().nth(at)
        };
        let body = body.ok_or_else(|| LedgerError::Log(format!("entry {index} is missing")))?;
        Ok(EntryRow { index, body })
    }

    /// Whether the checkpoint covers this place in the log.
    #[must_use]
    pub fn covers(&self, index: u64) -> bool {
        index < self.checkpoint.size
    }

    /// Reads every entry and every tile, and computes the root anew. `seen` is told of each entry.
    ///
    /// # Errors
    /// [`Finding::Log`]: the first thing that is wrong, by the name of its file.
    pub fn check_whole(&self, seen: &dyn Fn(u64)) -> Result<(), Finding> {
        let size = self.checkpoint.size;
        let files = self.index.log();
        let mut tiles = Tiles { files, size, open: BTreeMap::new() };
        let (mut edge, mut last) = (Edge::default(), Timestamp(i64::MIN));
        let mut broken = None;
        let source = Source { log: files, exported: size, index: None };
        let walked = source.each(&mut |position, text| {
            let row = EntryRow { index: position, body: text.to_owned() };
            let checked = check_order(&row, last).and_then(|time| {
                last = time;
                edge.push(leaf_hash(text.as_bytes()))
                    .into_iter()
                    .try_for_each(|(level, index, hash)| tiles.take(level, index, hash))
            });
            if let Err(finding) = checked {
                broken = Some(finding);
                return Err(LedgerError::Log("stopped".to_owned()));
            }
            seen(position + 1);
            Ok(())
        });
        if let Some(finding) = broken {
            return Err(finding);
        }
        walked.map_err(|error| Finding::Log(plain(&error)))?;
        tiles.rest()?;
        if edge.root() != self.checkpoint.root {
            return Err(Finding::Log(format!(
                "the entries have the root {}, the checkpoint says {}",
                edge.root(),
                self.checkpoint.root
            )));
        }
        Ok(())
    }

    /// Whether an older checkpoint of this log, kept elsewhere, is of the same log.
    ///
    /// # Errors
    /// [`Finding::Log`] if this one is shorter or another.
    pub fn check_against(&self, older: &Checkpoint) -> Result<(), Finding> {
        let (old, new) = (older.size, self.checkpoint.size);
        if old > new {
            return Err(Finding::Log(format!(
                "the checkpoint kept elsewhere covers {old} entries, this log has {new}: entries were taken away"
            )));
        }
        let hashes = self.index.log().hashes(new);
        let proof = crate::ledger::log::consistency_proof(old, new, &hashes)
            .map_err(|error| Finding::Log(plain(&error)))?;
        verify_consistency(old, older.root, new, self.checkpoint.root, &proof).map_err(|_| {
            Finding::Log(format!(
                "the checkpoint kept elsewhere covers {old} entries that are not the first {old} of this log: the log \
                 was written anew"
            ))
        })
    }
}

/// An error without the room's prefix.
fn plain(error: &LedgerError) -> String {
    match error {
        LedgerError::Log(what) => what.clone(),
        other => other.to_string(),
    }
}

fn check_order(row: &EntryRow, last: Timestamp) -> Result<Timestamp, Finding> {
    let entry: Entry = row.parse().map_err(|error| Finding::Log(format!("entry {}: {error}", row.index)))?;
    if entry.time < last {
        return Err(Finding::Log(format!("entry {} is earlier than the one before it", row.index)));
    }
    Ok(entry.time)
}

/// Hash tiles on disk against the hashes that the entries give.
struct Tiles<'a> {
    files: &'a LogFiles,
    size: u64,
    /// By level: the hashes of the tile that is not full yet.
    open: BTreeMap<u8, Vec<Digest>>,
}

impl Tiles<'_> {
    fn take(&mut self, level: u8, index: u64, hash: Digest) -> Result<(), Finding> {
        let open = self.open.entry(level).or_default();
        open.push(hash);
        if open.len() == usize::from(TILE_WIDTH) {
            let hashes = std::mem::take(open);
            let tile =
                Tile { level: Level::Hash(level), index: index / u64::from(TILE_WIDTH), width: TILE_WIDTH };
            self.compare(&tile, &hashes)?;
        }
        Ok(())
    }

    /// The partial tiles at the end.
    fn rest(&mut self) -> Result<(), Finding> {
        for tile in tiles_between(0, self.size).into_iter().filter(|tile| tile.width < TILE_WIDTH) {
            if let Level::Hash(level) = tile.level {
                let hashes = self.open.remove(&level).unwrap_or_default();
                self.compare(&tile, &hashes)?;
            }
        }
        Ok(())
    }

    fn compare(&self, tile: &Tile, hashes: &[Digest]) -> Result<(), Finding> {
        let (found, bytes) = self.files.at_least(tile).map_err(|error| Finding::Log(plain(&error)))?;
        let expected: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        if bytes.len() == usize::from(found.width) * 32 && bytes.starts_with(&expected) {
            return Ok(());
        }
        Err(Finding::Log(format!("{}: its hashes are not those of the entries", tile.path())))
    }
}
