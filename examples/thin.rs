//! The thinnest file system that can be written with `fuser`: every name and file of SOURCE, at MOUNTPOINT, and
//! nothing else. No sealing, no states, no records; data goes past it (kernel passthrough). It is the yardstick of
//! `scripts/bench` where FUSE itself, not what sealfs does in it, keeps a target out of reach.
//!
//! It asks of the kernel what sealfs asks (capabilities, threads, request sizes, `default_permissions`), caches
//! longer (a day, names that are not there too, folders), and answers what it need not be asked with "never again"
//! (flush, extended attributes). Not for use: names changed behind its back are not noticed, inode numbers are those
//! of SOURCE, nothing is forgotten, and there is no rename, no link, no change of owner or times.
//!
//! usage: thin SOURCE MOUNTPOINT      (root, Linux 6.9; serves in the foreground until it is unmounted)

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackingId, BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, Request, Session, SessionACL, TimeOrNow,
};
use parking_lot::Mutex;

const TTL: Duration = Duration::from_secs(24 * 60 * 60);
const THREADS: usize = 8;

struct Thin {
    /// Path in SOURCE by inode number.
    paths: Mutex<HashMap<u64, Arc<Path>>>,
    /// Registered files by inode number, and how many handles have them: the kernel refuses two of one inode.
    backings: Mutex<HashMap<u64, (BackingId, u64)>>,
    dirs: Mutex<HashMap<u64, Arc<Vec<Entry>>>>,
    next: AtomicU64,
    /// Attributes without a meaning.
    nothing: FileAttr,
}

struct Entry {
    ino: u64,
    kind: FileType,
    name: std::ffi::OsString,
}

fn kind(of: fs::FileType) -> FileType {
    if of.is_dir() {
        FileType::Directory
    } else if of.is_symlink() {
        FileType::Symlink
    } else if of.is_fifo() {
        FileType::NamedPipe
    } else {
        FileType::RegularFile
    }
}

fn time(seconds: i64, nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0))
}

