//! Contract, section 3: what is refused, with which errno, and that nothing changes by it.

mod harness;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use harness::{Mount, NOBODY, QUICK, SLOW, errno, eventually, os, sh, sh_as, truncate, xattr};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};

const CONTENT: &[u8] = b"written once\n";

/// A mount with `a/b/f`, sealed, `free/g`, open, and an extended attribute on both.
fn frozen(name: &str, policy: &str) -> Mount {
    let mount = Mount::new(name, policy);
    fs::create_dir_all(mount.path("a/b")).expect("mkdir");
    fs::create_dir(mount.path("free")).expect("mkdir");
    for file in ["a/b/f", "free/g"] {
        fs::write(mount.path(file), CONTENT).expect("write");
        os(rustix::fs::setxattr(mount.path(file), "user.note", b"kept", XattrFlags::CREATE))
            .expect("setxattr");
    }
    mount.ctl_ok(&[OsStr::new("seal"), mount.path("a/b/f").as_os_str()]);
    mount.until("a/b/f", "sealed");
    mount
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    os(rustix::fs::renameat_with(CWD, from, CWD, to, flags))
}

fn times(path: &Path, atime: Option<i64>, mtime: Option<i64>) -> io::Result<()> {
    let time = |time: Option<i64>| match time {
        Some(tv_sec) => Timespec { tv_sec, tv_nsec: 0 },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    };
    let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
    os(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW))
}

fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    os(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW))
}

fn chown(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn mknod(path: &Path, kind: FileType) -> io::Result<()> {
    os(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), rustix::fs::makedev(1, 3)))
}

/// Every way to change a file's bytes.
fn content_is_refused(mount: &Mount, path: &Path, wanted: i32) {
    for (what, options) in [
        ("write", OpenOptions::new().write(true)),
        ("read and write", OpenOptions::new().read(true).write(true)),
        ("append", OpenOptions::new().append(true)),
        ("append or create", OpenOptions::new().append(true).create(true)),
        ("O_TRUNC", OpenOptions::new().write(true).truncate(true)),
        ("O_CREAT and O_TRUNC", OpenOptions::new().write(true).create(true).truncate(true)),
        ("O_RDONLY and O_TRUNC", OpenOptions::new().read(true).custom_flags(libc::O_TRUNC)),
    ] {
        mount.refuses(wanted, what, || options.open(path));
    }
    for size in [0, 1, 4096] {
        mount.refuses(wanted, "truncate", || truncate(path, size));
    }
}

/// Every way to change a file's name and attributes.
fn name_and_attributes_are_refused(mount: &Mount, path: &Path, wanted: i32) {
    let (other, free) = (mount.path("other"), mount.path("free/g"));
    // With the same content, the rename over it would be a success that changes nothing.
    fs::write(&free, CONTENT.to_ascii_uppercase()).expect("write");
    mount.refuses(wanted, "rename", || fs::rename(path, &other));
    mount.refuses(wanted, "rename within", || fs::rename(path, path.with_file_name("z")));
    mount.refuses(wanted, "rename without replacing", || rename(path, &other, RenameFlags::NOREPLACE));
    mount.refuses(wanted, "rename onto a file", || fs::rename(path, &free));
    mount.refuses(wanted, "rename over", || fs::rename(&free, path));
    mount.refuses(wanted, "unlink", || fs::remove_file(path));
    mount.refuses(wanted, "chmod", || chmod(path, 0o600));
    mount.refuses(wanted, "chmod +x", || chmod(path, 0o755));
    mount.refuses(wanted, "chmod +w", || chmod(path, 0o666));
    mount.refuses(wanted, "chown", || chown(path, 1234, 0));
    mount.refuses(wanted, "chgrp", || chown(path, 0, 1234));
    mount.refuses(wanted, "touch", || touch(path));
    mount.refuses(wanted, "utimens", || times(path, Some(1_000_000_000), Some(1_000_000_000)));
    mount.refuses(wanted, "utimens of mtime", || times(path, None, Some(1_000_000_000)));
    mount.refuses(wanted, "utimens of atime, backwards", || times(path, Some(1_000_000_000), None));
    let set = |name: &str, flags| os(rustix::fs::lsetxattr(path, name, b"x", flags));
    mount.refuses(wanted, "setxattr", || set("user.new", XattrFlags::CREATE));
    mount.refuses(wanted, "setxattr again", || set("user.note", XattrFlags::REPLACE));
    mount.refuses(wanted, "removexattr", || os(rustix::fs::lremovexattr(path, "user.note")));
}

