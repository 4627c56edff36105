//! Inclusion proofs that stand alone (C2SP tlog-proof): index, hashes and checkpoint, with the entry as extra data.

use super::checkpoint::{Checkpoint, CheckpointError};
use super::merkle::{ProofError, verify_inclusion};
use crate::crypto::note::MAX_NOTE;
use crate::crypto::{PublicKey, from_base64, to_base64};
use crate::model::Digest;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// More hashes than a proof in a tree of 2^64 leaves has.
const MAX_HASHES: usize = 64;

/// That an entry stands at a place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Not authenticated by itself: here the entry, whose hash is the leaf.
    pub extra: Option<Vec<u8>>,
    /// The entry's position, from 0.
    pub index: u64,
    /// From the leaf's sibling upwards.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a proof is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InclusionProofError {
    /// It is no such proof.
    #[error("not an inclusion proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It proves nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl InclusionProof {
    /// The proof as text; its file's name ends in `.tlog-proof`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", to_base64(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&format!("{}\n", to_base64(&hash.0)));
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`InclusionProofError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InclusionProofError> {
        let malformed = InclusionProofError::Malformed;
        if bytes.len() > 2 * MAX_NOTE {
            return Err(malformed("longer than 2 MiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => {
                let extra = from_base64(extra).ok_or(malformed("the extra data is not base64"))?;
                lines.next();
                Some(extra)
            }
            None => None,
        };
        let number =
            lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed("no index"))?;
        let index: u64 = number.parse().map_err(|_| malformed("the index is no number"))?;
        if index.to_string() != number {
            return Err(malformed("the index is not plain decimal"));
        }
        let hashes: Vec<Digest> = lines
            .map(|line| from_base64(line).and_then(|bytes| Digest::from_slice(&bytes).ok()))
            .collect::<Option<_>>()
            .ok_or(malformed("a hash that is not 32 bytes of base64"))?;
        if hashes.len() > MAX_HASHES {
            return Err(malformed("too many hashes"));
        }
        Ok(InclusionProof { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Whether the entry with this leaf hash stands at this place in the log `origin`, by the word of one of `keys`.
    /// Answers the checkpoint.
    ///
    /// # Errors
    /// [`InclusionProofError`].
    pub fn verify(
        &self,
        leaf: Digest,
        origin: &str,
        keys: &[PublicKey],
    ) -> Result<Checkpoint, InclusionProofError> {
        let (checkpoint, _) = Checkpoint::open(self.checkpoint.as_bytes(), origin, keys)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.hashes, checkpoint.root)?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::ledger::log::edge::{Edge, Whole};
    use crate::ledger::log::{inclusion_proof, leaf_hash};

    #[test]
    fn more_hashes_than_any_tree_has_are_refused() {
        let text = |hashes: usize| {
            let line = format!("{}\n", to_base64(&[7; 32]));
            format!("{HEADER}\nindex 0\n{}\no\n1\n", line.repeat(hashes))
        };
        let parsed = InclusionProof::parse(text(MAX_HASHES).as_bytes()).unwrap();
        assert_eq!(parsed.hashes.len(), MAX_HASHES);
        assert_eq!(
            InclusionProof::parse(text(MAX_HASHES + 1).as_bytes()),
            Err(InclusionProofError::Malformed("too many hashes"))
        );
    }

    #[test]
    fn proofs_round_trip_and_every_flipped_bit_is_refused_or_harmless() {
        let (mut edge, mut whole) = (Edge::default(), Whole::default());
        for n in 0u8..7 {
            whole.0.extend(edge.push(leaf_hash(&[n])).into_iter().map(|(l, i, hash)| ((l, i), hash)));
        }
        let key = SigningKey::generate().unwrap();
        let keys = [key.public()];
        let checkpoint = Checkpoint { origin: "o".to_owned(), size: 7, root: edge.root() };
        let proof = InclusionProof {
            extra: Some(vec![5]),
            index: 5,
            hashes: inclusion_proof(5, 7, &whole).unwrap(),
            checkpoint: checkpoint.sign(&key).unwrap(),
        };
        let text = proof.to_text();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra BQ==\nindex 5\n"));
        assert_eq!(InclusionProof::parse(text.as_bytes()).unwrap(), proof);
        assert_eq!(proof.verify(leaf_hash(&[5]), "o", &keys).unwrap(), checkpoint);
        assert!(proof.verify(leaf_hash(&[6]), "o", &keys).is_err());
        assert!(InclusionProof { index: 4, ..proof.clone() }.verify(leaf_hash(&[5]), "o", &keys).is_err());
        let bytes = text.as_bytes();
        for at in 0..bytes.len() {
            let cut = InclusionProof::parse(&bytes[..at]);
            assert!(cut.is_err_and(|_| true) || at > 60, "{at}");
            for bit in 0..8 {
                let mut bad = bytes.to_vec();
                bad[at] ^= 1 << bit;
                let Ok(found) = InclusionProof::parse(&bad) else { continue };
                if found.verify(leaf_hash(&[5]), "o", &keys).is_ok() {
                    // Only the extra data, which proves nothing, may differ.
                    assert_eq!(InclusionProof { extra: proof.extra.clone(), ..found }, proof);
                }
            }
        }
    }
}
