//! Every way to change attributes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use super::calls;
use super::harness::{NOBODY, os};
use super::scene::{Attack, CONTENT, Data, Scene, Table, Who, all, attack, check, refused};

/// `FS_IOC_FSSETXATTR` and `FS_IOC_SETFLAGS` of linux/fs.h.
const FSSETXATTR: u64 = 0x401c_5820;
const SETFLAGS: u64 = 0x4008_6602;

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("attributes", data);
        for who in [Who::Root, Who::Owner] {
            scene.run(table, who, &of_what_is_sealed());
            scene.run(table, who, &set_id_bits());
        }
    }
}

fn times(path: &Path, atime: i64, mtime: i64) -> io::Result<()> {
    let time = |tv_sec| match tv_sec {
        -1 => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        tv_sec => Timespec { tv_sec, tv_nsec: 0 },
    };
    let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
    os(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW))
}

fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    os(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()))
}

fn of_what_is_sealed() -> Vec<Attack> {
    vec![
        attack("utimens: both, mtime, atime backwards", |s| {
            all([(1, 1), (-1, 1), (1, -1), (4_000_000_000, 1)]
                .map(|(atime, mtime)| refused(&[libc::EPERM], times(&s.sealed(), atime, mtime))))
        }),
        attack("utimens: retention past what policy lets writers ask", |s| {
            refused(&[libc::EPERM], times(&s.sealed(), 8_000_000_000, -1))
        }),
        attack("futimens of a descriptor", |s| {
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EPERM], file.set_modified(std::time::UNIX_EPOCH))
        }),
        attack("chmod, fchmod", |s| {
            let file = File::open(s.sealed()).expect("open");
            all([0o600, 0o666, 0o755, 0o4755, 0o2755, 0o7777].map(|mode| {
                refused(&[libc::EPERM], fs::set_permissions(s.sealed(), Permissions::from_mode(mode)))?;
                refused(&[libc::EPERM], file.set_permissions(Permissions::from_mode(mode)))
            }))
        }),
        attack("chown, fchown", |s| {
            let file = File::open(s.sealed()).expect("open");
            all([(Some(1234), None), (None, Some(1234)), (Some(0), Some(0))].map(|(uid, gid)| {
                refused(&[libc::EPERM], lchown(s.sealed(), uid, gid))?;
                refused(&[libc::EPERM], fchown(&file, uid, gid))
            }))
        }),
        attack("ACLs", |s| {
            let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
            all([("a/b/f", "system.posix_acl_access"), ("a/b", "system.posix_acl_default")]
                .map(|(path, name)| refused(&[libc::EOPNOTSUPP], set(&s.at(path), name, acl))))
        }),
        attack("user xattrs: new, changed, removed", |s| {
            refused(&[libc::EPERM], set(&s.sealed(), "user.new", b"x"))?;
            refused(&[libc::EPERM], set(&s.sealed(), "user.note", b"x"))?;
            refused(&[libc::EPERM], os(rustix::fs::lremovexattr(s.sealed(), "user.note")))
        }),
        attack("xattrs of sealfs itself", |s| {
            all(["a/b/f", "a/b/g", "a"].map(|path| {
                let names = ["user.seal.state", "user.seal.sha256", "user.seal.retain_until", "user.seal.x"];
                all(names.map(|name| refused(&[libc::EPERM], set(&s.at(path), name, b"sealed"))))
            }))
        }),
        attack("trusted and security xattrs", |s| {
            let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            all(["a/b/f", "a/b/g", "a"].map(|path| {
                // An ordinary user is told by the kernel that it may not, or that there is none.
                let wanted = [libc::EOPNOTSUPP, libc::EPERM];
                refused(&wanted, set(&s.at(path), "trusted.overlay.opaque", b"y"))?;
                refused(&wanted, set(&s.at(path), "security.capability", capability))?;
                refused(&wanted, set(&s.at(path), "security.selinux", b"x"))
            }))
        }),
        attack("FS_IOC_SETFLAGS: none, immutable, append only", |s| {
            let file = File::open(s.sealed()).expect("open");
            all([0u64, 0x10, 0x20].map(|mut flags| {
                refused(
                    &[libc::ENOTTY, libc::EOPNOTSUPP, libc::EPERM],
                    calls::ioctl(&file, SETFLAGS, &mut flags),
                )
            }))
        }),
        attack("FS_IOC_FSSETXATTR", |s| {
            let (file, mut flags) = (File::open(s.sealed()).expect("open"), [0u32; 7]);
            refused(
                &[libc::ENOTTY, libc::EOPNOTSUPP, libc::EPERM],
                calls::ioctl(&file, FSSETXATTR, &mut flags),
            )
        }),
        attack("attributes of its sidecars", |s| {
            all(["a/b/f.seal", "a/b/f.seal.jsonl"].map(|name| {
                let path = s.at(name);
                refused(&[libc::EPERM], fs::set_permissions(&path, Permissions::from_mode(0o777)))?;
                refused(&[libc::EPERM], lchown(&path, Some(1234), None))?;
                refused(&[libc::EPERM], times(&path, 1, 1))?;
                refused(&[libc::EPERM, libc::EACCES], set(&path, "user.x", b"x"))
            }))
        }),
    ]
}

fn set_id_bits() -> Vec<Attack> {
    let bits =
        |scene: &Scene, name: &str| scene.free(name).metadata().expect("stat").permissions().mode() & 0o6000;
    vec![
        attack("set-id bits by creation and chmod", move |s| {
            let path = s.free("suid");
            fs::write(&path, CONTENT).expect("write");
            fs::set_permissions(&path, Permissions::from_mode(0o6755)).map_err(|error| error.to_string())?;
            check(bits(s, "suid") == 0, "not stored")?;
            let disk = super::scene::as_root(|| s.backing(&path).metadata()).expect("stat");
            check(disk.permissions().mode() & 0o6000 == 0, "not stored")
        }),
        attack("set-id bits by a link of a file that has them outside", move |s| {
            let made =
                OpenOptions::new().write(true).create_new(true).open(s.free("suid")).and_then(|mut file| {
                    file.write_all(CONTENT)?;
                    file.set_permissions(Permissions::from_mode(0o6777))
                });
            made.map_err(|error| error.to_string())?;
            fs::hard_link(s.free("suid"), s.free("linked")).map_err(|error| error.to_string())?;
            check(bits(s, "linked") == 0, "not stored")
        }),
        attack("a program there runs as who starts it", |s| {
            let path = s.free("id");
            fs::copy("/usr/bin/id", &path).map_err(|error| error.to_string())?;
            fs::set_permissions(&path, Permissions::from_mode(0o6755)).map_err(|error| error.to_string())?;
            let output = super::scene::as_root(|| {
                super::harness::sh_as(NOBODY, path.parent().expect("a folder"), "./id -u")
            });
            check(output.1.trim() == NOBODY.to_string(), format!("uid {}", output.1.trim()))
        }),
    ]
}
