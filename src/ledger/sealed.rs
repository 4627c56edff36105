//! A seal as its entry says it: everything that is in the record and comes from no disk.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::signature::Signature;
use crate::crypto::jcs::{JcsError, Object};
use crate::model::{
    ArtifactKind, Digest, FileTime, ProvenanceRef, RelPath, RetentionMode, SealRecord, Timestamp,
};

/// The statements of a seal by their digests: what the log stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementDigests {
    /// Of line 1, the seal statement.
    pub seal: Digest,
    /// Of line 2, the provenance statement, if there is one.
    pub provenance: Option<Digest>,
}

/// A seal in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Where.
    pub path: RelPath,
    /// What; left out for a file.
    #[serde(default, skip_serializing_if = "is_file")]
    pub kind: ArtifactKind,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Permission bits, four octal digits.
    pub perm: Perm,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: FileTime,
    /// Retained until then, at first.
    pub retain_until: Timestamp,
    /// Governance or compliance.
    pub mode: RetentionMode,
    /// SHA-256 of the policy that decided.
    pub policy: Digest,
    /// SSHSIG namespace.
    pub namespace: String,
    /// Fingerprint of the seal key.
    pub key: String,
    /// Signature in `F.seal`; none for a symbolic link.
    #[serde(rename = "sig", default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Line 1.
    pub statement: StatementRef,
    /// Line 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ProvenanceEntry>,
    /// Version of the template that renders the statements.
    pub template: u32,
    /// Kept although torn; left out otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub torn: bool,
}

/// A statement and its signature by the seal's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRef {
    /// SHA-256 of the DSSE payload.
    pub sha256: Digest,
    /// The envelope's signature.
    #[serde(rename = "sig")]
    pub signature: Signature,
}

/// The provenance statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceEntry {
    /// The attachment it is made of.
    pub attachment: u64,
    /// SHA-256 of the DSSE payload.
    pub sha256: Digest,
    /// The envelope's signature.
    #[serde(rename = "sig")]
    pub signature: Signature,
}

/// Permission bits, as four octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perm(pub u32);

impl Serialize for Perm {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Perm {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o7777);
        bits.map(Perm).ok_or_else(|| serde::de::Error::custom("expected four octal digits"))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_file(kind: &ArtifactKind) -> bool {
    *kind == ArtifactKind::File
}

impl Sealed {
    /// The entry that it stands in, as canonical JSON: what `serde` and [`jcs::canonical`] make of it, in an eighth of
    /// the time.
    pub(super) fn canonical(&self, entry: &Entry) -> Result<String, JcsError> {
        let mut out = String::with_capacity(1536);
        let mut object = Object::begin(&mut out);
        object.number("gid", self.gid.into())?;
        object.number("index", entry.index)?;
        object.text("key", &self.key);
        if !is_file(&self.kind) {
            object.text("kind", "symlink");
        }
        object.text("mode", self.mode.word());
        object.text("mtime", &self.mtime.to_string());
        object.text("namespace", &self.namespace);
        object.text("path", self.path.as_str());
        object.text("perm", &format!("{:04o}", self.perm.0));
        object.text("policy", &self.policy.to_hex());
        if let Some(made) = &self.provenance {
            let mut provenance = object.object("provenance");
            provenance.number("attachment", made.attachment)?;
            provenance.text("sha256", &made.sha256.to_hex());
            provenance.text("sig", &made.signature.to_base64());
            provenance.end();
        }
        object.text("retainUntil", &self.retain_until.to_string());
        object.text("sha256", &self.sha256.to_hex());
        if let Some(signature) = &self.signature {
            object.text("sig", &signature.to_base64());
        }
        object.number("size", self.size)?;
        let mut statement = object.object("statement");
        statement.text("sha256", &self.statement.sha256.to_hex());
        statement.text("sig", &self.statement.signature.to_base64());
        statement.end();
        object.number("template", self.template.into())?;
        object.text("time", &entry.time.to_string());
        if self.torn {
            object.yes("torn");
        }
        object.text("type", "sealed");
        object.number("uid", self.uid.into())?;
        object.number("v", entry.v.into())?;
        object.text("wall", &entry.wall.to_string());
        object.end();
        Ok(out)
    }

    /// What the log says of a record; its place and times are the entry's.
    #[must_use]
    pub fn of(record: &SealRecord, digests: StatementDigests) -> Self {
        Sealed {
            path: record.path.clone(),
            kind: record.kind,
            sha256: record.sha256,
            size: record.size,
            perm: Perm(record.perm),
            uid: record.uid,
            gid: record.gid,
            mtime: record.mtime,
            retain_until: record.retain_sealed,
            mode: record.mode,
            policy: record.policy,
            namespace: record.namespace.clone(),
            key: record.key.clone(),
            signature: record.signature.map(Signature),
            statement: StatementRef {
                sha256: digests.seal,
                signature: Signature(record.statement_signature),
            },
            provenance: record.provenance.zip(digests.provenance).map(|(made, sha256)| ProvenanceEntry {
                attachment: made.attachment,
                sha256,
                signature: Signature(made.signature),
            }),
            template: record.template,
            torn: record.torn_kept,
        }
    }

    /// The record as it was when it was sealed, but for what only the backing file knows: row number, inode and
    /// change time are zero.
    #[must_use]
    pub fn to_record(&self, index: u64, time: Timestamp, wall: Timestamp) -> SealRecord {
        SealRecord {
            id: 0,
            path: self.path.clone(),
            kind: self.kind,
            sha256: self.sha256,
            size: self.size,
            perm: self.perm.0,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            sealed_at: time,
            sealed_wall: wall,
            retain_sealed: self.retain_until,
            retain_until: self.retain_until,
            mode: self.mode,
            policy: self.policy,
            namespace: self.namespace.clone(),
            log_index: index,
            key: self.key.clone(),
            signature: self.signature.map(|signature| signature.0),
            statement_signature: self.statement.signature.0,
            provenance: self
                .provenance
                .map(|made| ProvenanceRef { attachment: made.attachment, signature: made.signature.0 }),
            template: self.template,
            ino: 0,
            ctime: FileTime::default(),
            holds: Vec::new(),
            torn_kept: self.torn,
        }
    }
}
