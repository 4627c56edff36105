//! Root at the backing files, past the mount. What the immutable flag prevents, what is noticed and by what, and
//! what is not.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, RenameFlags, XattrFlags};

use super::harness::{self, Mount, SLOW, errno, os, run, truncate, xattr};
use super::scene::{CONTENT, Data, Seen, Table, all, as_user, check, refused, verifies};

/// What is promised of an alteration.
#[derive(Clone, Copy)]
enum Promise {
    /// Reading it ends with `EIO`; log, `status` and `verify` tell.
    Refused,
    /// It can be read; `verify` tells, with this word.
    Verify(&'static str),
    /// The content is as sealed, and is proven again when it is opened.
    Harmless,
    /// Nothing tells.
    Unnoticed,
}

struct Alteration {
    name: &'static str,
    alter: fn(&Mount, &Path),
    promise: Promise,
}

fn edit(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("open");
    file.write_all_at(bytes, 0).expect("write");
}

fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).expect("unlink");
    fs::write(path, content).expect("write");
}

/// As only the raw disk would show it: the index says of the inode what is there now.
fn behind_the_inode(mount: &Mount, path: &Path) {
    let mtime = fs::metadata(path).expect("stat").modified().expect("mtime");
    edit(path, b"forged");
    OpenOptions::new().write(true).open(path).expect("open").set_modified(mtime).expect("mtime");
    let stat = fs::metadata(path).expect("stat");
    let (seconds, nanos) =
        (std::os::unix::fs::MetadataExt::ctime(&stat), std::os::unix::fs::MetadataExt::ctime_nsec(&stat));
    let name = path.file_name().expect("a name").to_str().expect("UTF-8");
    sql(mount, &format!("update artifact set ctime_s = {seconds}, ctime_ns = {nanos} where name = '{name}'"));
}

fn sql(mount: &Mount, statement: &str) {
    run(Command::new("sqlite3")
        .arg("-cmd")
        .arg(".timeout 5000")
        .arg(mount.store.join("index.db"))
        .arg(statement));
}

const ALTERATIONS: [Alteration; 14] = [
    Alteration {
        name: "edited, size and time as before",
        alter: |_, path| {
            let mtime = fs::metadata(path).expect("stat").modified().expect("mtime");
            edit(path, b"forged");
            OpenOptions::new().write(true).open(path).expect("open").set_modified(mtime).expect("mtime");
        },
        promise: Promise::Refused,
    },
    Alteration {
        name: "made longer",
        alter: |_, path| {
            let mut file = OpenOptions::new().append(true).open(path).expect("open");
            file.write_all(b"more").expect("write");
        },
        promise: Promise::Refused,
    },
    Alteration {
        name: "truncated",
        alter: |_, path| truncate(path, 1).expect("truncate"),
        promise: Promise::Refused,
    },
    Alteration {
        name: "deleted",
        alter: |_, path| fs::remove_file(path).expect("unlink"),
        promise: Promise::Refused,
    },
    Alteration {
        name: "swapped with another sealed file",
        alter: |mount, path| {
            let other = mount.backing("victim");
            run(Command::new("chattr").arg("-i").arg(&other));
            os(rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::EXCHANGE)).expect("exchange");
        },
        promise: Promise::Refused,
    },
    Alteration {
        name: "replaced by another file",
        alter: |_, path| replace(path, b"forged, another inode"),
        promise: Promise::Refused,
    },
    Alteration {
        name: "replaced by a symbolic link",
        alter: |_, path| {
            fs::remove_file(path).expect("unlink");
            symlink("/etc/hostname", path).expect("symlink");
        },
        promise: Promise::Refused,
    },
    Alteration {
        name: "written to through a hard link made on disk",
        alter: |mount, path| {
            let link = mount.store.join("hidden");
            fs::hard_link(path, &link).expect("link");
            edit(&link, b"forged");
            fs::remove_file(link).expect("unlink");
        },
        promise: Promise::Refused,
    },
    Alteration {
        name: "edited below the inode (raw disk)",
        alter: behind_the_inode,
        promise: Promise::Verify("content"),
    },
    Alteration {
        name: "its mode",
        alter: |_, path| fs::set_permissions(path, Permissions::from_mode(0o777)).expect("chmod"),
        promise: Promise::Verify("attribute"),
    },
    Alteration {
        name: "its owner",
        alter: |_, path| chown(path, Some(1234), None).expect("chown"),
        promise: Promise::Verify("attribute"),
    },
    Alteration {
        name: "its time",
        alter: |_, path| {
            File::open(path).expect("open").set_modified(std::time::UNIX_EPOCH).expect("mtime");
        },
        promise: Promise::Verify("attribute"),
    },
    Alteration {
        name: "replaced by the same bytes",
        alter: |_, path| {
            let copy = path.with_extension("copy");
            run(Command::new("cp").arg("-a").arg(path).arg(&copy));
            fs::rename(copy, path).expect("rename");
        },
        promise: Promise::Harmless,
    },
    Alteration {
        name: "its user xattrs",
        alter: |_, path| {
            os(rustix::fs::setxattr(path, "user.note", b"forged", XattrFlags::empty())).expect("setxattr");
        },
        promise: Promise::Unnoticed,
    },
];

