//! Checkpoints (C2SP tlog-checkpoint): origin, size and root of a log, as a signed note under the origin's name.

use crate::crypto::note::{self, NoteError};
use crate::crypto::{PublicKey, SigningKey, from_base64, to_base64};
use crate::model::Digest;

/// What is signed of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// Why something is no checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What is signed is no checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of another log.
    #[error("a checkpoint of the log {0:?}")]
    Origin(String),
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, to_base64(&self.root.0))
    }

    /// Reads the text. Extension lines are passed over.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(malformed("it does not end in a newline"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(malformed("no origin"))?;
        let number = lines.next().ok_or(malformed("no size"))?;
        let size: u64 = number.parse().map_err(|_| malformed("the size is no number"))?;
        if size.to_string() != number {
            return Err(malformed("the size is not plain decimal"));
        }
        let root = lines.next().and_then(from_base64).ok_or(malformed("the root is not base64"))?;
        let root = Digest::from_slice(&root).map_err(|_| malformed("the root is not 32 bytes"))?;
        if lines.any(str::is_empty) {
            return Err(malformed("an empty line"));
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }

    /// The signed note.
    ///
    /// # Errors
    /// If the origin is no name of a key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, NoteError> {
        note::sign(&self.to_text(), &self.origin, key)
    }

    /// Opens a signed checkpoint of the log `origin`, signed by one of `keys`. Answers it and the key.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], origin: &str, keys: &[PublicKey]) -> Result<(Self, PublicKey), CheckpointError> {
        let (text, key) = note::open(note, origin, keys)?;
        let checkpoint = Self::parse(&text)?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin(checkpoint.origin));
        }
        Ok((checkpoint, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    #[test]
    fn another_implementation_reads_ours() {
        for size in [0, 1, 123_456_789] {
            let checkpoint = Checkpoint { origin: "a.example/b".to_owned(), size, root: sha256(b"x") };
            let text = checkpoint.to_text();
            assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint);
            let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(
                (theirs.origin(), theirs.size(), theirs.hash().0),
                ("a.example/b", size, sha256(b"x").0)
            );
            let more = Checkpoint::parse(&format!("{text}extension\n")).unwrap();
            assert_eq!(more, checkpoint);
        }
    }

    #[test]
    fn the_checkpoint_of_an_empty_log_is_one_and_an_empty_text_is_none() {
        let key = SigningKey::generate().unwrap();
        let empty = Checkpoint { origin: "o".to_owned(), size: 0, root: sha256(b"") };
        let note = empty.sign(&key).unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), "o", &[key.public()]).unwrap(), (empty, key.public()));
        for text in ["\n", "\n\n", "\n\n\n"] {
            let signed = note::sign(text, "o", &key).unwrap();
            let error = Checkpoint::open(signed.as_bytes(), "o", &[key.public()]).unwrap_err();
            assert_eq!(error, CheckpointError::Malformed("no origin"), "{text:?}");
        }
        assert!(Checkpoint::open(b"", "o", &[key.public()]).is_err());
    }

    #[test]
    fn what_is_not_quite_a_checkpoint_is_refused() {
        let root = to_base64(&[7; 32]);
        for bad in [
            String::new(),
            "o\n".to_owned(),
            format!("o\n1\n{root}"),
            format!("\n1\n{root}\n"),
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n-1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n1\n{}\n", &root[1..]),
            format!("o\n1\n{}\n", to_base64(&[7; 31])),
            format!("o\n1\n{root}\n\n"),
            format!("o\n1\n{root}\n\nx\n"),
        ] {
            assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
        }
        let key = SigningKey::generate().unwrap();
        let other = Checkpoint { origin: "b".to_owned(), size: 1, root: sha256(b"") };
        // A checkpoint of another log under our name.
        let note = note::sign(&other.to_text(), "a", &key).unwrap();
        let error = Checkpoint::open(note.as_bytes(), "a", &[key.public()]).unwrap_err();
        assert_eq!(error, CheckpointError::Origin("b".to_owned()));
    }
}
