//! What the kernel has mounted, read from `/proc/self/mountinfo` (proc(5)).
//!
//! Layer 0: it knows nothing of the rest. Nothing is asked of a mounted file system itself: one that is dead, or our own
//! that waits for us, might never answer.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The type by which the kernel lists our mounts.
const FS_TYPE: &[u8] = b"fuse.sealfs";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Which folder of the file system is mounted there (not the root for a bind mount).
    pub root: PathBuf,
    /// The file system's device number, major and minor.
    pub device: (u32, u32),
    /// Whether it is a FUSE file system, of whichever kind.
    pub fuse: bool,
    /// Whom it keeps room for beside root (`resuid=` of ext4 and f2fs), where it says so.
    pub reserved_for: Option<u32>,
    /// The store's absolute path, if it is one of ours.
    pub store: Option<PathBuf>,
}

/// What the kernel has mounted, in its order: what comes later hides what came before.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Parses `/proc/self/mountinfo`: `id parent dev root point options [tag]* - type source options`.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (device, root, point) = (fields.nth(2)?, fields.next()?, fields.next()?);
    fields.find(|field| *field == b"-")?;
    let (kind, source) = (fields.next()?, fields.next()?);
    let options = std::str::from_utf8(fields.next().unwrap_or_default()).unwrap_or_default();
    let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
    let path = |field| PathBuf::from(OsString::from_vec(unescape(field)));
    Some(Mount {
        point: path(point),
        root: path(root),
        device: (major.parse().ok()?, minor.parse().ok()?),
        fuse: kind == b"fuse" || kind == b"fuseblk" || kind.starts_with(b"fuse."),
        reserved_for: options.split(',').find_map(|option| option.strip_prefix("resuid=")?.parse().ok()),
        store: (kind == FS_TYPE).then(|| path(source)),
    })
}

/// Undoes the kernel's octal escapes (`\040` for a space).
fn unescape(field: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((first, tail)) = rest.split_first() {
        let octal = rest.get(1..4).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0u32, |value, digit| {
                matches!(digit, b'0'..=b'7').then(|| value * 8 + u32::from(digit - b'0'))
            })
        });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[4..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const INFO: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
40 22 0:50 / /srv/art rw,nosuid,nodev shared:9 master:2 - fuse.sealfs /var/lib/my\\040store rw,user_id=0\n\
42 22 0:50 /releases /opt/rel rw - fuse.sealfs /var/lib/my\\040store rw\n\
43 22 0:52 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw\n\
44 22 0:53 / /sys/fs/fuse/connections rw - fusectl fusectl rw\n\
garbage\n";

    #[test]
    fn mountinfo_is_parsed_with_its_escapes() {
        let mounts = parse(INFO);
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[1].store.as_deref(), Some(Path::new("/var/lib/my store")));
        assert_eq!((mounts[1].device, mounts[0].device), ((0, 50), (8, 1)));
        assert_eq!(mounts[2].root, Path::new("/releases"));
        assert_eq!(mounts[0].store, None);
        let fuse: Vec<bool> = mounts.iter().map(|mount| mount.fuse).collect();
        assert_eq!(fuse, [false, true, true, true, false]);
        assert_eq!(unescape(br"a\134b\04c\400\"), br"a\b\04c\400\");
    }

    #[test]
    fn the_root_is_mounted_here() {
        assert!(read().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
