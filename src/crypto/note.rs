//! Signed notes (C2SP signed-note), with Ed25519 (signature type 0x01).

use super::{PublicKey, SigningKey, armor, sha256};

/// Longest note that is read, in bytes.
pub const MAX_NOTE: usize = 1 << 20;
/// Most signature lines.
const MAX_SIGNATURES: usize = 100;
/// Signature type: Ed25519.
const ED25519: u8 = 0x01;
/// Em dash and space, before each signature.
const DASH: &str = "\u{2014} ";

/// Why a note cannot be made or is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text does not end in a newline, or holds control characters.
    #[error("the text of a note must be lines without control characters")]
    Text,
    /// A name with white space or a plus sign.
    #[error("not the name of a key: {0:?}")]
    Name(String),
    /// It is no signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature is by a key that is trusted.
    #[error("not signed by {0} with a key that is trusted here")]
    Untrusted(String),
    /// One of them is, by its name and number, and does not hold.
    #[error("the signature by {0} does not match")]
    Signature(String),
    /// No verifier key.
    #[error("not a verifier key; expected NAME+HASH+KEY")]
    VerifierKey,
}

/// A key's number in notes: the first four bytes of SHA-256 over name, newline, signature type and key.
#[must_use]
pub fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(&[b'\n', ED25519]);
    bytes.extend_from_slice(&key.to_bytes());
    let digest = sha256(&bytes).0;
    [digest[0], digest[1], digest[2], digest[3]]
}

fn hex(id: [u8; 4]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key as others' tools take it: `NAME+HASH+KEY` (C2SP signed-note, "Verifier keys").
#[must_use]
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    let mut bytes = vec![ED25519];
    bytes.extend_from_slice(&key.to_bytes());
    format!("{name}+{}+{}", hex(key_id(name, key)), armor::base64(&bytes))
}

/// Reads what [`verifier_key`] writes. Answers name and key.
///
/// # Errors
/// [`NoteError::VerifierKey`].
pub fn parse_verifier_key(text: &str) -> Result<(String, PublicKey), NoteError> {
    let mut parts = text.trim_end().splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::VerifierKey);
    };
    let bytes = armor::from_base64(key).ok_or(NoteError::VerifierKey)?;
    let (ED25519, key) = bytes.split_first().map_or((0, &[][..]), |(kind, key)| (*kind, key)) else {
        return Err(NoteError::VerifierKey);
    };
    let key =
        key.try_into().ok().and_then(|key| PublicKey::from_bytes(key).ok()).ok_or(NoteError::VerifierKey)?;
    if !is_name(name) || hex(key_id(name, &key)) != id {
        return Err(NoteError::VerifierKey);
    }
    Ok((name.to_owned(), key))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c != '\n' && c.is_control())
}

/// Signs a text that ends in a newline: the whole note.
///
/// # Errors
/// [`NoteError::Text`], [`NoteError::Name`].
pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<String, NoteError> {
    if !is_text(text) {
        return Err(NoteError::Text);
    }
    if !is_name(name) {
        return Err(NoteError::Name(name.to_owned()));
    }
    let mut signature = key_id(name, &key.public()).to_vec();
    signature.extend_from_slice(&key.sign_raw(text.as_bytes()));
    Ok(format!("{text}\n{DASH}{name} {}\n", armor::base64(&signature)))
}

