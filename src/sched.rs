//! Whose turn it is on the processor: nice values, and giving way.
//!
//! Layer 0. A seal sleeps and wakes a dozen times on its way, and each time would cost milliseconds behind a compiler or
//! the hash of a large file: so the daemon's threads are raised above those, and what computes for long or serves the
//! kernel is not ([`begin`], [`ordinary`]). And what seals many files that nobody waits for computes for milliseconds in
//! a row, while a request of the kernel may wait on the same processor: it gives way between two of them ([`Turns`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{getpriority_process, setpriority_process};

/// By how much nice values are lowered (sched(7)).
const LOWERED: i32 = 10;
/// For how long way is given in any case.
const LEAST: Duration = Duration::from_millis(1);
/// For how long way is given at most.
const MOST: Duration = Duration::from_millis(100);

/// The nice value of ordinary threads. Without it nothing is changed.
static ORDINARY: OnceLock<i32> = OnceLock::new();

/// A process that one of ours starts finds in it what [`ordinary_nice`] answered there.
pub const ENV: &str = "SEALFS_ORDINARY_NICE";

/// A value that takes long to make, made anew so seldom that this takes a twentieth of one processor at most, however
/// often it is asked for. What takes a millisecond is at most 20 ms old.
#[derive(Debug, Default)]
pub struct Seldom<T>(Mutex<Option<Made<T>>>);

#[derive(Debug)]
struct Made<T> {
    value: T,
    at: Instant,
    took: Duration,
}

impl<T: Clone> Seldom<T> {
    /// The value; `make` makes it, one thread at a time.
    ///
    /// # Errors
    /// What `make` returns; the next call tries again.
    pub fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut made = self.0.lock();
        if let Some(made) = &*made
            && made.at.elapsed() < made.took * 20
        {
            return Ok(made.value.clone());
        }
        let begun = Instant::now();
        let value = make()?;
        *made = Some(Made { value: value.clone(), at: Instant::now(), took: begun.elapsed() });
        Ok(value)
    }
}

/// Lowers the nice value of the calling thread and of all that it starts. Before privileges are dropped. Who has not the
/// right to goes on without.
pub fn begin() {
    let inherited = std::env::var(ENV).ok().and_then(|value| value.parse().ok());
    begin_from(inherited);
}

fn begin_from(inherited: Option<i32>) {
    if let Some(ordinary) = inherited {
        let _ = ORDINARY.set(ordinary);
        return;
    }
    let Ok(nice) = getpriority_process(None) else { return };
    // What systemd has lowered is not lowered twice.
    let lowered = if nice < 0 { nice } else { nice - LOWERED };
    if setpriority_process(None, lowered).is_ok() {
        let _ = ORDINARY.set(lowered + LOWERED);
    }
}

/// For [`ENV`] of a process that inherits the lowered value; none if nothing was lowered.
#[must_use]
pub fn ordinary_nice() -> Option<String> {
    ORDINARY.get().map(ToString::to_string)
}

/// The calling thread, and those that it starts, take their turns as other programs do. For good, because to lower a nice
/// value is a privilege that the daemon drops.
///
/// That is for threads that compute, and for those that serve the kernel: raised, they would take the processor from
/// their caller before it has gone to sleep, which makes two switches more a request (a file that is made, written and
/// closed took 231 instead of 202 µs).
pub fn ordinary() {
    if let Some(nice) = ORDINARY.get() {
        // On Linux, of this thread alone.
        let _ = setpriority_process(None, *nice);
    }
}

/// The turns of a thread that does one small piece of work after the other. Between two of them whoever else waits for
/// this processor gets it, as long as all that makes the whole no more than about three times as long, and no more than
/// 100 ms longer: threads of the kernel's requests leave after microseconds, compilers do not.
pub struct Turns<'a> {
    /// Somebody waits for the work: no way is given.
    awaited: &'a AtomicBool,
    /// When the first piece began.
    begun: Option<Instant>,
    waited: Duration,
}

impl<'a> Turns<'a> {
    /// For work that has not begun; `awaited`: whether somebody waits for it, which may change.
    #[must_use]
    pub fn new(awaited: &'a AtomicBool) -> Self {
        Turns { awaited, begun: None, waited: Duration::ZERO }
    }

    /// Before a piece.
    pub fn next(&mut self) {
        if self.awaited.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        if begun < now && is_patient(now - begun, self.waited) {
            std::thread::yield_now();
            self.waited += now.elapsed();
        }
    }
}

/// Whether way is given once more, `waited` of `passed` having been given.
fn is_patient(passed: Duration, waited: Duration) -> bool {
    waited < MOST && waited * 3 <= passed * 2 + LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_a_lowered_nice_value_until_they_are_ordinary() {
        // In a thread of its own: others keep their nice values.
        let thread = std::thread::spawn(|| {
            let nice = || getpriority_process(None).unwrap();
            let before = nice();
            begin_from(None);
            assert_eq!(nice(), before - LOWERED);
            assert_eq!(ordinary_nice(), Some(before.to_string()));
            begin_from(Some(before));
            assert_eq!(nice(), before - LOWERED, "lowered twice");
            let computing = std::thread::spawn(move || {
                let inherited = nice();
                ordinary();
                (inherited, nice())
            });
            assert_eq!(computing.join().unwrap(), (before - LOWERED, before));
            assert_eq!(nice(), before - LOWERED);
        });
        thread.join().unwrap();
    }

    #[test]
    fn what_is_asked_for_all_the_time_is_made_a_twentieth_of_it() {
        let (seldom, mut made, begun) = (Seldom::default(), 0, Instant::now());
        while begun.elapsed() < Duration::from_millis(450) {
            let value: Result<u32, ()> = seldom.get(|| {
                made += 1;
                std::thread::sleep(Duration::from_millis(10));
                Ok(made)
            });
            assert_eq!(value, Ok(made));
        }
        assert!((1..=3).contains(&made), "{made} times");
    }

    #[test]
    fn way_is_given_for_two_thirds_of_the_time_at_most() {
        let ms = Duration::from_millis;
        assert!(is_patient(ms(0), ms(0)));
        assert!(!is_patient(ms(3), ms(3)), "a compiler's whole turn");
        assert!(is_patient(ms(9), ms(6)));
        assert!(!is_patient(ms(9), ms(7)));
        assert!(!is_patient(ms(1000), ms(100)));
    }

    #[test]
    fn what_is_awaited_gives_no_way() {
        let awaited = AtomicBool::new(false);
        let mut turns = Turns::new(&awaited);
        turns.next();
        assert_eq!(turns.waited, Duration::ZERO, "before the first piece");
        turns.next();
        let waited = turns.waited;
        assert!(waited > Duration::ZERO);
        awaited.store(true, Ordering::Relaxed);
        turns.next();
        assert_eq!(turns.waited, waited);
    }
}
