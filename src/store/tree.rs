//! System calls on the backing tree, relative to directory descriptors.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags, Timespec, Timestamps, openat2,
};

use super::room;
use crate::model::{FileTime, RelPath};

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Bytes of a path that are walked in one call: less than `PATH_MAX`.
const STEP: usize = 3500;

/// Types of stacked file systems: overlayfs, eCryptfs, FUSE (linux/magic.h).
const STACKED: [rustix::fs::FsWord; 3] = [0x794c_7630, 0xf15f, 0x6573_5546];

/// How many directory descriptors are kept; each spares walking the path again.
const DIRS_KEPT: usize = 512;

/// What a name in the backing tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Something that does not come from the mount: device, FIFO, socket.
    Other,
}

/// Attributes of a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The backing file system's inode number.
    pub ino: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 07777 mask.
    pub perm: u32,
    /// Links: folders only; files in the mount always have one.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred size of I/O.
    pub blksize: u32,
    /// Access time.
    pub atime: FileTime,
    /// Modification time.
    pub mtime: FileTime,
    /// Change time.
    pub ctime: FileTime,
}

/// One name of a folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name; always UTF-8 (others cannot be made in the mount and are not shown).
    pub name: String,
    /// The backing file system's inode number.
    pub ino: u64,
    /// What it is.
    pub kind: EntryKind,
}

/// The backing tree.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    dirs: Mutex<HashMap<u64, Arc<OwnedFd>>>,
}

impl Tree {
    /// Opens the tree and keeps its root open for life (`syncfs` errors are told once a descriptor).
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Tree { root, dirs: Mutex::new(HashMap::new()) })
    }

    /// The root's descriptor.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether the tree lies on a file system that stands on another one: an overlay, eCryptfs, or a FUSE file system,
    /// which may have passthrough of its own.
    #[must_use]
    pub fn is_stacked(&self) -> bool {
        rustix::fs::fstatfs(&self.root).is_ok_and(|found| STACKED.contains(&(found.f_type & 0xffff_ffff)))
    }

    /// Opens a folder by path (`O_PATH`). Paths may be longer than `PATH_MAX`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`; `ELOOP` or `EXDEV` where a component is a symbolic link.
    pub fn dir_at(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut rest = path.as_str();
        if rest.is_empty() {
            return Ok(openat2(&self.root, ".", flags, Mode::empty(), RESOLVE)?);
        }
        let mut at: Option<OwnedFd> = None;
        while !rest.is_empty() {
            let (step, tail) = if rest.len() < STEP {
                (rest, "")
            } else {
                let mut cut = STEP;
                while !rest.is_char_boundary(cut) {
                    cut -= 1;
                }
                match rest[..cut].rfind('/') {
                    Some(slash) => (&rest[..slash], &rest[slash + 1..]),
                    None => return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
                }
            };
            let base = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            at = Some(openat2(base, step, flags, Mode::empty(), RESOLVE)?);
            rest = tail;
        }
        at.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// The descriptor of the folder with number `ino`, kept from an earlier call or opened by path.
    ///
    /// # Errors
    /// As [`Tree::dir_at`]; `ESTALE` if `path` has gone.
    pub fn dir(&self, ino: u64, path: impl FnOnce() -> Option<RelPath>) -> io::Result<Arc<OwnedFd>> {
        if let Some(dir) = self.dirs.lock().get(&ino) {
            return Ok(Arc::clone(dir));
        }
        let path = path().ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))?;
        let dir = Arc::new(self.dir_at(&path)?);
        let mut dirs = self.dirs.lock();
        if dirs.len() >= DIRS_KEPT {
            dirs.clear();
        }
        dirs.insert(ino, Arc::clone(&dir));
        Ok(dir)
    }

    /// The folder is gone; its number may come again.
    pub fn drop_dir(&self, ino: u64) {
        self.dirs.lock().remove(&ino);
    }

    /// Folder and name of a path, ready for the calls below.
    ///
    /// # Errors
    /// As [`Tree::dir_at`].
    pub fn parent_of(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.dir_at(&path.parent())
    }

    /// Attributes by path.
    ///
    /// # Errors
    /// `ENOENT` and what `statx(2)` reports.
    pub fn stat_path(&self, path: &RelPath) -> io::Result<Meta> {
        if path.is_root() { stat_fd(&self.root) } else { stat_at(self.parent_of(path)?, path.name()) }
    }

    /// Opens a file by path, for reading.
    ///
    /// # Errors
    /// As [`open_at`].
    pub fn open_path(&self, path: &RelPath) -> io::Result<OwnedFd> {
        if path.as_str().len() < STEP {
            return open_at(&self.root, path.as_str(), OFlags::RDONLY);
        }
        open_at(self.parent_of(path)?, path.name(), OFlags::RDONLY)
    }
}

