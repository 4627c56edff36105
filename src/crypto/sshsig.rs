//! OpenSSH signatures over a digest: what stands in `F.seal` (OpenSSH, PROTOCOL.sshsig).
//!
//! ```text
//! signed:  "SSHSIG"  string namespace  string reserved ""  string "sha256"  string digest
//! armored: "SSHSIG"  uint32 1  string public-key  string namespace  string reserved ""  string "sha256"
//!          string ( string "ssh-ed25519"  string signature[64] )
//! ```
//! The content itself is not needed for either: only its SHA-256.

use super::public::{ALGORITHM, BadSignature, PublicKey};
use super::wire::{Reader, put_string};
use super::{SigningKey, armor};
use crate::model::{Digest, is_namespace};

const LABEL: &str = "SSH SIGNATURE";
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const HASH: &str = "sha256";

/// No signature file of ours is anywhere near this long (bytes).
const MAX_TEXT: usize = 64 * 1024;

pub use crate::model::NAMESPACE_MAX;

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// No such armor, or bytes missing or left over.
    #[error("not an SSH signature, or a damaged one")]
    Malformed,
    /// A newer version of the format.
    #[error("SSH signature of version {0}; only version 1 is known")]
    Version(u32),
    /// Another hash than SHA-256.
    #[error("SSH signature over a {0:?} hash, not sha256; sign with: ssh-keygen -Y sign -O hashalg=sha256")]
    Hash(String),
    /// A key or signature that is not Ed25519.
    #[error("SSH signature by a key of kind {0:?}, not Ed25519")]
    Algorithm(String),
    /// Its key is no usable one.
    #[error("SSH signature by an invalid key")]
    Key,
    /// It was made by another key than the one expected.
    #[error("signed by {found}, not by {expected}")]
    OtherKey {
        /// Fingerprint of the key expected.
        expected: String,
        /// Fingerprint of the key in the signature.
        found: String,
    },
    /// It was made for another purpose.
    #[error("signed for the namespace {found:?}, not {expected:?}")]
    OtherNamespace {
        /// The namespace expected.
        expected: String,
        /// The namespace in the signature.
        found: String,
    },
    /// The signature does not hold for this content.
    #[error("the signature does not match the content")]
    Bad,
    /// A namespace that cannot be used.
    #[error("expected a namespace of 1 to 128 letters, digits and \"._@/+:=-\", found {0:?}")]
    Namespace(String),
}

impl From<BadSignature> for SigError {
    fn from(BadSignature: BadSignature) -> Self {
        SigError::Bad
    }
}

/// What an armored signature says. Nothing of it is proven before [`Parsed::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The key that it claims.
    pub public: PublicKey,
    /// The namespace that it claims.
    pub namespace: String,
    /// The Ed25519 signature.
    pub signature: [u8; 64],
}

impl Parsed {
    /// Whether `trusted` signed this digest for `namespace`: all of key, namespace and signature are checked.
    ///
    /// # Errors
    /// What does not fit.
    pub fn verify(&self, trusted: &PublicKey, namespace: &str, digest: &Digest) -> Result<(), SigError> {
        if self.public != *trusted {
            let (expected, found) = (trusted.fingerprint(), self.public.fingerprint());
            return Err(SigError::OtherKey { expected, found });
        }
        if self.namespace != namespace {
            let (expected, found) = (namespace.to_owned(), self.namespace.clone());
            return Err(SigError::OtherNamespace { expected, found });
        }
        verify_digest(trusted, namespace, digest, &self.signature)
    }
}

/// Whether `namespace` can stand in signatures and, unquoted and without wildcards, in `allowed_signers`:
/// 1 to 128 letters, digits and `._@/+:=-` of ASCII.
///
/// # Errors
/// If it cannot.
pub fn check_namespace(namespace: &str) -> Result<(), SigError> {
    if is_namespace(namespace) {
        Ok(())
    } else {
        Err(SigError::Namespace(namespace.chars().take(NAMESPACE_MAX).collect()))
    }
}

/// Signs the content whose SHA-256 is `digest`, for `namespace` (PROTOCOL.sshsig, section 3; RFC 8032). The same
/// each time. An empty namespace is refused by every verifier: see [`check_namespace`].
#[must_use]
pub fn sign_digest(key: &SigningKey, namespace: &str, digest: &Digest) -> [u8; 64] {
    key.sign_raw(&signed_data(namespace, digest))
}