#[test]
fn no_byte_of_a_sealed_file_can_be_changed() {
    let mount = frozen("content", SLOW);
    let path = mount.path("a/b/f");
    content_is_refused(&mount, &path, libc::EPERM);
    assert_eq!(fs::read(&path).expect("read"), CONTENT);
    assert_eq!(fs::read(mount.backing("a/b/f")).expect("read"), CONTENT);
}

#[test]
fn a_descriptor_for_reading_changes_nothing_of_a_sealed_file() {
    let mount = frozen("descriptor", SLOW);
    let file = File::open(mount.path("a/b/f")).expect("open");
    mount.refuses(libc::EINVAL, "ftruncate", || file.set_len(0));
    mount.refuses(libc::EBADF, "write", || (&file).write(b"x"));
    mount.refuses(libc::EBADF, "fallocate", || {
        os(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20))
    });
    mount.refuses(libc::EPERM, "fchmod", || file.set_permissions(fs::Permissions::from_mode(0o600)));
    mount.refuses(libc::EPERM, "fchown", || std::os::unix::fs::fchown(&file, Some(1234), None));
    mount.refuses(libc::EPERM, "futimens", || file.set_modified(std::time::UNIX_EPOCH));
    mount.refuses(libc::EPERM, "fsetxattr", || {
        os(rustix::fs::fsetxattr(&file, "user.new", b"x", XattrFlags::empty()))
    });
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    mount.refuses(libc::EPERM, "reopen", || OpenOptions::new().write(true).open(&again));
}

#[test]
fn no_name_and_attribute_of_a_sealed_file_can_be_changed() {
    let mount = frozen("attributes", SLOW);
    name_and_attributes_are_refused(&mount, &mount.path("a/b/f"), libc::EPERM);
}

#[test]
fn policy_chooses_the_errno_of_refusals() {
    let policy = "version = 1\n[defaults]\nsettle = \"1h\"\nerrno = \"EROFS\"\n\
                  [[rule]]\nmatch = [\"a/**\"]\nerrno = \"EACCES\"\n";
    let mount = frozen("errno", policy);
    content_is_refused(&mount, &mount.path("a/b/f"), libc::EACCES);
    name_and_attributes_are_refused(&mount, &mount.path("a/b/f"), libc::EACCES);
    let path = mount.sealed("f", CONTENT);
    mount.refuses(libc::EROFS, "unlink", || fs::remove_file(&path));
    mount.refuses(libc::EROFS, "write", || OpenOptions::new().append(true).open(&path));
    mount.refuses(libc::EROFS, "reserved name", || fs::write(mount.path("x.seal"), b""));
    mount.refuses(libc::EACCES, "reserved name", || fs::write(mount.path("a/x.seal"), b""));
    mount.refuses(libc::EROFS, "sidecar", || fs::remove_file(mount.path("f.seal")));
    mount.refuses(libc::EROFS, "/.seal", || fs::remove_file(mount.path(".seal/keys.pem")));
    // These are never offered: always EPERM.
    mount.refuses(libc::EPERM, "mknod", || mknod(&mount.path("fifo"), FileType::Fifo));
}

#[test]
fn no_ancestor_of_a_sealed_file_can_be_renamed_or_removed() {
    let mount = frozen("ancestors", SLOW);
    fs::create_dir(mount.path("empty")).expect("mkdir");
    for dir in ["a", "a/b"] {
        let path = mount.path(dir);
        mount.refuses(libc::EPERM, "rename of a parent", || fs::rename(&path, mount.path("moved")));
        mount.refuses(libc::EPERM, "rename of a parent onto an empty folder", || {
            fs::rename(&path, mount.path("empty"))
        });
        mount.refuses(libc::EPERM, "rename of a parent, not replacing", || {
            rename(&path, &mount.path("moved"), RenameFlags::NOREPLACE)
        });
        let before = mount.picture();
        let error = errno(fs::remove_dir(&path));
        assert!([libc::EPERM, libc::ENOTEMPTY].contains(&error), "rmdir: errno {error}");
        assert_eq!(before, mount.picture());
    }
    assert_eq!(mount.why("a")[0]["operation"], "rename");
    // What has nothing sealed in it is free.
    fs::rename(mount.path("free"), mount.path("free2")).expect("rename");
    fs::remove_dir(mount.path("empty")).expect("rmdir");
    fs::write(mount.path("a/b/new"), CONTENT).expect("folders may grow");
}

