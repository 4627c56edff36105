//! SHA-256 (FIPS 180-4), in one go or as the bytes come.

use sha2::Digest as _;

use crate::model::Digest;

/// A running SHA-256. Cloning keeps the state so far: the digest of a growing file can be asked for in between.
#[derive(Clone, Default)]
pub struct Hasher {
    state: sha2::Sha256,
    bytes: u64,
}

impl Hasher {
    /// Starts with nothing hashed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes `data` after what came before.
    pub fn update(&mut self, data: &[u8]) {
        self.state.update(data);
        self.bytes += data.len() as u64;
    }

    /// How many bytes have been hashed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of everything that came.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The SHA-256 of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(data).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_vectors() {
        let vectors = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ];
        for (data, hex) in vectors {
            assert_eq!(sha256(data.as_bytes()).to_hex(), hex);
        }
    }

    #[test]
    fn pieces_make_the_same_digest() {
        let data: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for size in [1, 63, 64, 65, 4096] {
            let mut hasher = Hasher::new();
            data.chunks(size).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.bytes(), 10_000);
            assert_eq!(hasher.clone().finish(), sha256(&data));
        }
    }
}
