//! The pipeline's threads: the timer that wakes files, and the workers that prove and hash them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::commit::HashedFile;
use super::digest::{self, Content};
use super::durability::{self, Undone};
use super::life::{Failure, Life, LifeState, NotSealed, Phase, Waiter};
use super::pipeline::Inner;
use super::queue::LARGE;
use super::timer::Alarm;
use crate::model::{ArtifactKind, RelPath};
use crate::sched;
use crate::store::{self, Lease, LeaseError};

impl Inner {
    /// The timer's thread.
    pub(super) fn watch(&self) {
        while let Some(alarm) = self.timer.next() {
            let (Alarm::Settle(ino) | Alarm::Deadline(ino) | Alarm::Retry(ino)) = alarm;
            let Some(life) = self.setup.lives.get(ino) else { continue };
            let mut state = life.lock();
            let now = Instant::now();
            match alarm {
                Alarm::Settle(_) | Alarm::Retry(_) => {
                    if state.writers.is_empty() && !state.over && state.due.is_some_and(|due| due <= now) {
                        let size = state.size;
                        self.enqueue(&life, &mut state, size);
                    }
                }
                Alarm::Deadline(_) => {
                    let late = take_late(&mut state, now);
                    drop(state);
                    for (waiter, why) in late {
                        (waiter.tell)(Err(why));
                    }
                }
            }
        }
    }

    /// A hash worker's thread.
    pub(super) fn work(&self, only_small: bool) {
        if !only_small {
            sched::ordinary();
        }
        while let Some(life) = self.queue.pop(only_small) {
            match self.prove_and_hash(&life) {
                Ok(Some(hashed)) => {
                    self.committing.fetch_add(1, Ordering::Relaxed);
                    let hurry = life.lock().is_awaited();
                    self.hashed.push(hashed, hurry);
                }
                Ok(None) => {}
                Err((what, busy)) => self.failed(&life, &what, busy),
            }
            self.queue.done();
        }
    }

    /// Proves that nobody can write, and hashes. `None` if the file was disturbed.
    fn prove_and_hash(&self, life: &Arc<Life>) -> Result<Option<HashedFile>, (String, bool)> {
        let failed = |error: io::Error| (error.to_string(), false);
        for _ in 0..3 {
            let mut state = life.lock();
            if !matches!(state.phase, Phase::Queued) || state.over || !state.writers.is_empty() {
                if matches!(state.phase, Phase::Queued) {
                    state.phase = Phase::Idle;
                }
                return Ok(None);
            }
            let epoch = life.epoch();
            let path = state.path.clone();
            if life.kind == ArtifactKind::Symlink {
                state.phase = Phase::Hashing(None);
                drop(state);
                return match self.read_link(&path, life.ino).map_err(failed)? {
                    Some(content) => Ok(Some(HashedFile::of(life, epoch, None, content, None))),
                    None => continue,
                };
            }
            let file = match self.setup.tree.open_path(&path) {
                Ok(file) if store::stat_fd(&file).is_ok_and(|meta| meta.ino == life.ino) => file,
                // Renamed before we came: the path is looked up again.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let lease = match Lease::take(file) {
                Ok(lease) => Arc::new(lease),
                Err((file, LeaseError::Unsupported)) if !self.setup.abilities.leases => {
                    Arc::new(Lease::without(file))
                }
                Err((_, error @ LeaseError::Busy)) => return Err((error.to_string(), true)),
                Err((_, error)) => return Err((error.to_string(), false)),
            };
            state.phase = Phase::Hashing(Some(Arc::clone(&lease)));
            let stream = state.stream.take();
            let torn = state.keep_torn;
            drop(state);
            if torn && let Err(what) = durability::read_from_disk(&lease) {
                return Err((what, false));
            }
            let size = store::stat_fd(lease.file()).map_err(failed)?.size;
            let streamed = stream.and_then(|stream| stream.finish(size));
            if size >= LARGE {
                let (content, synced) = match streamed {
                    Some(content) => {
                        (Ok(Some(content)), durability::sync_large(self, life, &lease, size, &path, |_| ()))
                    }
                    None => durability::hash_and_sync(self, life, epoch, &lease, size, &path),
                };
                if let Err(undone) = synced {
                    // What is lost is told once: also of a file that was disturbed meanwhile.
                    if matches!(undone, Undone::Lost(_)) || !matches!(content, Ok(None)) {
                        self.undone(life, &undone);
                    }
                    return Ok(None);
                }
                let Some(content) = content.map_err(failed)? else { return Ok(None) };
                return Ok(Some(HashedFile::of(life, epoch, Some(lease), content, Some(path))));
            }
            let content = match streamed {
                Some(content) => Some(content),
                None => digest::hash_life(lease.file(), life, epoch).map_err(failed)?,
            };
            let Some(content) = content else { return Ok(None) };
            return Ok(Some(HashedFile::of(life, epoch, Some(lease), content, None)));
        }
        Err(("its name moves faster than it can be sealed".to_owned(), true))
    }

