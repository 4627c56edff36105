//! The same content over a sealed name, by rename: a success that changes nothing.
//!
//! Stores that name files by their content put a file that they have already once more, under another name, and rename
//! it into place. The seal says of these bytes what it said before, so the new file is dropped, as if the rename and
//! what it replaced had been one. Content is the same if the new file, which nobody can write to (every writer has let
//! go, and a read lease is given), has the size and the digest that the seal states, and if the sealed file looks as
//! recorded, or is hashed too. Hashing takes no lock of ours; what was looked at is looked at again afterwards, under the
//! lock. The kernel holds both folders meanwhile, so it takes a bounded time; after it, or if anything is not so, the
//! rename is refused as any other over a sealed file.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::recheck::is_as_recorded;
use super::rename::Renamed;
use super::resolve::Found;
use super::{Caller, Done, Fault, Standing, Vfs};
use crate::crypto;
use crate::ledger::Ending;
use crate::model::{SealRecord, check_name};
use crate::seal::{Life, Waiter, hash_file};
use crate::store::{self, EntryKind, Lease, LeaseError, Meta};

/// Longest that a rename waits for content to be compared: some GB, where it lies in memory.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest that it waits for the kernel to release what the writers of the new file have closed.
const RELEASE_GRACE: Duration = Duration::from_millis(200);
/// Longest that it waits for a seal that is being committed.
const COMMIT_GRACE: Duration = Duration::from_secs(5);
/// How long it waits between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes from which content is compared aside, so that the threads that serve the kernel go on.
const LARGE: u64 = 1 << 20;
/// Threads that compare aside, at most; what is more is compared by the thread that was asked.
const ASIDE: usize = 8;

/// A new file, and the sealed one of the same kind and size that it is renamed over.
struct Twins {
    from: Found,
    /// The new file's life; none for a free symbolic link.
    life: Option<Arc<Life>>,
    to: Found,
    record: SealRecord,
}

/// What comparing keeps.
#[derive(Default)]
pub(super) struct Same {
    aside: Arc<AtomicUsize>,
    /// Inodes that were dropped, until the kernel forgets them. It takes such an inode for what has the new name, for as
    /// long as it may keep a name without asking ([`super::OPEN_TTL`]), but knows no attributes of it: whoever opens or
    /// looks at it is answered "stale", and the kernel looks the name up again. To tell it that the name has changed would be slower,
    /// and takes the folder's lock, which a call may hold that waits for this very worker.
    dropped: Mutex<HashSet<u64>>,
}

/// Leave for a thread that compares aside, until it is dropped.
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Same {
    /// Whether the inode was dropped.
    fn is_dropped(&self, ino: u64) -> bool {
        self.dropped.lock().contains(&ino)
    }

    /// The kernel has forgotten it.
    pub fn forget(&self, ino: u64) {
        self.dropped.lock().remove(&ino);
    }

    /// Leave for a thread that compares aside; none if there are enough.
    fn turn(&self) -> Option<Turn> {
        let turn = Turn(Arc::clone(&self.aside));
        (self.aside.fetch_add(1, Ordering::AcqRel) < ASIDE).then_some(turn)
    }
}

impl Vfs {
    /// Whether the inode was dropped, and nobody who could still look at it has it open.
    pub(super) fn is_dropped(&self, ino: u64) -> bool {
        self.same.is_dropped(ino) && !self.handles.has(ino)
    }

