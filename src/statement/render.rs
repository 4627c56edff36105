//! Template version 1.

use serde_json::{Value, json};

use crate::crypto::{PublicKey, jcs, sshsig};
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

/// What a statement is about.
pub(super) fn subject(record: &SealRecord) -> Value {
    json!([{ "name": record.path.as_str(), "digest": { "sha256": record.sha256.to_hex() } }])
}

fn statement(record: &SealRecord, kind: &str, predicate: &Value) -> Result<String, jcs::JcsError> {
    jcs::canonical(&json!({
        "_type": STATEMENT_TYPE,
        "subject": subject(record),
        "predicateType": kind,
        "predicate": predicate,
    }))
}

/// The seal statement (DSSE payload, canonical JSON): what sealfs vouches for at the moment of the seal. It
/// depends only on what never changes in the record.
///
/// # Errors
/// If the record holds what canonical JSON cannot (a size beyond 2^53).
pub fn seal_statement(record: &SealRecord, origin: &str) -> Result<String, jcs::JcsError> {
    let mut predicate = json!({
        "path": record.path.as_str(),
        "sha256": record.sha256.to_hex(),
        "size": record.size,
        "mode": format!("{:04o}", record.perm),
        "uid": record.uid,
        "gid": record.gid,
        "mtime": record.mtime.to_string(),
        "sealedAt": record.sealed_at,
        "sealedAtWallClock": record.sealed_wall,
        "retainUntil": record.retain_sealed,
        "retentionMode": record.mode,
        "policy": { "sha256": record.policy.to_hex() },
        "namespace": record.namespace,
        "log": { "origin": origin, "index": record.log_index },
    });
    if record.kind == ArtifactKind::Symlink {
        predicate["kind"] = json!("symlink");
    }
    if record.torn_kept {
        predicate["torn"] = json!(true);
    }
    statement(record, SEAL_TYPE, &predicate)
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
    statement(record, kind, &predicate)
}

/// The content of `F.seal`; `None` for a symbolic link.
#[must_use]
pub fn render_signature(record: &SealRecord, key: &PublicKey) -> Option<String> {
    Some(sshsig::armor(key, &record.namespace, &record.signature?))
}
