//! The index against the log: an index made anew from the entries must say the same.

use std::path::Path;

use super::Finding;
use crate::ledger::{Backing, Filter, LedgerError, ReadIndex};
use crate::model::{FileTime, RelPath, SealRecord};
use crate::recovery::{Source, replay};

/// Records on their way between the readers.
const AHEAD: usize = 1024;
/// Rows read at a time.
const PAGE: u32 = 512;

/// Compares an index with the one that its log gives, made in a new file in `folder`. `exported`: how many entries
/// stand in the exported log; those after it are taken from the index. Hands over what differs, by path.
///
/// # Errors
/// If the log gives no index at all.
pub fn check_index(
    index: &ReadIndex,
    exported: u64,
    folder: &Path,
    seen: &dyn Fn(u64),
    each: &mut dyn FnMut(RelPath, Finding),
) -> Result<(), Finding> {
    let fail = |error: LedgerError| Finding::Log(error.to_string());
    let size = index.entries().map_err(fail)?;
    let source = Source { log: index.log(), exported, index: Some((index, size)) };
    let place = folder.join("index.db");
    replay(&source, &place, &|_| Backing::default(), seen).map_err(fail)?;
    let made = ReadIndex::open(&place).map_err(fail)?;
    let mut differs = |path: &RelPath, what: String| -> Result<(), LedgerError> {
        // A daemon goes on while we look: what was changed since is no finding.
        let newer = index.history(path)?.last().is_some_and(|row| row.index >= size);
        if !newer {
            each(path.clone(), Finding::Index(what));
        }
        Ok(())
    };
    compare(index, &made, &mut differs).map_err(fail)?;
    compare_entries(index, exported, each).map_err(fail)?;
    compare_ended(index, &made, size, each).map_err(fail)?;
    compare_attachments(index, &made, each).map_err(fail)?;
    let keys = |index: &ReadIndex, below: u64| -> Result<Vec<_>, LedgerError> {
        let mut keys = index.keys()?;
        keys.retain(|key| key.since < below);
        for key in &mut keys {
            key.until = key.until.filter(|until| *until < below);
            key.retired = key.retired.filter(|retired| *retired < below);
            key.compromised = key.compromised.filter(|_| key.retired.is_some());
        }
        Ok(keys)
    };
    if keys(index, size).map_err(fail)? != keys(&made, size).map_err(fail)? {
        each(RelPath::root(), Finding::Index("its keys are others".to_owned()));
    }
    Ok(())
}

/// What both must say alike of a seal.
fn evident(record: SealRecord) -> SealRecord {
    SealRecord { id: 0, ino: 0, ctime: FileTime::default(), ..record }
}

type Next = Option<Result<SealRecord, LedgerError>>;

/// Walks through both in the order of paths.
fn compare(
    index: &ReadIndex,
    made: &ReadIndex,
    differs: &mut dyn FnMut(&RelPath, String) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    std::thread::scope(|scope| {
        let read = |index: &ReadIndex, to: &crossbeam_channel::Sender<Result<SealRecord, LedgerError>>| {
            let done =
                index.below(&RelPath::root(), Filter::default(), &mut |record| to.send(Ok(record)).is_ok());
            if let Err(error) = done {
                let _ = to.send(Err(error));
            }
        };
        let (to_a, a) = crossbeam_channel::bounded(AHEAD);
        let (to_b, b) = crossbeam_channel::bounded(AHEAD);
        scope.spawn(move || read(index, &to_a));
        scope.spawn(move || read(made, &to_b));
        let (mut left, mut right): (Next, Next) = (a.recv().ok(), b.recv().ok());
        loop {
            match (left.take().transpose()?, right.take().transpose()?) {
                (None, None) => return Ok(()),
                (Some(only), None) => {
                    differs(&only.path, "the log has no such seal".to_owned())?;
                    left = a.recv().ok();
                }
                (None, Some(only)) => {
                    differs(&only.path, "the log has a seal that is not in it".to_owned())?;
                    right = b.recv().ok();
                }
                (Some(ours), Some(theirs)) => match ours.path.split().cmp(&theirs.path.split()) {
                    std::cmp::Ordering::Less => {
                        differs(&ours.path, "the log has no such seal".to_owned())?;
                        (left, right) = (a.recv().ok(), Some(Ok(theirs)));
                    }
                    std::cmp::Ordering::Greater => {
                        differs(&theirs.path, "the log has a seal that is not in it".to_owned())?;
                        (left, right) = (Some(Ok(ours)), b.recv().ok());
                    }
                    std::cmp::Ordering::Equal => {
                        let (ours, theirs) = (evident(ours), evident(theirs));
                        if ours != theirs {
                            differs(&ours.path, difference(&ours, &theirs))?;
                        }
                        (left, right) = (a.recv().ok(), b.recv().ok());
                    }
                },
            }
        }
    })
}

