//! The right edge of a growing tree: all that is needed to add to it and to know its root.

use super::merkle::{node_hash, subtree_root};
use super::tile::TILE_WIDTH;
use crate::model::Digest;

/// For each level of tiles, the hashes of its last, incomplete tile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Digest>>,
}

/// A hash that came to be: level of tiles, number, hash.
pub type NewNode = (u8, u64, Digest);

impl Edge {
    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Answers the hashes that came to be at the levels of tiles, from level 0 upwards.
    pub fn push(&mut self, leaf: Digest) -> Vec<NewNode> {
        let (mut made, mut hash, mut index) = (Vec::with_capacity(1), leaf, self.size);
        for level in 0u8.. {
            made.push((level, index, hash));
            if self.levels.len() == usize::from(level) {
                self.levels.push(Vec::new());
            }
            let open = &mut self.levels[usize::from(level)];
            open.push(hash);
            if open.len() < usize::from(TILE_WIDTH) {
                break;
            }
            hash = subtree_root(open);
            open.clear();
            index /= u64::from(TILE_WIDTH);
        }
        self.size += 1;
        made
    }

    /// The root (RFC 9162, section 2.1.1).
    #[must_use]
    pub fn root(&self) -> Digest {
        // Complete subtrees from the smallest, at the right, to the largest: each of 2^k hashes of one level.
        let mut parts = Vec::new();
        for open in &self.levels {
            let mut rest = open.as_slice();
            while !rest.is_empty() {
                let part = 1 << rest.len().trailing_zeros();
                let (before, last) = rest.split_at(rest.len() - part);
                parts.push(subtree_root(last));
                rest = before;
            }
        }
        let root = parts.into_iter().reduce(|right, left| node_hash(left, right));
        root.unwrap_or_else(|| subtree_root(&[]))
    }

    /// The edge of a tree of `size` leaves, whose hashes are asked for.
    ///
    /// # Errors
    /// If a hash cannot be had.
    pub fn restore<E>(size: u64, hash: &mut dyn FnMut(u8, u64) -> Result<Digest, E>) -> Result<Self, E> {
        let (mut levels, mut nodes) = (Vec::new(), size);
        for level in 0u8.. {
            if nodes == 0 {
                break;
            }
            let first = nodes - nodes % u64::from(TILE_WIDTH);
            levels.push((first..nodes).map(|index| hash(level, index)).collect::<Result<_, _>>()?);
            nodes /= u64::from(TILE_WIDTH);
        }
        Ok(Edge { size, levels })
    }
}

/// A tree that is held in memory, for tests and small logs.
#[cfg(test)]
#[derive(Default)]
pub struct Whole(pub std::collections::HashMap<(u8, u64), Digest>);

#[cfg(test)]
impl super::merkle::Hashes for Whole {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<Digest, ()> {
        self.0.get(&(level, index)).copied().ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::log::leaf_hash;
    use crate::ledger::log::merkle::{Hashes, root};

    /// RFC 9162, 2.1.1, as it stands there.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => subtree_root(&[]),
            [leaf] => *leaf,
            _ => {
                let k = (leaves.len() - 1).ilog2();
                let (left, right) = leaves.split_at(1 << k);
                node_hash(naive(left), naive(right))
            }
        }
    }

    #[test]
    fn the_root_is_the_specifications_at_every_size() {
        let (mut edge, mut leaves, mut whole) = (Edge::default(), Vec::new(), Whole::default());
        for n in 0u64..66_000 {
            if n <= 530 || (65_534..=65_540).contains(&n) {
                assert_eq!(edge.root(), naive(&leaves), "{n}");
                assert_eq!(root(n, &whole).unwrap(), edge.root(), "{n}");
                assert_eq!(Edge::restore(n, &mut |level, index| whole.hash(level, index)).unwrap(), edge);
            }
            let leaf = leaf_hash(&n.to_be_bytes());
            leaves.push(leaf);
            for (level, index, hash) in edge.push(leaf) {
                assert!(whole.0.insert((level, index), hash).is_none());
            }
        }
    }
}
