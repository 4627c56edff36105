//! A slow look at the whole tree, again and again: what lies in it with content and is neither sealed nor in a count is
//! adopted, and reported.
//!
//! Nothing should be found. What is: a file that the daemon has lost by a fault of its own, or that somebody with access
//! to the store has put into it. It stands as every file without history does, see [`Vfs::standing`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Standing, Vfs, renumber};
use crate::model::RelPath;
use crate::store::{EntryKind, Walk};

/// How long after the start the first look begins: a start has better things to do.
const FIRST: Duration = Duration::from_secs(5);
/// From the end of one look to the next.
const EVERY: Duration = Duration::from_secs(600);
/// Names that are looked at without a pause, and the pause: five thousand names a second.
const STEP: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(200);

impl Vfs {
    /// Looks until `stopped`.
    pub fn census(&self, stopped: &AtomicBool) {
        let mut wait = FIRST;
        if pause(wait, stopped) {
            self.set_flags_again(stopped);
        }
        while pause(wait, stopped) {
            wait = EVERY;
            // What the index says is believed only then.
            if self.parts.read_only || self.parts.index.belief().under_way().is_some() {
                wait = FIRST;
                continue;
            }
            for (n, (path, ino, kind)) in Walk::of(&self.parts.tree).enumerate() {
                if n % STEP == STEP - 1 && !pause(PAUSE, stopped) {
                    return;
                }
                if kind == EntryKind::File {
                    self.count(&path, ino);
                }
            }
        }
    }

    /// How many files were found that were in no count.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// A writable handle of a file was let go that has no life.
    pub(super) fn written_unknown(&self, ino: u64) {
        let ino = renumber::backing(ino);
        let path = {
            let _still = self.lives().namespace.read();
            self.find_ino(ino).map(|found| found.path)
        };
        // Without a name it is nobody's any more.
        if let Ok(path) = path {
            self.count(&path, ino);
        }
    }

    fn count(&self, path: &RelPath, ino: u64) {
        if self.lives().is_unsealed(ino) || self.parts.index.has(path).unwrap_or(true) {
            return;
        }
        let _still = self.lives().namespace.read();
        let Ok(meta) = self.parts.tree.stat_path(path) else { return };
        // It may be another one by now. An empty one may just be in the making.
        if meta.kind != EntryKind::File || meta.size == 0 || self.lives().is_unsealed(meta.ino) {
            return;
        }
        if let Ok(Standing::Unsealed(_)) = self.standing(path, &meta) {
            tracing::error!(%path, "a file with content was neither sealed nor in a count");
            self.strays.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits so long; answers whether to go on.
fn pause(time: Duration, stopped: &AtomicBool) -> bool {
    let mut left = time;
    while !stopped.load(Ordering::Acquire) && !left.is_zero() {
        let now = left.min(TICK);
        std::thread::sleep(now);
        left -= now;
    }
    !stopped.load(Ordering::Acquire)
}
