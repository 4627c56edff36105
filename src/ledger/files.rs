//! The exported log on disk, for reading: tiles, entry bundles and the checkpoint in `STORE/log/` (C2SP
//! tlog-tiles), and the attachments beside them. Nothing here is believed; whoever reads compares with a root.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::LedgerError;
use super::index::Attachment;
use super::log::{Hashes, Level, TILE_WIDTH, Tile, bundle};
use crate::model::Digest;

/// No checkpoint is longer (bytes).
const CHECKPOINT_MAX: u64 = 1 << 20;
/// No bundle is longer (bytes).
const BUNDLE_MAX: u64 = 256 * (2 + super::entry::ENTRY_MAX as u64);
/// Longest line of the attachments (bytes): an envelope of 16 MiB, escaped.
const ATTACHMENT_MAX: u64 = 64 << 20;
/// Bundles kept decoded.
const KEPT: usize = 16;
/// Tiles kept, of 8 KiB each.
const TILES: usize = 512;

type Bundle = Arc<Vec<String>>;
/// The hashes of a tile, one after the other.
type HashBytes = Arc<Vec<u8>>;

/// `STORE/log/`, for reading.
pub struct LogFiles {
    dir: PathBuf,
    kept: Mutex<VecDeque<(u64, Bundle)>>,
    /// Full tiles that were read: they do not change, and proofs read the same ones again and again.
    tiles: Mutex<HashMap<(u8, u64), HashBytes>>,
}

impl LogFiles {
    /// The log in this folder, which need not be there yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        LogFiles { dir, kept: Mutex::default(), tiles: Mutex::default() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the checkpoint is.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// Where the attachments are: one JSON object a line.
    #[must_use]
    pub fn attachments_path(&self) -> PathBuf {
        self.dir.join("attachments.jsonl")
    }

    /// Where a tile is.
    #[must_use]
    pub fn tile_path(&self, tile: &Tile) -> PathBuf {
        self.dir.join(tile.path())
    }

