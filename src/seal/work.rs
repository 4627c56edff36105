//! The pipeline's threads: the timer that wakes files, and the workers that prove and hash them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::commit::HashedFile;
use super::digest::{self, Content};
use super::durability::{self, NotFromDisk, Undone};
use super::life::{Failure, Life, LifeState, NotSealed, Phase, Waiter};
use super::pipeline::Inner;
use super::queue::LARGE;
use super::timer::Alarm;
use crate::model::{ArtifactKind, RelPath};
use crate::sched;
use crate::store::{self, Lease, LeaseError};

/// How often a file is tried of which pages stay in memory, before it gets another inode: about two seconds.
const PATIENCE: u32 = 11;

/// Why a try at a seal came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Somebody still writes: soon over, as a rule.
    #[error("{0}")]
    Busy(String),
    /// Pages stay in memory that somebody may still write to.
    #[error("{0}")]
    Pages(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Failed(error.to_string())
    }
}

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
                    let is_due = state.due.is_some_and(|due| due <= now);
                    // The policy may be another one than when the quiet time began.
                    if is_due && state.writers.is_empty() && !state.over && self.is_wanted(&life, &mut state)
                    {
                        if let Some(marker) = self.unfinished(&life, &state) {
                            self.wait_for_the_rest(&life, &mut state, &marker);
                            continue;
                        }
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
                Err(trouble) => self.failed(&life, &trouble),
            }
            self.queue.done();
        }
    }

    /// Proves that nobody can write, and hashes. `None` if the file was disturbed.
    fn prove_and_hash(&self, life: &Arc<Life>) -> Result<Option<HashedFile>, Trouble> {
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
                return match self.read_link(&path, life.ino)? {
                    Some(content) => Ok(Some(HashedFile::of(life, epoch, None, content, None))),
                    None => continue,
                };
            }
            let file = match self.setup.tree.open_path(&path) {
                Ok(file) if store::stat_fd(&file).is_ok_and(|meta| meta.ino == life.ino) => file,
                // Renamed before we came: the path is looked up again.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let lease = match Lease::take(file) {
                Ok(lease) => Arc::new(lease),
                Err((file, LeaseError::Unsupported)) if !self.setup.abilities.leases => {
                    Arc::new(Lease::without(file))
                }
                Err((_, error @ LeaseError::Busy)) => return Err(Trouble::Busy(error.to_string())),
                Err((_, error)) => return Err(Trouble::Failed(error.to_string())),
            };
            state.phase = Phase::Hashing(Some(Arc::clone(&lease)));
            let stream = state.stream.take();
            let (torn, mapped) = (state.keep_torn, state.mapped);
            drop(state);
            if mapped && !self.setup.abilities.pages {
                return Err(Trouble::Pages("what is cached of it cannot be seen".to_owned()));
            }
            if torn || mapped {
                let gone =
                    if torn { durability::read_from_disk(&lease) } else { durability::leave_memory(&lease) };
                match gone {
                    Ok(()) => {}
                    Err(error @ NotFromDisk::InUse(_)) => return Err(Trouble::Pages(error.to_string())),
                    // A torn file that is kept is read again, whatever could not be written of it.
                    Err(NotFromDisk::Lost(error)) if !torn => {
                        self.suspect_flush(&error);
                        self.undone(life, &Undone::Lost(error));
                        return Ok(None);
                    }
                    Err(error) => return Err(Trouble::Failed(error.to_string())),
                }
            }
            let size = store::stat_fd(lease.file())?.size;
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
                let Some(content) = content? else { return Ok(None) };
                return Ok(Some(HashedFile::of(life, epoch, Some(lease), content, Some(path))));
            }
            let content = match streamed {
                Some(content) => Some(content),
                None => digest::hash_life(lease.file(), life, epoch)?,
            };
            let Some(content) = content else { return Ok(None) };
            return Ok(Some(HashedFile::of(life, epoch, Some(lease), content, None)));
        }
        Err(Trouble::Busy("its name moves faster than it can be sealed".to_owned()))
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

    /// A try at a seal has failed: that is reported, kept, and the seal tried again.
    pub(super) fn failed(&self, life: &Arc<Life>, trouble: &Trouble) {
        let mut state = life.lock();
        state.phase = Phase::Idle;
        if state.over {
            return;
        }
        let tries = state.failure.as_ref().map_or(0, |failure| failure.tries) + 1;
        let (busy, pages) = (matches!(trouble, Trouble::Busy(_)), matches!(trouble, Trouble::Pages(_)));
        let pause = if busy || (pages && self.setup.abilities.pages) {
            Duration::from_millis(1 << tries.min(12)).min(Duration::from_secs(5))
        } else {
            Duration::from_secs(1 << tries.min(8)).min(Duration::from_secs(300))
        };
        let what = trouble.to_string();
        state.failure = Some(Failure { what: what.clone(), tries, busy });
        let due = Instant::now() + pause;
        state.due = Some(due);
        self.timer.set(due, Alarm::Retry(life.ino));
        let path = state.path.clone();
        // A page that stays may be a reader's, for as long as that likes: the content goes on in another inode.
        let renewed = pages
            && (tries >= PATIENCE || !self.setup.abilities.pages)
            && self.setup.renew.send(Arc::clone(life)).is_ok();
        // Whoever closed last has let go within milliseconds; longer is somebody outside.
        let patient = renewed || ((busy || pages) && tries < PATIENCE);
        let waiting = if patient { Vec::new() } else { std::mem::take(&mut state.waiters) };
        drop(state);
        if !patient && (!busy || tries == PATIENCE) {
            tracing::warn!(%path, tries, "cannot seal yet: {what}");
        }
        for waiter in waiting {
            (waiter.tell)(Err(NotSealed::Failed(what.clone())));
        }
    }

    /// It could not be made durable.
    pub(super) fn undone(&self, life: &Arc<Life>, undone: &Undone) {
        match undone {
            Undone::Lost(error) => self.lost(life, &error.to_string()),
            Undone::Folder(error) => self.failed(life, &Trouble::Failed(format!("its folder: {error}"))),
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
