//! What waits for a hash worker: small files never stand behind large ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::life::Life;

/// Files from this size on are large, in bytes.
pub const LARGE: u64 = 4 << 20;

/// Files from this size on are worth waking somebody for at once, in bytes.
const BULKY: u64 = 64 << 10;
/// How long a worker that has nothing more to do looks on by itself before it has to be woken.
const DOZE: Duration = Duration::from_millis(3);
/// Small files that wait, from which on a second worker helps.
const MANY: usize = 64;

#[derive(Default)]
struct Waiting {
    small: VecDeque<Arc<Life>>,
    large: VecDeque<Arc<Life>>,
    /// Taken from the queue and not yet done with.
    busy: usize,
    /// A worker looks on by itself: it need not be woken for a small file that nobody waits for.
    dozing: bool,
    /// Workers that take all and sleep, or doze; and that take small files only.
    sleeping: usize,
    sleeping_small: usize,
    stopped: bool,
}

/// The queue. Its length is bounded by the back-pressure on closes, not by itself: what is in it was
/// promised to be sealed.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    changed_small: Condvar,
    stopped: Condvar,
}

impl Queue {
    /// Adds a file; `hurry`: somebody waits for its seal.
    pub fn push(&self, life: Arc<Life>, size: u64, hurry: bool) {
        let mut waiting = self.waiting.lock();
        if size >= LARGE {
            waiting.large.push_back(life);
            self.changed.notify_one();
            return;
        }
        waiting.small.push_back(life);
        // Waking costs as much as hashing a small file.
        if hurry || size >= BULKY || !waiting.dozing {
            self.wake_for_small(&waiting);
        }
    }

    /// Somebody waits for the seal of a small file that may be here.
    pub fn hurry(&self) {
        let waiting = self.waiting.lock();
        if !waiting.small.is_empty() {
            self.wake_for_small(&waiting);
        }
    }

    fn wake_for_small(&self, waiting: &Waiting) {
        // Whoever takes small files only is always there for them.
        if waiting.sleeping_small > 0 {
            self.changed_small.notify_one();
        } else if waiting.sleeping > 0 {
            self.changed.notify_one();
        }
    }

    /// Waits for a file; `only_small`: large ones are left to the others. `None` once stopped and drained.
    pub fn pop(&self, only_small: bool) -> Option<Arc<Life>> {
        let mut waiting = self.waiting.lock();
        let mut dozed = false;
        loop {
            let mut next = waiting.small.pop_front();
            if next.is_none() && !only_small {
                next = waiting.large.pop_front();
            }
            if next.is_some() {
                waiting.busy += 1;
                if waiting.small.len() > MANY {
                    self.wake_for_small(&waiting);
                }
                return next;
            }
            if waiting.stopped {
                return None;
            }
            let doze = !dozed && !waiting.dozing;
            waiting.dozing |= doze;
            let (changed, sleeping) = if only_small {
                (&self.changed_small, &mut waiting.sleeping_small)
            } else {
                (&self.changed, &mut waiting.sleeping)
            };
            *sleeping += 1;
            if doze {
                changed.wait_for(&mut waiting, DOZE);
            } else {
                changed.wait(&mut waiting);
            }
            let sleeping = if only_small { &mut waiting.sleeping_small } else { &mut waiting.sleeping };
            *sleeping -= 1;
            if doze {
                waiting.dozing = false;
            }
            // What came while it dozed is a reason to doze again after that.
            dozed = doze && waiting.small.is_empty();
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
            if self.stopped.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        waiting.stopped
    }

    /// No more will come: workers drain what is there and end.
    pub fn stop(&self) {
        self.waiting.lock().stopped = true;
        for changed in [&self.changed, &self.changed_small, &self.stopped] {
            changed.notify_all();
        }
    }
}