    fn read_link(&self, path: &RelPath, ino: u64) -> io::Result<Option<Content>> {
        let dir = self.setup.tree.parent_of(path)?;
        if store::stat_at(&dir, path.name())?.ino != ino {
            return Ok(None);
        }
        let target = store::readlink_at(&dir, path.name())?;
        let bytes = target.as_bytes();
        Ok(Some(Content { sha256: crate::crypto::sha256(bytes), size: bytes.len() as u64 }))
    }

    /// A try at a seal has failed: it is told, kept, and tried again.
    pub(super) fn failed(&self, life: &Arc<Life>, what: &str, busy: bool) {
        let mut state = life.lock();
        state.phase = Phase::Idle;
        if state.over {
            return;
        }
        let tries = state.failure.as_ref().map_or(0, |failure| failure.tries) + 1;
        let pause = if busy {
            Duration::from_millis(1 << tries.min(12)).min(Duration::from_secs(5))
        } else {
            Duration::from_secs(1 << tries.min(8)).min(Duration::from_secs(300))
        };
        state.failure = Some(Failure { what: what.to_owned(), tries, busy });
        let due = Instant::now() + pause;
        state.due = Some(due);
        self.timer.set(due, Alarm::Retry(life.ino));
        let path = state.path.clone();
        // Whoever closed last has let go within milliseconds; longer is somebody outside.
        let told = if busy && tries < 11 { Vec::new() } else { std::mem::take(&mut state.waiters) };
        drop(state);
        if !busy || tries == 11 {
            tracing::warn!(%path, tries, "cannot seal yet: {what}");
        }
        for waiter in told {
            (waiter.tell)(Err(NotSealed::Failed(what.to_owned())));
        }
    }

    /// It could not be made durable.
    pub(super) fn undone(&self, life: &Arc<Life>, undone: &Undone) {
        match undone {
            Undone::Lost(error) => self.lost(life, &error.to_string()),
            Undone::Folder(error) => self.failed(life, &format!("its folder: {error}"), false),
        }
    }

    /// See [`super::Pipeline::sync_failed`].
    pub(super) fn sync_failed(&self, life: &Arc<Life>, what: &str) {
        let mut state = life.lock();
        if state.over || state.is_frozen() {
            return;
        }
        tracing::error!(path = %state.path, "write-back failed: {what}");
        state.failure = Some(Failure { what: what.to_owned(), tries: 1, busy: false });
        state.lost = true;
        (self.setup.lost)(life.ino);
        if state.writers.is_empty() {
            life.disturb(&mut state);
            self.tear(life, &mut state);
        }
    }

    /// What the disk had taken of large files, but not for good, may be lost, whosever turn it was: none of them that is
    /// not sealed yet is sealed as it is.
    pub(super) fn flush_failed(&self, error: &io::Error) {
        for life in self.setup.lives.all().iter().filter(|life| life.is_begun() && !life.lock().lost) {
            self.sync_failed(life, &format!("flush of the disk: {error}"));
        }
    }

    /// A sync failed. It may have been its flush of the disk's cache, which is everybody's.
    pub(super) fn suspect_flush(&self, error: &io::Error) {
        if error.raw_os_error() == Some(libc::EIO) {
            self.flush_failed(error);
        }
    }

    /// A write-back error is final: the bytes on disk are not those that were written.
    pub(super) fn lost(&self, life: &Arc<Life>, what: &str) {
        let mut state = life.lock();
        // Torn already, with others: the flush of the disk failed.
        if state.over || (state.lost && matches!(state.phase, Phase::Idle)) {
            return;
        }
        tracing::error!(path = %state.path, "write-back failed, the file is torn: {what}");
        state.failure = Some(Failure { what: what.to_owned(), tries: 1, busy: false });
        if !state.writers.is_empty() {
            // Opened again meanwhile: torn when it is closed, unless it is written from scratch.
            state.lost = true;
            (self.setup.lost)(life.ino);
            return;
        }
        state.phase = Phase::Idle;
        self.tear(life, &mut state);
    }
}

/// Waiters whose time is over. A sidecar's reader only waits so long for writers to let go; once they have,
/// it waits for the seal.
fn take_late(state: &mut LifeState, now: Instant) -> Vec<(Waiter, NotSealed)> {
    let (mut late, mut kept) = (Vec::new(), Vec::new());
    let written = !state.writers.is_empty();
    for mut waiter in state.waiters.drain(..) {
        match waiter.deadline {
            Some(deadline) if deadline <= now => {
                if !waiter.until_released {
                    late.push((waiter, NotSealed::Late));
                } else if written {
                    late.push((waiter, NotSealed::StillOpen));
                } else {
                    waiter.deadline = None;
                    kept.push(waiter);
                }
            }
            _ => kept.push(waiter),
        }
    }
    state.waiters = kept;
    late
}
