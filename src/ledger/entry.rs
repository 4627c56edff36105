//! The entries of the log: one canonical, versioned JSON object (RFC 8785) for every change of state.
//!
//! An entry says everything that the index keeps of the change: the index can be made again from the log. It
//! never holds content, arguments or environment, since it cannot be redacted later. Times are RFC 3339 in UTC,
//! digests lowercase hexadecimal, signatures base64, sizes and indexes whole numbers.
//!
//! ```json
//! {"by":{"uid":0},"hold":"case-42","index":17,"path":"a/b","seal":9,"statement":{…},"time":"…","type":"held","v":1,"wall":"…"}
//! ```

use serde::{Deserialize, Serialize};

use super::LedgerError;
use super::sealed::Sealed;
use super::signature::Signature;
use crate::crypto;
use crate::model::{Digest, RelPath, Timestamp};

/// Longest entry, in bytes: what a C2SP tlog-tiles entry bundle can carry.
pub const ENTRY_MAX: usize = 65_535;
/// The version of the entries that are written.
const VERSION: u32 = 1;

/// Who did it, as the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A user, by number.
    #[serde(rename = "uid")]
    Uid(u32),
    /// The daemon by itself.
    #[serde(rename = "sealfs")]
    Daemon,
}

/// How a seal ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Seals files and signs statements.
    Seal,
    /// Signs checkpoints.
    Log,
}

/// A statement that was signed with a change: its digest is in the log, the text is rendered again from the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// SHA-256 of the DSSE payload.
    pub sha256: Digest,
    /// Fingerprint of the key that signed it.
    pub key: String,
    /// The envelope's signature.
    #[serde(rename = "sig")]
    pub signature: Signature,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Change {
    /// The store was made. Always entry 0.
    Store {
        /// Its name.
        origin: String,
        /// The first seal key, as an OpenSSH line.
        seal_key: String,
        /// The first log key, as an OpenSSH line.
        log_key: String,
    },
    /// A file or symbolic link was sealed.
    Sealed(Box<Sealed>),
    /// Retention now ends later.
    Extended {
        /// Of this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// The new end.
        retain_until: Timestamp,
        /// By whom.
        by: Actor,
        /// The signed line about it.
        statement: SignedStatement,
    },
    /// Retention now ends earlier.
    Shortened {
        /// Of this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// The new end.
        retain_until: Timestamp,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
        /// The signed line about it.
        statement: SignedStatement,
    },
    /// A hold was placed.
    Held {
        /// On this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// The hold's name.
        hold: String,
        /// By whom.
        by: Actor,
        /// The signed line about it.
        statement: SignedStatement,
    },
    /// A hold was removed.
    Released {
        /// From this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// The hold's name.
        hold: String,
        /// By whom.
        by: Actor,
        /// The signed line about it.
        statement: SignedStatement,
    },
    /// Somebody else's attestation was added to a seal.
    Attested {
        /// To this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// Number of the attachment that holds the envelope.
        attachment: u64,
        /// SHA-256 of the envelope, verbatim.
        sha256: Digest,
        /// What it attests: the statement's predicate type, a URI.
        predicate: String,
        /// By whom it was added.
        by: Actor,
    },
    /// A seal ended after expiry.
    Ended {
        /// At this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// How.
        how: Ending,
        /// By whom.
        by: Actor,
    },
    /// A free symbolic link was made, replaced or (`target` none) removed.
    Symlink {
        /// Where.
        path: RelPath,
        /// What it points to now.
        target: Option<String>,
        /// By whom.
        by: Actor,
    },
    /// The backing file of a sealed file was found altered.
    Altered {
        /// At this path.
        path: RelPath,
        /// Position of the seal's entry.
        seal: u64,
        /// What was found, in words.
        found: String,
    },
    /// The index was found not to be what the log says: somebody has edited it.
    IndexDiffers {
        /// At this path; left out where nothing in it can be believed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<RelPath>,
        /// What was found, in words.
        found: String,
    },
    /// A policy came into force.
    Policy {
        /// SHA-256 of its text.
        sha256: Digest,
    },
    /// A key that the operator gave is used from now on; no older key vouches for it.
    KeyMade {
        /// What for.
        role: KeyRole,
        /// The key, as an OpenSSH line.
        key: String,
    },
    /// A new key is used from now on; the old one vouches for it and stays good for what it signed.
    KeyRotated {
        /// What for.
        role: KeyRole,
        /// The new key, as an OpenSSH line.
        key: String,
        /// Fingerprint of the old key.
        previous: String,
        /// The old key's DSSE signature over [`rotation_payload`], of type [`ROTATION_TYPE`].
        signature: Signature,
        /// By whom.
        by: Actor,
    },
    /// A key is trusted no more: its seals hold only by their place in the log before this entry.
    KeyRetired {
        /// What it was for.
        role: KeyRole,
        /// Its fingerprint.
        key: String,
        /// From when on others may have had it.
        compromised_since: Timestamp,
        /// By whom.
        by: Actor,
    },
    /// The host was off.
    ClockGap {
        /// How far the wall clock had moved.
        wall_seconds: u64,
        /// How much of that counts.
        believed_seconds: u64,
        /// How much does not, until it is accepted.
        doubted_seconds: u64,
    },
    /// What was doubted is accepted: sealfs time leaps forward by it.
    ClockAccepted {
        /// By how much.
        seconds: u64,
        /// By whom.
        by: Actor,
    },
}

