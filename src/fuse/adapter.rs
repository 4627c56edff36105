//! `fuser::Filesystem` for the file system: no decision is made here.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::convert::{attr, caller, kind, number, set_time};
use super::errno;
use super::passthrough::Backings;
use crate::metrics::COUNTERS;
use crate::vfs::{Attr, Caller, Changes, Fault, Opened, Vfs, XattrFlags};

/// What is wished of the kernel, and what came of it.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Wished: data past the daemon. After the handshake: whether the kernel can.
    pub passthrough: AtomicBool,
}

/// The adapter.
pub struct Adapter {
    vfs: Arc<Vfs>,
    wishes: Arc<Wishes>,
    backings: Arc<Backings>,
}

impl Adapter {
    /// Over a file system.
    #[must_use]
    pub fn new(vfs: Arc<Vfs>, wishes: Arc<Wishes>) -> Self {
        let backings = Arc::new(Backings::new(Arc::clone(&vfs.parts().handover)));
        Adapter { vfs, wishes, backings }
    }

    /// The backing files, to be attached to the device.
    #[must_use]
    pub fn backings(&self) -> Arc<Backings> {
        Arc::clone(&self.backings)
    }

    /// The kernel sends again what a worker had read that then died: what that had made for it is let go.
    fn begin_again(&self, caller: Caller) {
        if let Some(ino) = self.vfs.forget_unanswered(caller) {
            self.backings.release(ino);
        }
    }

    fn passthrough(&self) -> bool {
        self.vfs.parts().passthrough.load(Ordering::Relaxed)
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Fault>) {
    match result {
        Ok(()) => reply.ok(),
        Err(fault) => reply.error(errno::of(&fault)),
    }
}

/// Something that is to go. Asked again, what is not there was taken away by the worker that died.
fn gone(caller: Caller, result: Result<(), Fault>) -> Result<(), Fault> {
    match result {
        Err(fault) if caller.again() && fault.is_absent() => Ok(()),
        result => result,
    }
}

fn entry(reply: ReplyEntry, result: Result<Attr, Fault>) {
    match result {
        Ok(found) => reply.entry(&found.ttl, &attr(&found), Generation(found.generation)),
        Err(fault) => reply.error(errno::of(&fault)),
    }
}

fn attributes(reply: ReplyAttr, result: Result<Attr, Fault>) {
    match result {
        Ok(found) => reply.attr(&found.ttl, &attr(&found)),
        Err(fault) => reply.error(errno::of(&fault)),
    }
}

/// Flags for a handle whose data goes through the daemon.
fn cached_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    if opened.anchor.is_none() {
        // Made here: its size may differ from what the kernel was told last.
        flags |= FopenFlags::FOPEN_DIRECT_IO;
    }
    if opened.frozen {
        flags |= FopenFlags::FOPEN_KEEP_CACHE;
    }
    if !opened.writable {
        flags |= FopenFlags::FOPEN_NOFLUSH;
    }
    flags
}

fn passthrough_flags(opened: &Opened) -> FopenFlags {
    if opened.writable { FopenFlags::empty() } else { FopenFlags::FOPEN_NOFLUSH }
}