#[test]
fn a_folder_with_a_file_that_settles_can_still_be_renamed() {
    let mount = Mount::new("settling-parent", SLOW);
    fs::create_dir(mount.path("d")).expect("mkdir");
    fs::write(mount.path("d/f"), CONTENT).expect("write");
    mount.until("d/f", "settling");
    fs::rename(mount.path("d"), mount.path("e")).expect("rename");
    assert_eq!(mount.state("e/f"), "settling");
}

#[test]
fn what_replaces_nothing_may_not_replace_what_is_sealed() {
    let mount = frozen("replace", SLOW);
    let sealed = mount.path("a/b/f");
    symlink("target", mount.path("link")).expect("symlink");
    mount.refuses(libc::EPERM, "rename of a link over it", || fs::rename(mount.path("link"), &sealed));
    mount.refuses(libc::EEXIST, "O_EXCL", || File::create_new(&sealed));
    mount.refuses(libc::EEXIST, "mkdir", || fs::create_dir(&sealed));
    mount.refuses(libc::EEXIST, "symlink", || symlink("x", &sealed));
    mount.refuses(libc::EEXIST, "link", || fs::hard_link(mount.path("free/g"), &sealed));
    mount.refuses(libc::EEXIST, "rename, not replacing", || {
        rename(&mount.path("free/g"), &sealed, RenameFlags::NOREPLACE)
    });
    mount.refuses(libc::EEXIST, "mknod", || mknod(&sealed, FileType::RegularFile));
    mount.refuses(libc::ENOTDIR, "rename of a folder over it", || fs::rename(mount.path("free"), &sealed));
}

#[test]
fn names_are_not_exchanged_and_leave_no_whiteouts() {
    let mount = frozen("exchange", SLOW);
    fs::write(mount.path("free/h"), b"other").expect("write");
    let (sealed, free, other) = (mount.path("a/b/f"), mount.path("free/g"), mount.path("free/h"));
    for (from, to) in [(&sealed, &free), (&free, &sealed), (&free, &other)] {
        let before = mount.picture();
        for flags in [RenameFlags::EXCHANGE, RenameFlags::WHITEOUT] {
            let error = errno(rename(from, to, flags));
            assert!([libc::EINVAL, libc::EPERM].contains(&error), "{flags:?}: errno {error}");
        }
        assert_eq!(before, mount.picture());
    }
}

#[test]
fn sidecars_cannot_be_changed() {
    let mount = frozen("sidecars", SLOW);
    for name in ["a/b/f.seal", "a/b/f.seal.jsonl"] {
        let path = mount.path(name);
        let before = fs::read(&path).expect("read");
        for options in [
            OpenOptions::new().write(true),
            OpenOptions::new().append(true),
            OpenOptions::new().write(true).truncate(true),
            OpenOptions::new().write(true).create(true).truncate(true),
        ] {
            mount.refuses(libc::EPERM, name, || options.open(&path));
        }
        mount.refuses(libc::EPERM, "truncate", || truncate(&path, 0));
        mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
        mount.refuses(libc::EPERM, "rename", || fs::rename(&path, mount.path("x")));
        mount.refuses(libc::EPERM, "rename over", || fs::rename(mount.path("free/g"), &path));
        mount.refuses(libc::EPERM, "chmod", || chmod(&path, 0o777));
        mount.refuses(libc::EPERM, "chown", || chown(&path, 1234, 1234));
        mount.refuses(libc::EPERM, "touch", || touch(&path));
        mount.refuses(libc::EPERM, "setxattr", || {
            os(rustix::fs::lsetxattr(&path, "user.x", b"x", XattrFlags::empty()))
        });
        mount.refuses(libc::EPERM, "link from it", || fs::hard_link(&path, mount.path("x")));
        mount.refuses(libc::EEXIST, "O_EXCL", || File::create_new(&path));
        assert_eq!(fs::read(&path).expect("read"), before);
    }
}