pub fn attacks(table: &mut Table) {
    prevented(table);
    altered(table, Data::Passthrough, true);
    altered(table, Data::Daemon, true);
    altered(table, Data::Passthrough, false);
    table.add("edited while somebody has it open", "root, mounted", open_meanwhile());
    table.add("a file put into the tree", "root, mounted", planted());
    table.add("an altered file read again and again", "stranger, mounted", read_again());
}

/// A mount with these sealed files, each with its own content.
fn filled(data: Data, names: &[String]) -> Mount {
    let mount = Mount::with("backing", SLOW, data.options());
    for name in names {
        let content = [CONTENT, name.as_bytes()].concat();
        fs::write(mount.path(name), content).expect("write");
    }
    let mut all = vec!["seal".to_owned()];
    all.extend(names.iter().cloned());
    mount.ctl_ok(&all);
    for name in names {
        mount.until(name, "sealed");
    }
    mount
}

/// With the immutable flag not even root gets at a backing file.
fn prevented(table: &mut Table) {
    let mount = filled(Data::Passthrough, &["f".to_owned(), "other".to_owned()]);
    let (path, other) = (mount.backing("f"), mount.store.join("other"));
    let eperm = [libc::EPERM];
    fs::write(&other, b"forged").expect("write");
    let seen = [
        ("write", refused(&eperm, OpenOptions::new().write(true).open(&path))),
        ("truncate", refused(&eperm, truncate(&path, 0))),
        ("unlink", refused(&eperm, fs::remove_file(&path))),
        ("rename away", refused(&eperm, fs::rename(&path, &other))),
        ("rename over", refused(&eperm, fs::rename(&other, &path))),
        ("hard link", refused(&eperm, fs::hard_link(&path, mount.store.join("hidden")))),
        ("chmod", refused(&eperm, fs::set_permissions(&path, Permissions::from_mode(0o777)))),
        ("chown", refused(&eperm, chown(&path, Some(1), None))),
        ("xattr", refused(&eperm, os(rustix::fs::setxattr(&path, "user.x", b"x", XattrFlags::empty())))),
    ];
    for (name, seen) in seen {
        table.add(&format!("without chattr -i: {name}"), "root, mounted", seen);
    }
    table.add("(verify --all after them)", "root, mounted", verifies(&mount));
}

/// From the start of a daemon until it has looked at the flags of few files.
const FLAGS_LOOKED_AT: std::time::Duration = std::time::Duration::from_secs(8);

fn altered(table: &mut Table, data: Data, mounted: bool) {
    let name_of = |n: usize| format!("f{n}");
    let mut names: Vec<_> = (0..ALTERATIONS.len()).map(name_of).collect();
    names.push("victim".to_owned());
    let begun = std::time::Instant::now();
    let mut mount = filled(data, &names);
    // Not in the kernel's caches while mounted: looked up long ago is as good as never.
    if mounted {
        // Once after its start the daemon sets flags that are missing: here they are to be missing after that.
        std::thread::sleep(FLAGS_LOOKED_AT.saturating_sub(begun.elapsed()));
    } else {
        mount.stop();
    }
    for (n, alteration) in ALTERATIONS.iter().enumerate() {
        let path = mount.backing(name_of(n));
        run(Command::new("chattr").arg("-i").arg(&path));
        (alteration.alter)(&mount, &path);
    }
    if mounted {
        run(Command::new("sh").arg("-c").arg("echo 2 > /proc/sys/vm/drop_caches"));
        harness::pause(1200);
    } else {
        mount.start();
    }
    let who = format!("root, {}", if mounted { data.word() } else { "unmounted meanwhile" });
    for (n, alteration) in ALTERATIONS.iter().enumerate() {
        let seen = noticed(&mount, &name_of(n), alteration.promise);
        table.add(&format!("after chattr -i: {}", alteration.name), &who, seen);
    }
    let output = mount.ctl(&["verify", "--all"]);
    table.add("(verify --all after them)", &who, check(output.status.code() == Some(3), "exit code 3"));
}