/// Something that is to be made. Asked again, what is there was made by the worker that died: the kernel
/// asks only, holding the folder's lock, for names that are not there.
fn made_before(
    vfs: &Vfs,
    caller: Caller,
    parent: INodeNo,
    name: &OsStr,
    result: Result<Attr, Fault>,
) -> Result<Attr, Fault> {
    match result {
        Err(fault) if caller.again() && fault.is_existing() => vfs.lookup(caller, parent.0, name),
        result => result,
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Those that the kernel does not have are gone without.
        for wish in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            if config.add_capabilities(wish).is_err() {
                tracing::debug!(?wish, "not offered by the kernel");
            }
        }
        let wished = self.wishes.passthrough.load(Ordering::Relaxed);
        // The kernel stacks two file systems at most. One over the store leaves one, so that an overlay can have the mount as
        // its lower layer, unless the store itself lies on a stacked one.
        let depth = if self.vfs.parts().tree.is_stacked() { 2 } else { 1 };
        let can = wished
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(depth).is_ok();
        self.wishes.passthrough.store(can, Ordering::Relaxed);
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_readahead(1 << 20);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        COUNTERS.fuse_lookup.one();
        entry(reply, self.vfs.lookup(caller(req), parent.0, name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        COUNTERS.fuse_forget.one();
        self.vfs.forget(number(ino), nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        COUNTERS.fuse_getattr.one();
        self.vfs.getattr(caller(req), number(ino), Box::new(move |result| attributes(reply, result)));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        COUNTERS.fuse_setattr.one();
        let perm = mode.map(|mode| mode & 0o7777);
        let changes = Changes { perm, uid, gid, size, atime: set_time(atime), mtime: set_time(mtime) };
        attributes(reply, self.vfs.setattr(caller(req), number(ino), &changes));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        COUNTERS.fuse_readlink.one();
        match self.vfs.read_link(number(ino)) {
            Ok(target) => reply.data(&target),
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        COUNTERS.fuse_mknod.one();
        let format = mode & libc::S_IFMT;
        let regular = format == libc::S_IFREG || format == 0;
        let made = self.vfs.make_node(caller(req), parent.0, name, mode & 0o7777, regular);
        entry(reply, made_before(&self.vfs, caller(req), parent, name, made));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        COUNTERS.fuse_mkdir.one();
        let made = self.vfs.make_dir(caller(req), parent.0, name, mode & 0o7777);
        entry(reply, made_before(&self.vfs, caller(req), parent, name, made));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        COUNTERS.fuse_unlink.one();
        empty(reply, gone(caller(req), self.vfs.unlink(caller(req), parent.0, name)));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        COUNTERS.fuse_rmdir.one();
        empty(reply, gone(caller(req), self.vfs.remove_dir(caller(req), parent.0, name)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        COUNTERS.fuse_symlink.one();
        let made = self.vfs.make_symlink(caller(req), parent.0, name, target);
        entry(reply, made_before(&self.vfs, caller(req), parent, name, made));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        COUNTERS.fuse_rename.one();
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let caller = caller(req);
        let done = Box::new(move |renamed| empty(reply, gone(caller, renamed)));
        self.vfs.rename(caller, (parent.0, name), (new_parent.0, new_name), replace, done);
    }

    fn link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        COUNTERS.fuse_link.one();
        let (caller, ino) = (caller(req), number(ino));
        if !self.vfs.is_closing(ino) {
            let made = self.vfs.link(caller, ino, parent.0, name);
            return entry(reply, made_before(&self.vfs, caller, parent, name, made));
        }
        // Not by a thread that serves the kernel: the release that is waited for may need it.
        let (vfs, name) = (Arc::clone(&self.vfs), name.to_owned());
        let link = move || {
            vfs.await_release(ino);
            let made = vfs.link(caller, ino, parent.0, &name);
            entry(reply, made_before(&vfs, caller, parent, &name, made));
        };
        if let Err(error) = std::thread::Builder::new().name("link".to_owned()).spawn(link) {
            // The reply went with the closure, and is EIO by itself.
            tracing::error!(%error, "cannot start a thread for a link");
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        COUNTERS.fuse_open.one();
        self.begin_again(caller(req));
        let (passthrough, backings) = (self.passthrough(), Arc::clone(&self.backings));
        let vfs = Arc::clone(&self.vfs);
        let answer = move |result: Result<Opened, Fault>| {
            let opened = match result {
                Ok(opened) => opened,
                Err(fault) => return reply.error(errno::of(&fault)),
            };
            let handle = FileHandle(opened.handle);
            let anchor = match &opened.anchor {
                Some(anchor) if passthrough => anchor,
                _ => return reply.opened(handle, cached_flags(&opened)),
            };
            match backings.acquire(anchor.ino(), anchor.file()) {
                Ok(id) => {
                    // SAFETY: the number is registered, and stays so until the last handle is released; what
                    // would give it back at the end of this scope is taken apart again.
                    let backing = unsafe { reply.wrap_backing(id) };
                    reply.opened_passthrough(handle, passthrough_flags(&opened), &backing);
                    let _ = backing.into_raw();
                }
                Err(error) => {
                    tracing::error!(%error, "backing file not registered");
                    vfs.not_opened(anchor.ino(), opened.handle);
                    reply.error(error.into());
                }
            }
        };
        self.vfs.open(caller(req), ino.0, flags.0, Box::new(answer));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        COUNTERS.fuse_create.one();
        self.begin_again(caller(req));
        let (made, opened) = match self.vfs.create(caller(req), parent.0, name, mode & 0o7777, flags) {
            Ok(made) => made,
            Err(fault) => return reply.error(errno::of(&fault)),
        };
        let (handle, generation) = (FileHandle(opened.handle), Generation(made.generation));
        let anchor = match &opened.anchor {
            Some(anchor) if self.passthrough() => anchor,
            _ => return reply.created(&made.ttl, &attr(&made), generation, handle, cached_flags(&opened)),
        };
        match self.backings.acquire(anchor.ino(), anchor.file()) {
            Ok(id) => {
                let flags = passthrough_flags(&opened);
                // SAFETY: as in `open`.
                let backing = unsafe { reply.wrap_backing(id) };
                reply.created_passthrough(&made.ttl, &attr(&made), generation, handle, flags, &backing);
                let _ = backing.into_raw();
            }
            Err(error) => {
                tracing::error!(%error, "backing file not registered");
                self.vfs.not_opened(made.ino, opened.handle);
                reply.error(error.into());
            }
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        COUNTERS.fuse_read.one();
        thread_local! {
            static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| match self.vfs.read(fh.0, offset, size as usize, buffer) {
            Ok(()) => reply.data(buffer),
            Err(fault) => reply.error(errno::of(&fault)),
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        COUNTERS.fuse_write.one();
        match self.vfs.write(number(ino), fh.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        COUNTERS.fuse_flush.one();
        self.vfs.flush(caller(req), number(ino), fh.0, Box::new(move |result| empty(reply, result)));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        COUNTERS.fuse_release.one();
        // The kernel says it again where a worker has died meanwhile. The handle goes first: a worker that takes over in
        // between finds a backing file that no handle needs, and not a handle whose backing file the kernel has no more.
        let known = self.passthrough() && self.vfs.knows_handle(fh.0);
        self.vfs.release(number(ino), fh.0);
        if known {
            self.backings.release(number(ino));
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        COUNTERS.fuse_fsync.one();
        empty(reply, self.vfs.fsync(number(ino), fh.0));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        COUNTERS.fuse_opendir.one();
        let (handle, kept) = self.vfs.open_dir(caller(req), number(ino));
        let flags = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(FileHandle(handle), if kept { flags } else { FopenFlags::empty() });
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        COUNTERS.fuse_readdir.one();
        let result = self.vfs.read_dir(fh.0, offset, &mut |item, next| {
            !reply.add(INodeNo(item.ino), next, kind(item.kind), &item.name)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        COUNTERS.fuse_readdirplus.one();
        let result = self.vfs.read_dir_plus(caller(req), number(ino), fh.0, offset, &mut |item, next| {
            let generation = Generation(item.attr.generation);
            let (name, ttl) = (&item.entry.name, item.attr.ttl);
            !reply.add(INodeNo(item.attr.ino), next, name, &ttl, &attr(&item.attr), generation)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        COUNTERS.fuse_releasedir.one();
        self.vfs.release_dir(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        COUNTERS.fuse_fsyncdir.one();
        empty(reply, self.vfs.fsync(number(ino), fh.0));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        COUNTERS.fuse_statfs.one();
        match self.vfs.statfs() {
            Ok(stat) => {
                let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                let (block, fragment) = (small(stat.f_bsize), small(stat.f_frsize));
                reply.statfs(
                    stat.f_blocks,
                    stat.f_bfree,
                    stat.f_bavail,
                    stat.f_files,
                    stat.f_ffree,
                    block,
                    255,
                    fragment,
                );
            }
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        COUNTERS.fuse_setxattr.one();
        let flags = match flags {
            libc::XATTR_CREATE => XattrFlags::Create,
            libc::XATTR_REPLACE => XattrFlags::Replace,
            _ => XattrFlags::Any,
        };
        let set = self.vfs.setxattr(caller(req), number(ino), name, value, flags);
        empty(
            reply,
            if caller(req).again() && set.as_ref().is_err_and(Fault::is_existing) { Ok(()) } else { set },
        );
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        COUNTERS.fuse_getxattr.one();
        sized(reply, size, self.vfs.getxattr(number(ino), name));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        COUNTERS.fuse_listxattr.one();
        sized(reply, size, self.vfs.listxattr(number(ino)));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        COUNTERS.fuse_removexattr.one();
        empty(reply, gone(caller(req), self.vfs.removexattr(caller(req), number(ino), name)));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        COUNTERS.fuse_fallocate.one();
        empty(reply, self.vfs.fallocate(number(ino), fh.0, offset, length, mode));
    }

    fn lseek(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        COUNTERS.fuse_lseek.one();
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.vfs.seek(fh.0, offset, hole) {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(fault) => reply.error(errno::of(&fault)),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        COUNTERS.fuse_ioctl.one();
        reply.error(Errno::ENOTTY);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        COUNTERS.fuse_copy_file_range.one();
        // The kernel then copies by splicing, and asks no more.
        reply.error(Errno::ENOSYS);
    }
}

fn sized(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Fault>) {
    match result {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(errno::of(&Fault::Range)),
        Ok(value) => reply.data(&value),
        Err(fault) => reply.error(errno::of(&fault)),
    }
}
