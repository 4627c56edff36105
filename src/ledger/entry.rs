//! The entries of the log: one canonical, versioned JSON object (RFC 8785) for every change of state.
//!
//! An entry never holds content, arguments or environment: it cannot be redacted later. Times are
//! RFC 3339 in UTC, digests lowercase hexadecimal, sizes and indexes whole numbers.

use serde_json::{Value, json};

use super::LedgerError;
use crate::clock::Gap;
use crate::crypto;
use crate::model::{Digest, RelPath, RetentionMode, SealRecord, Timestamp};

/// Longest entry, in bytes: what a C2SP tlog-tiles entry bundle can carry.
pub const ENTRY_MAX: usize = 65_535;

/// Who did it, as the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A user, by number.
    Uid(u32),
    /// The daemon by itself.
    Daemon,
}

impl Actor {
    fn to_json(self) -> Value {
        match self {
            Actor::Uid(uid) => json!({ "uid": uid }),
            Actor::Daemon => json!("sealfs"),
        }
    }
}

/// How a seal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Unlinked.
    Removed,
    /// Another file was renamed over it.
    Replaced,
    /// Written anew from scratch.
    Rewritten,
    /// Renamed to this path, where its bytes begin a new life.
    Renamed(RelPath),
    /// Removed by `sealctl purge`.
    Purged,
    /// Removed by the daemon, as policy says (`expired = "delete"`).
    Swept,
}

impl Ending {
    fn as_str(&self) -> &'static str {
        match self {
            Ending::Removed => "removed",
            Ending::Replaced => "replaced",
            Ending::Rewritten => "rewritten",
            Ending::Renamed(_) => "renamed",
            Ending::Purged => "purged",
            Ending::Swept => "swept",
        }
    }
}

/// What changed.
#[derive(Debug)]
pub enum EntryBody<'a> {
    /// The store was made.
    StoreMade {
        /// Its name.
        origin: &'a str,
        /// Fingerprint of the seal key.
        seal_key: &'a str,
        /// Fingerprint of the log key.
        log_key: &'a str,
    },
    /// A file or symbolic link was sealed; `statement` is the digest of the seal statement (the DSSE payload).
    Sealed {
        /// The record, whole.
        record: &'a SealRecord,
        /// SHA-256 of the statement.
        statement: Digest,
    },
    /// Retention now ends later, or (`reason` given) earlier.
    Retention {
        /// Whose.
        record: &'a SealRecord,
        /// The new end.
        until: Timestamp,
        /// By whom.
        by: Actor,
        /// Why it was shortened; none for an extension.
        reason: Option<&'a str>,
        /// SHA-256 of the signed statement about it.
        statement: Digest,
    },
    /// A hold was placed or removed.
    Hold {
        /// Whose.
        record: &'a SealRecord,
        /// The hold's name.
        name: &'a str,
        /// Placed, or removed.
        placed: bool,
        /// By whom.
        by: Actor,
        /// SHA-256 of the signed statement about it.
        statement: Digest,
    },
    /// A seal ended after expiry.
    Ended {
        /// Whose.
        record: &'a SealRecord,
        /// How.
        how: &'a Ending,
        /// By whom.
        by: Actor,
    },
    /// A free symbolic link was made, replaced or (`target` none) removed.
    Symlink {
        /// Where.
        path: &'a RelPath,
        /// What it points to now.
        target: Option<&'a str>,
        /// By whom.
        by: Actor,
    },
    /// A policy came into force.
    Policy {
        /// SHA-256 of its text.
        digest: Digest,
    },
    /// The host was off.
    ClockGap(Gap),
    /// The backing file of a sealed file was found altered.
    Altered {
        /// Whose.
        record: &'a SealRecord,
        /// What was found, in words.
        found: &'a str,
    },
}

fn mode(mode: RetentionMode) -> String {
    mode.to_string()
}

