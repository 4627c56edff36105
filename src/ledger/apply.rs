//! An entry and its effect on the index: the one way for new entries and for those read back from the log.

use super::entry::{Change, Entry};
use super::index::{Row, Writer};
use super::log::{Edge, leaf_hash};
use super::{KeyRole, LedgerError, rules};
use crate::crypto::PublicKey;
use crate::model::{FileTime, RelPath, SealRecord};

/// What no entry says of a seal, and its backing file does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backing {
    /// Inode number.
    pub ino: u64,
    /// Change time.
    pub ctime: FileTime,
}

/// Adds an entry with the text it is kept as, its hashes, and its effect. Answers the record if it is a seal.
///
/// # Errors
/// If it cannot follow what the index says, or SQLite fails; the transaction must then be given up.
pub fn append(
    writer: &mut Writer<'_>,
    edge: &mut Edge,
    entry: &Entry,
    text: &str,
    backing: Backing,
) -> Result<Option<SealRecord>, LedgerError> {
    if entry.index != edge.size() {
        return Err(LedgerError::Broken(format!("entry {} in a log of {}", entry.index, edge.size())));
    }
    writer.entry(entry.index, text)?;
    for (level, index, hash) in edge.push(leaf_hash(text.as_bytes())) {
        writer.node(level, index, hash)?;
    }
    let sealed = effect(writer, entry, backing)?;
    if sealed.is_none()
        && let Some(path) = entry.path()
    {
        writer.about(path, entry.index)?;
    }
    Ok(sealed)
}

fn effect(
    writer: &mut Writer<'_>,
    entry: &Entry,
    backing: Backing,
) -> Result<Option<SealRecord>, LedgerError> {
    match &entry.change {
        Change::Sealed(sealed) => {
            let mut record = sealed.to_record(entry.index, entry.time, entry.wall);
            (record.ino, record.ctime) = (backing.ino, backing.ctime);
            record.id = writer.seal(&record)?;
            return Ok(Some(record));
        }
        Change::Extended { path, seal, retain_until, .. } => {
            let row = standing(writer, path, *seal)?;
            follows(entry, path, rules::extended(row.until, *retain_until))?;
            writer.retain(row.id, *retain_until)?;
            writer.line(row.id, entry.index)?;
        }
        Change::Shortened { path, seal, retain_until, reason, .. } => {
            let row = standing(writer, path, *seal)?;
            follows(entry, path, rules::shortened(row.mode, row.until, *retain_until, reason))?;
            writer.retain(row.id, *retain_until)?;
            writer.line(row.id, entry.index)?;
        }
        Change::Held { path, seal, hold, .. } => {
            let row = standing(writer, path, *seal)?;
            follows(entry, path, rules::held(writer.has_hold(row.id, hold)?, hold))?;
            writer.hold(row.id, hold, Some(entry.time))?;
            writer.line(row.id, entry.index)?;
        }
        Change::Released { path, seal, hold, .. } => {
            let row = standing(writer, path, *seal)?;
            follows(entry, path, rules::released(writer.has_hold(row.id, hold)?, hold))?;
            writer.hold(row.id, hold, None)?;
            writer.line(row.id, entry.index)?;
        }
        Change::Attested { path, seal, .. } => {
            let row = standing(writer, path, *seal)?;
            writer.line(row.id, entry.index)?;
        }
        Change::Ended { path, seal, .. } => {
            let row = standing(writer, path, *seal)?;
            follows(entry, path, rules::ended(row.until, row.holds, entry.time))?;
            writer.end(row.id)?;
        }
        Change::Altered { path, seal, .. } => {
            let row = standing(writer, path, *seal)?;
            writer.altered(row.id)?;
        }
        Change::Store { seal_key, log_key, .. } => {
            key_made(writer, KeyRole::Seal, seal_key, entry.index)?;
            key_made(writer, KeyRole::Log, log_key, entry.index)?;
        }
        Change::KeyMade { role, key } | Change::KeyRotated { role, key, .. } => {
            key_made(writer, *role, key, entry.index)?;
        }
        Change::KeyRetired { role, key, compromised_since, .. } => {
            if !writer.key_retired(key, *role, entry.index, *compromised_since)? {
                return Err(LedgerError::Broken(format!("no key {key} to retire")));
            }
        }
        Change::Symlink { .. }
        | Change::IndexDiffers { .. }
        | Change::Policy { .. }
        | Change::ClockGap { .. }
        | Change::ClockAccepted { .. } => {}
    }
    Ok(None)
}

fn standing(writer: &mut Writer<'_>, path: &RelPath, seal: u64) -> Result<Row, LedgerError> {
    writer
        .standing(path, seal)?
        .ok_or_else(|| LedgerError::Broken(format!("{path}: the seal made by entry {seal} does not stand")))
}

/// A change that may not follow on what stands is refused, whoever noted it.
fn follows(entry: &Entry, path: &RelPath, rule: Result<(), String>) -> Result<(), LedgerError> {
    rule.map_err(|what| LedgerError::Broken(format!("entry {}: {path}: {what}", entry.index)))
}

fn key_made(writer: &mut Writer<'_>, role: KeyRole, line: &str, index: u64) -> Result<(), LedgerError> {
    let key = PublicKey::from_openssh(line).map_err(|error| LedgerError::Entry(error.to_string()))?;
    writer.key_made(&key.fingerprint(), role, line, index)?;
    Ok(())
}