#[test]
fn nothing_under_dot_seal_can_be_changed() {
    let mount = frozen("dot-seal", SLOW);
    let dir = mount.path(".seal");
    for name in ["keys.pem", "allowed_signers"] {
        let path = dir.join(name);
        let before = fs::read(&path).expect("read");
        mount.refuses(libc::EPERM, "write", || OpenOptions::new().write(true).open(&path));
        mount.refuses(libc::EPERM, "O_TRUNC", || fs::write(&path, b"x"));
        mount.refuses(libc::EPERM, "truncate", || truncate(&path, 0));
        mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
        mount.refuses(libc::EPERM, "rename", || fs::rename(&path, mount.path("x")));
        mount.refuses(libc::EPERM, "rename over", || fs::rename(mount.path("free/g"), &path));
        mount.refuses(libc::EPERM, "chmod", || chmod(&path, 0o777));
        mount.refuses(libc::EPERM, "chown", || chown(&path, 1, 1));
        mount.refuses(libc::EPERM, "touch", || touch(&path));
        mount.refuses(libc::EPERM, "link from it", || fs::hard_link(&path, mount.path("x")));
        mount.refuses(libc::EPERM, "setxattr", || {
            os(rustix::fs::lsetxattr(&path, "user.x", b"x", XattrFlags::empty()))
        });
        assert_eq!(fs::read(&path).expect("read"), before);
    }
    mount.refuses(libc::EPERM, "create in it", || File::create_new(dir.join("new")));
    mount.refuses(libc::EPERM, "mkdir in it", || fs::create_dir(dir.join("new")));
    mount.refuses(libc::EPERM, "symlink in it", || symlink("x", dir.join("new")));
    mount.refuses(libc::EPERM, "link in it", || fs::hard_link(mount.path("free/g"), dir.join("new")));
    mount.refuses(libc::EPERM, "rename into it", || fs::rename(mount.path("free/g"), dir.join("new")));
    mount.refuses(libc::EPERM, "rename of it", || fs::rename(&dir, mount.path("x")));
    mount.refuses(libc::EPERM, "rmdir", || fs::remove_dir(&dir));
    mount.refuses(libc::EPERM, "chmod", || chmod(&dir, 0o777));
    mount.refuses(libc::EPERM, "chown", || chown(&dir, 1, 1));
    mount.refuses(libc::EPERM, "touch", || touch(&dir));
    mount.refuses(libc::EPERM, "rename of a folder over it", || fs::rename(mount.path("free"), &dir));
}

#[test]
fn reserved_names_cannot_be_made() {
    let mount = frozen("reserved", SLOW);
    let free = mount.path("free/g");
    for name in
        ["x.seal", "x.seal.jsonl", "x.seal.sums", ".seal.jsonl", ".seal.sums", "a/.seal", "a/b/y.seal"]
    {
        let path = mount.path(name);
        mount.refuses(libc::EPERM, name, || File::create(&path));
        mount.refuses(libc::EPERM, name, || File::create_new(&path));
        mount.refuses(libc::EPERM, name, || fs::create_dir(&path));
        mount.refuses(libc::EPERM, name, || fs::rename(&free, &path));
        mount.refuses(libc::EPERM, name, || fs::rename(mount.path("free"), &path));
        mount.refuses(libc::EPERM, name, || fs::hard_link(&free, &path));
        mount.refuses(libc::EPERM, name, || symlink("x", &path));
        mount.refuses(libc::EPERM, name, || mknod(&path, FileType::RegularFile));
        mount.refuses(libc::EPERM, name, || mknod(&path, FileType::Fifo));
    }
    // The root's own is there already.
    mount.refuses(libc::EEXIST, "/.seal", || fs::create_dir(mount.path(".seal")));
    mount.refuses(libc::EEXIST, "/.seal", || symlink("x", mount.path(".seal")));
    let error = errno(File::create(mount.path(".seal")));
    assert!([libc::EISDIR, libc::EPERM].contains(&error), "{error}");
    let why = mount.why("x.seal");
    for operation in ["create", "mkdir", "rename", "link", "symlink"] {
        assert!(why.iter().any(|refusal| refusal["operation"] == operation), "{operation}: {why:?}");
    }
    // Names that only look like it are names.
    for name in ["seal", "x.seals", "x.seal.json", "x.SEAL", "xseal"] {
        fs::write(mount.path(name), CONTENT).expect(name);
    }
}

