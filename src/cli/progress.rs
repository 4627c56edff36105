//! A bar on the terminal while something takes longer than a second.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long nothing is shown.
const QUIET: Duration = Duration::from_secs(1);
/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

/// How far something is.
pub struct Position {
    /// Done.
    pub done: u64,
    /// Of so much, if that is known.
    pub of: Option<u64>,
    /// In words.
    pub words: String,
}

/// Does `work` and meanwhile shows how far it is, if standard error is a terminal.
pub fn during<T>(position: impl Fn() -> Position + Sync, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ticker = scope.spawn(|| show(&over, &position));
        // Also if the work panics: else the scope would wait for the ticker for ever.
        let _end = End(&over, ticker.thread().clone());
        work()
    })
}

/// Does `work`, which tells how many of `total` things it has done (0: nobody knows how many there are).
pub fn counted<T>(what: &str, total: u64, work: impl FnOnce(&dyn Fn(u64)) -> T) -> T {
    let seen = AtomicU64::new(0);
    let of = (total > 0).then_some(total);
    let position = || {
        let done = seen.load(Ordering::Relaxed);
        let words = of.map_or_else(|| format!("{what}: {done}"), |of| format!("{what}: {done} of {of}"));
        Position { done, of, words }
    };
    during(position, || work(&|done| seen.store(done, Ordering::Relaxed)))
}

struct End<'a>(&'a AtomicBool, std::thread::Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

fn show(over: &AtomicBool, position: &dyn Fn() -> Position) {
    let start = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        if start.elapsed() < QUIET || over.load(Ordering::Relaxed) {
            continue;
        }
        let now = position();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(now.of, ProgressDrawTarget::stderr());
            let style = if now.of.is_some() { "{bar:24} {msg}" } else { "{spinner} {msg}" };
            // A style that is not understood is shown in the plain one.
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        bar.set_position(now.done);
        bar.set_message(now.words);
        bar.tick();
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// `12345 of 100000 files, 1.2 GiB`.
pub fn amount(files: u64, of: Option<u64>, bytes: u64) -> String {
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    format!("{files}{of} files, {}", super::render::size(bytes))
}
