//! Ed25519 public keys (RFC 8032), as an OpenSSH line, a fingerprint, or PEM for openssl.

use std::fmt;
use std::hash::{Hash, Hasher};

use ed25519_dalek::{Signature, VerifyingKey};

use super::wire::{Reader, put_string};
use super::{armor, sha256};

/// The name of the algorithm in SSH (RFC 8709).
pub(super) const ALGORITHM: &str = "ssh-ed25519";

/// Subject public key info of an Ed25519 key up to the key's 32 bytes (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SPKI_LABEL: &str = "PUBLIC KEY";

/// An Ed25519 public key (RFC 8032) that is a point of the curve and not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why something is no usable public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The 32 bytes stand for no point, or for one of small order, under which anything could be signed.
    #[error("not a valid Ed25519 public key")]
    Invalid,
    /// A key of another kind.
    #[error("expected an Ed25519 key, found {0:?}")]
    Algorithm(String),
    /// No OpenSSH public key line.
    #[error("not an OpenSSH public key; expected \"ssh-ed25519 AAAA… comment\" on one line")]
    Openssh,
    /// No PEM of an Ed25519 key.
    #[error("not an Ed25519 public key in PEM form; expected -----BEGIN PUBLIC KEY-----")]
    Pem,
}

/// The signature is not one of this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

