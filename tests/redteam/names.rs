//! Every way to take a name away, to take its place, or to make one that lies.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};

use super::calls;
use super::harness::os;
use super::scene::{
    Attack, CONTENT, Data, Scene, Seen, Table, Who, all, as_root, as_user, attack, check, refused,
};

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("names", data);
        for who in [Who::Root, Who::Owner] {
            scene.run(table, who, &taken_away());
            scene.run(table, who, &linked());
            scene.run(table, who, &forbidden());
            scene.run(table, who, &out_of_the_tree());
        }
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    os(rustix::fs::renameat_with(CWD, from, CWD, to, flags))
}

fn mknod(path: &Path, kind: FileType, major: u32, minor: u32) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    os(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o4755), device))
}

/// A new file of the attacker's.
fn fresh(scene: &Scene) -> std::path::PathBuf {
    let path = scene.free("fresh");
    fs::write(&path, b"forged").expect("write");
    path
}

fn taken_away() -> Vec<Attack> {
    vec![
        attack("unlink", |s| refused(&[libc::EPERM], fs::remove_file(s.sealed()))),
        attack("rename away", |s| refused(&[libc::EPERM], fs::rename(s.sealed(), s.free("taken")))),
        attack("rename within its folder", |s| {
            refused(&[libc::EPERM], fs::rename(s.sealed(), s.at("a/b/z")))
        }),
        attack("rename over it", |s| refused(&[libc::EPERM], fs::rename(fresh(s), s.sealed()))),
        attack("rename of a link over it", |s| {
            symlink("/etc/passwd", s.free("link")).expect("symlink");
            refused(&[libc::EPERM], fs::rename(s.free("link"), s.sealed()))
        }),
        attack("rename of a folder over it", |s| {
            fs::create_dir(s.free("dir")).expect("mkdir");
            refused(&[libc::ENOTDIR, libc::EPERM], fs::rename(s.free("dir"), s.sealed()))
        }),
        attack("exchange with it", |s| {
            let fresh = fresh(s);
            let wanted = [libc::EINVAL, libc::EPERM];
            all([(&fresh, &s.sealed()), (&s.sealed(), &fresh)]
                .map(|(from, to)| refused(&wanted, rename(from, to, RenameFlags::EXCHANGE))))
        }),
        attack("exchange of an ancestor", |s| {
            fs::create_dir(s.free("dir")).expect("mkdir");
            let wanted = [libc::EINVAL, libc::EPERM];
            all([s.at("a"), s.at("a/b")]
                .map(|from| refused(&wanted, rename(&from, &s.free("dir"), RenameFlags::EXCHANGE))))
        }),
        attack("rename leaving a whiteout", |s| {
            let wanted = [libc::EINVAL, libc::EPERM];
            refused(&wanted, rename(&s.sealed(), &s.free("taken"), RenameFlags::WHITEOUT))
        }),
        attack("rename of each ancestor", |s| {
            all([s.at("a"), s.at("a/b")]
                .map(|from| refused(&[libc::EPERM], fs::rename(from, s.free("moved")))))
        }),
        attack("rename of an ancestor onto an empty folder", |s| {
            fs::create_dir(s.free("empty")).expect("mkdir");
            refused(&[libc::EPERM], fs::rename(s.at("a"), s.free("empty")))
        }),
        attack("rmdir of each ancestor", |s| {
            let wanted = [libc::EPERM, libc::ENOTEMPTY];
            all([s.at("a"), s.at("a/b")].map(|dir| refused(&wanted, fs::remove_dir(dir))))
        }),
        attack("rename onto its sidecars", |s| {
            all(sidecars(s).map(|to| refused(&[libc::EPERM], fs::rename(fresh(s), to))))
        }),
        attack("write, truncate, remove, rename its sidecars", |s| {
            // To an ordinary user the kernel says by itself that they are read-only.
            let wanted = [libc::EPERM, libc::EACCES];
            all(sidecars(s).map(|path| {
                refused(&wanted, OpenOptions::new().write(true).open(&path))?;
                refused(&wanted, OpenOptions::new().write(true).truncate(true).open(&path))?;
                refused(&wanted, super::harness::truncate(&path, 0))?;
                refused(&wanted, fs::remove_file(&path))?;
                refused(&wanted, fs::rename(&path, s.free("taken")))
            }))
        }),
        attack("everything under /.seal", |s| {
            let dir = s.at(".seal");
            all(["keys.pem", "allowed_signers", "checkpoint"].map(|name| {
                let path = dir.join(name);
                refused(&[libc::EPERM, libc::EACCES], OpenOptions::new().write(true).open(&path))?;
                refused(&[libc::EPERM, libc::EACCES], fs::remove_file(&path))?;
                refused(&[libc::EPERM, libc::EACCES], fs::rename(fresh(s), &path))
            }))?;
            refused(&[libc::EPERM, libc::EACCES], File::create(dir.join("new")))?;
            refused(&[libc::EPERM, libc::EACCES], fs::rename(&dir, s.free("taken")))
        }),
    ]
}

