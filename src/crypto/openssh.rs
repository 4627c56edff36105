//! The OpenSSH private key format, unencrypted, one Ed25519 key (OpenSSH, PROTOCOL.key).
//!
//! ```text
//! "openssh-key-v1\0"  string cipher "none"  string kdf "none"  string kdfoptions ""
//! uint32 1  string public-key  string private:
//!     uint32 check  uint32 check  string "ssh-ed25519"  string public[32]
//!     string seed[32]‖public[32]  string comment  padding 1, 2, 3 … to a multiple of 8
//! ```

use zeroize::Zeroizing;

use super::public::{ALGORITHM, PublicKey, clean_comment};
use super::wire::{Reader, put_string};
use super::{KeyError, armor, sha256};

const LABEL: &str = "OPENSSH PRIVATE KEY";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// The cipher "none" has blocks of 8 bytes.
const BLOCK: usize = 8;

/// The key file's text.
pub(super) fn encode(seed: &[u8; 32], public: &PublicKey, comment: &str) -> Zeroizing<String> {
    let comment = clean_comment(comment);
    // With all that will stand in it allotted at once, no copy of the seed is left behind by growing.
    let mut private = Zeroizing::new(Vec::with_capacity(160 + comment.len()));
    // The two check numbers show a decryption that went wrong; without a cipher any will do.
    let check: [u8; 32] = sha256(&public.to_bytes()).0;
    private.extend_from_slice(&check[..4]);
    private.extend_from_slice(&check[..4]);
    put_string(&mut private, ALGORITHM.as_bytes());
    put_string(&mut private, &public.to_bytes());
    let mut pair = Zeroizing::new([0; 64]);
    pair[..32].copy_from_slice(seed);
    pair[32..].copy_from_slice(&public.to_bytes());
    put_string(&mut private, pair.as_slice());
    put_string(&mut private, comment.as_bytes());
    let mut padding = 1;
    while !private.len().is_multiple_of(BLOCK) {
        private.push(padding);
        padding += 1;
    }

    let mut out = Zeroizing::new(Vec::with_capacity(160 + private.len()));
    out.extend_from_slice(MAGIC);
    put_string(&mut out, b"none");
    put_string(&mut out, b"none");
    put_string(&mut out, b"");
    out.extend_from_slice(&1u32.to_be_bytes());
    put_string(&mut out, &public.to_blob());
    put_string(&mut out, &private);
    armor::encode(LABEL, &out, armor::OPENSSH_WIDTH)
}

/// The seed and the public key in a key file's text.
pub(super) fn decode(text: &[u8]) -> Result<(Zeroizing<[u8; 32]>, PublicKey), KeyError> {
    let blob = armor::decode(LABEL, text).ok_or(KeyError::NotOpenssh)?;
    let damaged = || KeyError::Damaged;
    let mut reader = Reader(blob.strip_prefix(MAGIC).ok_or(KeyError::NotOpenssh)?);
    let cipher = reader.string().ok_or_else(damaged)?;
    let kdf = reader.string().ok_or_else(damaged)?;
    let options = reader.string().ok_or_else(damaged)?;
    if reader.uint32() != Some(1) {
        return Err(KeyError::Damaged);
    }
    let public = reader.string().ok_or_else(damaged)?;
    let private = reader.string().filter(|_| reader.is_empty());
    check_algorithm(public)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    if kdf != b"none" || !options.is_empty() {
        return Err(KeyError::Damaged);
    }
    let public = PublicKey::from_blob(public).map_err(|_| KeyError::Damaged)?;
    let seed = private.and_then(|private| decode_private(private, &public)).ok_or_else(damaged)?;
    Ok((seed, public))
}

/// The seed in the private part, if everything about it agrees with the public key.
fn decode_private(private: &[u8], public: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
    let mut reader = Reader(private);
    let checks = (reader.uint32()?, reader.uint32()?);
    let (algorithm, first, pair) = (reader.string()?, reader.string()?, reader.string()?);
    let _comment = reader.string()?;
    let padding = reader.0.iter().zip(1u8..).all(|(found, expected)| *found == expected);
    let (seed, second) = pair.split_at_checked(32)?;
    let agrees = checks.0 == checks.1
        && algorithm == ALGORITHM.as_bytes()
        && first == public.to_bytes()
        && second == public.to_bytes()
        && padding
        && reader.0.len() < BLOCK
        && private.len().is_multiple_of(BLOCK);
    let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).ok()?);
    let derived = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    (agrees && derived.to_bytes() == public.to_bytes()).then_some(seed)
}

/// Tells a key of another kind from a damaged one.
fn check_algorithm(blob: &[u8]) -> Result<(), KeyError> {
    match Reader(blob).string() {
        Some(name) if name == ALGORITHM.as_bytes() => Ok(()),
        Some(name) if name.len() <= 64 && name.is_ascii() => {
            Err(KeyError::Algorithm(String::from_utf8_lossy(name).into_owned()))
        }
        _ => Err(KeyError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_refused_or_changes_nothing() {
        let seed = [7; 32];
        let public = PublicKey::from_dalek(ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key());
        let text = encode(&seed, &public, "c");
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.as_bytes().to_vec();
                bad[at] ^= 1 << bit;
                if let Ok((found, key)) = decode(&bad) {
                    assert_eq!((*found, key), (seed, public), "byte {at} bit {bit}");
                }
            }
        }
        for end in 0..text.len() - 1 {
            assert!(decode(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }
}
