//! One thread that wakes others at the right time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// What is to happen to a file at some time. Whether it still should, its life tells then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The quiet time may be over.
    Settle(u64),
    /// Somebody has waited long enough.
    Deadline(u64),
    /// Another try at a seal that failed.
    Retry(u64),
}

#[derive(Default)]
struct Heap {
    alarms: BinaryHeap<Reverse<(Instant, Alarm)>>,
    stopped: bool,
}

/// Alarms by time.
#[derive(Default)]
pub struct Timer {
    heap: Mutex<Heap>,
    changed: Condvar,
}

impl Timer {
    /// Sets an alarm.
    pub fn set(&self, at: Instant, alarm: Alarm) {
        let mut heap = self.heap.lock();
        let first = heap.alarms.peek().is_none_or(|Reverse((next, _))| at < *next);
        heap.alarms.push(Reverse((at, alarm)));
        if first {
            self.changed.notify_one();
        }
    }

    /// Waits for the next alarm; `None` once stopped.
    pub fn next(&self) -> Option<Alarm> {
        let mut heap = self.heap.lock();
        loop {
            if heap.stopped {
                return None;
            }
            match heap.alarms.peek().copied() {
                None => self.changed.wait(&mut heap),
                Some(Reverse((at, alarm))) if at <= Instant::now() => {
                    heap.alarms.pop();
                    return Some(alarm);
                }
                Some(Reverse((at, _))) => {
                    self.changed.wait_until(&mut heap, at);
                }
            }
        }
    }

    /// Ends the thread that waits.
    pub fn stop(&self) {
        self.heap.lock().stopped = true;
        self.changed.notify_all();
    }
}