/// Checks a signature made by [`sign_digest`], or by `ssh-keygen -Y sign -O hashalg=sha256`.
///
/// # Errors
/// If it does not hold, or the namespace is empty.
pub fn verify_digest(
    public: &PublicKey,
    namespace: &str,
    digest: &Digest,
    signature: &[u8; 64],
) -> Result<(), SigError> {
    if namespace.is_empty() {
        return Err(SigError::Namespace(String::new()));
    }
    Ok(public.verify_raw(&signed_data(namespace, digest), signature)?)
}

/// The whole content of `F.seal` (PROTOCOL.sshsig, section 2), byte for byte as `ssh-keygen -Y sign` writes it.
#[must_use]
pub fn armor(public: &PublicKey, namespace: &str, signature: &[u8; 64]) -> String {
    let mut blob = Vec::with_capacity(blob_len(namespace));
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&VERSION.to_be_bytes());
    put_string(&mut blob, &public.to_blob());
    put_string(&mut blob, namespace.as_bytes());
    put_string(&mut blob, b"");
    put_string(&mut blob, HASH.as_bytes());
    let mut inner = Vec::with_capacity(83);
    put_string(&mut inner, ALGORITHM.as_bytes());
    put_string(&mut inner, signature);
    put_string(&mut blob, &inner);
    std::mem::take(&mut *armor::encode(LABEL, &blob, armor::OPENSSH_WIDTH))
}

/// The length in bytes of every [`armor`] for this namespace, whatever key and signature.
#[must_use]
pub const fn armored_len(namespace: &str) -> usize {
    armor::encoded_len(LABEL, blob_len(namespace), armor::OPENSSH_WIDTH)
}

const fn blob_len(namespace: &str) -> usize {
    let key = 4 + ALGORITHM.len() + 4 + 32;
    let signature = 4 + ALGORITHM.len() + 4 + 64;
    MAGIC.len() + 4 + (4 + key) + (4 + namespace.len()) + 4 + (4 + HASH.len()) + (4 + signature)
}

/// Reads an armored signature by an Ed25519 key over a SHA-256 (PROTOCOL.sshsig, section 2). Strict: nothing may
/// precede it, only newlines follow it, and reserved data, which would be signed too, is not accepted.
///
/// # Errors
/// If it is none, or one of a kind that sealfs does not make.
pub fn parse(text: &[u8]) -> Result<Parsed, SigError> {
    if text.len() > MAX_TEXT {
        return Err(SigError::Malformed);
    }
    let blob = armor::decode(LABEL, text).ok_or(SigError::Malformed)?;
    let mut reader = Reader(blob.strip_prefix(MAGIC).ok_or(SigError::Malformed)?);
    let malformed = || SigError::Malformed;
    match reader.uint32() {
        Some(VERSION) => {}
        Some(other) => return Err(SigError::Version(other)),
        None => return Err(SigError::Malformed),
    }
    let public = reader.string().ok_or_else(malformed)?;
    let namespace = reader.string().ok_or_else(malformed)?;
    let reserved = reader.string().ok_or_else(malformed)?;
    let hash = reader.string().ok_or_else(malformed)?;
    let inner = reader.string().ok_or_else(malformed)?;
    if !reader.is_empty() || !reserved.is_empty() || namespace.is_empty() {
        return Err(SigError::Malformed);
    }
    if hash != HASH.as_bytes() {
        return Err(SigError::Hash(short_name(hash)));
    }
    let public = match PublicKey::from_blob(public) {
        Ok(public) => public,
        Err(super::PublicKeyError::Algorithm(name)) => return Err(SigError::Algorithm(name)),
        Err(_) => return Err(SigError::Key),
    };
    let mut inner = Reader(inner);
    let algorithm = inner.string().ok_or(SigError::Malformed)?;
    if algorithm != ALGORITHM.as_bytes() {
        return Err(SigError::Algorithm(short_name(algorithm)));
    }
    let signature = inner.string().filter(|_| inner.is_empty()).ok_or(SigError::Malformed)?;
    Ok(Parsed {
        public,
        namespace: std::str::from_utf8(namespace).map_err(|_| malformed())?.to_owned(),
        signature: signature.try_into().map_err(|_| SigError::Malformed)?,
    })
}

fn short_name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(64).collect()
}

fn signed_data(namespace: &str, digest: &Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAGIC.len() + 16 + namespace.len() + HASH.len() + 32);
    out.extend_from_slice(MAGIC);
    put_string(&mut out, namespace.as_bytes());
    put_string(&mut out, b"");
    put_string(&mut out, HASH.as_bytes());
    put_string(&mut out, &digest.0);
    out
}

#[cfg(test)]
#[path = "sshsig_tests.rs"]
mod tests;
