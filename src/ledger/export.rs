//! From the index to the exported log: tiles, bundles, attachments, then the checkpoint over them.
//!
//! Export comes after the commit and is idempotent: whatever a crash left half done is written again from the last
//! checkpoint on, by the same code. A checkpoint is signed only over what the index has committed, and named only
//! when all tiles below it are durable: so there is one tree for each size, and it can be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::LedgerError;
use super::files::LogFiles;
use super::index::Index;
use super::log::{Checkpoint, Hashes, Level, TILE_WIDTH, Tile, bundle, leaf_hash, tiles_between};
use crate::crypto::{PublicKey, SigningKey};
use crate::durable;

/// Up to so many files are synced one by one; more by one syncfs.
const FEW: usize = 12;
/// Partial tiles of each kind that stay beside the newest, for readers of an older checkpoint.
const PARTIALS: u16 = 16;
/// Entries that leave the index together.
const PRUNED: u64 = 2048;
/// Attachments read at a time.
const ATTACHMENTS: u32 = 256;

/// What the last checkpoint covers.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    size: u64,
    attachments: Attachments,
    pruned: u64,
}

/// How far the file of attachments is durable.
#[derive(Debug, Clone, Copy, Default)]
struct Attachments {
    /// The last number.
    last: u64,
    /// Bytes. What comes after them was written by an export that failed, and is not trusted.
    length: u64,
}

/// Writes the log out. One at a time for a store.
pub struct Exporter {
    index: Arc<Index>,
    origin: String,
    done: Mutex<Done>,
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> LedgerError + '_ {
    move |error| LedgerError::Log(format!("{}: {error}", path.display()))
}

/// Compares an index with the checkpoint that was exported from it. Answers the checkpoint and
/// its signed note, if there is one.
///
/// # Errors
/// [`LedgerError::Rollback`] if one of them was put back or exchanged.
pub fn check_rollback(
    index: &super::ReadIndex,
    origin: &str,
    keys: &[PublicKey],
) -> Result<Option<(Checkpoint, Vec<u8>)>, LedgerError> {
    let rollback = |what: String| Err(LedgerError::Rollback(what));
    // In this order: a daemon that goes on meanwhile lets each only grow, pruned after checkpoint after entries.
    let pruned = index.pruned_at()?;
    let note = index.log().checkpoint()?;
    let size = index.entries()?;
    let Some(note) = note else {
        if pruned > 0 {
            return rollback(format!(
                "log/checkpoint is missing, although {pruned} entries were exported; put log/ back from a backup"
            ));
        }
        return Ok(None);
    };
    let (checkpoint, _) = match Checkpoint::open(&note, origin, keys) {
        Ok(opened) => opened,
        Err(error) => return rollback(format!("log/checkpoint: {error}; put log/ back from a backup")),
    };
    if checkpoint.size > size {
        return rollback(format!(
            "index.db is older than the log: it has {size} entries, log/checkpoint {}. An older index was put back; \
             'sealctl rebuild' makes it anew from log and tree",
            checkpoint.size
        ));
    }
    if checkpoint.size < pruned {
        return rollback(format!(
            "the log is older than index.db: log/checkpoint has {} entries, and {pruned} were exported. An older log \
             was put back; put the newer one back from a backup",
            checkpoint.size
        ));
    }
    let root = index.root(checkpoint.size)?;
    if root != checkpoint.root {
        return rollback(format!(
            "index.db and log/checkpoint are of different logs: over the first {} entries the index has the root \
             {root}, the checkpoint {}. One of them was exchanged; if it was the index, 'sealctl rebuild' makes it \
             anew from log and tree",
            checkpoint.size, checkpoint.root
        ));
    }
    Ok(Some((checkpoint, note)))
}