#[test]
fn devices_fifos_and_sockets_are_not_made() {
    let mount = frozen("nodes", SLOW);
    let path = mount.path("node");
    for kind in [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice] {
        mount.refuses(libc::EPERM, "mknod", || mknod(&path, kind));
    }
    mount.refuses(libc::EPERM, "bind", || std::os::unix::net::UnixListener::bind(&path));
    mknod(&path, FileType::RegularFile).expect("a file");
    assert_eq!(mount.state("node"), "open");
}

#[test]
fn names_that_are_not_text_are_refused() {
    let mount = frozen("names", SLOW);
    let free = mount.path("free/g");
    let long = "n".repeat(256);
    let cases: [(&[u8], i32); 7] = [
        (b"not-\xff-utf8", libc::EILSEQ),
        (b"cut-\xc3", libc::EILSEQ),
        (b"new\nline", libc::EINVAL),
        (b"tab\t", libc::EINVAL),
        (b"\x1b[31m", libc::EINVAL),
        (b"del\x7f", libc::EINVAL),
        (long.as_bytes(), libc::ENAMETOOLONG),
    ];
    for (name, wanted) in cases {
        let path = mount.path(OsStr::from_bytes(name));
        let what = String::from_utf8_lossy(name).into_owned();
        mount.refuses(wanted, &what, || File::create(&path));
        mount.refuses(wanted, &what, || fs::create_dir(&path));
        mount.refuses(wanted, &what, || fs::rename(&free, &path));
        mount.refuses(wanted, &what, || fs::hard_link(&free, &path));
        mount.refuses(wanted, &what, || symlink("x", &path));
        mount.refuses(wanted, &what, || mknod(&path, FileType::RegularFile));
    }
    // Two bytes a character count as bytes; 255 of them are fine.
    mount.refuses(libc::ENAMETOOLONG, "256 bytes", || File::create(mount.path("é".repeat(128))));
    fs::write(mount.path("n".repeat(255)), CONTENT).expect("255 bytes");
    fs::write(mount.path("é ☃ 'quoted' \\ \"name\""), CONTENT).expect("any text");
}

#[test]
fn o_tmpfile_is_not_supported() {
    let mount = frozen("tmpfile", SLOW);
    mount.refuses(libc::EOPNOTSUPP, "O_TMPFILE", || {
        os(rustix::fs::open(&mount.mnt, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)))
    });
}

#[test]
fn fallocate_allocates_but_does_not_punch() {
    let mount = frozen("fallocate", SLOW);
    let file = OpenOptions::new().write(true).open(mount.path("free/g")).expect("open");
    for mode in [
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
    ] {
        mount.refuses(libc::EOPNOTSUPP, "fallocate", || os(rustix::fs::fallocate(&file, mode, 0, 4096)));
    }
    os(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 8192)).expect("fallocate, same size");
    assert_eq!(file.metadata().expect("stat").len(), CONTENT.len() as u64);
    os(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 8192)).expect("fallocate");
    assert_eq!(file.metadata().expect("stat").len(), 8192);
}

#[test]
fn acls_are_not_supported() {
    let mount = frozen("acl", SLOW);
    // Version 2; user::rw-, group::r--, other::r--.
    let acl =
        b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x04\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    for (name, path) in [
        ("system.posix_acl_access", "free/g"),
        ("system.posix_acl_default", "free"),
        ("system.posix_acl_access", "a/b/f"),
    ] {
        mount.refuses(libc::EOPNOTSUPP, name, || {
            os(rustix::fs::setxattr(mount.path(path), name, acl, XattrFlags::empty()))
        });
    }
    mount.refuses(libc::EOPNOTSUPP, "security.capability", || {
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        os(rustix::fs::setxattr(mount.path("free/g"), "security.capability", capability, XattrFlags::empty()))
    });
}

