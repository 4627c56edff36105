//! The standing seals and the keys of an index, compared with what its log says of them.
//!
//! The log is read once and folded into what stands at its end: a hash of what was signed, the end of retention, the
//! holds and the further lines of each seal, some 80 bytes each; then the rows of the index are held against that. No
//! second index is made. A log of more than a few million entries is read more than once, each time for a part of the
//! paths, so that memory is bounded.
//!
//! While this runs, no standing seal is changed or ended ([`crate::ledger::Belief`]): so any row that differs was
//! edited. New seals come meanwhile; their entries lie beyond the end that is looked at.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::replay::Source;
use crate::crypto::PublicKey;
use crate::ledger::log::{Checkpoint, Edge, leaf_hash};
use crate::ledger::rules;
use crate::ledger::{Change, Differences, Entry, KeyRole, KeyRow, LedgerError, ReadIndex};
use crate::model::{RelPath, RetentionMode, SealRecord, Timestamp};

/// Entries of the log for which memory is given at a time.
const PART: u64 = 2_000_000;
/// Rows read at a time.
const PAGE: u32 = 1024;

/// Compares. `checkpoint`: that of the exported log, if there is one, checked by the keys that sign it; entries after it
/// are taken from the index. `seen` is told how many entries went by, of how many; it says whether to go on.
///
/// # Errors
/// If index or log cannot be read, or it was not to go on.
pub fn compare(
    index: &ReadIndex,
    checkpoint: Option<&Checkpoint>,
    seen: &dyn Fn(u64, u64) -> bool,
) -> Result<Differences, LedgerError> {
    compare_in(index, checkpoint, 1 + index.entries()? / PART, seen)
}

/// The same, in so many parts.
///
/// # Errors
/// As [`compare`].
pub fn compare_in(
    index: &ReadIndex,
    checkpoint: Option<&Checkpoint>,
    parts: u64,
    seen: &dyn Fn(u64, u64) -> bool,
) -> Result<Differences, LedgerError> {
    let size = index.entries()?;
    let mut comparison = Comparison {
        index,
        size,
        names: Hashes::default(),
        found: Differences::default(),
        seen: &|at| seen(at, size * parts),
    };
    for part in 0..parts {
        match comparison.part(checkpoint, part, parts) {
            Ok(()) => {}
            // The log itself says what cannot be.
            Err(Stop::Log(what)) => return Ok(Differences::of_all(what)),
            Err(Stop::Ledger(error)) => return Err(error),
        }
    }
    Ok(comparison.found)
}

enum Stop {
    /// Index or log cannot be read, or nobody wants to know any more.
    Ledger(LedgerError),
    /// The log does not hold together.
    Log(String),
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Stop::Ledger(error)
    }
}

/// Two hashes with keys of this process: nobody can make two paths, or two seals, look the same.
#[derive(Default)]
struct Hashes(RandomState, RandomState);

impl Hashes {
    fn of(&self, what: impl Hash) -> u128 {
        u128::from(self.0.hash_one(&what)) << 64 | u128::from(self.1.hash_one(&what))
    }

    fn short(&self, what: impl Hash) -> u64 {
        self.0.hash_one(what)
    }

    /// What a seal is, apart from what may change, from what only its backing file knows, and from who wrote it (which
    /// an index that was made anew from a log without attachments does not know any more).
    fn of_seal(&self, record: &SealRecord) -> u128 {
        struct Evident<'a>(&'a SealRecord);
        impl Hash for Evident<'_> {
            fn hash<H: Hasher>(&self, to: &mut H) {
                let SealRecord {
                    id: _,
                    path,
                    kind,
                    sha256,
                    size,
                    perm,
                    uid,
                    gid,
                    mtime,
                    sealed_at,
                    sealed_wall,
                    retain_sealed,
                    retain_until: _,
                    mode,
                    policy,
                    namespace,
                    log_index,
                    key,
                    signature,
                    statement_signature,
                    provenance: _,
                    template,
                    ino: _,
                    ctime: _,
                    holds: _,
                    torn_kept,
                } = self.0;
                (path, kind, sha256.0, size, perm, uid, gid, mtime.seconds, mtime.nanos).hash(to);
                (sealed_at.0, sealed_wall.0, retain_sealed.0, mode, policy.0, namespace).hash(to);
                (log_index, key, signature, statement_signature, template, torn_kept).hash(to);
            }
        }
        self.of(Evident(record))
    }
}

/// What the log says of a seal that stands.
struct Stands {
    seal: u64,
    evident: u128,
    mode: RetentionMode,
    until: Timestamp,
    /// The sum of the hashes of the names of its holds, and how many there are.
    holds: (u64, u32),
    /// The same of the positions of its further lines.
    lines: (u64, u32),
}

