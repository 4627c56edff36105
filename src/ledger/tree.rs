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

    /// The hashes that lead from an entry to the root over the first `size` (RFC 9162, section 2.1.3).
    ///
    /// # Errors
    /// If a hash that it takes is missing.
    pub fn prove(&self, index: u64, size: u64) -> Result<Vec<Digest>, LedgerError> {
        log::inclusion_proof(index, size, self)
    }

    /// The hashes that show that the first `old` of `new` entries are those of an older root (RFC 9162, section
    /// 2.1.4).
    ///
    /// # Errors
    /// If a hash that it takes is missing.
    pub fn prove_growth(&self, old: u64, new: u64) -> Result<Vec<Digest>, LedgerError> {
        log::consistency_proof(old, new, self)
    }
}