    /// The checkpoint as it was exported; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn checkpoint(&self) -> Result<Option<Vec<u8>>, LedgerError> {
        read(&self.checkpoint_path(), CHECKPOINT_MAX)
    }

    /// How many entries the checkpoint says it covers; 0 if it cannot be read. Not checked: for `status`.
    #[must_use]
    pub fn covered(&self) -> u64 {
        let note = self.checkpoint().ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&note);
        text.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
    }

    /// A tile's bytes; none if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or is too long.
    pub fn tile(&self, tile: &Tile) -> Result<Option<Vec<u8>>, LedgerError> {
        read(&self.tile_path(tile), BUNDLE_MAX)
    }

    /// A tile, or a wider one that has taken its place: a log that grows keeps only the last few partial ones.
    ///
    /// # Errors
    /// If none is there or it cannot be read.
    pub fn at_least(&self, tile: &Tile) -> Result<(Tile, Vec<u8>), LedgerError> {
        let full = Tile { width: TILE_WIDTH, ..*tile };
        // The full one is written before the partial ones go: looked for after them, it is there.
        for candidate in [*tile, full] {
            if let Some(bytes) = self.tile(&candidate)? {
                return Ok((candidate, bytes));
            }
        }
        let mut folder = self.tile_path(&full).into_os_string();
        folder.push(".p");
        let widest = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u16>().ok())
            .filter(|width| *width > tile.width && *width < TILE_WIDTH)
            .max();
        let wider = widest.map(|width| Tile { width, ..*tile });
        for candidate in wider.into_iter().chain([full]) {
            if let Some(bytes) = self.tile(&candidate)? {
                return Ok((candidate, bytes));
            }
        }
        Err(LedgerError::Log(format!("{}: missing", tile.path())))
    }

    /// The entries of a bundle that holds at least `width`: the partial one of that width, or the full one.
    ///
    /// # Errors
    /// If neither is there, or what is there is no bundle.
    pub fn bundle(&self, index: u64, width: u16) -> Result<Vec<String>, LedgerError> {
        let (tile, bytes) = self.at_least(&Tile { level: Level::Entries, index, width })?;
        let broken = |what: &dyn std::fmt::Display| LedgerError::Log(format!("{}: {what}", tile.path()));
        let entries = bundle::decode(&bytes, tile.width).map_err(|error| broken(&error))?;
        let text =
            |entry: &[u8]| std::str::from_utf8(entry).map(str::to_owned).map_err(|error| broken(&error));
        entries.into_iter().take(usize::from(width)).map(text).collect()
    }

    /// The entries of a full bundle. The last few are kept decoded.
    ///
    /// # Errors
    /// As [`LogFiles::bundle`].
    pub fn full_bundle(&self, index: u64) -> Result<Bundle, LedgerError> {
        if let Some((_, bundle)) = self.kept.lock().iter().find(|(kept, _)| *kept == index) {
            return Ok(Arc::clone(bundle));
        }
        let bundle = Arc::new(self.bundle(index, TILE_WIDTH)?);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((index, Arc::clone(&bundle)));
        Ok(bundle)
    }

    /// The hashes that the tiles give for a tree of `size` leaves.
    #[must_use]
    pub fn hashes(&self, size: u64) -> TileHashes<'_> {
        TileHashes { files: self, size }
    }

    /// One hash of a tile that must be wide enough for a tree of `size` leaves.
    fn hash(&self, level: u8, index: u64, size: u64) -> Result<Digest, LedgerError> {
        let tile = Tile::holding(level, index, size);
        let known = self.tiles.lock().get(&(level, tile.index)).cloned();
        let bytes = match known {
            Some(bytes) if bytes.len() >= usize::from(tile.width) * 32 => bytes,
            _ => self.read_hashes(level, &tile)?,
        };
        let at = usize::try_from(index % u64::from(TILE_WIDTH)).unwrap_or(0) * 32;
        bytes
            .get(at..at + 32)
            .and_then(|bytes| Digest::from_slice(bytes).ok())
            .ok_or_else(|| LedgerError::Log(format!("{}: it has no hash {index}", tile.path())))
    }

    /// Reads a tile, or the full one that has taken its place, and keeps it.
    fn read_hashes(&self, level: u8, tile: &Tile) -> Result<HashBytes, LedgerError> {
        let (tile, bytes) = self.at_least(tile)?;
        if bytes.len() != usize::from(tile.width) * 32 {
            return Err(LedgerError::Log(format!("{}: {} bytes", tile.path(), bytes.len())));
        }
        let bytes = Arc::new(bytes);
        let mut tiles = self.tiles.lock();
        if tiles.len() >= TILES {
            tiles.clear();
        }
        tiles.insert((level, tile.index), Arc::clone(&bytes));
        Ok(bytes)
    }

    /// Hands over the attachments one by one, each with its line's number from 1; a torn last line ends them.
    ///
    /// # Errors
    /// If the file cannot be read or a whole line is no attachment (none if there is no file); or what `each` says.
    pub fn attachments(
        &self,
        each: &mut dyn FnMut(Attachment) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let path = self.attachments_path();
        let fail = |what: &dyn std::fmt::Display| LedgerError::Log(format!("attachments.jsonl: {what}"));
        let mut file = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(&error)),
        };
        let (mut line, mut number) = (Vec::new(), 0u64);
        loop {
            line.clear();
            file.by_ref().take(ATTACHMENT_MAX).read_until(b'\n', &mut line).map_err(|error| fail(&error))?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            number += 1;
            let attachment: Attachment = serde_json::from_slice(&line)
                .map_err(|error| fail(&format_args!("line {number}: {error}")))?;
            if attachment.id != number {
                return Err(fail(&format_args!("line {number} has the number {}", attachment.id)));
            }
            each(attachment)?;
        }
    }
}

/// Hashes of the exported tiles, at one size of the tree.
pub struct TileHashes<'a> {
    files: &'a LogFiles,
    size: u64,
}

impl Hashes for TileHashes<'_> {
    type Error = LedgerError;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, LedgerError> {
        self.files.hash(level, index, self.size)
    }
}

fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, LedgerError> {
    let fail = |error: &dyn std::fmt::Display| LedgerError::Log(format!("{}: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    if bytes.len() as u64 > most {
        return Err(fail(&"too long"));
    }
    Ok(Some(bytes))
}