impl Exporter {
    /// Looks how far the log was exported. `keys` are the store's log keys.
    ///
    /// # Errors
    /// As [`check_rollback`]; or if the log cannot be read.
    pub fn open(index: Arc<Index>, origin: &str, keys: &[PublicKey]) -> Result<Self, LedgerError> {
        let size = check_rollback(index.read(), origin, keys)?.map_or(0, |(checkpoint, _)| checkpoint.size);
        let pruned = index.read().pruned_at()?;
        let attachments = mend_attachments(&index.read().log().attachments_path())?;
        let done = Mutex::new(Done { size, attachments, pruned });
        Ok(Exporter { index, origin: origin.to_owned(), done })
    }

    /// Exports what was committed since, signed by `key`. On return it is durable. Answers how many entries the
    /// checkpoint covers.
    ///
    /// # Errors
    /// If something cannot be read or written: the old checkpoint then still stands.
    pub fn export(&self, key: &SigningKey) -> Result<u64, LedgerError> {
        let mut done = self.done.lock();
        let size = self.index.read().entries()?;
        if size == done.size && self.files().checkpoint_path().exists() {
            return Ok(size);
        }
        let attachments = self.export_attachments(done.attachments)?;
        let tiles = tiles_between(done.size, size);
        let contents: Vec<(PathBuf, Vec<u8>)> = tiles
            .iter()
            .map(|tile| Ok((self.files().tile_path(tile), self.content(tile)?)))
            .collect::<Result<_, LedgerError>>()?;
        write_all(&contents, self.files().dir())?;
        let root = self.index.read().root(size)?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let note = checkpoint.sign(key).map_err(|error| LedgerError::Log(error.to_string()))?;
        let path = self.files().checkpoint_path();
        durable::replace(&path, 0o600, note.as_bytes()).map_err(io_error(&path))?;
        (done.size, done.attachments) = (size, attachments);
        for tile in &tiles {
            self.clear_partials(tile);
        }
        if size.saturating_sub(done.pruned) >= PRUNED {
            self.index.prune(size)?;
            done.pruned = size;
        }
        Ok(size)
    }

    fn files(&self) -> &LogFiles {
        self.index.read().log()
    }

    /// A tile's bytes, from the index: full tiles leave it only when they are exported.
    fn content(&self, tile: &Tile) -> Result<Vec<u8>, LedgerError> {
        let first = tile.index * u64::from(TILE_WIDTH);
        let read = self.index.read();
        match tile.level {
            Level::Entries => {
                let rows = read.kept_entries(first, u32::from(tile.width))?;
                let whole = rows.iter().zip(first..).all(|(row, index)| row.index == index);
                if rows.len() != usize::from(tile.width) || !whole {
                    return Err(LedgerError::Broken(format!("entries from {first} on are missing")));
                }
                for row in &rows {
                    // A row that was altered must not be exported under hashes of what it was.
                    if leaf_hash(row.body.as_bytes()) != read.hash(0, row.index)? {
                        let what = format!("entry {} is not the one that was hashed", row.index);
                        return Err(LedgerError::Broken(what));
                    }
                }
                let bodies: Vec<&str> = rows.iter().map(|row| row.body.as_str()).collect();
                bundle::encode(&bodies).map_err(|error| LedgerError::Log(error.to_string()))
            }
            Level::Hash(level) => {
                let mut bytes = Vec::with_capacity(usize::from(tile.width) * 32);
                for index in first..first + u64::from(tile.width) {
                    bytes.extend_from_slice(&read.hash(level, index)?.0);
                }
                Ok(bytes)
            }
        }
    }