/// Entries that the index still has, although they are exported.
fn compare_entries(
    index: &ReadIndex,
    exported: u64,
    each: &mut dyn FnMut(RelPath, Finding),
) -> Result<(), LedgerError> {
    let mut from = 0;
    loop {
        let rows = index.kept_entries(from, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        from = last.index + 1;
        for row in rows.into_iter().take_while(|row| row.index < exported) {
            let width = (exported - row.index / 256 * 256).min(256);
            let bundle = match u16::try_from(width) {
                Ok(width) if width < 256 => index.log().bundle(row.index / 256, width)?.into(),
                _ => index.log().full_bundle(row.index / 256)?,
            };
            let at = usize::try_from(row.index % 256).unwrap_or(0);
            if bundle.get(at) != Some(&row.body) {
                let what = format!("its entry {} is not the one that was exported", row.index);
                each(RelPath::root(), Finding::Index(what));
            }
        }
    }
}

/// Seals that have ended, in the order in which they were made.
fn compare_ended(
    index: &ReadIndex,
    made: &ReadIndex,
    size: u64,
    each: &mut dyn FnMut(RelPath, Finding),
) -> Result<(), LedgerError> {
    let mut from = 0;
    loop {
        let (ours, theirs) = (index.ended_after(from, PAGE)?, made.ended_after(from, PAGE)?);
        let Some(last) = theirs.last() else { return Ok(()) };
        let up_to = last.id;
        let ours: Vec<_> = ours.into_iter().map(evident).collect();
        for record in theirs.into_iter().map(evident) {
            let same = ours.contains(&record);
            if !same && record.log_index < size {
                each(
                    record.path,
                    Finding::Index("the log has an ended seal that is not in it so".to_owned()),
                );
            }
        }
        from = up_to;
    }
}

/// What statements are made of, in the index and in the exported file.
fn compare_attachments(
    index: &ReadIndex,
    made: &ReadIndex,
    each: &mut dyn FnMut(RelPath, Finding),
) -> Result<(), LedgerError> {
    let mut from = 0;
    loop {
        let theirs = made.attachments_after(from, PAGE)?;
        let Some(last) = theirs.last() else { return Ok(()) };
        let up_to = last.id;
        let ours = index.attachments_after(from, PAGE)?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            if ours != theirs {
                let what = format!("attachment {} is not the one in log/attachments.jsonl", theirs.id);
                each(RelPath::root(), Finding::Index(what));
            }
        }
        from = up_to;
    }
}

/// The first field that differs, in words.
fn difference(index: &SealRecord, log: &SealRecord) -> String {
    let fields: [(&str, String, String); 9] = [
        ("sha256", index.sha256.to_hex(), log.sha256.to_hex()),
        ("size", index.size.to_string(), log.size.to_string()),
        ("mode", format!("{:04o}", index.perm), format!("{:04o}", log.perm)),
        ("owner", index.uid.to_string(), log.uid.to_string()),
        ("retention", index.retain_until.to_string(), log.retain_until.to_string()),
        ("holds", format!("{:?}", index.holds), format!("{:?}", log.holds)),
        ("retention mode", index.mode.to_string(), log.mode.to_string()),
        ("place in the log", index.log_index.to_string(), log.log_index.to_string()),
        ("key", index.key.clone(), log.key.clone()),
    ];
    fields.into_iter().find(|(_, index, log)| index != log).map_or_else(
        || "its row differs".to_owned(),
        |(name, index, log)| format!("{name} is {index}, the log says {log}"),
    )
}
