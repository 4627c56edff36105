//! One thread that wakes others at the right time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

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

/// Ends of quiet times come together, up to so much later: nobody is woken for each.
const GRAIN: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Heap {
    /// When the first alarm was set.
    begun: Option<Instant>,
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
        let begun = *heap.begun.get_or_insert_with(Instant::now);
        let at = match alarm {
            Alarm::Settle(_) => grained(begun, at),
            Alarm::Deadline(_) | Alarm::Retry(_) => at,
        };
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

/// The first whole grain since `begun` that is not before `at`.
fn grained(begun: Instant, at: Instant) -> Instant {
    let grains = at.saturating_duration_since(begun).as_nanos().div_ceil(GRAIN.as_nanos());
    u32::try_from(grains).ok().and_then(|grains| begun.checked_add(GRAIN * grains)).unwrap_or(at).max(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_times_end_together_and_never_early() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        for (at, expected) in [(0, 0), (1, 20), (19, 20), (20, 20), (21, 40), (10_007, 10_020)] {
            assert_eq!(grained(begun, after(at)), after(expected), "{at}");
        }
        let far = begun + Duration::from_secs(10 * 365 * 86_400);
        assert!(grained(begun, far) >= far);
    }
}