/// Opens a name in a folder: never through a symbolic link, never out of the folder, never waiting for a
/// FIFO or a lease.
///
/// # Errors
/// What `openat2(2)` reports.
pub fn open_at(dir: impl AsFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let mut flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // openat2 takes no flag that O_PATH would ignore.
    flags.set(OFlags::NONBLOCK, !flags.contains(OFlags::PATH));
    Ok(openat2(dir, name, flags, Mode::empty(), RESOLVE)?)
}

/// Makes a regular file that must not exist, and opens it with `flags`.
///
/// # Errors
/// `EEXIST`, and what `openat2(2)` reports.
pub fn create_at(dir: impl AsFd, name: &str, flags: OFlags, perm: u32) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat2(dir, name, flags, Mode::from_raw_mode(perm & 0o777), RESOLVE)?)
}

fn time(time: rustix::fs::StatxTimestamp) -> FileTime {
    FileTime { seconds: time.tv_sec, nanos: time.tv_nsec }
}

fn statx(fd: impl AsFd, name: &str, flags: AtFlags) -> io::Result<Meta> {
    let stat = rustix::fs::statx(fd, name, flags | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let mode = u32::from(stat.stx_mode);
    Ok(Meta {
        ino: stat.stx_ino,
        kind: kind(FileType::from_raw_mode(mode)),
        perm: mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        blksize: stat.stx_blksize,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
    })
}

fn kind(of: FileType) -> EntryKind {
    match of {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

/// Attributes of a name in a folder; never of what a symbolic link points to.
///
/// # Errors
/// What `statx(2)` reports.
pub fn stat_at(dir: impl AsFd, name: &str) -> io::Result<Meta> {
    statx(dir, name, AtFlags::empty())
}

/// Attributes of an open file, `O_PATH` too.
///
/// # Errors
/// What `statx(2)` reports.
pub fn stat_fd(file: impl AsFd) -> io::Result<Meta> {
    statx(file, "", AtFlags::EMPTY_PATH)
}

/// Makes a folder.
///
/// # Errors
/// What `mkdirat(2)` reports.
pub fn mkdir_at(dir: impl AsFd, name: &str, perm: u32) -> io::Result<()> {
    room::check(&dir)?;
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(perm & 0o7777))?)
}

/// Makes a symbolic link.
///
/// # Errors
/// What `symlinkat(2)` reports.
pub fn symlink_at(dir: impl AsFd, name: &str, target: &Path) -> io::Result<()> {
    room::check(&dir)?;
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Reads a symbolic link's target.
///
/// # Errors
/// What `readlinkat(2)` reports.
pub fn readlink_at(dir: impl AsFd, name: &str) -> io::Result<CString> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?)
}

/// Removes a name; `folder`: an empty folder's.
///
/// # Errors
/// What `unlinkat(2)` reports.
pub fn remove_at(dir: impl AsFd, name: &str, folder: bool) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, if folder { AtFlags::REMOVEDIR } else { AtFlags::empty() })?)
}

