//! Create, open, flush, release.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::depth::room_for;
use super::handles::Handle;
use super::{Attr, Caller, Done, Fault, Opened, Standing, Vfs, renumber, sidecar, special};
use crate::model::{ArtifactKind, SealRecord, State, check_name, is_reserved};
use crate::seal::Life;
use crate::store;

/// Set-id bits of files are not stored, as `nosuid` asks.
pub(super) const FILE_PERM: u32 = 0o1777;

/// Opened by execve(2) (`__FMODE_EXEC` of include/linux/fs.h, which FUSE hands on among the flags).
const FOR_EXECUTION: i32 = 0x20;

fn may_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

impl Vfs {
    /// Checks a name that is to be made, and refuses those that sidecars have.
    pub(super) fn new_name<'a>(
        &self,
        caller: Caller,
        parent: u64,
        name: &'a OsStr,
        operation: &'static str,
    ) -> Result<&'a str, Fault> {
        self.changeable_tree()?;
        if special::is_special(parent) {
            let path = crate::model::RelPath::root().join(special::FOLDER);
            return Err(self.refuse(caller, &path, operation, "'/.seal' is made by sealfs"));
        }
        let name = check_name(name)?;
        if is_reserved(name) {
            let path = self.parts.places.path(parent).ok_or(Fault::Stale)?.join(name);
            let reason = "names that end in .seal, .seal.jsonl and .seal.sums belong to sealfs";
            return Err(self.refuse(caller, &path, operation, reason));
        }
        Ok(name)
    }

    /// Makes a file and opens it.
    ///
    /// # Errors
    /// [`Fault`]; nothing is left behind.
    pub fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        perm: u32,
        flags: i32,
    ) -> Result<(Attr, Opened), Fault> {
        let name = self.new_name(caller, parent, name, "create")?;
        // Until its life has begun, nobody may look at it: nobody knows its number, and who would look up its name waits
        // for the folder's lock, which the kernel holds alone for us.
        let _still = self.lives().namespace.read();
        let (dir, folder) = self.folder(parent)?;
        self.check_vacant(caller, &room_for(folder.join(name))?, "create")?;
        let access = if self.passthrough() { OFlags::RDONLY } else { OFlags::RDWR };
        let file = match store::create_at(&*dir, name, access, perm & FILE_PERM) {
            Ok(file) => file,
            // Made by somebody else since the kernel looked: it looks again.
            Err(error)
                if error.kind() == std::io::ErrorKind::AlreadyExists
                    && flags & libc::O_EXCL == 0
                    && !caller.again() =>
            {
                return Err(Fault::Stale);
            }
            // The worker that died had made it, and nobody was told: nobody can have written it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && caller.again() => {
                let file = store::open_at(&*dir, name, access)?;
                let meta = store::stat_fd(&file)?;
                if meta.size > 0
                    || !matches!(self.standing(&folder.join(name), &meta)?, Standing::Unsealed(_))
                {
                    return Err(error.into());
                }
                file
            }
            Err(error) => return Err(error.into()),
        };
        let made = self.own(caller, &dir, name, &file).and_then(|()| {
            let data = if self.passthrough() { None } else { Some(file.try_clone()?) };
            let meta = store::stat_fd(&file)?;
            if meta.perm & FILE_PERM == perm & FILE_PERM {
                return Ok((meta, data));
            }
            // The caller's mask was applied by the kernel; the daemon's has no say.
            store::set_perm(&file, perm & FILE_PERM)?;
            Ok((store::stat_fd(&file)?, data))
        });
        let (meta, data) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = store::remove_at(&*dir, name, false);
                return Err(error.into());
            }
        };
        let read = match &data {
            None => file,
            Some(_) => store::open_at(&*dir, name, OFlags::RDONLY)?,
        };
        let anchor = self.handles.anchor_or(meta.ino, || Ok(read))?;
        let path = folder.join(name);
        let life = self.lives().begin(meta.ino, ArtifactKind::File, path, State::Open);
        let (handle, writable) = (self.handles.number(), may_write(flags));
        let mut process = None;
        if writable {
            let (observation, by) = self.parts.observer.observe_process(caller.pid);
            process = by;
            // A life that has just begun allows it.
            let _ = self.parts.pipeline.writer_opened(&life, handle, process, observation, true);
            self.parts.pipeline.begins_with(&life, (meta.size, meta.mtime));
            self.may_be_mapped(&life, flags);
            if data.is_some() {
                life.lock().stream = Some(crate::seal::Stream::new());
            }
        } else {
            self.parts.pipeline.settle_again(&life, 0);
        }
        self.handles.add(
            handle,
            meta.ino,
            caller,
            process,
            Handle::File { anchor: Arc::clone(&anchor), writable, data },
        );
        let mut attr = self.attr_of(&meta, None).ok_or(Fault::NotFound)?;
        attr.generation = self.parts.places.remember(renumber::backing(attr.ino), parent, name, 1);
        Ok((attr, Opened { handle, anchor: Some(anchor), writable, frozen: false }))
    }

    /// Gives what was made to who made it; the group is the folder's where that is set-group-id.
    pub(super) fn own(
        &self,
        caller: Caller,
        dir: &OwnedFd,
        name: &str,
        file: impl AsFd,
    ) -> std::io::Result<()> {
        // Made by whom we are: the kernel has chosen the group by the same rule.
        if (caller.uid, caller.gid) == self.me {
            return Ok(());
        }
        let folder = store::stat_fd(dir)?;
        let gid = if folder.perm & 0o2000 != 0 { folder.gid } else { caller.gid };
        store::set_owner(&file, Some(caller.uid), Some(gid)).inspect_err(|error| {
            tracing::debug!(name, %error, "cannot give it to its maker");
        })
    }

    /// Makes an empty file without opening it (`mknod` of a regular file).
    ///
    /// # Errors
    /// [`Fault`]; devices, FIFOs and sockets are never made.
    pub fn make_node(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        perm: u32,
        regular: bool,
    ) -> Result<Attr, Fault> {
        if !regular {
            let path = self.parts.places.path(parent).ok_or(Fault::Stale)?;
            let path = path.join(check_name(name)?);
            self.refuse(caller, &path, "mknod", "devices, FIFOs and sockets are no build outputs");
            return Err(Fault::NotPermitted);
        }
        let (attr, opened) = self.create(caller, parent, name, perm, libc::O_RDONLY | libc::O_EXCL)?;
        self.release(attr.ino, opened.handle);
        Ok(attr)
    }

    /// Opens a file.
    pub fn open(&self, caller: Caller, ino: u64, flags: i32, done: Done<Opened>) {
        if special::is_special(ino) {
            return done(
                self.special_content(caller, ino)
                    .and_then(|content| self.open_content(caller, ino, flags, content)),
            );
        }
        if let Some((base, kind)) = sidecar::parse_number(ino) {
            if may_write(flags) || flags & libc::O_TRUNC != 0 {
                let path = self.parts.places.path(base).unwrap_or_else(crate::model::RelPath::root);
                let fault = self.refuse(caller, &path, "open for writing", "sidecars are made by sealfs");
                return done(Err(fault));
            }
            let handle = self.handles.number();
            let (handles, kept) = (Arc::clone(&self.handles), self.kept.clone());
            return self.sidecar_content(
                base,
                kind,
                Box::new(move |content| {
                    done(content.and_then(|content| {
                        let share = kept.room(caller.uid, content.len())?;
                        handles.add(handle, ino, caller, None, Handle::Content { content, _room: share });
                        Ok(Opened { handle, anchor: None, writable: false, frozen: false })
                    }));
                }),
            );
        }
        self.open_file(caller, ino, flags, done);
    }

    fn open_content(
        &self,
        caller: Caller,
        ino: u64,
        flags: i32,
        content: Arc<Vec<u8>>,
    ) -> Result<Opened, Fault> {
        if may_write(flags) {
            return Err(Fault::Refused(self.parts.policy.get().defaults().errno));
        }
        let handle = self.handles.number();
        let share = self.kept.room(caller.uid, content.len())?;
        self.handles.add(handle, ino, caller, None, Handle::Content { content, _room: share });
        Ok(Opened { handle, anchor: None, writable: false, frozen: false })
    }

    fn open_file(&self, caller: Caller, number: u64, flags: i32, done: Done<Opened>) {
        let (ino, is_old) = (renumber::backing(number), self.doubted.is_old(number));
        let write = may_write(flags) || flags & libc::O_TRUNC != 0;
        if write && let Err(fault) = self.changeable_tree() {
            return done(Err(fault));
        }
        let still = self.lives().namespace.read();
        if !write
            && !is_old
            && let Some(opened) = self.open_seen(caller, ino)
        {
            drop(still);
            return done(Ok(opened));
        }
        let unsettled = self.parts.index.unsettled();
        let found = match self.find_ino(ino) {
            Ok(found) => found,
            Err(fault) => {
                drop(still);
                if self.is_dropped(ino) {
                    return done(Err(Fault::Stale));
                }
                let ghost = self.parts.places.ghost(ino);
                // The name is gone since it was looked up, or it is reopened through /proc.
                return done(match (self.handles.anchor(ino).is_some(), ghost) {
                    (true, _) if !write => self.opened(caller, ino, false, false, || Err(Fault::Stale)),
                    (false, Some(ghost)) if !write => {
                        self.opened(caller, ino, false, false, || Ok(store::reopen(&*ghost, OFlags::RDONLY)?))
                    }
                    _ => Err(fault),
                });
            }
        };
        let standing = match self.standing(&found.path, &found.meta) {
            Ok(standing) => standing,
            Err(fault) => {
                drop(still);
                return done(Err(fault));
            }
        };
        let opened = match standing {
            Standing::Free => Err(Fault::Invalid),
            // Nobody writes under the number that it had while it was sealed.
            Standing::Unsealed(_) if number != ino => Err(Fault::Stale),
            // Of a running program the kernel refuses writers by itself; but truncation without writing is handed to us
            // before it looks.
            Standing::Unsealed(_) if write && !may_write(flags) && self.handles.is_run(ino) => {
                Err(std::io::Error::from_raw_os_error(libc::ETXTBSY).into())
            }
            Standing::Unsealed(life) if write => self.open_writer(caller, &life, &found, flags),
            Standing::Unsealed(_) => self.opened(caller, ino, false, false, || {
                Ok(store::open_at(&*found.dir, &found.name, OFlags::RDONLY)?)
            }),
            // What the kernel has cached under this number is not what was sealed, perhaps: it looks the name up again.
            Standing::Sealed(_) if is_old && !write => Err(Fault::Stale),
            Standing::Sealed(record) => {
                drop(still);
                return if write {
                    done(self.once_compared(caller, "open for writing", || {
                        self.open_sealed_for_writing(caller, &record, &found, flags)
                    }));
                } else {
                    self.open_sealed(caller, *record, unsettled, &found, done);
                };
            }
        };
        drop(still);
        if flags & FOR_EXECUTION != 0
            && let Ok(opened) = &opened
        {
            self.handles.runs(opened.handle, ino);
        }
        done(opened);
    }

    /// A reader of a sealed file: only if the backing file is what was recorded.
    fn open_sealed(
        &self,
        caller: Caller,
        record: SealRecord,
        unsettled: u64,
        found: &super::resolve::Found,
        done: Done<Opened>,
    ) {
        let opened = self.opened(caller, found.meta.ino, false, true, || {
            Ok(store::open_at(&*found.dir, &found.name, OFlags::RDONLY)?)
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(fault) => return done(Err(fault)),
        };
        let unchanged = opened.anchor.as_ref().is_some_and(|anchor| {
            store::stat_fd(anchor.file()).is_ok_and(|meta| super::recheck::is_as_recorded(&meta, &record))
        });
        if unchanged {
            self.seen.remember(&record, unsettled);
            return done(Ok(opened));
        }
        self.recheck(record, opened, done);
    }

    pub(super) fn opened(
        &self,
        caller: Caller,
        ino: u64,
        writable: bool,
        frozen: bool,
        open: impl FnOnce() -> Result<OwnedFd, Fault>,
    ) -> Result<Opened, Fault> {
        let anchor = self.handles.anchor_or(ino, open)?;
        let handle = self.handles.number();
        let opened = Handle::File { anchor: Arc::clone(&anchor), writable, data: None };
        self.handles.add(handle, ino, caller, None, opened);
        Ok(Opened { handle, anchor: Some(anchor), writable, frozen })
    }

    fn open_writer(
        &self,
        caller: Caller,
        life: &Arc<Life>,
        found: &super::resolve::Found,
        flags: i32,
    ) -> Result<Opened, Fault> {
        let (handle, truncate) = (self.handles.number(), flags & libc::O_TRUNC != 0);
        let writable = may_write(flags);
        let (observation, process) = self.parts.observer.observe_process(caller.pid);
        self.parts.pipeline.writer_opened(life, handle, process, observation, truncate).map_err(|_| {
            self.refuse(caller, &found.path, "open for writing", "it is being sealed at this moment")
        })?;
        self.may_be_mapped(life, flags);
        let opened = self
            .writer_recorded()
            .and_then(|()| self.open_backing_writer(found, truncate))
            .and_then(|data| {
                let anchor = self.handles.anchor_or(found.meta.ino, || {
                    Ok(store::open_at(&*found.dir, &found.name, OFlags::RDONLY)?)
                })?;
                Ok((anchor, data))
            });
        let (anchor, data) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                self.parts.pipeline.not_opened(life, handle);
                return Err(fault);
            }
        };
        if truncate && data.is_some() {
            let mut state = life.lock();
            // Once more, after the truncation: a write that was under way must not count as one to the empty file.
            life.disturb(&mut state);
            state.stream = Some(crate::seal::Stream::new());
        }
        if let Ok(meta) = store::stat_fd(anchor.file()) {
            self.parts.pipeline.begins_with(life, (meta.size, meta.mtime));
        }
        self.handles.add(
            handle,
            found.meta.ino,
            caller,
            process,
            Handle::File { anchor: Arc::clone(&anchor), writable: true, data },
        );
        Ok(Opened { handle, anchor: Some(anchor), writable, frozen: false })
    }

    /// On a full disk the journal may find no room: nobody writes then to what it has as closed.
    fn writer_recorded(&self) -> Result<(), Fault> {
        if self.parts.pipeline.journal().catch_up() {
            return Ok(());
        }
        Err(Fault::Io(std::io::Error::from_raw_os_error(libc::ENOSPC)))
    }

    /// Truncates if asked to; without passthrough, the descriptor that the daemon writes through.
    fn open_backing_writer(
        &self,
        found: &super::resolve::Found,
        truncate: bool,
    ) -> Result<Option<OwnedFd>, Fault> {
        if self.passthrough() && !truncate {
            return Ok(None);
        }
        let file = store::open_at(&*found.dir, &found.name, OFlags::RDWR)?;
        if truncate {
            rustix::fs::ftruncate(&file, 0)?;
        }
        Ok((!self.passthrough()).then_some(file))
    }

    /// A descriptor of a handle is closed. Looks whether the process that closes it is dying from a signal;
    /// held back while too much waits to be sealed.
    pub fn flush(&self, caller: Caller, ino: u64, handle: u64, done: Done<()>) {
        let anchor = match self.handles.get(handle) {
            Ok(open) => match &*open {
                Handle::File { writable: true, anchor, .. } => Some(Arc::clone(anchor)),
                _ => None,
            },
            Err(fault) => return done(Err(fault)),
        };
        if let Some(anchor) = anchor
            && let Some(life) = self.lives().get(ino)
        {
            let torn = self.content_flushed(caller, &life, handle, &anchor);
            // Our own descriptors go first: the lease asks for that.
            drop(anchor);
            self.parts.handover.flushed(handle, torn);
            if self.parts.pipeline.is_crowded() {
                return self.held_back.hold(done);
            }
            // Who wrote must be known before the writer can be gone; that has a deadline.
            let looking = life.lock().observed.under_way();
            if let Some(look) = looking {
                return look.when_done(Box::new(move || done(Ok(()))));
            }
        }
        done(Ok(()));
    }

    /// A handle that was made never reached the kernel. What was truncated stays so.
    pub fn not_opened(&self, ino: u64, handle: u64) {
        let truncated = self
            .handles
            .anchor(ino)
            .is_some_and(|anchor| store::stat_fd(anchor.file()).is_ok_and(|meta| meta.size == 0));
        if !truncated && let Some(life) = self.lives().get(ino) {
            self.parts.pipeline.not_opened(&life, handle);
        }
        self.release(ino, handle);
    }

    /// The kernel lets a handle go.
    pub fn release(&self, ino: u64, handle: u64) {
        let Some(open) = self.handles.take(handle) else {
            // The worker that died had let it go, and the kernel says it again; or it could not be taken over.
            if let Some(life) = self.lives().get(ino) {
                let path = life.lock().path.clone();
                let size = self.parts.tree.stat_path(&path).map_or(0, |meta| meta.size);
                self.parts.pipeline.released(&life, handle, size);
            }
            return self.handles.told(handle);
        };
        let Handle::File { anchor, writable, .. } = &*open else { return self.handles.told(handle) };
        let (writable, size) = (*writable, store::stat_fd(anchor.file()).map_or(0, |meta| meta.size));
        // Our own descriptors go first: the lease asks for that.
        drop(open);
        self.handles.tidy(ino);
        if writable {
            match self.lives().get(ino) {
                Some(life) => self.parts.pipeline.released(&life, handle, size),
                None => self.written_unknown(ino),
            }
            self.drop_doubted(ino);
        }
        // Last: a worker that finds the handle gone must find the file closed.
        self.handles.told(handle);
    }
}