fn attr(meta: &Metadata) -> FileAttr {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    FileAttr {
        ino: INodeNo(meta.ino()),
        size: meta.size(),
        blocks: meta.blocks(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: kind(meta.file_type()),
        perm: u16::try_from(meta.mode() & 0o7777).unwrap_or(0),
        nlink: small(meta.nlink()),
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: small(meta.blksize()),
        flags: 0,
    }
}

fn empty(reply: ReplyEmpty, result: io::Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

impl Thin {
    fn path(&self, ino: INodeNo) -> io::Result<Arc<Path>> {
        self.paths.lock().get(&ino.0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn found(&self, path: PathBuf) -> io::Result<FileAttr> {
        let meta = fs::symlink_metadata(&path)?;
        self.paths.lock().insert(meta.ino(), path.into());
        Ok(attr(&meta))
    }

    fn entry(&self, reply: ReplyEntry, result: io::Result<FileAttr>) {
        match result {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            // Inode 0: the kernel keeps in mind that there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                reply.entry(&TTL, &self.nothing, Generation(0));
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn attributes(&self, ino: INodeNo) -> io::Result<FileAttr> {
        let attr = attr(&fs::symlink_metadata(self.path(ino)?)?);
        Ok(FileAttr { ino, ..attr })
    }
}

impl Filesystem for Thin {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wish in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH);
        passthrough.map_err(|_| io::Error::other("no kernel passthrough here (Linux 6.9)"))?;
        let _ = config.set_max_stack_depth(2);
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_readahead(1 << 20);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, self.child(parent, name).and_then(|path| self.found(path)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.path(ino).and_then(|path| {
            mode.map_or(Ok(()), |mode| fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777)))?;
            size.map_or(Ok(()), |size| File::options().write(true).open(&path)?.set_len(size))?;
            self.attributes(ino)
        });
        match set {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.child(parent, name).and_then(|path| {
            fs::create_dir(&path)?;
            self.found(path)
        });
        self.entry(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.child(parent, name).and_then(fs::remove_file));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.child(parent, name).and_then(fs::remove_dir));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.path(ino).and_then(|path| {
            if flags.0 & libc::O_TRUNC != 0 {
                File::options().write(true).open(&path)?.set_len(0)?;
            }
            File::open(path)
        });
        let mut backings = self.backings.lock();
        let id = match (backings.get_mut(&ino.0), opened) {
            (_, Err(error)) => return reply.error(error.into()),
            (Some((id, handles)), Ok(_)) => {
                *handles += 1;
                id
            }
            (None, Ok(file)) => match reply.open_backing(file) {
                Ok(id) => &mut backings.entry(ino.0).or_insert((id, 1)).0,
                Err(error) => return reply.error(error.into()),
            },
        };
        reply.opened_passthrough(FileHandle(0), FopenFlags::FOPEN_NOFLUSH, id);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).mode(mode).open(&path)?;
            let meta = file.metadata()?;
            self.paths.lock().insert(meta.ino(), path.into());
            Ok((reply.open_backing(file)?, attr(&meta)))
        });
        match made {
            Ok((id, attr)) => {
                let mut backings = self.backings.lock();
                let id = &backings.entry(attr.ino.0).or_insert((id, 1)).0;
                let flags = FopenFlags::FOPEN_NOFLUSH;
                reply.created_passthrough(&TTL, &attr, Generation(0), FileHandle(0), flags, id);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut backings = self.backings.lock();
        if let Some((_, handles)) = backings.get_mut(&ino.0) {
            *handles -= 1;
            if *handles == 0 {
                backings.remove(&ino.0);
            }
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.path(ino).and_then(File::open).and_then(|file| file.sync_all()));
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Listed when it is first read: where the kernel has it cached, that is never.
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        reply.opened(FileHandle(handle), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.listed(ino, fh) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error.into()),
        };
        for (entry, next) in entries.iter().zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(INodeNo(entry.ino), next, entry.kind, &entry.name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let entries = match self.listed(ino, fh) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error.into()),
        };
        for (entry, next) in entries.iter().zip(1..).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let Ok(attr) = self.child(ino, &entry.name).and_then(|path| self.found(path)) else { continue };
            if reply.add(INodeNo(entry.ino), next, &entry.name, &TTL, &attr, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.dirs.lock().remove(&fh.0);
        reply.ok();
    }
}

impl Thin {
    fn listed(&self, ino: INodeNo, fh: FileHandle) -> io::Result<Arc<Vec<Entry>>> {
        if let Some(entries) = self.dirs.lock().get(&fh.0) {
            return Ok(Arc::clone(entries));
        }
        let mut entries = vec![];
        for (name, ino) in [(".", ino.0), ("..", 1)] {
            entries.push(Entry { ino, kind: FileType::Directory, name: name.into() });
        }
        for entry in fs::read_dir(self.path(ino)?)? {
            let entry = entry?;
            entries.push(Entry { ino: entry.ino(), kind: kind(entry.file_type()?), name: entry.file_name() });
        }
        let entries = Arc::new(entries);
        self.dirs.lock().insert(fh.0, Arc::clone(&entries));
        Ok(entries)
    }
}

/// As sealfs mounts, for root.
fn mount(source: &Path, mountpoint: &Path) -> io::Result<OwnedFd> {
    let device = OwnedFd::from(File::options().read(true).write(true).open("/dev/fuse")?);
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    let (source, data) = (CString::new(source.as_os_str().as_bytes())?, CString::new(data)?);
    rustix::mount::mount(&*source, mountpoint, c"fuse.thin", flags, Some(&*data))?;
    Ok(device)
}

fn main() -> io::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(source), Some(mountpoint), None) = (args.next(), args.next(), args.next()) else {
        return Err(io::Error::other("usage: thin SOURCE MOUNTPOINT"));
    };
    let source = source.canonicalize()?;
    rustix::process::umask(rustix::fs::Mode::empty());
    let thin = Thin {
        paths: Mutex::new(HashMap::from([(1, Arc::from(source.as_path()))])),
        backings: Mutex::default(),
        dirs: Mutex::default(),
        next: AtomicU64::new(1),
        nothing: FileAttr { ino: INodeNo(0), ..attr(&fs::metadata(&source)?) },
    };
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    let device = mount(&source, &mountpoint)?;
    Session::from_fd(thin, device, config.acl, config)?.run()
}