/// Renames; `replace`: whether an existing name may go.
///
/// # Errors
/// What `renameat2(2)` reports.
pub fn rename_at(from: impl AsFd, name: &str, to: impl AsFd, new: &str, replace: bool) -> io::Result<()> {
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    Ok(rustix::fs::renameat_with(from, name, to, new, flags)?)
}

/// The path by which an open file (`O_PATH` too) can be named to calls that take only paths. It is our own
/// descriptor's, so it leads nowhere else.
fn proc_path(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Opens what an `O_PATH` descriptor is of, also when its name is gone.
///
/// # Errors
/// What `open(2)` reports.
pub fn reopen(file: impl AsFd, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(proc_path(file), flags, Mode::empty())?)
}

/// Sets permission bits; set-id bits of files must have been masked by the caller.
///
/// # Errors
/// What `chmod(2)` reports.
pub fn set_perm(file: impl AsFd, perm: u32) -> io::Result<()> {
    Ok(rustix::fs::chmod(proc_path(file), Mode::from_raw_mode(perm & 0o7777))?)
}

/// Sets owner, group, or both.
///
/// # Errors
/// What `fchownat(2)` reports.
pub fn set_owner(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let uid = uid.map(rustix::fs::Uid::from_raw);
    let gid = gid.map(rustix::fs::Gid::from_raw);
    Ok(rustix::fs::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// Left as it is.
    Omit,
    /// The present.
    Now,
    /// This one.
    At(FileTime),
}

/// Sets access and modification time of a name; of a symbolic link itself, not of its target.
///
/// # Errors
/// What `utimensat(2)` reports.
pub fn set_times_at(dir: impl AsFd, name: &str, atime: SetTime, mtime: SetTime) -> io::Result<()> {
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    Ok(rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets access and modification time of an open file.
///
/// # Errors
/// What `futimens(3)` reports.
pub fn set_times(file: impl AsFd, atime: SetTime, mtime: SetTime) -> io::Result<()> {
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    Ok(rustix::fs::futimens(file, &times)?)
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Omit => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        SetTime::At(time) => Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) },
    }
}

/// Every name of a folder but `.` and `..`, in the order the file system has them. Names that could not
/// have been made in the mount (not UTF-8) are left out.
///
/// # Errors
/// What `openat2(2)` or `getdents64(2)` report.
pub fn list(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    let readable = open_at(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut raw = rustix::fs::RawDir::new(&readable, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => stat_at(&readable, name)?.kind,
            known => kind(known),
        };
        entries.push(Entry { name: name.to_owned(), ino: entry.ino(), kind });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("tree");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        std::os::unix::fs::symlink("/etc", inside.join("etc")).unwrap();
        let tree = Tree::open(&inside).unwrap();
        for path in ["up", "up/secret", "etc", "etc/passwd"] {
            let path = RelPath::parse(path).unwrap();
            assert!(tree.open_path(&path).is_err(), "{path}");
            assert!(tree.dir_at(&path).is_err(), "{path}");
        }
        assert!(open_at(tree.root(), "..", OFlags::RDONLY).is_err());
        assert!(open_at(tree.root(), "../secret", OFlags::RDONLY).is_err());
    }

    #[test]
    fn paths_longer_than_path_max_are_walked_in_steps() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let (name, mut path) = ("d".repeat(200), RelPath::root());
        for _ in 0..30 {
            mkdir_at(tree.dir_at(&path).unwrap(), &name, 0o755).unwrap();
            path = path.join(&name);
        }
        assert!(path.as_str().len() > 4096);
        create_at(tree.dir_at(&path).unwrap(), "f", OFlags::RDONLY, 0o644).unwrap();
        assert!(tree.open_path(&path.join("f")).is_ok());
        assert_eq!(list(tree.dir_at(&path).unwrap()).unwrap().len(), 1);
    }
}
