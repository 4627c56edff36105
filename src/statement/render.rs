//! Template version 1.

use serde_json::json;

use crate::crypto::jcs::{self, Object};
use crate::crypto::{PublicKey, sshsig};
use crate::model::{ArtifactKind, SealRecord, Timestamp};

/// The template that new seals are made with.
pub const TEMPLATE: u32 = 1;
/// DSSE payload type of an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// in-toto Statement, version 1.
pub(super) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What sealfs itself vouches for: line 1 of `F.seal.jsonl`.
pub const SEAL_TYPE: &str = "https://sealfs.dev/attestation/seal/v1";
/// Retention was changed.
pub const RETENTION_TYPE: &str = "https://sealfs.dev/attestation/retention/v1";
/// A hold was placed or removed.
pub const HOLD_TYPE: &str = "https://sealfs.dev/attestation/hold/v1";

/// What a statement is about, in canonical form.
pub(super) fn subject(record: &SealRecord) -> String {
    let mut out = String::from("[");
    let mut subject = Object::begin(&mut out);
    let mut digest = subject.object("digest");
    digest.text("sha256", &record.sha256.to_hex());
    digest.end();
    subject.text("name", record.path.as_str());
    subject.end();
    out.push(']');
    out
}

/// A statement whose predicate is in canonical form.
fn statement(record: &SealRecord, kind: &str, predicate: &str) -> String {
    let mut out = String::with_capacity(predicate.len() + record.path.as_str().len() + 512);
    let mut statement = Object::begin(&mut out);
    statement.text("_type", STATEMENT_TYPE);
    statement.canonical("predicate", predicate);
    statement.text("predicateType", kind);
    statement.canonical("subject", &subject(record));
    statement.end();
    out
}

/// The seal statement (DSSE payload, canonical JSON): what sealfs vouches for at the moment of the seal. It
/// depends only on what never changes in the record.
///
/// # Errors
/// If the record holds what canonical JSON cannot (a size beyond 2^53).
pub fn seal_statement(record: &SealRecord, origin: &str) -> Result<String, jcs::JcsError> {
    let mut out = String::with_capacity(1024);
    let mut predicate = Object::begin(&mut out);
    predicate.number("gid", record.gid.into())?;
    if record.kind == ArtifactKind::Symlink {
        predicate.text("kind", "symlink");
    }
    let mut log = predicate.object("log");
    log.number("index", record.log_index)?;
    log.text("origin", origin);
    log.end();
    predicate.text("mode", &format!("{:04o}", record.perm));
    predicate.text("mtime", &record.mtime.to_string());
    predicate.text("namespace", &record.namespace);
    predicate.text("path", record.path.as_str());
    let mut policy = predicate.object("policy");
    policy.text("sha256", &record.policy.to_hex());
    policy.end();
    predicate.text("retainUntil", &record.retain_sealed.to_string());
    predicate.text("retentionMode", record.mode.word());
    predicate.text("sealedAt", &record.sealed_at.to_string());
    predicate.text("sealedAtWallClock", &record.sealed_wall.to_string());
    predicate.text("sha256", &record.sha256.to_hex());
    predicate.number("size", record.size)?;
    if record.torn_kept {
        predicate.yes("torn");
    }
    predicate.number("uid", record.uid.into())?;
    predicate.end();
    Ok(statement(record, SEAL_TYPE, &out))
}

/// A change that is stated in a further line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetentionChange<'a> {
    /// Retention ends at another time; with a reason if that is earlier.
    Until(Timestamp, Option<&'a str>),
    /// A hold of this name was placed (`true`) or removed.
    Hold(&'a str, bool),
}

/// A statement about a change of retention, made at `now` and logged at `index`.
///
/// # Errors
/// As [`seal_statement`].
pub fn change_statement(
    record: &SealRecord,
    origin: &str,
    index: u64,
    now: Timestamp,
    change: &RetentionChange<'_>,
) -> Result<String, jcs::JcsError> {
    let mut predicate = json!({
        "path": record.path.as_str(),
        "seal": record.log_index,
        "at": now,
        "log": { "origin": origin, "index": index },
    });
    let kind = match change {
        RetentionChange::Until(until, reason) => {
            predicate["retainUntil"] = json!(until);
            if let Some(reason) = reason {
                predicate["reason"] = json!(reason);
            }
            RETENTION_TYPE
        }
        RetentionChange::Hold(name, placed) => {
            predicate["hold"] = json!(name);
            predicate["placed"] = json!(placed);
            HOLD_TYPE
        }
    };
    Ok(statement(record, kind, &jcs::canonical(&predicate)?))
}

/// The content of `F.seal`; `None` for a symbolic link.
#[must_use]
pub fn render_signature(record: &SealRecord, key: &PublicKey) -> Option<String> {
    Some(sshsig::armor(key, &record.namespace, &record.signature?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;
    use crate::model::{FileTime, RelPath, RetentionMode};

    #[test]
    fn the_seal_statement_is_canonical_json_of_all_that_is_vouched_for() {
        let record = SealRecord {
            id: 1,
            path: RelPath::parse("rel/é \"1\"").unwrap(),
            kind: ArtifactKind::Symlink,
            sha256: sha256(b"x"),
            size: 1,
            perm: 0o640,
            uid: 1,
            gid: 2,
            mtime: FileTime { seconds: -5, nanos: 7 },
            sealed_at: Timestamp(1_700_000_000_000_000_001),
            sealed_wall: Timestamp(1_700_000_000_000_000_002),
            retain_sealed: Timestamp(1_800_000_000_000_000_000),
            retain_until: Timestamp(1_900_000_000_000_000_000),
            mode: RetentionMode::Compliance,
            policy: sha256(b"p"),
            namespace: "sealfs".to_owned(),
            log_index: 7,
            key: "SHA256:abc".to_owned(),
            signature: None,
            statement_signature: [2; 64],
            provenance: None,
            template: 1,
            ino: 0,
            ctime: FileTime::default(),
            holds: Vec::new(),
            torn_kept: true,
        };
        let expected = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "rel/é \"1\"", "digest": { "sha256": sha256(b"x") } }],
            "predicateType": "https://sealfs.dev/attestation/seal/v1",
            "predicate": {
                "path": "rel/é \"1\"",
                "kind": "symlink",
                "torn": true,
                "sha256": sha256(b"x"),
                "size": 1,
                "mode": "0640",
                "uid": 1,
                "gid": 2,
                "mtime": "1969-12-31T23:59:55.000000007Z",
                "sealedAt": "2023-11-14T22:13:20.000000001Z",
                "sealedAtWallClock": "2023-11-14T22:13:20.000000002Z",
                "retainUntil": "2027-01-15T08:00:00Z",
                "retentionMode": "compliance",
                "policy": { "sha256": sha256(b"p") },
                "namespace": "sealfs",
                "log": { "origin": "o.example/s", "index": 7 },
            },
        });
        assert_eq!(seal_statement(&record, "o.example/s").unwrap(), jcs::canonical(&expected).unwrap());
        assert!(seal_statement(&SealRecord { size: 1 << 53, ..record }, "o").is_err());
    }
}
