//! What is sealed is what the rule of the name seals, as it is when the seal is made; and a call that fails changes
//! nothing of when that is.

mod harness;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Mount, errno, eventually, pause, run, sealctl, truncate, xattr};

/// Nothing is sealed by time; scratch names, names that only `sealctl seal` seals, and a folder that seals links.
const RULES: &str = "version = 1
[defaults]
retention = \"1h\"
settle = \"1h\"
[[rule]]
match = [\"**/*.tmp\", \"**/*.tmp/**\"]
seal = \"never\"
[[rule]]
match = [\"explicit/**\"]
seal = \"explicit\"
[[rule]]
match = [\"readonly/**\"]
seal = \"readonly\"
[[rule]]
match = [\"links/**\"]
symlinks = \"seal\"
settle = \"0s\"
";

fn read_only(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("chmod");
}

/// A file that is open for writing, with content.
fn open(mount: &Mount, name: &str) -> File {
    let mut file = File::create(mount.path(name)).expect("create");
    file.write_all(b"content").expect("write");
    file
}

/// Whether the index has a seal there, without a look at the name in the mount.
fn is_sealed(mount: &Mount, name: &str) -> bool {
    mount.sql(&format!("select count(*) from artifacts where path = '{name}'")).trim() == "1"
}

#[track_caller]
fn until_sealed(mount: &Mount, name: &str) {
    eventually(name, || is_sealed(mount, name));
}

#[test]
fn what_was_asked_for_under_one_name_does_not_hold_under_another() {
    let mut mount = Mount::new("wanted", RULES);
    for folder in ["explicit", "readonly", "a", "a.tmp", "b"] {
        fs::create_dir(mount.path(folder)).expect("mkdir");
    }
    let rename = |from: &str, to: &str| fs::rename(mount.path(from), mount.path(to)).expect("rename");

    // The write bits are taken away while it is open, and it gets another name before its last close.
    for (from, to) in [("f", "f.tmp"), ("g", "explicit/g"), ("a/h", "a.tmp/h")] {
        let file = open(&mount, from);
        read_only(&mount.path(from));
        rename(from, to);
        drop(file);
    }
    // The same with a folder that is renamed.
    let file = open(&mount, "b/i");
    read_only(&mount.path("b/i"));
    rename("b", "b.tmp");
    drop(file);
    // `sealctl seal` asks for more than that, but not for scratch.
    let (file, scratch) = (open(&mount, "s"), open(&mount, "t"));
    // It waits for the last close.
    let asking = ["s", "t"].map(|name| {
        sealctl().arg("seal").arg(mount.path(name)).stderr(Stdio::null()).spawn().expect("sealctl")
    });
    pause(1000);
    rename("s", "explicit/s");
    rename("t", "t.tmp");
    drop((file, scratch));
    mount.until("explicit/s", "sealed");
    let [sealed, refused] = asking.map(|mut asking| asking.wait().expect("wait").code());
    assert_eq!((sealed, refused), (Some(0), Some(4)));
    // A closed file whose seal was asked for by a sidecar is under way at once; a closed copy of it in scratch is not.
    let file = open(&mount, "u");
    drop(file);
    fs::read(mount.path("u.seal")).expect("the seal");
    fs::hard_link(mount.path("u"), mount.path("u.tmp")).expect("link");
    let scratch = ["f.tmp", "explicit/g", "a.tmp/h", "b.tmp/i", "t.tmp", "u.tmp"];
    pause(1000);
    for name in scratch {
        assert_eq!(mount.state(name), "open", "{name}");
        fs::write(mount.path(name), b"written again")
            .or_else(|_| fs::remove_file(mount.path(name)))
            .expect(name);
    }

    // Taking the write bits away is enough for another rule of the kind.
    let file = open(&mount, "v");
    read_only(&mount.path("v"));
    rename("v", "readonly/v");
    drop(file);
    mount.until("readonly/v", "sealed");

    // What is asked for is remembered as what it was by the next daemon.
    let file = open(&mount, "w");
    read_only(&mount.path("w"));
    rename("w", "explicit/w");
    drop(file);
    eventually("the daemon hears of the close", || {
        let journal = fs::read_to_string(mount.dir.join("store/journal")).unwrap_or_default();
        journal.lines().any(|line| line.starts_with("c\t") && line.ends_with("\texplicit/w"))
    });
    mount.kill();
    mount.start();
    pause(1000);
    assert_eq!(mount.state("explicit/w"), "open");
}

#[test]
fn a_policy_that_comes_during_the_quiet_time_holds() {
    let mount = Mount::new("wanted-policy", "version = 1\n[defaults]\nretention = \"1h\"\nsettle = \"4s\"\n");
    fs::write(mount.path("scratch"), "x").expect("write");
    fs::write(mount.path("kept"), "x").expect("write");
    symlink("kept", mount.path("link")).expect("symlink");
    let rule = "version = 1\n[defaults]\nretention = \"1h\"\nsettle = \"4s\"\n[[rule]]\nmatch = \"scratch\"\nseal = \"never\"\n\
                [[rule]]\nmatch = \"link\"\nsymlinks = \"seal\"\n";
    fs::write(mount.dir.join("store/policy.toml"), rule).expect("policy");
    mount.until("kept", "sealed");
    pause(500);
    assert_eq!(mount.state("scratch"), "open");
    // Links from before the rule begin to settle when they are looked at.
    let _ = fs::read_link(mount.path("link"));
    until_sealed(&mount, "link");
}

#[test]
fn links_are_sealed_however_they_came_to_their_name() {
    let mut mount = Mount::new("wanted-links", RULES);
    for folder in ["links", "x.tmp", "x.tmp/deep", "free"] {
        fs::create_dir(mount.path(folder)).expect("mkdir");
    }
    fs::write(mount.path("x.tmp/lib.so.1"), "lib").expect("write");
    for link in ["x.tmp/lib.so", "x.tmp/deep/lib.so", "x.tmp/single", "free/link"] {
        symlink("lib.so.1", mount.path(link)).expect("symlink");
    }
    // With a folder, alone, and as the copy that a hard link of it becomes.
    fs::rename(mount.path("x.tmp/single"), mount.path("links/single")).expect("rename");
    fs::rename(mount.path("x.tmp"), mount.path("links/x")).expect("rename");
    fs::hard_link(mount.path("free/link"), mount.path("links/linked")).expect("link");
    for link in ["links/x/lib.so", "links/x/deep/lib.so", "links/single", "links/linked"] {
        // Nothing looks at it in between.
        until_sealed(&mount, link);
        let error = fs::remove_file(mount.path(link));
        assert_eq!(errno(error), libc::EPERM, "{link}");
    }
    mount.ctl_ok(&[OsStr::new("verify"), mount.path("links").as_os_str()]);
    assert!(!is_sealed(&mount, "free/link"));

    // Out of it with a folder, before it is sealed: it is free, and stays so with the next daemon.
    let slow = RULES.replace("settle = \"0s\"", "settle = \"2s\"");
    fs::write(mount.dir.join("store/policy.toml"), slow).expect("policy");
    mount.restart();
    fs::create_dir(mount.path("links/out")).expect("mkdir");
    symlink("here", mount.path("links/out/link")).expect("symlink");
    fs::rename(mount.path("links/out"), mount.path("out")).expect("rename");
    fs::create_dir(mount.path("links/in")).expect("mkdir");
    symlink("here", mount.path("links/in/link")).expect("symlink");
    mount.kill();
    mount.start();
    until_sealed(&mount, "links/in/link");
    pause(500);
    assert!(!is_sealed(&mount, "out/link"));
    fs::remove_file(mount.path("out/link")).expect("a free link can be removed");
}

#[test]
fn a_call_that_fails_changes_nothing_of_when_a_file_is_sealed() {
    let policy = "version = 1\n[defaults]\nretention = \"1h\"\nsettle = \"1s\"\n";
    for options in [&[][..], &["-o", "passthrough=off"]] {
        let mut mount = Mount::with("wanted-failed", policy, options);
        for name in ["truncated", "opened", "torn"] {
            fs::write(mount.path(name), "content").expect("write");
        }
        let file = OpenOptions::new().append(true).open(mount.path("torn")).expect("open");
        let error = truncate(&mount.path("truncated"), 1 << 50);
        assert_eq!(errno(error), libc::EFBIG);
        assert_eq!(fs::read(mount.path("truncated")).expect("read"), b"content");
        // An open for writing fails in the store.
        let fail_to_open = |mount: &Mount, name: &str| {
            run(Command::new("chattr").arg("+i").arg(mount.backing(name)));
            let error = OpenOptions::new().write(true).truncate(true).open(mount.path(name));
            assert_eq!(errno(error), libc::EPERM, "{name}");
            run(Command::new("chattr").arg("-i").arg(mount.backing(name)));
        };
        fail_to_open(&mount, "opened");
        mount.until("truncated", "sealed");
        mount.until("opened", "sealed");
        // What was open when the daemon died is torn, and an open that fails does not make it whole.
        mount.kill();
        drop(file);
        mount.start();
        assert_eq!(mount.state("torn"), "torn");
        fail_to_open(&mount, "torn");
        assert_eq!(errno(truncate(&mount.path("torn"), 1 << 50)), libc::EFBIG);
        pause(1500);
        assert_eq!(mount.state("torn"), "torn");
    }
}

#[test]
fn what_the_daemon_copies_is_what_was_sealed() {
    let mut mount = Mount::new("wanted-altered", RULES);
    fs::write(mount.path("f"), "good").expect("write");
    fs::create_dir(mount.path("links")).expect("mkdir");
    symlink("good", mount.path("links/l")).expect("symlink");
    fs::read(mount.path("f.seal")).expect("the seal");
    until_sealed(&mount, "links/l");
    fs::hard_link(mount.path("f"), mount.path("copy")).expect("an unaltered file is copied");
    mount.stop();
    run(Command::new("chattr").arg("-i").arg(mount.backing("f")));
    fs::write(mount.backing("f"), "evil").expect("alter");
    fs::remove_file(mount.backing("links/l")).expect("alter");
    symlink("evil", mount.backing("links/l")).expect("alter");
    mount.start();
    for (from, to) in [("f", "g"), ("links/l", "links/m")] {
        let error = fs::hard_link(mount.path(from), mount.path(to));
        assert_eq!(errno(error), libc::EIO, "{from}");
        assert!(fs::symlink_metadata(mount.path(to)).is_err(), "{to} is there");
    }
    let log = mount.ctl_ok(&["log", "show"]);
    assert_eq!(log.to_lowercase().matches("alter").count(), 2, "{log}");
    assert_eq!(xattr(&mount.path("copy"), "user.seal.state").as_deref(), Some("settling"));
    let left = fs::read_dir(mount.dir.join("store/staging")).expect("staging").count();
    assert_eq!(left, 0, "files in the staging folder");
    run(Command::new("chattr").arg("-f").arg("-i").arg(mount.backing("f")));
}
