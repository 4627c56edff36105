//! The Merkle tree as the index and the exported tiles give it together.

use super::LedgerError;
use super::index::ReadIndex;
use super::log::{self, Hashes};
use crate::model::Digest;

impl Hashes for ReadIndex {
    type Error = LedgerError;

    /// A hash that the index still has, or else the one in a full tile.
    fn hash(&self, level: u8, index: u64) -> Result<Digest, LedgerError> {
        match self.node(level, index)? {
            Some(hash) => Ok(hash),
            None => self.log().hashes(u64::MAX).hash(level, index),
        }
    }
}

impl ReadIndex {
    /// The root over the first `size` entries.
    ///
    /// # Errors
    /// If a hash that it takes is missing.
    pub fn root(&self, size: u64) -> Result<Digest, LedgerError> {
        log::root(size, self)
    }
}