fn add(sum: &mut (u64, u32), hash: u64) {
    *sum = (sum.0.wrapping_add(hash), sum.1 + 1);
}

struct Comparison<'a> {
    index: &'a ReadIndex,
    size: u64,
    names: Hashes,
    found: Differences,
    seen: &'a dyn Fn(u64) -> bool,
}

/// What a part of the log was folded into.
#[derive(Default)]
struct Folded {
    edge: Edge,
    last: Option<Timestamp>,
    standing: HashMap<u128, Stands>,
    keys: Vec<KeyRow>,
}

impl Comparison<'_> {
    fn part(&mut self, checkpoint: Option<&Checkpoint>, part: u64, parts: u64) -> Result<(), Stop> {
        let exported = checkpoint.map_or(0, |checkpoint| checkpoint.size);
        let source = Source { log: self.index.log(), exported, index: Some((self.index, self.size)) };
        let mut folded = Folded::default();
        let mut broken = None;
        let walked = source.each(&mut |position, text| {
            if position.is_multiple_of(1024) && !(self.seen)(part * self.size + position) {
                return Err(LedgerError::Log("stopped".to_owned()));
            }
            let fits = self.fold(&mut folded, position, text, (part, parts));
            let fits = fits.and_then(|()| match checkpoint {
                Some(checkpoint)
                    if checkpoint.size == position + 1 && folded.edge.root() != checkpoint.root =>
                {
                    Err("the exported entries are not those that log/checkpoint was signed over".to_owned())
                }
                _ => Ok(()),
            });
            fits.map_err(|what| {
                broken = Some(format!("entry {position} of the log: {what}"));
                LedgerError::Log("stopped".to_owned())
            })
        });
        if let Some(what) = broken {
            return Err(Stop::Log(what));
        }
        walked?;
        if part == 0 && !self.same_keys(&folded.keys)? {
            return Err(Stop::Log("its keys are not those that the log says".to_owned()));
        }
        self.rows(folded.standing, (part, parts))?;
        Ok(())
    }

    /// Whether a path belongs to a part, and its hash.
    fn belongs(&self, path: &RelPath, (part, parts): (u64, u64)) -> Option<u128> {
        let hash = self.names.of(path.as_str());
        (hash % u128::from(parts) == u128::from(part)).then_some(hash)
    }

    fn fold(&self, folded: &mut Folded, position: u64, text: &str, part: (u64, u64)) -> Result<(), String> {
        folded.edge.push(leaf_hash(text.as_bytes()));
        let entry: Entry = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if entry.index != position || folded.last.is_some_and(|last| entry.time < last) {
            return Err("it does not follow on the one before it".to_owned());
        }
        folded.last = Some(entry.time);
        fold_keys(&mut folded.keys, &entry)?;
        let Some(path) = entry.path() else { return Ok(()) };
        let Some(hash) = self.belongs(path, part) else { return Ok(()) };
        if let Change::Sealed(sealed) = &entry.change {
            let record = sealed.to_record(entry.index, entry.time, entry.wall);
            let stands = Stands {
                seal: entry.index,
                evident: self.names.of_seal(&record),
                mode: record.mode,
                until: record.retain_until,
                holds: (0, 0),
                lines: (0, 0),
            };
            return match folded.standing.insert(hash, stands) {
                None => Ok(()),
                Some(before) => Err(format!("{path} has the seal of entry {} already", before.seal)),
            };
        }
        let seal = match &entry.change {
            Change::Extended { seal, .. }
            | Change::Shortened { seal, .. }
            | Change::Held { seal, .. }
            | Change::Released { seal, .. }
            | Change::Attested { seal, .. }
            | Change::Ended { seal, .. } => *seal,
            _ => return Ok(()),
        };
        let stands = folded.standing.get_mut(&hash).filter(|stands| stands.seal == seal);
        let stands = stands.ok_or_else(|| format!("{path}: the seal of entry {seal} does not stand"))?;
        match &entry.change {
            Change::Extended { retain_until, .. } => {
                rules::extended(stands.until, *retain_until)?;
                stands.until = *retain_until;
            }
            Change::Shortened { retain_until, reason, .. } => {
                rules::shortened(stands.mode, stands.until, *retain_until, reason)?;
                stands.until = *retain_until;
            }
            Change::Held { hold, .. } => add(&mut stands.holds, self.names.short(hold)),
            Change::Released { hold, .. } => {
                rules::released(stands.holds.1 > 0, hold)?;
                let (sum, count) = stands.holds;
                stands.holds = (sum.wrapping_sub(self.names.short(hold)), count - 1);
            }
            Change::Ended { .. } => {
                let holds = usize::try_from(stands.holds.1).unwrap_or(usize::MAX);
                rules::ended(stands.until, holds, entry.time)?;
                folded.standing.remove(&hash);
                return Ok(());
            }
            _ => {}
        }
        add(&mut stands.lines, self.names.short(position));
        Ok(())
    }

    /// The rows of the index against what the log says; what is left over then has no row.
    fn rows(&mut self, mut standing: HashMap<u128, Stands>, part: (u64, u64)) -> Result<(), LedgerError> {
        let mut from = 0;
        loop {
            let rows = self.index.standing_after(from, PAGE)?;
            let Some(last) = rows.last() else { break };
            from = last.id;
            if !(self.seen)((part.0 + 1) * self.size) {
                return Err(LedgerError::Log("stopped".to_owned()));
            }
            for record in rows {
                // Sealed since.
                if record.log_index >= self.size {
                    continue;
                }
                let Some(hash) = self.belongs(&record.path, part) else { continue };
                let what = match standing.remove(&hash) {
                    None => Some("the log has no such seal"),
                    Some(stands) => self.difference(&record, &stands)?,
                };
                if let Some(what) = what {
                    self.found.add(record.path, what);
                }
            }
        }
        for stands in standing.into_values() {
            let row = self.index.entry(stands.seal)?;
            let entry = row.map(|row| row.parse()).transpose()?;
            match entry.as_ref().and_then(Entry::path) {
                Some(path) => self.found.add(path.clone(), "the log has a seal that is not in it"),
                None => {
                    self.found.whole = Some(format!("entry {} of the log cannot be read", stands.seal));
                }
            }
        }
        Ok(())
    }

    fn difference(&self, record: &SealRecord, stands: &Stands) -> Result<Option<&'static str>, LedgerError> {
        if record.log_index != stands.seal {
            return Ok(Some("it has the seal of another entry of the log"));
        }
        if self.names.of_seal(record) != stands.evident {
            return Ok(Some("what was sealed is not what the log says"));
        }
        if record.retain_until != stands.until {
            return Ok(Some("its end of retention is not what the log says"));
        }
        let mut holds = (0, 0);
        for hold in &record.holds {
            add(&mut holds, self.names.short(&hold.name));
        }
        if holds != stands.holds {
            return Ok(Some("its holds are not those that the log says"));
        }
        if stands.lines.1 > 0 {
            let mut lines = (0, 0);
            for position in self.index.lines(record.id)? {
                if position < self.size {
                    add(&mut lines, self.names.short(position));
                }
            }
            if lines != stands.lines {
                return Ok(Some("its further lines are not those that the log says"));
            }
        }
        Ok(None)
    }

    /// Keys may be made and retired meanwhile: that is no difference.
    fn same_keys(&self, said: &[KeyRow]) -> Result<bool, LedgerError> {
        let mut keys = self.index.keys()?;
        keys.retain(|key| key.since < self.size);
        for key in &mut keys {
            key.until = key.until.filter(|until| *until < self.size);
            key.retired = key.retired.filter(|retired| *retired < self.size);
            key.compromised = key.compromised.filter(|_| key.retired.is_some());
        }
        Ok(keys.len() == said.len() && keys.iter().all(|key| said.contains(key)))
    }
}