/// Opens a note that must be signed as `name` by one of `keys`. Answers its text and the key. Signatures by others
/// (witnesses) are passed over; one that claims to be by such a key must hold.
///
/// # Errors
/// [`NoteError`].
pub fn open(note: &[u8], name: &str, keys: &[PublicKey]) -> Result<(String, PublicKey), NoteError> {
    if note.len() > MAX_NOTE {
        return Err(NoteError::Malformed("longer than 1 MiB"));
    }
    let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("not UTF-8"))?;
    // The signatures come after the last empty line.
    let end = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    if !is_text(text) {
        return Err(NoteError::Malformed("control characters"));
    }
    let signatures =
        signatures.strip_suffix('\n').ok_or(NoteError::Malformed("it does not end in a newline"))?;
    if signatures.split('\n').count() > MAX_SIGNATURES {
        return Err(NoteError::Malformed("too many signatures"));
    }
    let mut signer = None;
    for line in signatures.split('\n') {
        let line = line.strip_prefix(DASH).ok_or(NoteError::Malformed("a line that is no signature"))?;
        let (by, signature) =
            line.split_once(' ').ok_or(NoteError::Malformed("a line that is no signature"))?;
        let signature = armor::from_base64(signature).filter(|bytes| bytes.len() > 4);
        let signature = signature.ok_or(NoteError::Malformed("a signature that is not base64"))?;
        if !is_name(by) {
            return Err(NoteError::Malformed("a signature by no name"));
        }
        let (id, signature) = signature.split_at(4);
        for key in keys.iter().filter(|key| by == name && key_id(name, key) == *id) {
            let signature = signature.try_into().map_err(|_| NoteError::Signature(name.to_owned()))?;
            key.verify_raw(text.as_bytes(), signature).map_err(|_| NoteError::Signature(name.to_owned()))?;
            signer = signer.or(Some(*key));
        }
    }
    signer.map(|key| (text.to_owned(), key)).ok_or_else(|| NoteError::Untrusted(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use signed_note::{Note, StandardVerifier, VerifierList};

    use super::*;

    const NAME: &str = "acme.example/builds";

    #[test]
    fn another_implementation_opens_our_notes() {
        let (key, text) = (SigningKey::generate().unwrap(), "one\n\ntwo é\n");
        let note = sign(text, NAME, &key).unwrap();
        let vkey = verifier_key(NAME, &key.public());
        let verifier = VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey).unwrap())]);
        let theirs = Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(theirs.text(), text.as_bytes());
        let (verified, unverified) = theirs.verify(&verifier).unwrap();
        assert_eq!((verified.len(), unverified.len()), (1, 0));
        let changed = note.replacen("one", "two", 1);
        assert!(Note::from_bytes(changed.as_bytes()).unwrap().verify(&verifier).is_err());
    }

    #[test]
    fn notes_round_trip_and_witnesses_may_sign_too() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let note = sign("text\n", NAME, &key).unwrap();
        let keys = [other.public(), key.public()];
        assert_eq!(open(note.as_bytes(), NAME, &keys).unwrap(), ("text\n".to_owned(), key.public()));
        let witness = sign("text\n", "witness.example", &other).unwrap();
        let both = format!("{note}{}", &witness["text\n\n".len()..]);
        assert_eq!(open(both.as_bytes(), NAME, &keys).unwrap().0, "text\n");
        assert_eq!(open(note.as_bytes(), NAME, &keys[..1]), Err(NoteError::Untrusted(NAME.to_owned())));
        assert_eq!(
            open(witness.as_bytes(), NAME, &keys),
            Err(NoteError::Untrusted(NAME.to_owned())),
            "a good signature under another name"
        );
        let vkey = verifier_key(NAME, &key.public());
        assert_eq!(parse_verifier_key(&vkey).unwrap(), (NAME.to_owned(), key.public()));
        assert_eq!(parse_verifier_key(&vkey.replacen("acme", "acne", 1)), Err(NoteError::VerifierKey));
        assert_eq!(sign("text", NAME, &key), Err(NoteError::Text));
        assert_eq!(sign("te\txt\n", NAME, &key), Err(NoteError::Text));
        assert!(matches!(sign("text\n", "a b", &key), Err(NoteError::Name(_))));
    }

    #[test]
    fn control_characters_are_refused_also_when_they_are_signed() {
        let key = SigningKey::generate().unwrap();
        for text in ["te\u{1b}[2Jxt\n", "text\r\n", "a\tb\n", "a\u{0}b\n", "a\u{85}b\n", "a\u{7f}\n"] {
            let mut signature = key_id(NAME, &key.public()).to_vec();
            signature.extend_from_slice(&key.sign_raw(text.as_bytes()));
            let note = format!("{text}\n{DASH}{NAME} {}\n", armor::base64(&signature));
            let refused = Err(NoteError::Malformed("control characters"));
            assert_eq!(open(note.as_bytes(), NAME, &[key.public()]), refused, "{text:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let key = SigningKey::generate().unwrap();
        let keys = [key.public()];
        let note = sign("origin\n7\nhash\n", NAME, &key).unwrap().into_bytes();
        for at in 0..note.len() {
            assert!(open(&note[..at], NAME, &keys).is_err());
            for bit in 0..8 {
                let mut bad = note.clone();
                bad[at] ^= 1 << bit;
                assert!(open(&bad, NAME, &keys).is_err(), "{at} {bit}");
            }
        }
        let vkey = verifier_key(NAME, &key.public());
        for at in 0..vkey.len() {
            assert!(parse_verifier_key(&vkey[..at]).is_err());
        }
    }
}
