//! Which names may have a seal: a Bloom filter in memory, so that a name that has none costs no query.
//!
//! Every name that is looked up or made must be asked for (a seal whose backing file is missing keeps its name), and
//! nearly none has a seal. The filter says "no" for certain, "perhaps" with about one error in a hundred, and "perhaps" to
//! everything until the names that the index held at the start have been read. Names are only ever added: a seal that has
//! ended leaves a "perhaps".

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

/// Names that the first filter takes; each further one takes twice as many.
const FIRST: usize = 1 << 16;
/// Bits a name, and bits set for it.
const BITS: usize = 12;
const SET: u32 = 6;

struct Filter {
    words: Vec<u64>,
    room: usize,
}

impl Filter {
    fn new(names: usize) -> Self {
        Filter { words: vec![0; names * BITS / 64], room: names }
    }

    /// Words and masks for a hash: two halves of it stepped through (Kirsch and Mitzenmacher, "Less hashing, same
    /// performance").
    fn bits(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> {
        let all = self.words.len() as u64 * 64;
        let (start, step) = (hash, hash.rotate_left(32) | 1);
        (0..SET).map(move |n| {
            let bit = start.wrapping_add(step.wrapping_mul(u64::from(n))) % all;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn has(&self, hash: u64) -> bool {
        self.bits(hash).all(|(word, mask)| self.words[word] & mask != 0)
    }

    fn add(&mut self, hash: u64) {
        for (word, mask) in self.bits(hash).collect::<Vec<_>>() {
            self.words[word] |= mask;
        }
        self.room = self.room.saturating_sub(1);
    }
}

/// Names that may have a seal.
#[derive(Default)]
pub struct Names {
    filters: RwLock<Vec<Filter>>,
    complete: AtomicBool,
    state: RandomState,
}

impl Names {
    /// Adds a name. Before its seal is committed: who asks then must not hear "no".
    pub fn add(&self, dir: &str, name: &str) {
        let hash = self.state.hash_one((dir, name));
        let mut filters = self.filters.write();
        if filters.iter().any(|filter| filter.has(hash)) {
            return;
        }
        if filters.last().is_none_or(|filter| filter.room == 0) {
            let names = FIRST << filters.len().min(20);
            filters.push(Filter::new(names));
        }
        if let Some(filter) = filters.last_mut() {
            filter.add(hash);
        }
    }

    /// Every name that the index held at the start has been added.
    pub fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether a name may have a seal.
    pub fn may_have(&self, dir: &str, name: &str) -> bool {
        let hash = self.state.hash_one((dir, name));
        !self.complete.load(Ordering::Acquire) || self.filters.read().iter().any(|filter| filter.has(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_denied_and_little_else_is_affirmed() {
        let names = Names::default();
        assert!(names.may_have("d", "anything"), "not read yet");
        names.complete();
        assert!(!names.may_have("d", "anything"));
        let many = FIRST * 5;
        for n in 0..many {
            names.add("d", &n.to_string());
        }
        assert!(names.filters.read().len() >= 3);
        assert!((0..many).all(|n| names.may_have("d", &n.to_string())));
        let wrong = (0..many).filter(|n| names.may_have("e", &n.to_string())).count();
        assert!(wrong < many / 40, "{wrong} of {many}");
    }
}
