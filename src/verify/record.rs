//! One record against content, keys, statement, log and attributes.

use std::collections::{BTreeSet, HashMap};
use std::io::{ErrorKind, Read};

use serde_json::Value;

use super::Finding;
use crate::crypto::{self, Hasher, PublicKey, dsse, sshsig};
use crate::ledger::{EntryBody, EntryRow, LedgerError};
use crate::model::{ArtifactKind, Digest, SealRecord, Timestamp};
use crate::statement::{HOLD_TYPE, PAYLOAD_TYPE, RETENTION_TYPE, seal_statement};
use crate::store::Meta;

/// Bytes a read.
const CHUNK: usize = 1 << 18;

/// Whether the bytes are those that were sealed. `read` is told how many bytes went by.
///
/// # Errors
/// [`Finding`]; the hash before the size, since the hash is what was signed.
pub fn check_content(record: &SealRecord, content: &mut dyn Read, read: &dyn Fn(u64)) -> Result<(), Finding> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; CHUNK]);
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                hasher.update(&buffer[..bytes]);
                read(bytes as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Finding::Unreadable(error.to_string())),
        }
    }
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

/// Whether a known key signed the hash, and the seal statement that the record gives. Answers the
/// statement's digest.
///
/// # Errors
/// [`Finding`].
pub fn check_seal(
    record: &SealRecord,
    origin: &str,
    keys: &HashMap<String, PublicKey>,
) -> Result<Digest, Finding> {
    let key = keys.get(&record.key).ok_or_else(|| Finding::UnknownKey(record.key.clone()))?;
    match (&record.signature, record.kind) {
        (Some(signature), _) => sshsig::verify_digest(key, &record.namespace, &record.sha256, signature)
            .map_err(|error| Finding::Signature(error.to_string()))?,
        (None, ArtifactKind::Symlink) => {}
        (None, ArtifactKind::File) => return Err(Finding::Signature("there is none".to_owned())),
    }
    let statement = seal_statement(record, origin).map_err(|error| Finding::Statement(error.to_string()))?;
    key.verify_raw(&dsse::pae(PAYLOAD_TYPE, statement.as_bytes()), &record.statement_signature)
        .map_err(|_| Finding::Statement("its signature is not of what the index says".to_owned()))?;
    Ok(crypto::sha256(statement.as_bytes()))
}

/// Whether the entry at the record's place in the log is the one that its seal made, byte for byte.
///
/// # Errors
/// [`Finding::Log`], with the first field that differs.
pub fn check_entry(record: &SealRecord, statement: Digest, entry: Option<&EntryRow>) -> Result<(), Finding> {
    let log = |what: String| Err(Finding::Log(what));
    let Some(entry) = entry else { return log(format!("there is no entry {}", record.log_index)) };
    let sealed = SealRecord { retain_until: record.retain_sealed, ..record.clone() };
    let expected = EntryBody::Sealed { record: &sealed, statement }
        .canonical(record.log_index, record.sealed_at, record.sealed_wall)
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

/// Whether today's retention and holds follow from the seal by signed, logged steps. `lines` are the further
/// lines of the statements; `entry` finds an entry of the log.
///
/// # Errors
/// [`Finding::Retention`].
pub fn check_lines(
    record: &SealRecord,
    lines: &[String],
    keys: &HashMap<String, PublicKey>,
    entry: &dyn Fn(u64) -> Result<Option<EntryRow>, LedgerError>,
) -> Result<(), Finding> {
    let wrong = |what: String| Err(Finding::Retention(what));
    let all: Vec<PublicKey> = keys.values().copied().collect();
    let (mut until, mut holds) = (record.retain_sealed, BTreeSet::new());
    for (number, line) in lines.iter().enumerate().map(|(n, line)| (n + 2, line)) {
        let envelope = match dsse::parse(line.as_bytes()) {
            Ok(envelope) => envelope,
            Err(error) => return wrong(format!("line {number}: {error}")),
        };
        let Ok(statement) = serde_json::from_slice::<Value>(envelope.payload()) else {
            return wrong(format!("line {number} is no statement"));
        };
        let kind = statement["predicateType"].as_str().unwrap_or_default();
        if kind != RETENTION_TYPE && kind != HOLD_TYPE {
            // Provenance and others' attestations say nothing about retention.
            continue;
        }
        if let Err(error) = envelope.verify(&all) {
            return wrong(format!("line {number}: {error}"));
        }
        let (subject, predicate) = (&statement["subject"][0], &statement["predicate"]);
        let hash = subject["digest"]["sha256"].as_str().unwrap_or_default();
        if subject["name"].as_str() != Some(record.path.as_str())
            || hash != record.sha256.to_hex()
            || predicate["seal"].as_u64() != Some(record.log_index)
        {
            return wrong(format!("line {number} is about another file or seal"));
        }
        logged(number, envelope.payload(), predicate, entry)?;
        if kind == RETENTION_TYPE {
            match predicate["retainUntil"].as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
                Some(time) => until = time,
                None => return wrong(format!("line {number} has no retainUntil")),
            }
        } else {
            let name = predicate["hold"].as_str().unwrap_or_default().to_owned();
            if predicate["placed"].as_bool() == Some(true) {
                holds.insert(name);
            } else {
                holds.remove(&name);
            }
        }
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

/// Whether the entry that a further line names holds the line's digest.
fn logged(
    number: usize,
    payload: &[u8],
    predicate: &Value,
    entry: &dyn Fn(u64) -> Result<Option<EntryRow>, LedgerError>,
) -> Result<(), Finding> {
    let index = predicate["log"]["index"].as_u64();
    let row = match index.map(entry).transpose() {
        Ok(row) => row.flatten(),
        Err(error) => return Err(Finding::Unreadable(error.to_string())),
    };
    let digest = crypto::sha256(payload).to_hex();
    let body = row.and_then(|row| serde_json::from_str::<Value>(&row.body).ok());
    if body.is_some_and(|body| body["statement"].as_str() == Some(digest.as_str())) {
        return Ok(());
    }
    Err(Finding::Retention(format!("line {number} is not in the log where it says")))
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
