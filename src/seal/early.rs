//! Large files that are still written to: what is there already begins its way to the disk, so that the seal has less to
//! wait for, and the kernel's own write-back, which knows nothing of small seals, has nothing to begin with.
//!
//! Makes nothing durable. What the disk has to tell of a file is told once, and left to its seal.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::SeekFrom;

use super::life::{Life, LifeState};
use super::pipeline::Inner;
use super::queue::LARGE;
use crate::model::SealTrigger;
use crate::sched;
use crate::store;

/// How soon after its open a file is looked at for the first time: most are closed by then.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// A file that does not grow is looked at ever less often, up to this.
const LAST_LOOK: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Opened {
    lives: Vec<Weak<Life>>,
    /// When the first of them was.
    since: Option<Instant>,
    /// Whether the thread has to be told of a first one.
    asleep: bool,
    stopped: bool,
}

/// Files that were opened for writing.
#[derive(Default)]
pub struct Early {
    opened: Mutex<Opened>,
    changed: Condvar,
}

impl Early {
    /// A file was opened for writing. Costs less than a microsecond.
    pub fn opened(&self, life: &Arc<Life>, state: &mut LifeState) {
        if std::mem::replace(&mut state.watched, true) {
            return;
        }
        let mut opened = self.opened.lock();
        opened.since.get_or_insert_with(Instant::now);
        opened.lives.push(Arc::downgrade(life));
        if std::mem::take(&mut opened.asleep) {
            self.changed.notify_one();
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.opened.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Waits until then, or for the first look at a file that was opened; without a time, for such a file. `None` once
    /// stopped.
    fn wait(&self, until: Option<Instant>) -> Option<Vec<Weak<Life>>> {
        let mut opened = self.opened.lock();
        while !opened.stopped {
            opened.asleep = opened.since.is_none();
            let look = opened.since.map(|since| since + FIRST_LOOK);
            match until.into_iter().chain(look).min() {
                None => self.changed.wait(&mut opened),
                Some(until) if until > Instant::now() => {
                    self.changed.wait_until(&mut opened, until);
                }
                Some(_) => {
                    opened.asleep = false;
                    opened.since = None;
                    return Some(std::mem::take(&mut opened.lives));
                }
            }
        }
        None
    }
}

/// A file that is looked at again and again.
struct Watched {
    life: Weak<Life>,
    /// Once it is large.
    file: Option<OwnedFd>,
    /// Bytes that are on their way.
    begun: u64,
    /// When it is looked at next, and how long after that if there is nothing to do.
    due: Instant,
    pause: Duration,
}

/// What a look at a file found.
enum Found {
    /// No writer has it any more, or bytes of it are lost.
    Over,
    /// Too little is new, or its name is scratch.
    Little,
    /// A piece is on its way.
    Piece,
}

/// The thread.
pub fn run(inner: &Inner) {
    sched::ordinary();
    let mut watched: Vec<Watched> = Vec::new();
    while let Some(opened) = inner.early.wait(watched.iter().map(|file| file.due).min()) {
        let now = Instant::now();
        watched.extend(opened.into_iter().map(|life| Watched {
            life,
            file: None,
            begun: 0,
            due: now,
            pause: FIRST_LOOK,
        }));
        watched.retain_mut(|file| {
            if file.due > now {
                return true;
            }
            match file.look(inner) {
                Found::Over => return false,
                Found::Piece => file.pause = FIRST_LOOK,
                Found::Little => {
                    file.due = Instant::now() + file.pause;
                    file.pause = (file.pause * 2).min(LAST_LOOK);
                }
            }
            true
        });
    }
}

impl Watched {
    fn look(&mut self, inner: &Inner) -> Found {
        let Some(life) = self.life.upgrade() else { return Found::Over };
        let mut state = life.lock();
        if state.over || state.writers.is_empty() || state.lost {
            state.watched = false;
            return Found::Over;
        }
        let path = state.path.clone();
        drop(state);
        let tree = &inner.setup.tree;
        let file = match &self.file {
            Some(file) => file,
            None => match tree.stat_path(&path) {
                Ok(meta) if meta.size < LARGE => return Found::Little,
                // It may get another name.
                Ok(_) if inner.setup.policy.get().decide(&path).seal == SealTrigger::Never => {
                    return Found::Little;
                }
                // Renamed meanwhile, perhaps: the next look finds it.
                _ => match tree.open_path(&path) {
                    Ok(file) if store::stat_fd(&file).is_ok_and(|meta| meta.ino == life.ino) => {
                        self.file.insert(file)
                    }
                    _ => return Found::Little,
                },
            },
        };
        let Ok(meta) = store::stat_fd(file) else { return Found::Little };
        // From scratch again, perhaps.
        self.begun = self.begun.min(meta.size);
        // Holes are not on their way to anywhere.
        if let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(self.begun)) {
            self.begun = self.begun.max(data.min(meta.size));
        }
        if meta.size < self.begun + LARGE {
            return Found::Little;
        }
        life.begin();
        let failed = |error: &std::io::Error| inner.flush_failed(error);
        match inner.pieces.begin(file, self.begun, meta.size, tree.root(), failed) {
            Ok(bytes) => self.begun += bytes,
            Err(error) => inner.sync_failed(&life, &error.to_string()),
        }
        Found::Piece
    }
}
