//! The executable of a process and its SHA-256, each read once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::crypto::Hasher;
use crate::model::Digest;
use crate::mounts;

/// `FUSE_SUPER_MAGIC` (`statfs(2)`): opening a file there may wait for ever, and on our own mount for ourselves.
const FUSE: i64 = 0x6573_5546;
/// No executable above this is hashed (bytes).
const MOST: u64 = 1 << 30;
/// Executables remembered.
const KEPT: usize = 4096;

/// What tells one content of a file from another.
type Identity = ((u32, u32), u64, u64, i64, u32, i64, u32);

/// The hashes of executables that were seen.
#[derive(Default)]
pub struct Executables {
    known: Mutex<HashMap<Identity, Digest>>,
}

impl Executables {
    /// SHA-256 of the executable of a process.
    ///
    /// # Errors
    /// In a few words, why it is not known.
    pub fn digest_of(&self, pid: u32) -> Result<Digest, &'static str> {
        let path = format!("/proc/{pid}/exe");
        let found =
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|_| "gone")?;
        // What the kernel has cached: a FUSE file system is asked nothing. On our own mount we would wait for ourselves.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let meta = rustix::fs::statx(&found, "", flags, StatxFlags::BASIC_STATS).map_err(|_| "unreadable")?;
        let device = (meta.stx_dev_major, meta.stx_dev_minor);
        let (mtime, ctime) = (meta.stx_mtime, meta.stx_ctime);
        let identity =
            (device, meta.stx_ino, meta.stx_size, mtime.tv_sec, mtime.tv_nsec, ctime.tv_sec, ctime.tv_nsec);
        if let Some(digest) = self.known.lock().get(&identity) {
            return Ok(*digest);
        }
        // One in another mount namespace is not among the mounts here; its own daemon is asked, not ours.
        #[expect(clippy::useless_conversion, reason = "the type differs between targets")]
        let elsewhere =
            || rustix::fs::fstatfs(&found).map_or(true, |system| i64::from(system.f_type) == FUSE);
        if is_fuse(device) || elsewhere() {
            return Err("on a FUSE file system, which is not opened");
        }
        if identity.2 > MOST {
            return Err("larger than 1 GiB");
        }
        let open = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(|_| "unreadable")?;
        let digest = hash(open)?;
        let mut known = self.known.lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(identity, digest);
        Ok(digest)
    }
}

/// Whether a device is a FUSE file system that is mounted here, or not known not to be.
fn is_fuse(device: (u32, u32)) -> bool {
    mounts::read().map_or(true, |mounts| mounts.iter().any(|mount| mount.fuse && mount.device == device))
}

fn hash(file: File) -> Result<Digest, &'static str> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 18]);
    let mut file = file.take(MOST + 1);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hasher.update(&buffer[..bytes]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err("unreadable"),
        }
    }
    if hasher.bytes() > MOST { Err("larger than 1 GiB") } else { Ok(hasher.finish()) }
}
