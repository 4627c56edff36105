//! What a name stands for, and in which state it is.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Caller, Fault, Vfs, renumber};
use crate::model::{ArtifactKind, RelPath, SealRecord, State};
use crate::policy::Symlinks;
use crate::seal::Life;
use crate::store::{self, EntryKind, Meta};

/// How a file stands: unsealed with a life, sealed with a record, or outside of all that.
pub enum Standing {
    /// Not sealed.
    Unsealed(Arc<Life>),
    /// Sealed or expired. The record may be of another inode: then the backing file was swapped.
    Sealed(Box<SealRecord>),
    /// A folder or a free symbolic link.
    Free,
}

/// A name in a folder, looked up.
pub(super) struct Found {
    pub dir: Arc<OwnedFd>,
    pub name: String,
    pub path: RelPath,
    pub meta: Meta,
}

/// How long a look at a file waits for the comparison of the index with the log.
const COMPARED: std::time::Duration = std::time::Duration::from_millis(500);

impl Found {
    /// Keeps the inode when its name goes; see [`crate::store::Places::unlinked`].
    pub fn ghost(&self) -> Option<OwnedFd> {
        store::open_at(&*self.dir, &self.name, rustix::fs::OFlags::PATH).ok()
    }
}

impl Vfs {
    /// The folder with this number, and its path.
    pub(super) fn folder(&self, ino: u64) -> Result<(Arc<OwnedFd>, RelPath), Fault> {
        let path = self.parts.places.path(ino).ok_or(Fault::Stale)?;
        let dir = self.parts.tree.dir(ino, || Some(path.clone()))?;
        Ok((dir, path))
    }

    /// The name in the folder, which must be there.
    pub(super) fn find(&self, parent: u64, name: &str) -> Result<Found, Fault> {
        let (dir, folder) = self.folder(parent)?;
        let meta = store::stat_at(&*dir, name)?;
        if meta.kind == EntryKind::Other {
            return Err(Fault::NotFound);
        }
        Ok(Found { path: folder.join(name), dir, name: name.to_owned(), meta })
    }

    /// A name that is to be made must have no seal: a retained file whose backing file is missing keeps its
    /// name; an expired one's ends.
    pub(super) fn check_vacant(
        &self,
        caller: Caller,
        path: &RelPath,
        operation: &'static str,
    ) -> Result<(), Fault> {
        if self.parts.index.belief().differs(path).is_some() {
            return Err(Fault::Altered);
        }
        if !self.parts.index.has(path)? {
            return Ok(());
        }
        let Some(record) = self.parts.index.read().find(path)? else { return Ok(()) };
        if self.parts.tree.stat_path(path).is_ok() {
            // It is there, made and sealed since the kernel looked: the call itself will say so.
            return Ok(());
        }
        tracing::error!(%path, "BACKING FILE MISSING");
        self.end_seals(caller, operation, &[(&record, crate::ledger::Ending::Replaced)])
    }

    /// Nothing is found at a path: that must be so in the index too. A sealed file whose backing file is
    /// missing has been altered on the raw disk; that is logged once and told as `EIO`.
    pub(super) fn check_absent(&self, path: &RelPath) -> Result<(), Fault> {
        if self.parts.index.belief().differs(path).is_some() {
            return Err(Fault::Altered);
        }
        if !self.parts.index.has(path)? {
            return Ok(());
        }
        let Some(record) = self.parts.index.read().find(path)? else { return Ok(()) };
        self.alterations.note(&self.parts.index, &self.parts.clock, &record, "missing", None)?;
        if record.is_expired(self.parts.clock.now()) { Ok(()) } else { Err(Fault::Altered) }
    }

    /// The inode by its name; `Stale` if that is gone.
    pub(super) fn find_ino(&self, ino: u64) -> Result<Found, Fault> {
        let place = self.parts.places.place(ino).ok_or(Fault::Stale)?;
        let found = self.find(place.parent, &place.name)?;
        if found.meta.ino == ino { Ok(found) } else { Err(Fault::Stale) }
    }