#[test]
fn the_attributes_of_sealfs_cannot_be_set() {
    let mount = frozen("our-xattrs", SLOW);
    for file in ["free/g", "a/b/f", "free"] {
        for name in ["user.seal.state", "user.seal.sha256", "user.seal.anything"] {
            mount.refuses(libc::EPERM, name, || {
                os(rustix::fs::setxattr(mount.path(file), name, b"sealed", XattrFlags::empty()))
            });
            mount.refuses(libc::EPERM, name, || os(rustix::fs::removexattr(mount.path(file), name)));
        }
    }
}

#[test]
fn hard_links_are_refused_where_policy_says_so() {
    let policy = "version = 1\n[defaults]\nsettle = \"1h\"\nerrno = \"EROFS\"\n\
                  [[rule]]\nmatch = [\"nolinks/**\"]\nhardlink = \"refuse\"\n";
    let mount = frozen("hardlink", policy);
    fs::create_dir(mount.path("nolinks")).expect("mkdir");
    for source in ["free/g", "a/b/f"] {
        mount.refuses(libc::EPERM, "link", || fs::hard_link(mount.path(source), mount.path("nolinks/x")));
        fs::hard_link(mount.path(source), mount.path("links")).expect("allowed elsewhere");
        fs::remove_file(mount.path("links")).expect("unlink");
    }
    let why = mount.why("nolinks/x");
    assert_eq!(why[0]["operation"], "link");
    assert_eq!(why[0]["times"], 2);
}

#[test]
fn an_altered_backing_file_is_not_read() {
    let mut mount = frozen("altered", SLOW);
    mount.stop();
    let backing = mount.backing("a/b/f");
    let mtime = fs::metadata(&backing).expect("stat").modified().expect("mtime");
    sh(&mount.dir, &format!("chattr -i '{0}'; printf 'Written once\\n' > '{0}'", backing.display()));
    OpenOptions::new().write(true).open(&backing).expect("open").set_modified(mtime).expect("mtime");
    mount.start();
    let path = mount.path("a/b/f");
    assert_eq!(errno(fs::read(&path)), libc::EIO);
    assert_eq!(errno(File::open(&path)), libc::EIO, "and again");
    let status = mount.ctl_json(&["status"]).remove(0);
    let warnings = status["warnings"].as_array().expect("warnings");
    let told = warnings.iter().any(|warning| warning.as_str().expect("text").contains("a/b/f"));
    assert!(told, "no warning: {status}");
    let history = mount.ctl_json(&[OsStr::new("history"), path.as_os_str()]);
    let noted = history.iter().any(|entry| entry.to_string().contains("alter"));
    assert!(noted, "no entry: {history:?}");
    // The other file is not in doubt.
    assert_eq!(fs::read(mount.path("free/g")).expect("read"), CONTENT);
    assert_eq!(mount.ctl(&["verify", "a/b/f"]).status.code(), Some(3));
}

#[test]
fn a_touched_backing_file_with_the_same_content_is_read() {
    let mut mount = frozen("touched", SLOW);
    mount.stop();
    sh(&mount.dir, &format!("chattr -i '{0}'; touch -d 2020-01-01 '{0}'", mount.backing("a/b/f").display()));
    mount.start();
    assert_eq!(fs::read(mount.path("a/b/f")).expect("read"), CONTENT);
}