fn fold_keys(keys: &mut Vec<KeyRow>, entry: &Entry) -> Result<(), String> {
    let mut made = |role: KeyRole, line: &str| -> Result<(), String> {
        let public = PublicKey::from_openssh(line).map_err(|error| error.to_string())?;
        for before in keys.iter_mut().filter(|key| key.role == role && key.until.is_none()) {
            before.until = Some(entry.index);
        }
        keys.push(KeyRow {
            fingerprint: public.fingerprint(),
            role,
            public: line.to_owned(),
            since: entry.index,
            until: None,
            retired: None,
            compromised: None,
        });
        Ok(())
    };
    match &entry.change {
        Change::Store { seal_key, log_key, .. } => {
            made(KeyRole::Seal, seal_key)?;
            made(KeyRole::Log, log_key)
        }
        Change::KeyMade { role, key } | Change::KeyRotated { role, key, .. } => made(*role, key),
        Change::KeyRetired { role, key, compromised_since, .. } => {
            let row = keys.iter_mut().find(|row| row.role == *role && row.fingerprint == *key);
            let row = row.ok_or_else(|| format!("no key {key} to retire"))?;
            (row.retired, row.compromised) = (Some(entry.index), Some(*compromised_since));
            Ok(())
        }
        _ => Ok(()),
    }
}
