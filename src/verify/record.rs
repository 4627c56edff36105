//! One record against content, keys, statements, log and attributes.

use std::collections::BTreeSet;
use std::io;

use serde_json::Value;

use super::Finding;
use super::keys::KnownKeys;
use crate::crypto::{self, Hasher, PublicKey, dsse, sshsig};
use crate::ledger::{Attachment, Change, Entry, EntryRow, LedgerError, ReadIndex, Sealed, StatementDigests};
use crate::model::{ArtifactKind, Digest, SealRecord};
use crate::seal::{LinesError, change_payload, provenance_payload};
use crate::statement::{PAYLOAD_TYPE, attested_subject, seal_statement};
use crate::store::Meta;

/// Takes a piece of content.
pub type Piece<'a> = &'a mut dyn FnMut(&[u8]);

/// Whether the bytes are those that were sealed. `content` hands them over piece by piece; `read` is called with the
/// number of bytes of each piece.
///
/// # Errors
/// [`Finding`]; the size before the hash.
pub fn check_content(
    record: &SealRecord,
    content: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    read: &dyn Fn(u64),
) -> Result<(), Finding> {
    let mut hasher = Hasher::new();
    let read_all = content(&mut |piece| {
        hasher.update(piece);
        read(piece.len() as u64);
    });
    read_all.map_err(|error| Finding::Unreadable(error.to_string()))?;
    let size = hasher.bytes();
    if size != record.size {
        return Err(Finding::Size { sealed: record.size, found: size });
    }
    let found = hasher.finish();
    if found != record.sha256 {
        return Err(Finding::Content { sealed: record.sha256, found });
    }
    Ok(())
}

/// Whether a key that was valid then signed the hash, and the statements that the record gives. Answers the
/// statements' digests.
///
/// # Errors
/// [`Finding`].
pub fn check_seal(
    record: &SealRecord,
    origin: &str,
    keys: &KnownKeys,
    index: &ReadIndex,
) -> Result<StatementDigests, Finding> {
    let key = keys.at(&record.key, record.log_index)?;
    match (&record.signature, record.kind) {
        (Some(signature), _) => sshsig::verify_digest(&key, &record.namespace, &record.sha256, signature)
            .map_err(|error| Finding::Signature(error.to_string()))?,
        (None, ArtifactKind::Symlink) => {}
        (None, ArtifactKind::File) => return Err(Finding::Signature("there is none".to_owned())),
    }
    let statement = seal_statement(record, origin).map_err(|error| Finding::Statement(error.to_string()))?;
    signed(&key, &statement, &record.statement_signature)
        .map_err(|()| Finding::Statement("its signature is not of what the index says".to_owned()))?;
    let provenance = match provenance_payload(record, origin, index) {
        Ok(provenance) => provenance,
        Err(LinesError::Ledger(error)) => return Err(Finding::Unreadable(error.to_string())),
        Err(error) => return Err(Finding::Provenance(error.to_string())),
    };
    if let (Some(text), Some(made)) = (&provenance, &record.provenance) {
        signed(&key, text, &made.signature)
            .map_err(|()| Finding::Provenance("its signature is not of what the index says".to_owned()))?;
    }
    Ok(StatementDigests {
        seal: crypto::sha256(statement.as_bytes()),
        provenance: provenance.map(|text| crypto::sha256(text.as_bytes())),
    })
}

fn signed(key: &PublicKey, statement: &str, signature: &[u8; 64]) -> Result<(), ()> {
    key.verify_raw(&dsse::pae(PAYLOAD_TYPE, statement.as_bytes()), signature).map_err(drop)
}

/// Whether the entry at the record's place in the log is the one that its seal made, byte for byte.
///
/// # Errors
/// [`Finding::Log`], with the first field that differs.
pub fn check_entry(
    record: &SealRecord,
    digests: StatementDigests,
    entry: Option<&EntryRow>,
) -> Result<(), Finding> {
    let log = |what: String| Err(Finding::Log(what));
    let Some(entry) = entry else { return log(format!("there is no entry {}", record.log_index)) };
    let change = Change::Sealed(Box::new(Sealed::of(record, digests)));
    let expected = Entry::new(record.log_index, record.sealed_at, record.sealed_wall, change)
        .canonical()
        .map_err(|error| Finding::Log(error.to_string()))?;
    if entry.body == expected {
        return Ok(());
    }
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (Some(Value::Object(found)), Some(Value::Object(expected))) = (parse(&entry.body), parse(&expected))
    else {
        return log(format!("entry {} is no JSON object", record.log_index));
    };
    for name in expected.keys().chain(found.keys()) {
        if found.get(name) != expected.get(name) {
            let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            let (found, expected) = (show(found.get(name)), show(expected.get(name)));
            return log(format!("entry {} says {name} is {found}, not {expected}", record.log_index));
        }
    }
    log(format!("entry {} is not in canonical form", record.log_index))
}

