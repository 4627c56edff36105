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
use super::nodes::{Node, Nodes};
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

#[derive(Debug, Default)]
struct Known {
    nodes: Nodes,
    /// Keep inodes (`O_PATH`) that the kernel remembers without a name: their numbers must not come again for
    /// other files, and who has just looked one up may still open it.
    ghosts: HashMap<u64, Arc<OwnedFd>>,
}

/// The table of inodes that the kernel knows. Each call is atomic; what must stay true over several calls
/// (no rename in between) is the caller's lock.
#[derive(Debug, Default)]
pub struct Places {
    known: Mutex<Known>,
    /// What is known here, for a worker that takes over.
    handover: Arc<Handover>,
}

impl Places {
    /// As the last worker left it; `ghosts`: what it kept of inodes without a name.
    #[must_use]
    pub fn restore(live: &Live, mut ghosts: HashMap<u64, OwnedFd>, handover: Arc<Handover>) -> Self {
        let mut known = Known::default();
        let named = |ino: &u64| live.nodes.get(ino).is_none_or(|node| !node.unlinked);
        for ino in ghosts.keys().copied().filter(|ino| named(ino)).collect::<Vec<_>>() {
            // Its name was about to go, and did not.
            ghosts.remove(&ino);
            handover.let_go(ino);
        }
        for (ino, node) in &live.nodes {
            if let Some(ghost) = node.unlinked.then(|| ghosts.remove(ino)).flatten() {
                known.ghosts.insert(*ino, Arc::new(ghost));
            }
            known.nodes.insert(Node {
                ino: *ino,
                parent: node.parent,
                name: node.name.as_str().into(),
                lookups: node.lookups,
                generation: u32::try_from(node.generation).unwrap_or(u32::MAX),
                unlinked: node.unlinked,
            });
        }
        Places { known: Mutex::new(known), handover }
    }

    /// The kernel is told of `ino` at this place, `times` over; answers the generation to tell it.
    pub fn remember(&self, ino: u64, parent: u64, name: &str, times: u64) -> u64 {
        if ino == ROOT {
            return 0;
        }
        let mut known = self.known.lock();
        let Known { nodes, ghosts } = &mut *known;
        if nodes.get(ino).is_none() {
            let name = name.into();
            nodes.insert(Node { ino, parent, name, lookups: 0, generation: 0, unlinked: false });
        }
        // As many as can be numbered are there: the kernel has run out of memory long before.
        let Some(node) = nodes.get_mut(ino) else { return 0 };
        if node.unlinked {
            node.unlinked = false;
            node.generation += 1;
            ghosts.remove(&ino);
        }
        if node.parent != parent || &*node.name != name {
            node.parent = parent;
            node.name = name.into();
        }
        node.lookups += times;
        let generation = u64::from(node.generation);
        self.handover.node(ino, parent, generation, node.lookups, name);
        generation
    }

    /// The kernel forgets `times` look-ups; answers whether it knows the inode no longer.
    pub fn forget(&self, ino: u64, times: u64) -> bool {
        let mut known = self.known.lock();
        let Some(node) = known.nodes.get_mut(ino) else { return true };
        node.lookups = node.lookups.saturating_sub(times);
        self.handover.forget(ino, node.lookups);
        if node.lookups > 0 {
            return false;
        }
        let gone = known.nodes.remove(ino);
        let ghost = known.ghosts.remove(&ino);
        // Its last descriptor may be closed here, which frees the blocks of a file: not under the lock.
        drop(known);
        drop(ghost);
        if gone.is_some_and(|node| node.unlinked) {
            self.handover.let_go(ino);
        }
        true
    }

    /// Where the inode stands; `None` if its name is gone, or it was never told of.
    pub fn place(&self, ino: u64) -> Option<Place> {
        let known = self.known.lock();
        let node = known.nodes.get(ino).filter(|node| !node.unlinked)?;
        Some(Place { parent: node.parent, name: node.name.as_ref().to_owned() })
    }

    /// The path from the root; `None` if the name, or one above it, is gone.
    pub fn path(&self, ino: u64) -> Option<RelPath> {
        let known = self.known.lock();
        let (mut parts, mut at) = (Vec::new(), ino);
        while at != ROOT {
            let node = known.nodes.get(at).filter(|node| !node.unlinked)?;
            parts.push(&*node.name);
            at = node.parent;
        }
        Some(RelPath::of_checked(parts.into_iter().rev()))
    }

    /// The name was renamed.
    pub fn moved(&self, ino: u64, parent: u64, name: &str) {
        if let Some(node) = self.known.lock().nodes.get_mut(ino) {
            node.parent = parent;
            node.name = name.into();
            self.handover.node(ino, parent, u64::from(node.generation), node.lookups, name);
        }
    }

    /// The name is gone; `ghost`, opened before, keeps the inode while the kernel remembers it.
    pub fn unlinked(&self, ino: u64, ghost: Option<OwnedFd>) {
        let mut known = self.known.lock();
        if let Some(node) = known.nodes.get_mut(ino) {
            node.unlinked = true;
            self.handover.unlinked(ino);
            known.ghosts.extend(ghost.map(|ghost| (ino, Arc::new(ghost))));
        }
    }

    /// What keeps an inode whose name is gone.
    pub fn ghost(&self, ino: u64) -> Option<Arc<OwnedFd>> {
        self.known.lock().ghosts.get(&ino).cloned()
    }

    /// How many inodes the kernel knows.
    pub fn len(&self) -> usize {
        self.known.lock().nodes.len()
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