impl PublicKey {
    /// Makes a key of its 32 bytes (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// If they are no point of the curve, or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::Invalid)?;
        if key.is_weak() { Err(PublicKeyError::Invalid) } else { Ok(Self(key)) }
    }

    pub(super) fn from_dalek(key: VerifyingKey) -> Self {
        Self(key)
    }

    /// The 32 bytes (RFC 8032).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// `SHA256:` and the unpadded base64 of the hash of the key's SSH form, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", armor::base64_unpadded(&sha256(&self.to_blob()).0))
    }

    /// `ssh-ed25519 AAAA… comment`, without a newline (RFC 8709; `sshd(8)`). Control
    /// characters in the comment become spaces; an empty one is left out.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> String {
        let comment = clean_comment(comment);
        let space = if comment.is_empty() { "" } else { " " };
        format!("{ALGORITHM} {}{space}{comment}", armor::base64(&self.to_blob()))
    }

    /// Reads what [`PublicKey::to_openssh`] and `ssh-keygen` write: one line, options not allowed.
    ///
    /// # Errors
    /// If it is of another algorithm, or no such line.
    pub fn from_openssh(line: &str) -> Result<Self, PublicKeyError> {
        let line = line.trim();
        let mut words = line.split_ascii_whitespace();
        let (algorithm, blob) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if line.contains(['\n', '\r']) || blob.is_empty() {
            return Err(PublicKeyError::Openssh);
        }
        if algorithm != ALGORITHM {
            return Err(PublicKeyError::Algorithm(algorithm.chars().take(64).collect()));
        }
        Self::from_blob(&armor::from_base64(blob).ok_or(PublicKeyError::Openssh)?)
    }

    /// `-----BEGIN PUBLIC KEY-----`: subject public key info (RFC 8410) as PEM (RFC 7468), as openssl reads it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut der = SPKI_PREFIX.to_vec();
        der.extend_from_slice(self.0.as_bytes());
        std::mem::take(&mut *armor::encode(SPKI_LABEL, &der, 64))
    }

    /// Reads one key in the form of [`PublicKey::to_pem`] (RFC 8410).
    ///
    /// # Errors
    /// If it is anything else, also a second key after the first.
    pub fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        let der = armor::decode(SPKI_LABEL, text.as_bytes()).ok_or(PublicKeyError::Pem)?;
        let key = der.strip_prefix(&SPKI_PREFIX).ok_or(PublicKeyError::Pem)?;
        Self::from_bytes(key.try_into().map_err(|_| PublicKeyError::Pem)?)
    }

    /// Checks an Ed25519 signature (RFC 8032, section 5.1.7) in the strict way: also no key and no `R` of small
    /// order, and no `S` that is not reduced, so that nobody can turn one signature into another.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn verify_raw(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
    }

    /// The key in SSH's binary form (RFC 8709, section 4).
    pub(super) fn to_blob(self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(51);
        put_string(&mut blob, ALGORITHM.as_bytes());
        put_string(&mut blob, self.0.as_bytes());
        blob
    }

    pub(super) fn from_blob(blob: &[u8]) -> Result<Self, PublicKeyError> {
        let mut reader = Reader(blob);
        let algorithm = reader.string().ok_or(PublicKeyError::Openssh)?;
        if algorithm != ALGORITHM.as_bytes() {
            let name = String::from_utf8_lossy(algorithm).chars().take(64).collect();
            return Err(PublicKeyError::Algorithm(name));
        }
        let key = reader.string().filter(|_| reader.is_empty()).ok_or(PublicKeyError::Openssh)?;
        Self::from_bytes(key.try_into().map_err(|_| PublicKeyError::Openssh)?)
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// A comment fit for one line: control characters become spaces; at most 1024 characters.
pub(super) fn clean_comment(comment: &str) -> String {
    let clean: String = comment.chars().take(1024).map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::SigningKey;
    use super::super::testing::{Dir, hex};
    use super::*;

    fn array<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    #[test]
    fn rfc_8032_vectors() {
        // Section 7.1, TEST 1 to 3: seed, public key, message, signature.
        let vectors = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (seed, public, message, signature) in vectors {
            let key = SigningKey::from_seed(&array(seed));
            let message = hex(message);
            assert_eq!(key.public().to_bytes(), array(public));
            assert_eq!(key.sign_raw(&message), array(signature));
            let public = PublicKey::from_bytes(&array(public)).unwrap();
            for bit in 0..512 {
                let mut bad: [u8; 64] = array(signature);
                public.verify_raw(&message, &bad).unwrap();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(public.verify_raw(&message, &bad), Err(BadSignature));
            }
        }
    }

    #[test]
    fn weak_and_impossible_keys_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        for bytes in [[0; 32], one, [2; 32]] {
            assert_eq!(PublicKey::from_bytes(&bytes), Err(PublicKeyError::Invalid));
        }
    }

    #[test]
    fn openssh_and_openssl_read_what_we_write() {
        let dir = Dir::new();
        let key = SigningKey::generate().unwrap().public();
        dir.write("k.pub", format!("{}\n", key.to_openssh("a comment")));
        let listed = dir.run("ssh-keygen", &["-l", "-f", "k.pub"]);
        assert_eq!(listed, format!("256 {} a comment (ED25519)\n", key.fingerprint()));

        dir.write("k.pem", key.to_pem());
        let again = dir.run("openssl", &["pkey", "-pubin", "-in", "k.pem"]);
        assert_eq!(again, key.to_pem());
        assert_eq!(PublicKey::from_pem(&again), Ok(key));
    }

    #[test]
    fn lines_round_trip_and_garbage_is_refused() {
        let key = SigningKey::generate().unwrap().public();
        let line = key.to_openssh("");
        assert!(!line.ends_with(' '));
        for good in [&line, &key.to_openssh("x y\nssh-rsa"), &format!(" {line}\n")] {
            assert_eq!(PublicKey::from_openssh(good), Ok(key));
        }
        assert!(!key.to_openssh("x\ny\0").contains(['\n', '\0']));
        let rsa = line.replace("ssh-ed25519", "ssh-rsa");
        assert_eq!(PublicKey::from_openssh(&rsa), Err(PublicKeyError::Algorithm("ssh-rsa".into())));
        let short = &line[..line.len() - 4];
        for bad in ["", "ssh-ed25519", short, &format!("{line}AAAA"), &format!("{line}\n{line}")] {
            assert_eq!(PublicKey::from_openssh(bad), Err(PublicKeyError::Openssh), "{bad}");
        }
        let pem = key.to_pem();
        for bad in ["", &pem.replace("MCow", "MCox"), &pem.repeat(2), &pem.replace('=', "")] {
            assert_eq!(PublicKey::from_pem(bad), Err(PublicKeyError::Pem), "{bad}");
        }
    }
}