    /// Appends what is new; durable on return.
    fn export_attachments(&self, mut done: Attachments) -> Result<Attachments, LedgerError> {
        let path = self.files().attachments_path();
        let mut file: Option<File> = None;
        loop {
            let new = self.index.read().attachments_after(done.last, ATTACHMENTS)?;
            if new.is_empty() {
                break;
            }
            let mut text = Vec::new();
            for attachment in new {
                if attachment.id != done.last + 1 {
                    return Err(LedgerError::Broken(format!("attachment {} is missing", done.last + 1)));
                }
                done.last = attachment.id;
                serde_json::to_writer(&mut text, &attachment)
                    .map_err(|error| LedgerError::Log(error.to_string()))?;
                text.push(b'\n');
            }
            let open = match &mut file {
                Some(open) => open,
                None => file.insert(append_after(&path, done.length).map_err(io_error(&path))?),
            };
            open.write_all(&text).map_err(io_error(&path))?;
            done.length += text.len() as u64;
        }
        if let Some(file) = file {
            durable::sync_file(&file).map_err(io_error(&path))?;
            durable::sync_parent(&path).map_err(io_error(&path))?;
        }
        Ok(done)
    }

    /// Takes away the partial tiles that a newer one stands for. What cannot be removed does no harm.
    fn clear_partials(&self, tile: &Tile) {
        let full = self.files().tile_path(&Tile { width: TILE_WIDTH, ..*tile });
        let mut partials = full.into_os_string();
        partials.push(".p");
        if tile.width == TILE_WIDTH {
            let _ = fs::remove_dir_all(&partials);
            return;
        }
        let mut widths: Vec<u16> = fs::read_dir(&partials)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        widths.sort_unstable();
        let most = usize::from(PARTIALS);
        for width in widths.iter().take(widths.len().saturating_sub(most)) {
            let _ = fs::remove_file(Path::new(&partials).join(width.to_string()));
        }
    }
}

/// Opens a file for appending, cut to this length.
fn append_after(path: &Path, length: u64) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok(file)
}

/// Cuts off a line that a crash left torn; answers how far whole ones go.
fn mend_attachments(path: &Path) -> Result<Attachments, LedgerError> {
    let fail = io_error(path);
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Attachments::default()),
        Err(error) => return Err(fail(error)),
    };
    let length = file.metadata().map_err(&fail)?.len();
    let last_line_end = last_newline(&mut file, length).map_err(&fail)?;
    if last_line_end < length {
        file.set_len(last_line_end).map_err(&fail)?;
        durable::sync_file(&file).map_err(&fail)?;
    }
    if last_line_end == 0 {
        return Ok(Attachments::default());
    }
    let begin = last_newline(&mut file, last_line_end - 1).map_err(&fail)?;
    file.seek(SeekFrom::Start(begin)).map_err(&fail)?;
    let mut line = Vec::new();
    file.take(last_line_end - begin).read_to_end(&mut line).map_err(&fail)?;
    let last: super::Attachment = serde_json::from_slice(&line)
        .map_err(|error| LedgerError::Log(format!("{}: its last line: {error}", path.display())))?;
    Ok(Attachments { last: last.id, length: last_line_end })
}

/// Where the line before `end` begins: after the last newline below it; 0 if there is none.
fn last_newline(file: &mut File, end: u64) -> io::Result<u64> {
    let mut end = end;
    let mut buffer = vec![0u8; 64 * 1024];
    while end > 0 {
        let begin = end.saturating_sub(buffer.len() as u64);
        let length = usize::try_from(end - begin).unwrap_or(buffer.len());
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut buffer[..length])?;
        if let Some(at) = buffer[..length].iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Writes files whose folders may be missing. On return they and their names are durable.
fn write_all(contents: &[(PathBuf, Vec<u8>)], dir: &Path) -> Result<(), LedgerError> {
    let few = contents.len() <= FEW;
    // Opened before the writes: it tells of their errors only.
    let root = File::open(dir).map_err(io_error(dir))?;
    for (path, bytes) in contents {
        let parent = path.parent().unwrap_or(dir);
        if !parent.is_dir() {
            durable::create_dirs(dir, parent).map_err(io_error(parent))?;
        }
        if few {
            durable::replace(path, 0o600, bytes).map_err(io_error(path))?;
        } else {
            durable::place(path, 0o600, bytes).map_err(io_error(path))?;
        }
    }
    if !few {
        durable::sync_fs(&root).map_err(io_error(dir))?;
    }
    Ok(())
}