fn noticed(mount: &Mount, name: &str, promise: Promise) -> Seen {
    let path = mount.path(name);
    let content = [CONTENT, name.as_bytes()].concat();
    let read = fs::read(&path);
    let output = mount.ctl(&["--json", "verify", name]);
    let verified = output.status.code();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = |text: &str| {
        let value: serde_json::Value =
            serde_json::from_str(text.lines().next().unwrap_or("{}")).unwrap_or_default();
        value["code"].as_str().unwrap_or_default().to_owned()
    };
    match promise {
        Promise::Refused => {
            let seen = refused(&[libc::EIO], read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))?;
            let status = mount.ctl_ok(&["status", "--json"]);
            check(status.contains("ALTERED"), format!("status tells nothing: {status}"))?;
            check(verified == Some(3), format!("verify: {verified:?} {text}"))?;
            let history = mount.ctl_ok(&["log", "show"]);
            let noted =
                history.lines().any(|line| line.contains(name) && line.to_lowercase().contains("alter"));
            check(noted, format!("{seen}; verify: {}; log, status", word(&text)))
        }
        Promise::Verify(wanted) => {
            check(read.is_ok(), format!("{:?}", read.map(drop)))?;
            let found = word(&text);
            check(verified == Some(3) && found == wanted, format!("can be read; verify: {found}"))
        }
        Promise::Harmless => {
            let read = read.map_err(|error| error.to_string())?;
            check(read == content && verified == Some(0), "proven again by its content; verify passes")
        }
        Promise::Unnoticed => {
            let read = read.map_err(|error| error.to_string())?;
            check(read == content, "another content")?;
            check(verified == Some(0), "not noticed: they are no part of the seal (told so)")
        }
    }
}

/// Who has a file open when root alters it reads the altered bytes; who opens it then does not.
fn open_meanwhile() -> Seen {
    let mount = filled(Data::Passthrough, &["f".to_owned()]);
    let reader = File::open(mount.path("f")).expect("open");
    let path = mount.backing("f");
    run(Command::new("chattr").arg("-i").arg(&path));
    edit(&path, b"forged");
    let mut first = [0; 6];
    reader.read_exact_at(&mut first, 0).expect("read");
    let seen = refused(&[libc::EIO], File::open(mount.path("f")))?;
    check(
        &first == b"forged",
        format!("{seen} to who opens it; who had it open reads on, unnoticed (told so)"),
    )
}

fn planted() -> Seen {
    let mount = filled(Data::Passthrough, &["f".to_owned()]);
    fs::write(mount.backing("planted"), b"forged").expect("write");
    let state = xattr(&mount.path("planted"), "user.seal.state").unwrap_or_default();
    let sidecar = refused(&[libc::ENOENT], File::open(mount.path("planted.seal")))?;
    let folder = mount.ctl(&["verify", "."]).status.code();
    check(
        state == "torn" && folder == Some(3),
        format!("{state}, no seal ({sidecar}); verify of its folder fails"),
    )
}

/// Each refusal is told, but the log must not grow with them.
fn read_again() -> Seen {
    let mount = filled(Data::Passthrough, &["f".to_owned()]);
    let path: PathBuf = mount.backing("f");
    run(Command::new("chattr").arg("-i").arg(&path));
    edit(&path, b"forged");
    let entries = || mount.ctl_json(&["status"])[0]["log_entries"].as_u64().unwrap_or(0);
    assert_eq!(errno(File::open(mount.path("f"))), libc::EIO);
    let before = entries();
    let tries = 200;
    let user = as_user(1234, || all((0..tries).map(|_| refused(&[libc::EIO], File::open(mount.path("f"))))));
    user.map_err(|_| "panicked".to_owned())??;
    // Another alteration is news.
    edit(&path, b"Forged");
    assert_eq!(errno(File::open(mount.path("f"))), libc::EIO);
    let grown = entries() - before;
    check(grown == 1, format!("EIO {tries} times; {grown} more in the log, for another alteration"))
}