fn sidecars(scene: &Scene) -> [std::path::PathBuf; 2] {
    [scene.at("a/b/f.seal"), scene.at("a/b/f.seal.jsonl")]
}

fn linked() -> Vec<Attack> {
    vec![
        attack("a hard link from before the seal is written to", |s| {
            let (path, link) = (s.free("original"), s.free("linked-before"));
            fs::write(&path, CONTENT).expect("write");
            fs::hard_link(&path, &link).expect("link");
            s.seal(&path)?;
            fs::write(&link, b"forged").map_err(|error| error.to_string())?;
            s.is_sealed_as(&path, CONTENT).map(|_| "a copy of its own".to_owned())
        }),
        attack("a hard link of what is sealed is written to", |s| {
            let link = s.free("linked-after");
            // Linux lets only its owner, and root, link to a file.
            fs::hard_link(s.sealed(), &link).map_err(|error| error.to_string())?;
            fs::write(&link, b"forged").map_err(|error| error.to_string())?;
            Ok("a copy of its own".to_owned())
        }),
        attack("linkat of a descriptor through /proc", |s| {
            let file = File::open(s.sealed()).expect("open");
            let (name, to) = (format!("/proc/self/fd/{}", file.as_raw_fd()), s.free("linked-fd"));
            match calls::linkat(CWD, &name, &to, libc::AT_SYMLINK_FOLLOW) {
                Ok(()) => {
                    fs::write(&to, b"forged").map_err(|error| error.to_string())?;
                    Ok("a copy of its own".to_owned())
                }
                refusal => refused(&[libc::EPERM, libc::EXDEV], refusal),
            }
        }),
        attack("linkat of a descriptor with AT_EMPTY_PATH", |s| {
            let file = File::open(s.sealed()).expect("open");
            let to = s.free("linked-empty");
            match calls::linkat(&file, "", &to, libc::AT_EMPTY_PATH) {
                Ok(()) => {
                    fs::write(&to, b"forged").map_err(|error| error.to_string())?;
                    Ok("a copy of its own".to_owned())
                }
                refusal => refused(&[libc::ENOENT, libc::EPERM], refusal),
            }
        }),
        attack("link over it", |s| refused(&[libc::EEXIST], fs::hard_link(fresh(s), s.sealed()))),
        attack("link onto its sidecar", |s| {
            let wanted = [libc::EPERM, libc::EEXIST];
            all(sidecars(s).map(|to| refused(&wanted, fs::hard_link(fresh(s), to))))
        }),
        attack("O_TMPFILE, to be linked in by linkat", |s| {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            let made = os(rustix::fs::open(s.free(""), flags, Mode::from_raw_mode(0o600)));
            refused(&[libc::EOPNOTSUPP], made)
        }),
        attack("linkat of an O_TMPFILE file of another file system", |s| {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            let file = rustix::fs::open("/tmp", flags, Mode::from_raw_mode(0o600)).expect("O_TMPFILE");
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            refused(&[libc::EXDEV], calls::linkat(CWD, &name, &s.free("in"), libc::AT_SYMLINK_FOLLOW))
        }),
        attack("linkat of a descriptor whose name is gone", |s| {
            let path = fresh(s);
            let file = File::open(&path).expect("open");
            fs::remove_file(&path).expect("unlink");
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            let linked = calls::linkat(CWD, &name, &s.free("again"), libc::AT_SYMLINK_FOLLOW);
            refused(&[libc::ENOENT, libc::ESTALE, libc::EXDEV, libc::EPERM], linked)
        }),
    ]
}

