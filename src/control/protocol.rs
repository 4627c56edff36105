//! The words of the control socket. Version 1; fields may be added, never change their meaning.

use serde::{Deserialize, Serialize};

use crate::ledger::KeyRole;
use crate::model::{ArtifactKind, RelPath, SealRecord, State, Timestamp};
use crate::seal::Counts;
use crate::store::{EntryKind, Meta};

/// Longest frame, in bytes, both ways.
pub const FRAME_MAX: usize = 4 << 20;

/// What is asked. Those marked *(descriptor)* come with one open descriptor (`O_PATH` will do) of a file or
/// folder in the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Items: one [`StatusView`]. Anybody.
    Status,
    /// Items: one object, the `counters` of [`StatusView`] alone. It costs the daemon next to nothing, so it may be
    /// asked often. Anybody.
    Counters,
    /// Writes down at once what is otherwise kept in memory for up to a second: the last refusals. No items.
    /// Auditors and root.
    Flush,
    /// A new worker, or a newer program, under the live mount. Root only. No items; the connection ends with the
    /// worker.
    Restart,
    /// *(descriptor)* Items: one [`FileView`]. Whoever can reach it.
    Stat,
    /// *(descriptor)* Items: [`RefusalView`], newest first. Its owner, auditors, root.
    Why,
    /// *(descriptor)* Items: entries of the log about it, oldest first. Its owner, auditors, root.
    History,
    /// *(descriptor of a folder or file)* Items: one [`FileView`] for every sealed file at or below it, in
    /// the order of folder and name. Auditors and root.
    Ls {
        /// Only in this state; without, what is sealed or expired. The others are known to the daemon only.
        state: Option<State>,
        /// Only what retention ends for within so many seconds.
        expiring_within: Option<u64>,
    },
    /// *(descriptor)* Demands a seal, without waiting for it. Its owner; with `torn`, another's only the role
    /// `governance`. Items: one [`FileView`].
    Seal {
        /// A torn file too.
        torn: bool,
    },
    /// *(descriptor)* Answers once it is sealed, or will not be. Items: one [`FileView`].
    Wait {
        /// Milliseconds; none: as long as it takes.
        timeout_ms: Option<u64>,
    },
    /// *(descriptor)* Changes the end of retention. Items: one [`FileView`].
    Retain {
        /// Until then; or
        until: Option<Timestamp>,
        /// so many seconds from now (sealfs time).
        seconds: Option<u64>,
        /// Calendar months that come before the seconds.
        #[serde(default)]
        months: u32,
        /// A compliance retention may become longer than what can be meant by mistake.
        #[serde(default)]
        yes: bool,
        /// Shorten although retained (role `governance`, mode governance only).
        bypass: bool,
        /// Why; needed with `bypass`.
        reason: Option<String>,
    },
    /// *(descriptor)* Places (`add`) or removes a hold. Role `governance`. Items: one [`FileView`].
    Hold {
        /// Placed, or removed.
        add: bool,
        /// 1 to 64 characters of letters, digits, `.`, `_`, `-`.
        name: String,
    },
    /// *(descriptor of a folder or file; none: the whole store)* Removes what has expired. Role
    /// `governance`. Items: one [`FileView`] for each file (to be) removed.
    Purge {
        /// Only say what would go.
        dry_run: bool,
        /// Remove a file although it is retained (mode governance only; *descriptor* of a file).
        #[serde(default)]
        bypass: bool,
        /// Why; needed with `bypass`.
        #[serde(default)]
        reason: Option<String>,
    },
    /// *(descriptor)* Adds somebody else's attestation to a seal. Its owner; role `governance`. Items: one
    /// [`AttestView`].
    Attest {
        /// A DSSE envelope, one line of JSON.
        envelope: String,
    },
    /// Seals and where they came from. Role `auditor`. With a descriptor: of that file; else of `hex`. Items:
    /// `TraceView`.
    Trace {
        /// The beginning of a commit, or a SHA-256.
        hex: Option<String>,
    },
    /// A new key, vouched for by the old one. Role `governance`. Items: one [`KeyView`].
    KeyRotate {
        /// Which.
        role: KeyRole,
    },
    /// A key is trusted no more. Role `governance`. Items: one [`KeyView`], of the key in use after that.
    KeyRetire {
        /// Its fingerprint.
        fingerprint: String,
        /// From when on others may have had it.
        compromised_since: Timestamp,
    },
    /// Accepts what passed while the host was off and was not believed. Role `governance`. Items: one [`ClockView`].
    ClockAccept,
}

/// One frame of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// One of the things asked for.
    Item(serde_json::Value),
    /// That was all.
    End,
    /// It was not done.
    Error {
        /// The exit code that `sealctl` ends with (contract: 1 failed, 2 usage, 4 refused, 5 no such file
        /// or not sealed).
        code: u8,
        /// What happened; what to do. One line, without the path.
        message: String,
    },
}