#[test]
fn why_tells_what_was_refused_to_whom_and_how_often() {
    let mount = frozen("why", SLOW);
    let path = mount.path("a/b/f");
    assert_eq!(mount.why("a/b/f").len(), 0);
    for _ in 0..3 {
        assert_eq!(errno(fs::remove_file(&path)), libc::EPERM);
    }
    sh_as(0, &mount.mnt, "echo x >> a/b/f");
    let until = mount.stat("a/b/f")["retain_until"].as_str().expect("retain_until").to_owned();
    let find = |operation: &str| {
        let why = mount.why("a/b/f");
        why.into_iter().find(|refusal| refusal["operation"].as_str() == Some(operation))
    };
    let unlink = find("unlink").expect("unlink");
    assert_eq!(unlink["times"], 3);
    assert_eq!(unlink["uid"], 0);
    assert_eq!(unlink["path"], "a/b/f");
    assert!(unlink["reason"].as_str().expect("reason").contains(&until), "{unlink}");
    assert_eq!(find("open for writing").expect("open")["program"], "bash");
    // Kept over a second (they are written down then), counted on, and kept when the daemon is gone.
    harness::pause(1500);
    assert_eq!(errno(fs::remove_file(&path)), libc::EPERM);
    let times: u64 = mount
        .why("a/b/f")
        .iter()
        .filter(|r| r["operation"] == "unlink")
        .filter_map(|r| r["times"].as_u64())
        .sum();
    assert_eq!(times, 4);
    let text = mount.ctl_ok(&["why", "a/b/f"]);
    assert!(text.contains("unlink refused to uid 0") && text.contains(&until[..10]), "{text}");
    mount.ctl_ok(&["hold", "add", "case-42", "a/b/f"]);
    assert_eq!(errno(fs::rename(&path, mount.path("x"))), libc::EPERM);
    assert!(find("rename").expect("rename")["reason"].as_str().expect("reason").contains("case-42"));
}

#[test]
fn refusals_are_known_after_the_daemon_has_stopped() {
    let mut mount = frozen("why-later", SLOW);
    assert_eq!(errno(fs::remove_file(mount.path("a/b/f"))), libc::EPERM);
    mount.restart();
    let why = mount.why("a/b/f");
    assert_eq!((&why[0]["operation"], &why[0]["times"]), (&"unlink".into(), &1.into()));
}

#[test]
fn ordinary_permissions_come_first_for_other_users() {
    let mount = frozen("permissions", SLOW);
    chmod(&mount.path("free/g"), 0o600).expect("chmod");
    let before = mount.picture();
    for (script, word) in [
        ("cat free/g", "Permission denied"),
        ("echo x >> free/g", "Permission denied"),
        ("echo x > new", "Permission denied"),
        ("rm -f free/g", "Permission denied"),
        ("mv free/g free/h", "Permission denied"),
        ("mkdir free/d", "Permission denied"),
        ("chmod 777 free/g", "Operation not permitted"),
        ("chown 65534 free/g", "Operation not permitted"),
        ("echo x >> a/b/f", "Permission denied"),
        ("rm -f a/b/f", "Permission denied"),
        ("setfattr -n user.x -v y a/b/f", "Permission denied"),
        (
            "cat a/b/f > /dev/null; cat a/b/f.seal > /dev/null; ls a/b > /dev/null; echo > a/b/x",
            "Permission denied",
        ),
    ] {
        let (code, text) = sh_as(NOBODY, &mount.mnt, script);
        assert!(code != 0 && text.contains(word), "{script}: {code} {text}");
    }
    assert_eq!(before, mount.picture());
    // The kernel answers these by itself.
    assert_eq!(mount.why("a/b/f").len(), 0);
}

