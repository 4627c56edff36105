//! Which name an inode number stands for: what the kernel knows by number, we must find by path.
//!
//! Inode numbers are those of the backing file system (so they are stable across remounts), but for the
//! root, which FUSE calls 1. A number that the backing file system gives to a new file while the kernel
//! still remembers the old one gets another generation.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::handover::{Handover, Live};
use crate::model::RelPath;

/// The root's number.
pub const ROOT: u64 = 1;

/// Where an inode stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder's number.
    pub parent: u64,
    /// The name in it.
    pub name: String,
}

#[derive(Debug)]
struct Node {
    parent: u64,
    name: Box<str>,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
    generation: u64,
    /// The name is gone; only what is open still reaches it.
    unlinked: bool,
    /// Keeps the inode (`O_PATH`) while the kernel remembers it without a name: its number must not come
    /// again for another file, and who has just looked it up may still open it.
    ghost: Option<Arc<OwnedFd>>,
}

/// The table of inodes that the kernel knows. Each call is atomic; what must stay true over several calls
/// (no rename in between) is the caller's lock.
#[derive(Debug, Default)]
pub struct Places {
    nodes: Mutex<HashMap<u64, Node>>,
    /// What is known here, for a worker that takes over.
    handover: Arc<Handover>,
}

impl Places {
    /// As the last worker left it; `ghosts`: what it kept of inodes without a name.
    #[must_use]
    pub fn restore(live: &Live, mut ghosts: HashMap<u64, OwnedFd>, handover: Arc<Handover>) -> Self {
        let node = |(ino, node): (&u64, &super::handover::LiveNode)| {
            let ghost = node.unlinked.then(|| ghosts.remove(ino).map(Arc::new)).flatten();
            let (parent, name) = (node.parent, node.name.as_str().into());
            let (lookups, generation, unlinked) = (node.lookups, node.generation, node.unlinked);
            (*ino, Node { parent, name, lookups, generation, unlinked, ghost })
        };
        Places { nodes: Mutex::new(live.nodes.iter().map(node).collect()), handover }
    }

    /// The kernel is told of `ino` at this place, `times` over; answers the generation to tell it.
    pub fn remember(&self, ino: u64, parent: u64, name: &str, times: u64) -> u64 {
        if ino == ROOT {
            return 0;
        }
        let mut nodes = self.nodes.lock();
        let node = nodes.entry(ino).or_insert_with(|| Node {
            parent,
            name: name.into(),
            lookups: 0,
            generation: 0,
            unlinked: false,
            ghost: None,
        });
        if node.unlinked {
            node.unlinked = false;
            node.ghost = None;
            node.generation += 1;
        }
        if node.parent != parent || &*node.name != name {
            node.parent = parent;
            node.name = name.into();
        }
        node.lookups += times;
        self.handover.node(ino, parent, node.generation, node.lookups, name);
        node.generation
    }

    /// The kernel forgets `times` look-ups; answers whether it knows the inode no longer.
    pub fn forget(&self, ino: u64, times: u64) -> bool {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(&ino) else { return true };
        node.lookups = node.lookups.saturating_sub(times);
        self.handover.forget(ino, node.lookups);
        if node.lookups > 0 {
            return false;
        }
        let gone = nodes.remove(&ino);
        // Its last descriptor may be closed here, which frees the blocks of a file: not under the lock.
        drop(nodes);
        if gone.is_some_and(|node| node.unlinked) {
            self.handover.let_go(ino);
        }
        true
    }

    /// Where the inode stands; `None` if its name is gone, or it was never told of.
    pub fn place(&self, ino: u64) -> Option<Place> {
        let nodes = self.nodes.lock();
        let node = nodes.get(&ino).filter(|node| !node.unlinked)?;
        Some(Place { parent: node.parent, name: node.name.as_ref().to_owned() })
    }

    /// The path from the root; `None` if the name, or one above it, is gone.
    pub fn path(&self, ino: u64) -> Option<RelPath> {
        let nodes = self.nodes.lock();
        let (mut parts, mut at) = (Vec::new(), ino);
        while at != ROOT {
            let node = nodes.get(&at).filter(|node| !node.unlinked)?;
            parts.push(&*node.name);
            at = node.parent;
        }
        Some(parts.iter().rev().fold(RelPath::root(), |path, part| path.join(part)))
    }

    /// The name was renamed.
    pub fn moved(&self, ino: u64, parent: u64, name: &str) {
        if let Some(node) = self.nodes.lock().get_mut(&ino) {
            node.parent = parent;
            node.name = name.into();
            self.handover.node(ino, parent, node.generation, node.lookups, name);
        }
    }

    /// The name is gone; `ghost`, opened before, keeps the inode while the kernel remembers it.
    pub fn unlinked(&self, ino: u64, ghost: Option<OwnedFd>) {
        if let Some(node) = self.nodes.lock().get_mut(&ino) {
            node.unlinked = true;
            self.handover.unlinked(ino);
            node.ghost = ghost.map(Arc::new);
        }
    }

    /// What keeps an inode whose name is gone.
    pub fn ghost(&self, ino: u64) -> Option<Arc<OwnedFd>> {
        self.nodes.lock().get(&ino)?.ghost.clone()
    }

    /// How many inodes the kernel knows.
    pub fn len(&self) -> usize {
        self.nodes.lock().len()
    }

    /// Whether the kernel knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_renames_and_end_with_the_name() {
        let places = Places::default();
        places.remember(10, ROOT, "a", 1);
        places.remember(11, 10, "b", 2);
        assert_eq!(places.path(11).unwrap().as_str(), "a/b");
        places.moved(10, ROOT, "c");
        assert_eq!(places.path(11).unwrap().as_str(), "c/b");
        places.unlinked(11, None);
        assert_eq!(places.path(11), None);
        assert!(!places.forget(11, 1));
        assert!(places.forget(11, 1));
        assert_eq!(places.len(), 1);
    }

    #[test]
    fn a_reused_number_has_another_generation_and_one_count() {
        let places = Places::default();
        assert_eq!(places.remember(20, ROOT, "old", 3), 0);
        places.unlinked(20, None);
        assert_eq!(places.remember(20, ROOT, "new", 1), 1);
        assert!(!places.forget(20, 3), "the old life's forgets do not take the new one's");
        assert_eq!(places.path(20).unwrap().as_str(), "new");
        assert!(places.forget(20, 1));
    }
}
