//! The executable of a process and its SHA-256, each read once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use crate::crypto::Hasher;
use crate::model::Digest;

/// `FUSE_SUPER_MAGIC` (`statfs(2)`): opening a file there may wait for ever, and on our own mount for ourselves.
const FUSE: i64 = 0x6573_5546;
/// No executable above this is hashed (bytes).
const MOST: u64 = 1 << 30;
/// Executables remembered.
const KEPT: usize = 4096;

/// What tells one content of a file from another.
type Identity = (u64, u64, u64, i64, u64, i64, u64);

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
        let system = rustix::fs::fstatfs(&found).map_err(|_| "unreadable")?;
        #[expect(clippy::useless_conversion, reason = "the type differs between targets")]
        if i64::from(system.f_type) == FUSE {
            return Err("on a FUSE file system, which is not opened");
        }
        let meta = rustix::fs::fstat(&found).map_err(|_| "unreadable")?;
        let identity = (
            meta.st_dev,
            meta.st_ino,
            u64::try_from(meta.st_size).unwrap_or(0),
            meta.st_mtime,
            meta.st_mtime_nsec,
            meta.st_ctime,
            meta.st_ctime_nsec,
        );
        if let Some(digest) = self.known.lock().get(&identity) {
            return Ok(*digest);
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