/// Whether today's retention and holds follow from the seal by signed, logged steps, and attestations that were
/// added are those that were logged. `included` says whether an entry is in the log.
///
/// # Errors
/// [`Finding`].
pub fn check_lines(
    record: &SealRecord,
    origin: &str,
    keys: &KnownKeys,
    index: &ReadIndex,
    included: &dyn Fn(&EntryRow) -> Result<(), Finding>,
) -> Result<(), Finding> {
    let wrong = |what: String| Err(Finding::Retention(what));
    let ledger = |error: LedgerError| match error {
        LedgerError::Log(what) => Finding::Log(what),
        other => Finding::Unreadable(other.to_string()),
    };
    let (mut until, mut holds) = (record.retain_sealed, BTreeSet::new());
    for position in index.lines(record.id).map_err(ledger)? {
        let row = index.entry(position).map_err(ledger)?;
        let Some(row) = row else { return wrong(format!("entry {position} of the log is missing")) };
        included(&row)?;
        let entry = row.parse().map_err(|error| Finding::Log(error.to_string()))?;
        let about = match &entry.change {
            Change::Extended { path, seal, .. }
            | Change::Shortened { path, seal, .. }
            | Change::Held { path, seal, .. }
            | Change::Released { path, seal, .. }
            | Change::Attested { path, seal, .. } => (path, *seal),
            _ => return wrong(format!("entry {position} is about something else")),
        };
        if about != (&record.path, record.log_index) {
            return wrong(format!("entry {position} is about another file or seal"));
        }
        match &entry.change {
            Change::Extended { retain_until, .. } | Change::Shortened { retain_until, .. } => {
                until = *retain_until;
            }
            Change::Held { hold, .. } => drop(holds.insert(hold.clone())),
            Change::Released { hold, .. } => drop(holds.remove(hold)),
            Change::Attested { attachment, sha256, .. } => {
                check_attestation(record, index.attachment(*attachment).map_err(ledger)?, *sha256)?;
            }
            _ => {}
        }
        check_statement(record, origin, keys, &entry)?;
    }
    if until != record.retain_until {
        return wrong(format!("the index says until {}, signed is {until}", record.retain_until));
    }
    let standing: BTreeSet<_> = record.holds.iter().map(|hold| hold.name.clone()).collect();
    if standing != holds {
        let list = |names: &BTreeSet<String>| format!("{names:?}");
        return wrong(format!("the index says holds {}, signed are {}", list(&standing), list(&holds)));
    }
    Ok(())
}

/// Whether the statement that stands for an entry was signed, and is the one whose digest the entry has.
fn check_statement(
    record: &SealRecord,
    origin: &str,
    keys: &KnownKeys,
    entry: &Entry,
) -> Result<(), Finding> {
    let wrong = |what: &str| Finding::Retention(format!("entry {}: {what}", entry.index));
    let payload = change_payload(record, origin, entry).map_err(|error| wrong(&error.to_string()))?;
    let (Some(payload), Some(statement)) = (payload, entry.statement()) else { return Ok(()) };
    if crypto::sha256(payload.as_bytes()) != statement.sha256 {
        return Err(wrong("the digest of its statement is another"));
    }
    let key = keys.at(&statement.key, entry.index)?;
    signed(&key, &payload, &statement.signature.0).map_err(|()| wrong("its statement is not signed so"))
}

fn check_attestation(
    record: &SealRecord,
    attachment: Option<Attachment>,
    sha256: Digest,
) -> Result<(), Finding> {
    let wrong = |what: String| Err(Finding::Attestation(what));
    let Some(attachment) = attachment else { return wrong("it is lost".to_owned()) };
    if crypto::sha256(attachment.body.as_bytes()) != sha256 {
        return wrong(format!("attachment {} is not the envelope that was logged", attachment.id));
    }
    match attested_subject(attachment.body.as_bytes(), &record.sha256) {
        Ok(_) => Ok(()),
        Err(error) => wrong(error.to_string()),
    }
}

/// Whether mode, owner and modification time are as they were sealed.
///
/// # Errors
/// [`Finding::Attribute`].
pub fn check_attributes(record: &SealRecord, meta: &Meta) -> Result<(), Finding> {
    let differ = |what, sealed: String, found: String| {
        if sealed == found { Ok(()) } else { Err(Finding::Attribute { what, sealed, found }) }
    };
    differ("mode", format!("{:04o}", record.perm), format!("{:04o}", meta.perm))?;
    differ("owner", format!("uid {}", record.uid), format!("uid {}", meta.uid))?;
    differ("group", format!("gid {}", record.gid), format!("gid {}", meta.gid))?;
    differ("modification time", record.mtime.to_string(), meta.mtime.to_string())
}
