//! Hashed files that wait for a batch. A batch costs the same syncs for one file as for a thousand, so it is given time to
//! grow as long as nobody waits for a seal in it; and while it grows, nobody is woken for each file.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::commit::HashedFile;

/// Files a batch.
const BATCH_MAX: usize = 4096;
/// Hashed files that may wait; then the hash workers do.
const MOST: usize = 8192;
/// How long a batch grows if nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a batch that somebody waits for is kept for more, while more are being hashed.
const GATHER: Duration = Duration::from_millis(3);
/// How often it is then looked at whether there is more to come.
const LOOK: Duration = Duration::from_micros(500);

#[derive(Default)]
struct Waiting {
    files: Vec<HashedFile>,
    /// Somebody waits for one of them.
    hurry: bool,
    /// The committer waits for a first file.
    idle: bool,
    stopped: bool,
}

/// Between hash workers and committer.
#[derive(Default)]
pub struct Gathering {
    waiting: Mutex<Waiting>,
    more: Condvar,
    room: Condvar,
}

impl Gathering {
    /// Adds a file; `hurry`: somebody waits for its seal. Waits while there are too many.
    pub fn push(&self, file: HashedFile, hurry: bool) {
        let mut waiting = self.waiting.lock();
        while waiting.files.len() >= MOST {
            self.room.wait(&mut waiting);
        }
        waiting.files.push(file);
        waiting.hurry |= hurry;
        if waiting.idle || hurry || waiting.files.len() == BATCH_MAX {
            self.more.notify_one();
        }
    }

    /// Somebody waits for the seal of a file that may be here.
    pub fn hurry(&self) {
        let mut waiting = self.waiting.lock();
        if !waiting.files.is_empty() {
            waiting.hurry = true;
            self.more.notify_one();
        }
    }

    /// Waits for the next batch; `more_to_come`: whether more files are being hashed. `None` once stopped and empty.
    pub fn take(&self, more_to_come: impl Fn() -> bool) -> Option<Vec<HashedFile>> {
        let mut waiting = self.waiting.lock();
        waiting.idle = true;
        while waiting.files.is_empty() && !waiting.stopped {
            self.more.wait(&mut waiting);
        }
        waiting.idle = false;
        let now = Instant::now();
        let (patience, mut hurried) = (now + PATIENCE, None);
        while !waiting.stopped && waiting.files.len() < BATCH_MAX {
            let until = if waiting.hurry {
                let now = Instant::now();
                let until = *hurried.get_or_insert(now + GATHER);
                if now >= until || !more_to_come() {
                    break;
                }
                until.min(now + LOOK)
            } else {
                patience
            };
            if self.more.wait_until(&mut waiting, until).timed_out() && !waiting.hurry {
                break;
            }
        }
        let batch = if waiting.files.len() > BATCH_MAX {
            let rest = waiting.files.split_off(BATCH_MAX);
            std::mem::replace(&mut waiting.files, rest)
        } else {
            waiting.hurry = false;
            std::mem::take(&mut waiting.files)
        };
        self.room.notify_all();
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes all there is, without waiting.
    pub fn drain(&self) -> Vec<HashedFile> {
        let mut waiting = self.waiting.lock();
        waiting.hurry = false;
        self.room.notify_all();
        std::mem::take(&mut waiting.files)
    }

    /// No more will come.
    pub fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.more.notify_all();
    }
}