/// One file as `stat` and `ls` show it. Fields that a state does not have are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct FileView {
    /// Path from the mount's root.
    pub path: String,
    /// `file`, `symlink`, `folder` or `other`.
    pub kind: String,
    /// Its state; none for a folder or a free symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Bytes.
    pub size: u64,
    /// Permission bits, octal, as `0644`.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: String,
    /// SHA-256, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When it was sealed, sealfs time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed_at: Option<Timestamp>,
    /// Retained until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_until: Option<Timestamp>,
    /// `governance` or `compliance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_mode: Option<String>,
    /// Names of the holds that stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
    /// Position of its seal in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
    /// Fingerprint of the key that sealed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// SSHSIG namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The rule of the policy in force that its name falls under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What keeps it from being sealed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

impl FileView {
    /// A sealed or expired file, as far as the index knows it.
    #[must_use]
    pub fn of_record(record: &SealRecord, now: Timestamp) -> Self {
        FileView {
            path: record.path.to_string(),
            kind: match record.kind {
                ArtifactKind::File => "file",
                ArtifactKind::Symlink => "symlink",
            }
            .to_owned(),
            state: Some(if record.is_expired(now) { State::Expired } else { State::Sealed }),
            size: record.size,
            mode: format!("{:04o}", record.perm),
            uid: record.uid,
            gid: record.gid,
            mtime: record.mtime.to_string(),
            sha256: Some(record.sha256.to_hex()),
            sealed_at: Some(record.sealed_at),
            retain_until: Some(record.retain_until),
            retention_mode: Some(record.mode.to_string()),
            holds: record.holds.iter().map(|hold| hold.name.clone()).collect(),
            log_index: Some(record.log_index),
            key: Some(record.key.clone()),
            namespace: Some(record.namespace.clone()),
            rule: None,
            waits_for: None,
        }
    }

    /// What has no seal: as far as the backing tree knows it.
    #[must_use]
    pub fn of_tree(path: &RelPath, meta: &Meta) -> Self {
        FileView {
            path: path.to_string(),
            kind: match meta.kind {
                EntryKind::File => "file",
                EntryKind::Symlink => "symlink",
                EntryKind::Dir => "folder",
                EntryKind::Other => "other",
            }
            .to_owned(),
            state: None,
            size: meta.size,
            mode: format!("{:04o}", meta.perm),
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime.to_string(),
            sha256: None,
            sealed_at: None,
            retain_until: None,
            retention_mode: None,
            holds: Vec::new(),
            log_index: None,
            key: None,
            namespace: None,
            rule: None,
            waits_for: None,
        }
    }
}

/// An attestation that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestView {
    /// Path from the mount's root.
    pub path: String,
    /// What it attests: the predicate type.
    pub predicate: String,
}

/// A key in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// What for.
    pub role: KeyRole,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// Sealfs time beside the wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// Sealfs time.
    pub time: Timestamp,
    /// The wall clock.
    pub wall: Timestamp,
    /// Seconds of absence that were believed since the last acceptance.
    pub believed_seconds: u64,
    /// Seconds that were not.
    pub doubted_seconds: u64,
    /// Seconds that were accepted just now.
    pub accepted_seconds: u64,
}

/// Refused calls, as `why` shows them.
pub type RefusalView = crate::ledger::Refusal;

/// The daemon and its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The store's name.
    pub origin: String,
    /// Absolute path of the store.
    pub store: String,
    /// Absolute path of the mount point.
    pub mountpoint: String,
    /// The process that serves the mount.
    pub pid: u32,
    /// How often that was replaced by another one since the mount was made.
    pub restarts: u64,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// Whether file data goes past the daemon (kernel passthrough).
    pub passthrough: bool,
    /// Sealed and retained files.
    pub sealed: u64,
    /// Expired files.
    pub expired: u64,
    /// Files with holds.
    pub held: u64,
    /// Bytes of all sealed and expired files.
    pub bytes: u64,
    /// Entries in the log.
    pub log_entries: u64,
    /// Entries that the last checkpoint covers.
    pub checkpoint: u64,
    /// The unsealed.
    pub unsealed: Counts,
    /// Sealfs time.
    pub time: Timestamp,
    /// The wall clock.
    pub wall: Timestamp,
    /// Seconds of absence of the host that are not believed.
    pub clock_doubted_seconds: u64,
    /// SHA-256 of the policy in force.
    pub policy: String,
    /// Fingerprint of the seal key.
    pub key: String,
    /// Abilities that are missing here and what that means, in words.
    pub fallbacks: Vec<String>,
    /// What somebody should look at, in words.
    pub warnings: Vec<String>,
    /// What this process was asked since it began and what that cost, by the names in `src/metrics.rs`; those
    /// that are 0 are left out.
    #[serde(default)]
    pub counters: std::collections::BTreeMap<String, u64>,
}