/// DSSE payload type of what an old key signs about a new one.
pub const ROTATION_TYPE: &str = "application/vnd.sealfs.key-rotation+json";

/// What the old key signs: canonical JSON that names the store, the role, both keys and the place in the log.
///
/// # Errors
/// If it holds what canonical JSON cannot.
pub fn rotation_payload(
    origin: &str,
    index: u64,
    role: KeyRole,
    key: &str,
    previous: &str,
) -> Result<String, LedgerError> {
    let value = serde_json::json!({
        "origin": origin, "index": index, "role": role, "key": key, "previous": previous,
    });
    crypto::jcs::canonical(&value).map_err(|error| LedgerError::Entry(error.to_string()))
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the format.
    pub(super) v: u32,
    /// Its position, from 0.
    pub index: u64,
    /// When, sealfs time; never decreases along the log.
    pub time: Timestamp,
    /// What the wall clock said then.
    pub wall: Timestamp,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
}

impl Entry {
    /// An entry of the version that is written today.
    #[must_use]
    pub fn new(index: u64, time: Timestamp, wall: Timestamp, change: Change) -> Self {
        Entry { v: VERSION, index, time, wall, change }
    }

    /// The entry as it is kept and hashed: canonical JSON, at most 65,535 bytes.
    ///
    /// # Errors
    /// If it would be longer, or holds what canonical JSON cannot.
    pub fn canonical(&self) -> Result<String, LedgerError> {
        let fail = |error: &dyn std::fmt::Display| LedgerError::Entry(error.to_string());
        let text = match &self.change {
            // Nearly all are.
            Change::Sealed(sealed) => sealed.canonical(self).map_err(|error| fail(&error))?,
            _ => self.canonical_by_values()?,
        };
        if text.len() > ENTRY_MAX {
            return Err(LedgerError::Entry(format!("{} bytes, more than {ENTRY_MAX}", text.len())));
        }
        Ok(text)
    }

    fn canonical_by_values(&self) -> Result<String, LedgerError> {
        let fail = |error: &dyn std::fmt::Display| LedgerError::Entry(error.to_string());
        let value = serde_json::to_value(self).map_err(|error| fail(&error))?;
        crypto::jcs::canonical(&value).map_err(|error| fail(&error))
    }

    /// Reads an entry. Only what [`Entry::canonical`] would write is taken: there is one text for one meaning.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &[u8]) -> Result<Self, LedgerError> {
        let fail = |error: &dyn std::fmt::Display| LedgerError::Entry(format!("not an entry: {error}"));
        if text.len() > ENTRY_MAX {
            return Err(fail(&"too long"));
        }
        let entry: Entry = serde_json::from_slice(text).map_err(|error| fail(&error))?;
        if entry.v != VERSION {
            return Err(LedgerError::Entry(format!(
                "version {}; a newer sealfs may have written it",
                entry.v
            )));
        }
        if entry.canonical()?.as_bytes() != text {
            return Err(fail(&"not in canonical form"));
        }
        Ok(entry)
    }

    /// The path it is about, for `history`.
    #[must_use]
    pub fn path(&self) -> Option<&RelPath> {
        match &self.change {
            Change::Sealed(sealed) => Some(&sealed.path),
            Change::Extended { path, .. }
            | Change::Shortened { path, .. }
            | Change::Held { path, .. }
            | Change::Released { path, .. }
            | Change::Attested { path, .. }
            | Change::Ended { path, .. }
            | Change::Altered { path, .. }
            | Change::Symlink { path, .. } => Some(path),
            Change::IndexDiffers { path, .. } => path.as_ref(),
            Change::Store { .. }
            | Change::Policy { .. }
            | Change::KeyMade { .. }
            | Change::KeyRotated { .. }
            | Change::KeyRetired { .. }
            | Change::ClockGap { .. }
            | Change::ClockAccepted { .. } => None,
        }
    }

    /// The statement that was signed with it, apart from a seal's own.
    #[must_use]
    pub fn statement(&self) -> Option<&SignedStatement> {
        match &self.change {
            Change::Extended { statement, .. }
            | Change::Shortened { statement, .. }
            | Change::Held { statement, .. }
            | Change::Released { statement, .. } => Some(statement),
            _ => None,
        }
    }
}

/// One entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Its position, from 0.
    pub index: u64,
    /// The canonical JSON, verbatim.
    pub body: String,
}

impl EntryRow {
    /// What it says.
    ///
    /// # Errors
    /// If it is no entry, or one of another position.
    pub fn parse(&self) -> Result<Entry, LedgerError> {
        let entry = Entry::parse(self.body.as_bytes())?;
        if entry.index != self.index {
            return Err(LedgerError::Entry(format!("entry {} stands at {}", entry.index, self.index)));
        }
        Ok(entry)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
