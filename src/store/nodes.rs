//! The table of inodes that the kernel knows, packed: after a look at a million files it holds a million.
//!
//! Nodes lie side by side in one vector; a hash table of their positions finds them by number. (A map of whole
//! nodes needs twice the room: its buckets are a power of two, most of the time half empty.)

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Nodes from which on room is given back when most of them are gone.
const LARGE: usize = 1 << 14;

/// An inode, where it stands.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub ino: u64,
    /// The folder's number.
    pub parent: u64,
    /// The name in it.
    pub name: Box<str>,
    /// How often the kernel was told of it and has not forgotten it.
    pub lookups: u64,
    /// Tells apart files that had the same number one after the other.
    pub generation: u32,
    /// The name is gone; only what is open still reaches it.
    pub unlinked: bool,
}

/// Nodes by number.
#[derive(Debug, Default)]
pub struct Nodes {
    positions: HashTable<u32>,
    packed: Vec<Node>,
    state: RandomState,
}

impl Nodes {
    /// Finds one.
    pub fn get(&self, ino: u64) -> Option<&Node> {
        let hash = self.state.hash_one(ino);
        let at = self.positions.find(hash, |at| self.is_at(*at, ino))?;
        self.packed.get(*at as usize)
    }

    /// Finds one, to be changed. Its number stays.
    pub fn get_mut(&mut self, ino: u64) -> Option<&mut Node> {
        let hash = self.state.hash_one(ino);
        let at = *self.positions.find(hash, |at| self.is_at(*at, ino))?;
        self.packed.get_mut(at as usize)
    }

    /// Adds one whose number is not there, and answers it. `None` if there are as many as can be numbered.
    pub fn insert(&mut self, node: Node) -> Option<&mut Node> {
        let at = u32::try_from(self.packed.len()).ok()?;
        let (nodes, state) = (&self.packed, &self.state);
        let hash = state.hash_one(node.ino);
        self.positions.insert_unique(hash, at, |at| hash_of(nodes, state, *at));
        self.packed.push(node);
        self.packed.last_mut()
    }

    /// Takes one away.
    pub fn remove(&mut self, ino: u64) -> Option<Node> {
        let hash = self.state.hash_one(ino);
        let found = self
            .positions
            .find_entry(hash, |at| self.packed.get(*at as usize).is_some_and(|node| node.ino == ino));
        let (at, _) = found.ok()?.remove();
        let gone = self.packed.swap_remove(at as usize);
        // The last one has its place now.
        if let (Some(moved), Ok(from)) = (self.packed.get(at as usize), u32::try_from(self.packed.len())) {
            let hash = self.state.hash_one(moved.ino);
            if let Some(position) = self.positions.find_mut(hash, |position| *position == from) {
                *position = at;
            }
        }
        if self.packed.capacity() > LARGE && self.packed.len() < self.packed.capacity() / 4 {
            self.shrink();
        }
        Some(gone)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    fn shrink(&mut self) {
        self.packed.shrink_to(self.packed.len() * 2);
        let (nodes, state) = (&self.packed, &self.state);
        self.positions.shrink_to(nodes.len() * 2, |at| hash_of(nodes, state, *at));
    }

    fn is_at(&self, at: u32, ino: u64) -> bool {
        self.packed.get(at as usize).is_some_and(|node| node.ino == ino)
    }
}

/// Hashes what stands at a position. Every position in the table has a node.
fn hash_of(nodes: &[Node], state: &RandomState, at: u32) -> u64 {
    state.hash_one(nodes.get(at as usize).map_or(0, |node| node.ino))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn node(ino: u64) -> Node {
        Node { ino, parent: 1, name: ino.to_string().into(), lookups: 1, generation: 0, unlinked: false }
    }

    #[test]
    fn it_is_a_map() {
        let (mut nodes, mut model, mut seed) = (Nodes::default(), HashMap::new(), 7u64);
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let ino = (seed >> 33) % 40_000;
            if seed >> 62 == 0 || model.len() > 30_000 {
                let gone = nodes.remove(ino).map(|node| node.name);
                assert_eq!(gone, model.remove(&ino));
            } else if let Some(found) = nodes.get_mut(ino) {
                found.lookups += 1;
                assert!(model.contains_key(&ino));
            } else {
                assert!(nodes.insert(node(ino)).is_some());
                model.insert(ino, ino.to_string().into_boxed_str());
            }
            assert_eq!(nodes.len(), model.len());
        }
        for ino in 0..40_000 {
            assert_eq!(nodes.get(ino).map(|node| &node.name), model.get(&ino));
            nodes.remove(ino);
        }
        assert_eq!(nodes.len(), 0);
        assert!(nodes.packed.capacity() <= LARGE, "room is given back");
    }
}
