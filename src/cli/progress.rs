//! A line on the terminal while something takes longer than a second.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long nothing is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Does `work` and meanwhile shows what `say` says, if standard error is a terminal.
pub fn during<T>(say: impl Fn() -> String + Sync, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ticker = scope.spawn(|| show(&over, &say));
        // Also if the work panics: else the scope would wait for the ticker for ever.
        let _end = End(&over, ticker.thread().clone());
        work()
    })
}

struct End<'a>(&'a AtomicBool, std::thread::Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

fn show(over: &AtomicBool, say: &dyn Fn() -> String) {
    let start = Instant::now();
    let mut drawn = false;
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        if start.elapsed() >= QUIET && !over.load(Ordering::Relaxed) {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K{}", say()).and_then(|()| out.flush());
            drawn = true;
        }
    }
    if drawn {
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

/// `12345 of 100000 files, 1.2 GiB`.
pub fn amount(files: u64, of: Option<u64>, bytes: u64) -> String {
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    format!("{files}{of} files, {}", super::render::size(bytes))
}
