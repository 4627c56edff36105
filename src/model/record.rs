//! What is kept of a sealed file.

use std::fmt;
use std::str::FromStr;

use super::{Digest, FileTime, RelPath, Timestamp};

/// What was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A regular file; the content is its bytes.
    #[default]
    File,
    /// A symbolic link; the content is its target.
    Symlink,
}

/// Who may shorten a retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionMode {
    /// A holder of the role `governance` may, with a reason, logged.
    Governance,
    /// Nobody may.
    Compliance,
}

impl RetentionMode {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RetentionMode::Governance => "governance",
            RetentionMode::Compliance => "compliance",
        }
    }
}

impl fmt::Display for RetentionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for RetentionMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "governance" => Ok(RetentionMode::Governance),
            "compliance" => Ok(RetentionMode::Compliance),
            _ => Err(format!("expected \"governance\" or \"compliance\", found {text:?}")),
        }
    }
}

/// When files under a rule are sealed (policy `seal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealTrigger {
    /// A quiet time after the last close.
    Close,
    /// When the write bits are taken away.
    Readonly,
    /// When `sealctl seal` asks.
    Explicit,
    /// Never: scratch.
    Never,
}

/// How a seal was asked for that is not there yet; each asks for more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// By a sidecar's name: now rather than after the quiet time.
    Sidecar,
    /// By taking the write bits away.
    Readonly,
    /// By `sealctl seal`.
    Explicit,
}

impl Asked {
    /// All of them, with the words that journal and index keep.
    const WORDS: [(Asked, &'static str); 3] =
        [(Asked::Sidecar, "sidecar"), (Asked::Readonly, "readonly"), (Asked::Explicit, "explicit")];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Asked::WORDS.iter().find(|(asked, _)| *asked == self).map_or("", |(_, word)| word)
    }

    /// What a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Asked::WORDS.iter().find(|(_, known)| *known == word).map(|(asked, _)| *asked)
    }
}

impl SealTrigger {
    /// Whether a file under the rule is sealed that was asked for so, or not at all.
    #[must_use]
    pub fn seals(self, asked: Option<Asked>) -> bool {
        match self {
            SealTrigger::Close => true,
            SealTrigger::Readonly => asked >= Some(Asked::Readonly),
            SealTrigger::Explicit => asked == Some(Asked::Explicit),
            SealTrigger::Never => false,
        }
    }
}

/// The name of a store, as it stands in keys, statements and log: of `[a-z0-9./-]`, at most 100 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./-".contains(c);
        if text.is_empty() || text.len() > 100 || !text.chars().all(fits) {
            return Err(format!(
                "expected 1 to 100 characters of a-z, 0-9, '.', '/' and '-', found {text:?}"
            ));
        }
        Ok(Origin(text.to_owned()))
    }
}

/// Longest SSHSIG namespace, in bytes.
pub const NAMESPACE_MAX: usize = 128;

/// Whether a text can be the SSHSIG namespace of seals: 1 to [`NAMESPACE_MAX`] of ASCII letters, digits and
/// `._@/+:=-`, so that it stands in `allowed_signers` unquoted and without wildcards.
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._@/+:=-".contains(&c);
    (1..=NAMESPACE_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// A legal hold on one file: retention does not end while any stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The name it was given, unique on the file.
    pub name: String,
    /// When it was placed, in sealfs time.
    pub since: Timestamp,
}

/// The provenance statement of a seal: what it is made of, and its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenanceRef {
    /// The attachment that says who wrote it; many seals share one.
    pub attachment: u64,
    /// Ed25519 signature of the statement's envelope (64 bytes), by the key that sealed.
    pub signature: [u8; 64],
}

/// Everything the index keeps of one sealed file. What the seal statement vouches for never changes;
/// `retain_until`, `mode`, `holds` and the backing file's marks may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRecord {
    /// The row's number in the index; unique for the life of the store.
    pub id: i64,
    /// Where it stands in the mount.
    pub path: RelPath,
    /// File or symbolic link.
    pub kind: ArtifactKind,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Bytes of content.
    pub size: u64,
    /// Permission bits (07777 mask) as the builder left them.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time as the builder left it.
    pub mtime: FileTime,
    /// When it was sealed, in sealfs time; never decreases along the log.
    pub sealed_at: Timestamp,
    /// What the wall clock said then.
    pub sealed_wall: Timestamp,
    /// Retained until then, as stated with the seal.
    pub retain_sealed: Timestamp,
    /// Retained until then, today.
    pub retain_until: Timestamp,
    /// Governance or compliance, as stated with the seal.
    pub mode: RetentionMode,
    /// SHA-256 of the policy that decided.
    pub policy: Digest,
    /// SSHSIG namespace of the signature.
    pub namespace: String,
    /// Position of its entry in the log, from 0.
    pub log_index: u64,
    /// Fingerprint of the seal key (OpenSSH form, `SHA256:…`).
    pub key: String,
    /// Ed25519 signature in `F.seal` (64 bytes); `None` for a symbolic link.
    pub signature: Option<[u8; 64]>,
    /// Ed25519 signature of the seal statement's envelope (64 bytes).
    pub statement_signature: [u8; 64],
    /// Who wrote it, as stated in line 2; none for a symbolic link.
    pub provenance: Option<ProvenanceRef>,
    /// Version of the template that renders statement and sidecars.
    pub template: u32,
    /// Inode number of the backing file when it was last proven.
    pub ino: u64,
    /// Change time of the backing file when it was last proven.
    pub ctime: FileTime,
    /// Holds that stand, by name.
    pub holds: Vec<Hold>,
    /// Whether it was sealed although its writer was killed.
    pub torn_kept: bool,
}

impl SealRecord {
    /// Whether retention is over at `now` and no hold stands.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.retain_until <= now && self.holds.is_empty()
    }
}
