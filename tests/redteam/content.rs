//! Every way to change bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::calls;
use super::harness::{os, truncate};
use super::scene::{
    Attack, CONTENT, Data, Scene, Seen, Table, Who, all, as_root, as_user, attack, check, refused,
};

/// `FICLONERANGE` and `FIDEDUPERANGE` of linux/fs.h.
const FICLONERANGE: u64 = 0x4020_940d;
const FIDEDUPERANGE: u64 = 0xc018_9436;

const MODES: [(&str, i32); 7] = [
    ("allocate", 0),
    ("keep size", libc::FALLOC_FL_KEEP_SIZE),
    ("punch hole", libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE),
    ("collapse range", libc::FALLOC_FL_COLLAPSE_RANGE),
    ("zero range", libc::FALLOC_FL_ZERO_RANGE),
    ("insert range", libc::FALLOC_FL_INSERT_RANGE),
    ("unshare range", libc::FALLOC_FL_UNSHARE_RANGE),
];

pub fn attacks(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("content", data);
        for who in [Who::Root, Who::Owner] {
            scene.run(table, who, &opening());
            scene.run(table, who, &allocating());
            scene.run(table, who, &copying());
        }
        scene.run(table, Who::Stranger, &of_strangers());
        scene.run(table, Who::Owner, &[attack("O_TRUNC against writes under way", truncated_while_written)]);
    }
}

fn opening() -> Vec<Attack> {
    let open = |name: &'static str, options: fn(&mut OpenOptions) -> &mut OpenOptions| {
        attack(name, move |s: &Scene| {
            refused(&[libc::EPERM], options(&mut OpenOptions::new()).open(s.sealed()))
        })
    };
    vec![
        open("open for writing", |o| o.write(true)),
        open("open for reading and writing", |o| o.read(true).write(true)),
        open("open for appending", |o| o.append(true)),
        open("O_CREAT without O_EXCL", |o| o.append(true).create(true)),
        open("O_TRUNC", |o| o.write(true).truncate(true)),
        open("O_RDONLY and O_TRUNC", |o| o.read(true).custom_flags(libc::O_TRUNC)),
        open("O_DIRECT for writing", |o| o.write(true).custom_flags(libc::O_DIRECT)),
        open("O_SYNC for writing", |o| o.write(true).custom_flags(libc::O_SYNC)),
        attack("truncate", |s| {
            // As long as it is already would change nothing, and succeeds.
            let sizes = [0, 1, CONTENT.len() as u64 + 1, 1 << 40];
            all(sizes.map(|size| refused(&[libc::EPERM], truncate(&s.sealed(), size))))
        }),
        attack("ftruncate of a descriptor for reading", |s| {
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EINVAL], file.set_len(0))
        }),
    ]
}

fn allocating() -> Vec<Attack> {
    let of_sealed = MODES.map(|(name, mode)| {
        attack(format!("fallocate of a sealed file: {name}"), move |s: &Scene| {
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EBADF], calls::fallocate(&file, mode, 0, 4096))
        })
    });
    let of_open = MODES.map(|(name, mode)| {
        attack(format!("fallocate before the seal: {name}"), move |s: &Scene| {
            let path = s.free("allocated");
            fs::write(&path, CONTENT).expect("write");
            let file = OpenOptions::new().write(true).open(&path).expect("open");
            let result = calls::fallocate(&file, mode, 0, 4096);
            drop(file);
            if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
                let seen = refused(&[libc::EOPNOTSUPP], result)?;
                return check(fs::read(&path).expect("read") == CONTENT, seen);
            }
            result.map_err(|error| error.to_string())?;
            let mut content = CONTENT.to_vec();
            content.resize(if mode == 0 { 4096 } else { content.len() }, 0);
            s.seal(&path)?;
            s.is_sealed_as(&path, &content)
        })
    });
    of_sealed.into_iter().chain(of_open).collect()
}

