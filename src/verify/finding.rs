//! What can be wrong with a file.

use crate::model::Digest;

/// The first wrong thing that was found about a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The index has a seal, the tree has no file.
    #[error("the file is missing from the store's tree; restore it from a backup")]
    Missing,
    /// Something else stands in its place.
    #[error("it is {found} in the store's tree, sealed was {sealed}")]
    Kind {
        /// What was sealed.
        sealed: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The content has another length.
    #[error("it has {found} bytes, sealed were {sealed}")]
    Size {
        /// Bytes sealed.
        sealed: u64,
        /// Bytes found.
        found: u64,
    },
    /// The content is another.
    #[error("the content was altered: its SHA-256 is {found}, sealed was {sealed}")]
    Content {
        /// The hash sealed.
        sealed: Digest,
        /// The hash found.
        found: Digest,
    },
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The key that is said to have sealed it is not known.
    #[error("sealed by the key {0}, which is not among the known seal keys")]
    UnknownKey(String),
    /// The signature over the content does not hold.
    #[error("the signature does not match: {0}")]
    Signature(String),
    /// The seal statement, or its signature.
    #[error("the seal statement does not hold: {0}")]
    Statement(String),
    /// The key was not in use when it is said to have sealed.
    #[error("sealed by the key {0}, {1}")]
    KeyNotValid(String, String),
    /// The provenance statement, its signature, or what it is made of.
    #[error("the provenance statement does not hold: {0}")]
    Provenance(String),
    /// An attestation of others that was added.
    #[error("an added attestation does not hold: {0}")]
    Attestation(String),
    /// The index says something else than the log.
    #[error("the index is not what the log says: {0}; 'sealctl rebuild' makes it anew")]
    Index(String),
    /// A requirement of `--require` is not met.
    #[error("required is {0}")]
    Requirement(String),
    /// The log has something else, or nothing.
    #[error("the log does not bear it out: {0}")]
    Log(String),
    /// An extension, a shortening or a hold does not hold.
    #[error("its retention is not borne out: {0}")]
    Retention(String),
    /// Mode, owner or time differ from what was sealed.
    #[error("its {what} is {found}, sealed was {sealed}")]
    Attribute {
        /// Which attribute.
        what: &'static str,
        /// As sealed.
        sealed: String,
        /// As found.
        found: String,
    },
    /// A free symbolic link is not what the log says.
    #[error("the symbolic link is not as it was: {0}")]
    Link(String),
    /// It has no seal.
    #[error("not sealed")]
    NotSealed,
}

impl Finding {
    /// A word for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Finding::Missing => "missing",
            Finding::Kind { .. } => "kind",
            Finding::Size { .. } => "size",
            Finding::Content { .. } => "content",
            Finding::Unreadable(_) => "unreadable",
            Finding::UnknownKey(_) => "unknown-key",
            Finding::Signature(_) => "signature",
            Finding::Statement(_) => "statement",
            Finding::KeyNotValid(..) => "key-not-valid",
            Finding::Provenance(_) => "provenance",
            Finding::Attestation(_) => "attestation",
            Finding::Index(_) => "index",
            Finding::Requirement(_) => "requirement",
            Finding::Log(_) => "log",
            Finding::Retention(_) => "retention",
            Finding::Attribute { .. } => "attribute",
            Finding::Link(_) => "link",
            Finding::NotSealed => "not-sealed",
        }
    }
}
