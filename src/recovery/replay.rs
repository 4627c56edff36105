//! The log, read from its beginning, into a new index.

use std::path::Path;

use crate::ledger::{Attachment, Backing, Entry, LedgerError, LogFiles, ReadIndex, Replay};
use crate::model::{Digest, SealRecord};
use crate::statement::claimed_commits;

/// Entries of a bundle.
const BUNDLE: u64 = 256;

/// Where the entries come from.
pub struct Source<'a> {
    /// The exported log.
    pub log: &'a LogFiles,
    /// How many entries of it are taken.
    pub exported: u64,
    /// An index with later entries, up to this many in all.
    pub index: Option<(&'a ReadIndex, u64)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Entries in all.
    pub size: u64,
    /// The root over the exported ones.
    pub exported_root: Digest,
    /// Seals whose attachment is missing: who wrote them is not known any more.
    pub without_writers: u64,
}

impl Source<'_> {
    /// Hands over every entry's text in order.
    ///
    /// # Errors
    /// If one is missing or cannot be read; or what `each` says.
    pub fn each(
        &self,
        each: &mut dyn FnMut(u64, &str) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut next = 0;
        while next < self.exported {
            let width = (self.exported - next).min(BUNDLE);
            let bundle = self.log.bundle(next / BUNDLE, u16::try_from(width).unwrap_or(u16::MAX))?;
            for text in &bundle {
                each(next, text)?;
                next += 1;
            }
        }
        let Some((index, size)) = self.index else { return Ok(()) };
        while next < size {
            let (before, rows) = (next, index.kept_entries(next, 1024)?);
            for row in rows.into_iter().take_while(|row| row.index < size) {
                if row.index != next {
                    break;
                }
                each(next, &row.body)?;
                next += 1;
            }
            if next == before {
                // It has left the index since its bundle was exported.
                let row = index.entry(next)?;
                let row = row.ok_or_else(|| LedgerError::Broken(format!("entry {next} is missing")))?;
                each(next, &row.body)?;
                next += 1;
            }
        }
        Ok(())
    }
}

/// Makes an index in a new file at `into`. `backing` is asked for what the tree knows of each seal; `seen` is told of
/// each entry.
///
/// # Errors
/// If the log cannot be read, or its entries do not follow from each other. The file is then of no use.
pub fn replay(
    source: &Source<'_>,
    into: &Path,
    backing: &dyn Fn(&SealRecord) -> Backing,
    seen: &dyn Fn(u64),
) -> Result<Replayed, LedgerError> {
    let mut replay = Replay::begin(into)?;
    let mut last = 0;
    let mut take = |attachment: Attachment| {
        last = attachment.id;
        replay.attach(&attachment, &claimed_commits(&attachment.body))
    };
    source.log.attachments(&mut take)?;
    if let Some((index, _)) = source.index {
        for attachment in index.attachments_after(last, u32::MAX)? {
            replay.attach(&attachment, &claimed_commits(&attachment.body))?;
            last = attachment.id;
        }
    }
    let (mut without_writers, mut exported_root) = (0, None);
    if source.exported == 0 {
        exported_root = Some(replay.root());
    }
    source.each(&mut |position, text| {
        let missing = attachment_of(text).filter(|attachment| *attachment > last);
        if missing.is_some() {
            without_writers += 1;
        }
        replay.entry(text, missing.is_some(), backing)?;
        if position + 1 == source.exported {
            exported_root = Some(replay.root());
        }
        seen(position + 1);
        Ok(())
    })?;
    let size = replay.size();
    replay.finish(into, Some(source.exported))?;
    Ok(Replayed { size, exported_root: exported_root.unwrap_or(Digest([0; 32])), without_writers })
}

/// The attachment that an entry refers to.
fn attachment_of(text: &str) -> Option<u64> {
    match Entry::parse(text.as_bytes()).ok()?.change {
        crate::ledger::Change::Sealed(sealed) => sealed.provenance.map(|made| made.attachment),
        crate::ledger::Change::Attested { attachment, .. } => Some(attachment),
        _ => None,
    }
}