fn copying() -> Vec<Attack> {
    vec![
        attack("copy_file_range into it", |s| {
            let (from, to) =
                (File::open("/proc/self/exe").expect("open"), File::open(s.sealed()).expect("open"));
            let copied = rustix::fs::copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 10);
            refused(&[libc::EBADF], os(copied))
        }),
        attack("copy_file_range into it, from the mount", |s| {
            let (from, to) =
                (File::open(s.at("a/b/g")).expect("open"), File::open(s.sealed()).expect("open"));
            let copied = rustix::fs::copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 10);
            refused(&[libc::EBADF], os(copied))
        }),
        attack("FICLONE onto it", |s| {
            let (from, to) =
                (File::open(s.at("a/b/g")).expect("open"), File::open(s.sealed()).expect("open"));
            refused(&[libc::EBADF, libc::EOPNOTSUPP], os(rustix::fs::ioctl_ficlone(&to, &from)))
        }),
        attack("FICLONERANGE onto it", |s| {
            let (from, to) =
                (File::open(s.at("a/b/g")).expect("open"), File::open(s.sealed()).expect("open"));
            let mut range = [u64::try_from(from.as_raw_fd()).expect("positive"), 0, 0, 0];
            refused(&[libc::EBADF, libc::EOPNOTSUPP], calls::ioctl(&to, FICLONERANGE, &mut range))
        }),
        attack("FIDEDUPERANGE onto it", |s| {
            let (from, to) =
                (File::open(s.at("a/b/g")).expect("open"), File::open(s.sealed()).expect("open"));
            // Offset, length, one destination; then its descriptor, offset, bytes done, and status.
            let fd = u64::try_from(to.as_raw_fd()).expect("positive");
            let mut range = [0, CONTENT.len() as u64, 1, fd, 0, 0, 0];
            match calls::ioctl(&from, FIDEDUPERANGE, &mut range) {
                Ok(()) if range[5] == 0 => Ok("refused for the destination".to_owned()),
                other => refused(&[libc::EOPNOTSUPP, libc::EINVAL, libc::EPERM, libc::ENOTTY], other),
            }
        }),
        attack("splice into it", |s| {
            let (read, mut write) = io::pipe().expect("pipe");
            write.write_all(b"forged").expect("write");
            let file = File::open(s.sealed()).expect("open");
            refused(&[libc::EBADF], calls::splice(&read, &file, true, 6))
        }),
        attack("sendfile into it", |s| {
            let (from, to) =
                (File::open(s.at("a/b/g")).expect("open"), File::open(s.sealed()).expect("open"));
            refused(&[libc::EBADF], os(rustix::fs::sendfile(&to, &from, Some(&mut 0), 10)))
        }),
        attack("FICLONE from it: a file of its own", |s| {
            let path = s.free("clone");
            let to = File::create_new(&path).expect("create");
            let from = File::open(s.sealed()).expect("open");
            match os(rustix::fs::ioctl_ficlone(&to, &from)) {
                Ok(()) => check(fs::read(&path).expect("read") == CONTENT, "a file of its own"),
                refusal => refused(&[libc::EOPNOTSUPP, libc::EXDEV], refusal),
            }
        }),
        attack("splice from it, and change the pages", |s| {
            let (mut read, mut write) = io::pipe().expect("pipe");
            let file = File::open(s.sealed()).expect("open");
            calls::splice(&file, &write, false, 6).expect("splice");
            // What is appended to a pipe must not end in the page that the file has in it.
            write.write_all(b"forged").expect("write");
            let mut taken = [0; 12];
            read.read_exact(&mut taken).expect("read");
            check(fs::read(s.sealed()).expect("read") == CONTENT, "the pipe has its own bytes")
        }),
        attack("a loop device over it", |s| {
            if !rustix::process::geteuid().is_root() {
                // Not theirs to set up.
                return refused(&[libc::EACCES], OpenOptions::new().write(true).open("/dev/loop-control"));
            }
            let made =
                Command::new("losetup").args(["--find", "--show"]).arg(s.sealed()).output().expect("losetup");
            let device = String::from_utf8_lossy(&made.stdout).trim().to_owned();
            if device.is_empty() {
                return Ok("refused".to_owned());
            }
            let written =
                OpenOptions::new().write(true).open(&device).and_then(|mut file| file.write_all(b"forged"));
            let _ = Command::new("losetup").args(["-d", &device]).status();
            check(written.is_err(), "a read-only device")
        }),
    ]
}

fn of_strangers() -> Vec<Attack> {
    vec![
        attack("open another's sealed file for writing", |s| {
            refused(&[libc::EACCES], OpenOptions::new().write(true).open(s.sealed()))
        }),
        attack("truncate another's sealed file", |s| refused(&[libc::EACCES], truncate(&s.sealed(), 0))),
        attack("reach the backing file in the store", |s| {
            refused(&[libc::EACCES], File::open(s.mount.backing("a/b/f")))
        }),
        attack("reach the store through /proc of the daemon", |s| {
            let pid = s.mount.pid();
            all(["fd", "cwd", "root", "mem"].map(|name| {
                let path = format!("/proc/{pid}/{name}");
                let result = match name {
                    "fd" => fs::read_dir(path).map(drop),
                    "mem" => File::open(path).map(drop),
                    _ => fs::read_link(path).map(drop),
                };
                refused(&[libc::EACCES, libc::EPERM], result)
            }))
        }),
    ]
}

/// A large write that goes through the daemon, hashed as it comes, while somebody opens the file with `O_TRUNC`, and
/// then a small one behind it: what is sealed must be what is there, hole or not.
fn truncated_while_written(scene: &Scene) -> Seen {
    let count = if super::scene::soak() { 2_000 } else { 60 };
    let path = |n: usize| scene.free(&format!("race-{n}"));
    let (turn, uid) = (AtomicUsize::new(0), rustix::process::geteuid().as_raw());
    let large = vec![b'A'; 1 << 20];
    std::thread::scope(|scope| {
        let truncating = scope.spawn(|| {
            as_user(uid, || {
                for n in 0..count {
                    while turn.load(Ordering::Acquire) <= n {
                        std::hint::spin_loop();
                    }
                    drop(OpenOptions::new().write(true).truncate(true).open(path(n)).expect("O_TRUNC"));
                }
            })
        });
        for n in 0..count {
            let file = OpenOptions::new().write(true).create_new(true).open(path(n)).expect("create");
            turn.store(n + 1, Ordering::Release);
            file.write_all_at(&large, 0).expect("write");
            file.write_all_at(&[b'B'; 100], large.len() as u64).expect("write");
        }
        truncating.join().expect("thread").expect("thread");
    });
    let mut holes = 0;
    for n in 0..count {
        scene.seal(&path(n))?;
        let there = as_root(|| fs::read(scene.backing(&path(n)))).map_err(|error| error.to_string())?;
        scene.is_sealed_as(&path(n), &there)?;
        holes += usize::from(there.first() == Some(&0));
    }
    Ok(format!("{count} files, {holes} with a hole, each sealed with the bytes that are there"))
}
