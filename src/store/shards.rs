//! A table by number, in parts that are locked apart: who holds one through a system call stops few others.

use std::collections::HashMap;

use parking_lot::Mutex;

const PARTS: usize = 16;

/// The table.
#[derive(Debug)]
pub struct Shards<V>([Mutex<HashMap<u64, V>>; PARTS]);

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Shards(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<V> Shards<V> {
    /// The part in which this number stands.
    pub fn of(&self, number: u64) -> &Mutex<HashMap<u64, V>> {
        // Numbers of inodes follow one another.
        &self.0[usize::try_from(number % PARTS as u64).unwrap_or(0)]
    }
}