impl EntryBody<'_> {
    fn fields(&self) -> (&'static str, Value) {
        let about = |record: &SealRecord| json!({ "path": record.path.as_str(), "seal": record.log_index });
        match self {
            EntryBody::StoreMade { origin, seal_key, log_key } => {
                ("store", json!({ "origin": origin, "sealKey": seal_key, "logKey": log_key }))
            }
            EntryBody::Sealed { record, statement } => {
                let mut fields = json!({
                    "path": record.path.as_str(),
                    "sha256": record.sha256.to_hex(),
                    "size": record.size,
                    "perm": format!("{:04o}", record.perm),
                    "uid": record.uid,
                    "gid": record.gid,
                    "mtime": record.mtime.to_string(),
                    "retainUntil": record.retain_until,
                    "mode": mode(record.mode),
                    "policy": record.policy.to_hex(),
                    "namespace": record.namespace,
                    "key": record.key,
                    "statement": statement.to_hex(),
                });
                if record.kind == crate::model::ArtifactKind::Symlink {
                    fields["kind"] = json!("symlink");
                }
                if record.torn_kept {
                    fields["torn"] = json!(true);
                }
                ("sealed", fields)
            }
            EntryBody::Retention { record, until, by, reason, statement } => {
                let mut fields = about(record);
                fields["retainUntil"] = json!(until);
                fields["by"] = by.to_json();
                fields["statement"] = json!(statement.to_hex());
                match reason {
                    Some(reason) => {
                        fields["reason"] = json!(reason);
                        ("shortened", fields)
                    }
                    None => ("extended", fields),
                }
            }
            EntryBody::Hold { record, name, placed, by, statement } => {
                let mut fields = about(record);
                fields["hold"] = json!(name);
                fields["by"] = by.to_json();
                fields["statement"] = json!(statement.to_hex());
                (if *placed { "held" } else { "released" }, fields)
            }
            EntryBody::Ended { record, how, by } => {
                let mut fields = about(record);
                fields["how"] = json!(how.as_str());
                fields["by"] = by.to_json();
                if let Ending::Renamed(to) = how {
                    fields["to"] = json!(to.as_str());
                }
                ("ended", fields)
            }
            EntryBody::Symlink { path, target, by } => {
                ("symlink", json!({ "path": path.as_str(), "target": target, "by": by.to_json() }))
            }
            EntryBody::Policy { digest } => ("policy", json!({ "sha256": digest.to_hex() })),
            EntryBody::ClockGap(gap) => (
                "clock-gap",
                json!({
                    "wallSeconds": gap.wall.as_secs(),
                    "believedSeconds": gap.believed.as_secs(),
                    "doubtedSeconds": gap.doubted.as_secs(),
                }),
            ),
            EntryBody::Altered { record, found } => {
                let mut fields = about(record);
                fields["found"] = json!(found);
                ("altered", fields)
            }
        }
    }

    /// The entry as it is kept and hashed: canonical JSON, at most 65,535 bytes.
    ///
    /// # Errors
    /// If it would be longer, or holds what canonical JSON cannot.
    pub fn canonical(&self, index: u64, time: Timestamp, wall: Timestamp) -> Result<String, LedgerError> {
        let (kind, mut fields) = self.fields();
        fields["v"] = json!(1);
        fields["type"] = json!(kind);
        fields["index"] = json!(index);
        fields["time"] = json!(time);
        fields["wall"] = json!(wall);
        let text = crypto::jcs::canonical(&fields).map_err(|error| LedgerError::Entry(error.to_string()))?;
        if text.len() > ENTRY_MAX {
            return Err(LedgerError::Entry(format!("{} bytes, more than {ENTRY_MAX}", text.len())));
        }
        Ok(text)
    }

    /// The path it is about, for `history`.
    #[must_use]
    pub fn path(&self) -> Option<&RelPath> {
        match self {
            EntryBody::Sealed { record, .. }
            | EntryBody::Retention { record, .. }
            | EntryBody::Hold { record, .. }
            | EntryBody::Ended { record, .. }
            | EntryBody::Altered { record, .. } => Some(&record.path),
            EntryBody::Symlink { path, .. } => Some(path),
            EntryBody::StoreMade { .. } | EntryBody::Policy { .. } | EntryBody::ClockGap(_) => None,
        }
    }
}

/// One entry as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Its position, from 0.
    pub index: u64,
    /// The canonical JSON, verbatim.
    pub body: String,
}