/// Every way to make a name that does not exist.
fn making(scene: &Scene, path: &Path, wanted: &[i32]) -> Seen {
    let fresh = fresh(scene);
    refused(wanted, File::create(path))?;
    refused(wanted, File::create_new(path))?;
    refused(wanted, fs::create_dir(path))?;
    refused(wanted, fs::rename(&fresh, path))?;
    refused(wanted, fs::hard_link(&fresh, path))?;
    refused(wanted, symlink("x", path))?;
    refused(wanted, mknod(path, FileType::RegularFile, 0, 0))
}

fn forbidden() -> Vec<Attack> {
    let bytes = |scene: &Scene, name: &[u8]| scene.free("x").with_file_name(OsStr::from_bytes(name));
    vec![
        attack("reserved names", |s| {
            all(["x.seal", "x.seal.jsonl", "x.seal.sums", ".seal", "g.seal"]
                .map(|name| making(s, &s.free(name), &[libc::EPERM])))
        }),
        attack("names longer than 255 bytes", |s| {
            all([256, 1000, 4000]
                .map(|length| making(s, &s.free(&"n".repeat(length)), &[libc::ENAMETOOLONG])))
        }),
        attack("names that are not UTF-8", move |s| {
            all([&b"\xff"[..], b"f\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"f\x80.seal"]
                .map(|name| making(s, &bytes(s, name), &[libc::EILSEQ])))
        }),
        attack("names with control characters", move |s| {
            all([&b"f\n"[..], b"\tf", b"\x1b[2Jf", b"f\x7f", "f\u{85}".as_bytes(), "f\u{9b}".as_bytes()]
                .map(|name| making(s, &bytes(s, name), &[libc::EINVAL])))
        }),
        attack("look-alike names are files of their own", |s| {
            let alike = [
                "f\u{200b}",
                "f\u{202e}",
                "f ",
                " f",
                "F",
                "f.",
                "\u{ff46}",
                "f.seal\u{200b}",
                "f.se\u{430}l",
                "f.seal.",
                "f.SEAL",
                "f.seal.JSONL",
                "e\u{301}",
                "\u{e9}",
            ];
            for name in alike {
                let path = s.free(name);
                let content = format!("not f, but {name}");
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(&path)
                    .and_then(|mut file| io::Write::write_all(&mut file, content.as_bytes()))
                    .map_err(|error| format!("{name:?}: {error}"))?;
                s.seal(&path)?;
                s.is_sealed_as(&path, content.as_bytes())?;
                // Its statement says its very name.
                let text = fs::read_to_string(s.free(&format!("{name}.seal.jsonl"))).unwrap_or_default();
                let line = sealfs::crypto::dsse::parse(text.lines().next().unwrap_or_default().as_bytes());
                let payload = line.map_err(|error| format!("{name:?}: {error}"))?.payload().to_vec();
                let said: serde_json::Value =
                    serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
                let subject = said["subject"][0]["name"].as_str().unwrap_or_default();
                let wanted = path.strip_prefix(&s.mount.mnt).expect("in the mount").to_str().expect("UTF-8");
                check(subject == wanted, format!("{name:?} is stated as {subject:?}"))?;
            }
            Ok(format!("{} of them, each stated by its own name", alike.len()))
        }),
        attack("device nodes, FIFOs, sockets, whiteouts", |s| {
            let path = s.free("node");
            let kinds = [
                (FileType::CharacterDevice, 1, 3),
                (FileType::BlockDevice, 254, 0),
                (FileType::CharacterDevice, 0, 0),
                (FileType::Fifo, 0, 0),
                (FileType::Socket, 0, 0),
            ];
            all(kinds.map(|(kind, major, minor)| refused(&[libc::EPERM], mknod(&path, kind, major, minor))))?;
            refused(&[libc::EPERM], std::os::unix::net::UnixListener::bind(&path).map(drop))
        }),
    ]
}

fn out_of_the_tree() -> Vec<Attack> {
    vec![
        attack("symbolic links out of the tree, into the store", |s| {
            for (name, target) in
                [("up", "../../store/tree/a/b/f"), ("etc", "/etc"), ("self", "/proc/self/fd")]
            {
                symlink(target, s.free(name)).map_err(|error| error.to_string())?;
            }
            // Each is followed by the kernel as who asks, never by the daemon: no sidecar comes of it.
            all(["up.seal", "up.seal.jsonl", "etc/passwd.seal"]
                .map(|name| refused(&[libc::ENOENT], File::open(s.free(name)))))?;
            let up = OpenOptions::new().write(true).open(s.free("up"));
            if rustix::process::geteuid().is_root() {
                return Ok("never followed by the daemon".to_owned());
            }
            refused(&[libc::EACCES, libc::ENOENT], up)
        }),
        attack("sealctl seal through a symbolic link", |s| {
            symlink("/etc/hostname", s.free("host")).expect("symlink");
            let output = as_root(|| s.mount.ctl(&[OsStr::new("seal"), s.free("host").as_os_str()]));
            check(!output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }),
        attack("a folder changed for a symbolic link, again and again", races),
        attack("O_NOFOLLOW and .. through a link", |s| {
            symlink("..", s.free("up")).expect("symlink");
            let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(s.free("up"));
            refused(&[libc::ELOOP], open)
        }),
    ]
}

/// Somebody writes below `free/dir` while that is changed for a link to a folder outside: nothing of what is written
/// through the daemon may arrive outside.
fn races(scene: &Scene) -> Seen {
    let outside = scene.mount.dir.join(format!("outside-{}", rustix::process::geteuid().as_raw()));
    as_root(|| fs::create_dir_all(&outside)).map_err(|error| error.to_string())?;
    let (dir, link, aside) = (scene.free("dir"), scene.free("link"), scene.free("aside"));
    fs::create_dir(&dir).expect("mkdir");
    symlink(&outside, &link).expect("symlink");
    let (over, uid) = (AtomicBool::new(false), rustix::process::geteuid().as_raw());
    let written = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            as_user(uid, || {
                while !over.load(Ordering::Relaxed) {
                    let _ = fs::rename(&dir, &aside);
                    let _ = fs::rename(&link, &dir);
                    let _ = fs::rename(&dir, &link);
                    let _ = fs::rename(&aside, &dir);
                }
            })
        });
        // The writer holds the folder: what it makes relative to that must stay in the mount, wherever that is.
        let held = rustix::fs::open(&dir, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
        let mut written = 0;
        let until = std::time::Instant::now() + Duration::from_millis(1500);
        while std::time::Instant::now() < until {
            if let Ok(held) = &held {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                let name = format!("w{}", written % 50);
                if rustix::fs::openat(held, &name, flags, Mode::from_raw_mode(0o600)).is_ok() {
                    written += 1;
                }
            }
            let _ = sealfs_sidecar(&dir);
        }
        over.store(true, Ordering::Relaxed);
        changing.join().expect("thread").expect("thread");
        written
    });
    let left = as_root(|| fs::read_dir(&outside)).map_err(|error| error.to_string())?.count();
    check(left == 0, format!("{written} files made meanwhile, {left} outside"))
}

/// Asks the daemon to look below the name at this moment.
fn sealfs_sidecar(dir: &Path) -> io::Result<()> {
    File::open(dir.join("w0.seal")).map(drop)
}
