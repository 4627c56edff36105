//! What waits for a hash worker: small files never stand behind large ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::life::Life;

/// Files from this size on are large, in bytes.
pub const LARGE: u64 = 4 << 20;

#[derive(Default)]
struct Waiting {
    small: VecDeque<Arc<Life>>,
    large: VecDeque<Arc<Life>>,
    /// Taken from the queue and not yet done with.
    busy: usize,
    stopped: bool,
}

/// The queue. Its length is bounded by the back-pressure on closes, not by itself: what is in it was
/// promised to be sealed.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    /// Adds a file.
    pub fn push(&self, life: Arc<Life>, size: u64) {
        let mut waiting = self.waiting.lock();
        if size >= LARGE {
            waiting.large.push_back(life);
        } else {
            waiting.small.push_back(life);
        }
        drop(waiting);
        // The one that wakes must be one that takes this kind.
        self.changed.notify_all();
    }

    /// Waits for a file; `only_small`: large ones are left to the others. `None` once stopped and drained.
    pub fn pop(&self, only_small: bool) -> Option<Arc<Life>> {
        let mut waiting = self.waiting.lock();
        loop {
            let mut next = waiting.small.pop_front();
            if next.is_none() && !only_small {
                next = waiting.large.pop_front();
            }
            if next.is_some() {
                waiting.busy += 1;
                return next;
            }
            if waiting.stopped {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// A file taken is done with.
    pub fn done(&self) {
        self.waiting.lock().busy -= 1;
    }

    /// How many small files wait or are being hashed: whether a batch should wait for more.
    pub fn small_ahead(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.small.len() + waiting.busy
    }

    /// How many wait or are being hashed.
    pub fn len(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.small.len() + waiting.large.len() + waiting.busy
    }

    /// Waits for the word to stop, not longer than `pause`; answers whether it has come.
    pub fn wait_stopped(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut waiting = self.waiting.lock();
        while !waiting.stopped {
            if self.changed.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        waiting.stopped
    }

    /// No more will come: workers drain what is there and end.
    pub fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.changed.notify_all();
    }
}
