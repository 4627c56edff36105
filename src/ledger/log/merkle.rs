//! Tree hashes and proofs (RFC 9162, section 2.1; the same as RFC 6962's).

use crate::crypto::{Hasher, sha256};
use crate::model::Digest;

/// Levels of the tree in one level of tiles: a tile has 2^8 hashes.
const TILE_HEIGHT: u32 = 8;

/// The hash of an entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(entry);
    hasher.finish()
}

/// The hash of two subtrees.
#[must_use]
pub fn node_hash(left: Digest, right: Digest) -> Digest {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    sha256(&bytes)
}

/// The root of a tree without entries.
#[must_use]
pub fn empty_root() -> Digest {
    sha256(b"")
}

/// The root over 2^k hashes of one level; of none, the empty root.
#[must_use]
pub fn subtree_root(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| if let [left, right] = pair { node_hash(*left, *right) } else { pair[0] })
            .collect();
    }
    level.first().copied().unwrap_or_else(empty_root)
}

/// Hashes of complete subtrees, at the levels that tiles have: level 0 leaves, level n roots of 256^n leaves.
pub trait Hashes {
    /// Why one cannot be had.
    type Error;

    /// The hash number `index`, from 0, of a level.
    ///
    /// # Errors
    /// If it cannot be had.
    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// The hash of the complete subtree of 2^`height` leaves that begins at leaf `index` · 2^`height`.
fn subtree<H: Hashes + ?Sized>(height: u32, index: u64, hashes: &H) -> Result<Digest, H::Error> {
    let (level, rest) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    let level = u8::try_from(level).unwrap_or(u8::MAX);
    if rest == 0 {
        return hashes.hash(level, index);
    }
    let first = index << rest;
    let below: Vec<Digest> =
        (first..first + (1 << rest)).map(|index| hashes.hash(level, index)).collect::<Result<_, _>>()?;
    Ok(subtree_root(&below))
}

/// The root over the leaves from `from` up to, without, `to`: MTH of RFC 9162, where `from` is a multiple of the
/// largest power of two below or at the length.
fn range<H: Hashes + ?Sized>(from: u64, to: u64, hashes: &H) -> Result<Digest, H::Error> {
    let length = to - from;
    if length == 0 {
        return Ok(empty_root());
    }
    if length.is_power_of_two() {
        let height = length.trailing_zeros();
        return subtree(height, from >> height, hashes);
    }
    let split = split(length);
    Ok(node_hash(range(from, from + split, hashes)?, range(from + split, to, hashes)?))
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// The root over the first `size` leaves.
///
/// # Errors
/// If a hash cannot be had.
pub fn root<H: Hashes + ?Sized>(size: u64, hashes: &H) -> Result<Digest, H::Error> {
    range(0, size, hashes)
}

/// The inclusion proof of a leaf in the tree of `size` leaves (RFC 9162, section 2.1.3.1), from the leaf upwards.
/// Empty if there is no such leaf.
///
/// # Errors
/// If a hash cannot be had.
pub fn inclusion_proof<H: Hashes + ?Sized>(
    index: u64,
    size: u64,
    hashes: &H,
) -> Result<Vec<Digest>, H::Error> {
    let mut proof = Vec::new();
    let (mut from, mut to) = (0, size);
    if index >= size {
        return Ok(proof);
    }
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range(middle, to, hashes)?);
            to = middle;
        } else {
            proof.push(range(from, middle, hashes)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof from the tree of `old` leaves to that of `new` (RFC 9162, section 2.1.4.1). Empty if `old` is
/// 0, or not below `new`.
///
/// # Errors
/// If a hash cannot be had.
pub fn consistency_proof<H: Hashes + ?Sized>(
    old: u64,
    new: u64,
    hashes: &H,
) -> Result<Vec<Digest>, H::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut from, mut to, mut whole) = (0, new, true);
    loop {
        if old == to {
            if !whole {
                proof.push(range(from, to, hashes)?);
            }
            break;
        }
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range(middle, to, hashes)?);
            to = middle;
        } else {
            proof.push(range(from, middle, hashes)?);
            from = middle;
            whole = false;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It has too few or too many hashes for these sizes, or there is no such leaf.
    #[error("the proof does not fit the size of the tree")]
    Shape,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks an inclusion proof (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: Digest,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Shape);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Shape);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(*sibling, hash);
            if node & 1 == 0 {
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Shape);
    }
    if hash == root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks a consistency proof (RFC 9162, section 2.1.4.2). From an empty tree, and between equal ones, the proof is
/// empty.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    old: u64,
    old_root: Digest,
    new: u64,
    new_root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old > new || (old == 0 || old == new) != proof.is_empty() {
        return Err(ProofError::Shape);
    }
    if old == 0 {
        return if old_root == empty_root() { Ok(()) } else { Err(ProofError::Root) };
    }
    if old == new {
        return if old_root == new_root { Ok(()) } else { Err(ProofError::Root) };
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { *hashes.next().ok_or(ProofError::Shape)? };
    let (mut before, mut after) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return Err(ProofError::Shape);
        }
        if node & 1 == 1 || node == last {
            before = node_hash(*sibling, before);
            after = node_hash(*sibling, after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(after, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Shape);
    }
    if before == old_root && after == new_root { Ok(()) } else { Err(ProofError::Root) }
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
