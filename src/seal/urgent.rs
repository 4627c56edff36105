//! The daemon's threads take their turn on the processor before those that compute (a compiler, the hash of a large file),
//! except where nobody waits for what they do: a seal sleeps and wakes a dozen times on its way, and each time would cost
//! milliseconds.

use std::cell::Cell;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit};

/// By how much nice values are lowered (sched(7)).
const LOWERED: i32 = 10;

/// The lowered nice value. Without it nothing is changed.
static URGENT: OnceLock<i32> = OnceLock::new();

thread_local! {
    static NOW: Cell<bool> = const { Cell::new(true) };
}

/// Lowers the nice value of the calling thread and of all that it starts, and keeps the right to do so for threads that
/// change (see [`urgent`]). Before privileges are dropped. Who has not the right to goes on without.
pub fn begin() {
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    // A worker inherits what its parent has lowered.
    let lowered = if nice < 0 { nice } else { nice - LOWERED };
    let limit = u64::try_from(20 - lowered).ok();
    let _ = rustix::process::setrlimit(Resource::Nice, Rlimit { current: limit, maximum: limit });
    if rustix::process::setpriority_process(None, lowered).is_ok() {
        let _ = URGENT.set(lowered);
    }
}

/// Whether somebody waits for what the calling thread, and those that it starts, do from now on. Costs nothing where it is
/// as before; a thread begins with yes.
pub fn urgent(yes: bool) {
    let Some(lowered) = URGENT.get() else { return };
    if NOW.replace(yes) != yes {
        // On Linux, of this thread alone.
        let nice = if yes { *lowered } else { lowered + LOWERED };
        let _ = rustix::process::setpriority_process(None, nice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nice_goes_up_and_down() {
        // In a thread of its own: others keep their nice values.
        let thread = std::thread::spawn(|| {
            let nice = || rustix::process::getpriority_process(None).unwrap();
            let before = nice();
            begin();
            assert_eq!(nice(), before - LOWERED);
            for (yes, expected) in [(false, before), (false, before), (true, before - LOWERED)] {
                urgent(yes);
                assert_eq!(nice(), expected);
            }
            let started = std::thread::spawn(nice).join().unwrap();
            assert_eq!(started, before - LOWERED);
        });
        thread.join().unwrap();
    }
}
