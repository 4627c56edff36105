//! The daemon's threads take their turn on the processor before those that compute (a compiler, the hash of a large file):
//! a seal sleeps and wakes a dozen times on its way, and each time would cost milliseconds.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// By how much nice values are lowered (sched(7)).
const LOWERED: i32 = 10;

/// The nice value of threads that compute. Without it nothing is changed.
static COMPUTING: OnceLock<i32> = OnceLock::new();

/// Lowers the nice value of the calling thread and of all that it starts. Before privileges are dropped. Who has not the
/// right to goes on without.
pub fn begin() {
    let Ok(nice) = getpriority_process(None) else { return };
    // A worker inherits what its parent has lowered, or systemd.
    let lowered = if nice < 0 { nice } else { nice - LOWERED };
    if setpriority_process(None, lowered).is_ok() {
        let _ = COMPUTING.set(lowered + LOWERED);
    }
}

/// The calling thread computes, and so do those that it starts: nobody waits for its turn. For good, because to lower a
/// nice value is a privilege that the daemon drops.
pub fn compute() {
    if let Some(nice) = COMPUTING.get() {
        // On Linux, of this thread alone.
        let _ = setpriority_process(None, *nice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_a_lowered_nice_value_until_they_compute() {
        // In a thread of its own: others keep their nice values.
        let thread = std::thread::spawn(|| {
            let nice = || getpriority_process(None).unwrap();
            let before = nice();
            begin();
            assert_eq!(nice(), before - LOWERED);
            let computing = std::thread::spawn(move || {
                let inherited = nice();
                compute();
                (inherited, nice())
            });
            assert_eq!(computing.join().unwrap(), (before - LOWERED, before));
            assert_eq!(nice(), before - LOWERED);
        });
        thread.join().unwrap();
    }
}