    /// Renames a file, symbolic link or folder, each name given with its folder; `replace`: an existing name may go.
    /// Answers at once, but where the content of large files has to be compared.
    ///
    /// # Errors
    /// Refused if anything it moves or replaces is retained, but for a file with the same content, which is dropped;
    /// nothing has then changed.
    pub fn rename(
        self: &Arc<Self>,
        caller: Caller,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        replace: bool,
        done: Done<()>,
    ) {
        let twins =
            match self.once_compared(caller, "rename", || self.rename_now(caller, from, to, replace, true)) {
                Ok(Renamed::Done) => return done(Ok(())),
                Ok(Renamed::PerhapsSame) => self.twins(from, to),
                Err(fault) => return done(Err(fault)),
            };
        let Some(twins) = twins else { return done(self.rename_other(caller, from, to)) };
        let turn = (twins.record.size >= LARGE).then(|| self.same.turn()).flatten();
        let Some(turn) = turn else { return done(self.put_same(caller, from, to, &twins)) };
        let (vfs, from, to) = (Arc::clone(self), (from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        let put = move || {
            let _turn = turn;
            done(vfs.put_same(caller, (from.0, &from.1), (to.0, &to.1), &twins));
        };
        if let Err(error) = std::thread::Builder::new().name("compare".to_owned()).spawn(put) {
            // The callback went with the closure; its reply is EIO by itself.
            tracing::error!(%error, "cannot start a thread to compare files");
        }
    }

    /// Renames over what has not the same content: refused, unless it may go by now.
    fn rename_other(&self, caller: Caller, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Fault> {
        self.once_compared(caller, "rename", || self.rename_now(caller, from, to, true, false)).map(drop)
    }

    fn put_same(
        &self,
        caller: Caller,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        twins: &Twins,
    ) -> Result<(), Fault> {
        if self.drop_same(caller, twins)? { Ok(()) } else { self.rename_other(caller, from, to) }
    }

    /// Whether a rename is over a sealed file, or one that is being sealed, of the same kind and size.
    pub(super) fn may_be_same(&self, from: &Found, to: &Found) -> bool {
        from.meta.kind == to.meta.kind
            && from.meta.size == to.meta.size
            && match self.standing(&to.path, &to.meta) {
                Ok(Standing::Sealed(record)) => self.is_retained(&record),
                Ok(Standing::Unsealed(life)) => life.lock().is_frozen(),
                Ok(Standing::Free) | Err(_) => false,
            }
    }

    /// The new file and the sealed one, once that is sealed.
    fn twins(&self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Option<Twins> {
        let (old, new) = (check_name(from.1).ok()?, check_name(to.1).ok()?);
        for _ in 0..2 {
            let being_sealed = {
                let _still = self.lives().namespace.read();
                let (from, to) = (self.find(from.0, old).ok()?, self.find(to.0, new).ok()?);
                if from.meta.ino == to.meta.ino || !self.may_be_same(&from, &to) {
                    return None;
                }
                let life = self.unsealed(&from).ok()?;
                match self.standing(&to.path, &to.meta).ok()? {
                    Standing::Sealed(record) => return Some(Twins { from, life, to, record: *record }),
                    Standing::Unsealed(sealing) => sealing,
                    Standing::Free => return None,
                }
            };
            // Two that put the same file at once: the other one's is being sealed at this moment.
            self.wait_for_seal(&being_sealed);
        }
        None
    }

    /// The life of a name that is not sealed: none of a free symbolic link.
    fn unsealed(&self, from: &Found) -> Result<Option<Arc<Life>>, Fault> {
        match (self.standing(&from.path, &from.meta)?, from.meta.kind) {
            (Standing::Unsealed(life), _) => Ok(Some(life)),
            (Standing::Free, EntryKind::Symlink) => Ok(None),
            (Standing::Free | Standing::Sealed(_), _) => Err(Fault::Invalid),
        }
    }

    fn is_retained(&self, record: &SealRecord) -> bool {
        !record.is_expired(self.parts.clock.now())
    }

    fn wait_for_seal(&self, life: &Arc<Life>) {
        let (tell, told) = crossbeam_channel::bounded(1);
        let tell = move |_| {
            let _ = tell.send(());
        };
        self.parts
            .pipeline
            .wait(life, Waiter { deadline: None, until_released: false, tell: Box::new(tell) });
        let _ = told.recv_timeout(COMMIT_GRACE);
    }

    /// Compares, and drops the new file if its content is that of the sealed one. `false`: it is not, or that cannot be
    /// said; nothing has changed.
    ///
    /// # Errors
    /// If the sealed one was found altered, or the new one cannot be removed.
    fn drop_same(&self, caller: Caller, twins: &Twins) -> Result<bool, Fault> {
        let same = match &twins.life {
            _ if twins.from.meta.kind == EntryKind::Symlink => self.same_target(twins).then_some(None),
            Some(life) => self.same_content(twins, life)?.map(Some),
            None => None,
        };
        let Some(epoch) = same else { return Ok(false) };
        let _alone = self.lives().namespace.write();
        if !self.are_still(twins, epoch) {
            return Ok(false);
        }
        let Twins { from, to, .. } = twins;
        let (ino, ghost) = (from.meta.ino, from.ghost());
        // Before it is gone: from then on somebody may ask for it.
        self.same.dropped.lock().insert(ino);
        let remove = || {
            self.name_going(ino, ghost.as_ref());
            store::remove_at(&*from.dir, &from.name, false).inspect_err(|_| self.name_stays(ino))
        };
        if let Err(fault) = self.remove_name(caller, from, "rename", &Ending::Removed, remove) {
            self.same.forget(ino);
            return Err(fault);
        }
        self.name_gone(ino, ghost);
        (self.parts.changed)(ino);
        if from.meta.kind == EntryKind::Symlink {
            self.note_symlink(caller, &from.path, None);
        }
        tracing::debug!(from = %from.path, to = %to.path, "the same content over a sealed file: dropped");
        Ok(true)
    }

    /// Whether both names still stand for what was compared, and nobody has had the new file for writing since.
    fn are_still(&self, twins: &Twins, epoch: Option<u64>) -> bool {
        let stands = |found: &Found| -> Option<Meta> {
            let meta = store::stat_at(&*found.dir, &found.name).ok()?;
            (meta.ino == found.meta.ino && meta.size == found.meta.size).then_some(meta)
        };
        let (Some(_), Some(sealed)) = (stands(&twins.from), stands(&twins.to)) else { return false };
        let written = twins.life.as_ref().zip(epoch).is_some_and(|(life, epoch)| {
            let state = life.lock();
            state.over || !state.writers.is_empty() || life.epoch() != epoch
        });
        let record = self.parts.index.read().find(&twins.to.path).ok().flatten();
        let stays = record.is_some_and(|record| {
            record.id == twins.record.id
                && self.is_retained(&record)
                && (sealed.kind == EntryKind::Symlink || is_as_recorded(&sealed, &record))
        });
        !written && stays
    }

    fn same_target(&self, twins: &Twins) -> bool {
        let target = |found: &Found| store::readlink_at(&*found.dir, &found.name).ok();
        target(&twins.from).is_some_and(|new| {
            crypto::sha256(new.as_bytes()) == twins.record.sha256 && target(&twins.to) == Some(new)
        })
    }

    /// Hashes the new file, while nobody can write to it, and the sealed one where that does not look as recorded. If
    /// both are as the seal says, the count ([`Life::epoch`]) at which that was found.
    fn same_content(&self, twins: &Twins, life: &Arc<Life>) -> Result<Option<u64>, Fault> {
        let until = Instant::now() + LONGEST;
        let Some(epoch) = written_out(life) else { return Ok(None) };
        let Some(lease) = self.leased(twins, until.min(Instant::now() + RELEASE_GRACE)) else {
            return Ok(None);
        };
        let go_on = |_| life.epoch() == epoch && Instant::now() < until;
        let record = &twins.record;
        match hash_file(lease.file(), go_on) {
            Ok(Some(content)) if (content.size, content.sha256) == (record.size, record.sha256) => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        if is_as_recorded(&twins.to.meta, record) {
            return Ok(Some(epoch));
        }
        self.prove_again(twins, until).map(|proven| proven.then_some(epoch))
    }

    /// The sealed file does not look as recorded: hashed before it stands for the new one.
    fn prove_again(&self, twins: &Twins, until: Instant) -> Result<bool, Fault> {
        let (index, clock, record) = (&self.parts.index, &self.parts.clock, &twins.record);
        let file = store::open_at(&*twins.to.dir, &twins.to.name, rustix::fs::OFlags::RDONLY)?;
        let before = store::stat_fd(&file)?;
        let found = match hash_file(file.as_fd(), |_| Instant::now() < until)? {
            Some(content) if (content.size, content.sha256) == (record.size, record.sha256) => {
                let mut batch = index.batch(clock)?;
                batch.proven(record, before.ino, before.ctime)?;
                batch.commit()?;
                return Ok(true);
            }
            Some(content) => format!("sha256 {} instead of {}", content.sha256, record.sha256),
            None => return Ok(false),
        };
        self.alterations.note(index, clock, record, &found, Some(&before))?;
        Err(Fault::Altered)
    }

    /// A read lease on the new file. The kernel lets go of what a writer had a moment after the writer did.
    fn leased(&self, twins: &Twins, until: Instant) -> Option<Lease> {
        let mut file = store::open_at(&*twins.from.dir, &twins.from.name, rustix::fs::OFlags::RDONLY).ok()?;
        if store::stat_fd(&file).ok()?.ino != twins.from.meta.ino {
            return None;
        }
        loop {
            match Lease::take(file) {
                Ok(lease) => return Some(lease),
                Err((file, LeaseError::Unsupported)) if !self.parts.abilities.leases => {
                    return Some(Lease::without(file));
                }
                Err((back, LeaseError::Busy)) if Instant::now() < until => file = back,
                Err(_) => return None,
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Waits until every writer of the file has let go, if each has closed it; the count at which that is so.
fn written_out(life: &Life) -> Option<u64> {
    let until = Instant::now() + RELEASE_GRACE;
    loop {
        let state = life.lock();
        if state.over || state.is_frozen() || !state.all_flushed() {
            return None;
        }
        if state.writers.is_empty() {
            return Some(life.epoch());
        }
        drop(state);
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