#[test]
fn another_users_sealed_file_is_as_frozen_for_its_owner() {
    let mount = Mount::new("owner", SLOW);
    chmod(&mount.mnt, 0o777).expect("chmod");
    let (code, text) = sh_as(NOBODY, &mount.mnt, "umask 022; mkdir d && echo once > d/f && chmod a-w d/f");
    assert_eq!(code, 0, "{text}");
    mount.until("d/f", "sealed");
    let before = mount.picture();
    for script in [
        "echo x >> d/f",
        "rm -f d/f",
        "mv d/f d/g",
        "mv d e",
        "rm -rf d",
        "chmod u+w d/f",
        "touch d/f",
        "setfattr -n user.x -v y d/f",
        "rm -f d/f.seal",
        "echo x > d/x.seal",
        "mkfifo d/fifo",
    ] {
        let (code, text) = sh_as(NOBODY, &mount.mnt, script);
        let denied = text.contains("Operation not permitted") || text.contains("Permission denied");
        assert!(code != 0 && denied, "{script}: {code} {text}");
    }
    assert_eq!(before, mount.picture());
    let why = mount.why("d/f");
    assert!(
        why.iter().any(|refusal| refusal["uid"] == NOBODY && refusal["operation"] == "unlink"),
        "{why:?}"
    );
    // Its owner may ask, too; somebody else may not.
    let output = mount.ctl_as(NOBODY, &["why", "d/f"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mount.ctl_as(1234, &["why", "d/f"]).status.code(), Some(4));
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let mut mount = frozen("read-only", QUICK);
    mount.until("free/g", "sealed");
    fs::write(mount.path("h"), CONTENT).expect("write");
    mount.until("h", "sealed");
    mount.stop();
    let mount = mount.again(&["-r"]);
    mount.refuses(libc::EROFS, "create", || File::create(mount.path("new")));
    mount.refuses(libc::EROFS, "mkdir", || fs::create_dir(mount.path("new")));
    mount.refuses(libc::EROFS, "unlink", || fs::remove_file(mount.path("h")));
    mount.refuses(libc::EROFS, "rename", || fs::rename(mount.path("h"), mount.path("i")));
    mount.refuses(libc::EROFS, "write", || OpenOptions::new().append(true).open(mount.path("h")));
    mount.refuses(libc::EROFS, "chmod", || chmod(&mount.path("h"), 0o600));
    assert!(
        fs::read_to_string(mount.path("h.seal")).expect("sidecar").starts_with("-----BEGIN SSH SIGNATURE")
    );
}

#[test]
fn a_read_only_mount_refuses_every_request_that_changes_something() {
    let mut mount = frozen("read-only-requests", SLOW);
    fs::write(mount.path("unsealed"), CONTENT).expect("write");
    mount.stop();
    let store = |mount: &Mount| {
        // What is in the write-ahead log of the index goes into the index when that is opened, which changes nothing of it.
        let script = "cd store; find . -not -name 'index.db*' -not -name lock -printf '%p %s %T@ %C@\\n' | sort; \
                      find . -type f -not -name 'index.db*' -not -name lock -exec sha256sum {} + | sort; \
                      sqlite3 -readonly index.db .dump";
        sh(&mount.dir, script)
    };
    let before = store(&mount);
    let mut mount = mount.again(&["-r"]);
    fs::write(mount.dir.join("envelope"), "{}").expect("write");
    let (sealed, unsealed) = (mount.path("a/b/f"), mount.path("unsealed"));
    let (sealed, unsealed) = (sealed.display().to_string(), unsealed.display().to_string());
    let envelope = mount.dir.join("envelope").display().to_string();
    for words in [
        format!("hold add CASE {sealed}"),
        format!("hold remove CASE {sealed}"),
        format!("retain {sealed} --for 99d"),
        format!("retain {sealed} --for 1s --bypass-governance --reason x"),
        format!("seal {unsealed}"),
        format!("seal --torn {unsealed}"),
        format!("purge {sealed}"),
        "purge".to_owned(),
        format!("attest {sealed} {envelope}"),
        "key rotate".to_owned(),
        "clock accept".to_owned(),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let told = mount.ctl_exit(&words, 4);
        assert!(told.contains("read-only"), "{words:?}: {told}");
    }
    mount.refuses(libc::EROFS, "touch -a", || times(&mount.path("a/b/f"), Some(1 << 33), None));
    // What only reads works.
    for words in
        [&["ls"][..], &["why", &sealed], &["history", &sealed], &["purge", "--dry-run"], &["log", "check"]]
    {
        mount.ctl_ok(words);
    }
    mount.stop();
    assert_eq!(store(&mount), before, "the store has changed");
}

#[test]
fn a_refused_write_leaves_a_reader_every_byte() {
    let mount = frozen("reader", SLOW);
    let mut file = File::open(mount.path("a/b/f")).expect("open");
    let mut first = [0; 4];
    file.read_exact(&mut first).expect("read");
    assert_eq!(errno(fs::write(mount.path("a/b/f"), b"")), libc::EPERM);
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).expect("read");
    assert_eq!([&first[..], &rest].concat(), CONTENT);
    eventually("it is sealed", || {
        xattr(&mount.path("a/b/f"), "user.seal.state").as_deref() == Some("sealed")
    });
}
