//! A file system in a file, on a loop device, gone afterwards.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{pause, run, scratch};

/// `FS_IOC_SHUTDOWN` (`_IOR('X', 125, __u32)`), and its "without flushing the log".
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// A file system in a file.
pub struct Image {
    dir: PathBuf,
    options: String,
}

impl Image {
    /// Makes one of `mib` MiB with `mkfs.KIND` and these arguments, and mounts it.
    pub fn new(kind: &str, mib: u64, arguments: &[&str]) -> Self {
        Self::with(kind, mib, arguments, "loop")
    }

    /// As [`Image::new`], with other options for `mount`.
    pub fn with(kind: &str, mib: u64, arguments: &[&str], options: &str) -> Self {
        Self::made(scratch(&format!("image-{kind}")), kind, mib, arguments, options)
    }

    /// As [`Image::new`], on a disk that has only so many MiB in truth: what goes beyond them cannot be written back.
    pub fn thin(kind: &str, mib: u64, room: u64) -> Self {
        let dir = scratch(&format!("thin-{kind}"));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={room}m"), "tmpfs"]).arg(&dir));
        Self::made(dir, kind, mib, &[], "loop")
    }

    fn made(dir: PathBuf, kind: &str, mib: u64, arguments: &[&str], options: &str) -> Self {
        fs::create_dir(dir.join("fs")).expect("folder");
        let image = Image { dir, options: options.to_owned() };
        File::create(image.file()).expect("image").set_len(mib << 20).expect("size");
        run(Command::new(format!("mkfs.{kind}")).arg("-q").args(arguments).arg(image.file()));
        image.mount();
        image
    }

    /// The disk under a thin one has so many MiB from now on.
    pub fn thicken(&self, room: u64) {
        let options = format!("remount,size={room}m");
        run(Command::new("mount").args(["-o", &options]).arg(&self.dir));
    }

    /// The file that is its disk.
    pub fn file(&self) -> PathBuf {
        self.dir.join("image")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// Mounts it.
    pub fn mount(&self) {
        run(Command::new("mount").args(["-o", &self.options]).arg(self.file()).arg(self.root()));
    }

    /// Stops it as a power cut would.
    pub fn cut(&self) {
        let root = File::open(self.root()).expect("root");
        let how = NO_LOG_FLUSH;
        // SAFETY: the request reads four bytes at the pointer, which is to a number that lives through the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Unmounts it, and waits until the file system has ended: another mount namespace that was made meanwhile has a
    /// mount of its own, and while that stands the next mount is of the same file system, with what it had for errors.
    pub fn unmount(&self) {
        // What a killed daemon held goes with its mount, a moment later.
        for attempt in 0.. {
            if Command::new("umount").arg("-q").arg(self.root()).status().is_ok_and(|done| done.success()) {
                break;
            }
            if attempt == 100 {
                run(Command::new("umount").arg(self.root()));
                break;
            }
            pause(20);
        }
        for attempt in 0.. {
            let devices = run(Command::new("losetup").arg("-j").arg(self.file()));
            if devices.trim().is_empty() {
                return;
            }
            assert!(attempt < 600, "something still has it mounted: {devices}");
            pause(100);
        }
    }

    /// The loop device under it, as `loop3`.
    pub fn device(&self) -> String {
        let source = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.root()));
        source.trim().trim_start_matches("/dev/").to_owned()
    }

    /// Checks it and mends what is recorded as wrong; it must be unmounted.
    pub fn check(&self) {
        // 1: something was mended.
        let status = Command::new("e2fsck").args(["-f", "-y"]).arg(self.file()).output().expect("e2fsck");
        assert!(status.status.code().is_some_and(|code| code <= 1), "{status:?}");
    }

    /// Fills it with files of nothing, outside of the store, to the last block; answers how many bytes that took.
    pub fn fill(&self) -> u64 {
        let mut filled = 0;
        for (n, size) in [1u64 << 20, 1 << 16, 1 << 12, 1 << 10].into_iter().enumerate() {
            for piece in 0u32.. {
                let name = self.root().join(format!("filler-{n}-{piece}"));
                let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&name);
                let Ok(file) = file else { return filled };
                if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).is_err() {
                    let _ = fs::remove_file(&name);
                    break;
                }
                filled += size;
            }
        }
        filled
    }

    /// Room for others than root, in bytes.
    pub fn room(&self) -> u64 {
        let room = rustix::fs::statvfs(self.root()).expect("statvfs");
        room.f_bavail * room.f_frsize
    }

    /// Exchanges bytes on the disk, behind the file system's back; answers whether they were found.
    pub fn exchange(&self, from: &[u8], to: &[u8]) -> bool {
        assert_eq!(from.len(), to.len());
        let disk = fs::read(self.file()).expect("image");
        let Some(at) = disk.windows(from.len()).position(|bytes| bytes == from) else { return false };
        let file = File::options().write(true).open(self.file()).expect("image");
        std::os::unix::fs::FileExt::write_all_at(&file, to, at as u64).expect("write");
        true
    }

    /// Takes fillers away until others than root have this much room.
    pub fn free(&self, bytes: u64) {
        for piece in 0u32.. {
            if self.room() >= bytes {
                return;
            }
            fs::remove_file(self.root().join(format!("filler-0-{piece}"))).expect("a filler");
            // What is freed can be used after the next commit of the file system's journal.
            run(Command::new("sync").arg("-f").arg(self.root()));
        }
    }

    /// Makes empty files, outside of the store, until there is no inode left.
    pub fn fill_inodes(&self) -> u32 {
        let dir = self.root().join("filler-inodes");
        fs::create_dir_all(&dir).expect("folder");
        for n in 0u32.. {
            if File::create(dir.join(n.to_string())).is_err() {
                return n;
            }
        }
        0
    }

    /// Takes the fillers away.
    pub fn empty(&self) {
        for entry in fs::read_dir(self.root()).expect("list").flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.root()).status();
        // Of a thin one; of others it is no mount point.
        let _ = Command::new("umount").args(["-l", "-q"]).arg(&self.dir).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