    /// How it stands. A file that nobody knows anything of has lost its history with the daemon's or the
    /// host's death, or was put into the store from outside: its bytes cannot be trusted, so it is torn;
    /// without content it is only a name.
    pub(super) fn standing(&self, path: &RelPath, meta: &Meta) -> Result<Standing, Fault> {
        let kind = match meta.kind {
            EntryKind::File => ArtifactKind::File,
            EntryKind::Symlink => ArtifactKind::Symlink,
            EntryKind::Dir | EntryKind::Other => return Ok(Standing::Free),
        };
        let belief = self.parts.index.belief();
        if belief.differs(path).is_some() {
            return Err(Fault::Altered);
        }
        if let Some(life) = self.lives().get(meta.ino) {
            // A life that has just ended is in the index.
            if !life.lock().over {
                return Ok(Standing::Unsealed(life));
            }
        }
        if let Some(record) = self.parts.index.read().find(path)? {
            return Ok(Standing::Sealed(Box::new(record)));
        }
        if kind == ArtifactKind::Symlink {
            // Where links are sealed, one without a row may be a seal whose row is gone.
            if self.parts.policy.get().decide(path).symlinks == Symlinks::Seal {
                self.check_no_seal(path, true)?;
            }
            return Ok(self.adopt_link(path, meta).map_or(Standing::Free, Standing::Unsealed));
        }
        let flagged = self.parts.tree.open_path(path).is_ok_and(store::is_immutable);
        self.check_no_seal(path, flagged || !self.parts.abilities.immutable)?;
        Ok(Standing::Unsealed(self.adopt_unknown(path, meta)))
    }

    /// A file that nobody knows may be one whose row is gone from the index. If the log has its seal, it stays as it is.
    /// If not, a crash came before the commit, or after the seal's end. Until the index is compared with the log that
    /// cannot be told; it is waited for if the file looks `frozen`: one without the flag is root's to take anyway.
    fn check_no_seal(&self, path: &RelPath, frozen: bool) -> Result<(), Fault> {
        let belief = self.parts.index.belief();
        self.parts.index.look_for_others(true)?;
        if !belief.wait(COMPARED) && frozen {
            return Err(Fault::Comparing(path.clone()));
        }
        if !frozen && belief.differs(path).is_none() {
            return Ok(());
        }
        if belief.differs(path).is_some() || belief.wholly().is_some() {
            tracing::error!(%path, "a seal of the log has no row in the index: it stays as it is");
            return Err(Fault::Altered);
        }
        Ok(())
    }

    fn adopt_unknown(&self, path: &RelPath, meta: &Meta) -> Arc<Life> {
        if !self.parts.read_only
            && let Ok(file) = self.parts.tree.open_path(path)
            && store::is_immutable(&file)
        {
            // Frozen by a seal that was never committed, or that has ended: see `check_no_seal`.
            let _ = store::set_immutable(&file, false);
        }
        if meta.size > 0 {
            tracing::warn!(%path, "file without history: torn");
        }
        self.parts.pipeline.adopt_unknown(
            meta.ino,
            ArtifactKind::File,
            path.clone(),
            meta.size,
            meta.size > 0,
        )
    }

    /// The state to show.
    pub(super) fn state_of(&self, standing: &Standing) -> Option<State> {
        match standing {
            Standing::Unsealed(life) => Some(life.lock().state),
            Standing::Sealed(record) if record.is_expired(self.parts.clock.now()) => Some(State::Expired),
            Standing::Sealed(_) => Some(State::Sealed),
            Standing::Free => None,
        }
    }

    /// Everything that is known of a path, for the control socket: who asks has a descriptor of it, which may be of the
    /// inode that the file was before it was copied to be sealed.
    ///
    /// # Errors
    /// If it cannot be looked up.
    pub fn standing_for(&self, ino: u64) -> Result<(RelPath, Meta, Standing), Fault> {
        let ino = renumber::backing(ino);
        let Some((new, path)) = self.renewed.lock().get(&ino).cloned() else { return self.standing_of(ino) };
        let _still = self.lives().namespace.read();
        // Once it is sealed it stands where it was.
        let path = self.lives().get(new).map_or(path, |life| life.lock().path.clone());
        let meta = self.parts.tree.stat_path(&path)?;
        if meta.ino != new {
            return Err(Fault::Stale);
        }
        let standing = self.standing(&path, &meta)?;
        Ok((path, meta, standing))
    }

    /// Everything that is known of an inode.
    pub(super) fn standing_of(&self, ino: u64) -> Result<(RelPath, Meta, Standing), Fault> {
        if ino == store::ROOT {
            let meta = store::stat_fd(self.parts.tree.root())?;
            return Ok((RelPath::root(), meta, Standing::Free));
        }
        let _still = self.lives().namespace.read();
        let found = self.find_ino(ino)?;
        let standing = self.standing(&found.path, &found.meta)?;
        Ok((found.path, found.meta, standing))
    }
}
