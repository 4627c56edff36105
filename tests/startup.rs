//! How `sealfs` starts and ends: bad input is told in one line with the right exit code and leaves nothing half
//! made; good input is mounted by hand, by `mount(8)` and by systemd alike.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Mount, QUICK, errno, run, scratch, sealctl, sealfs, sh};

/// A store and a mount point, not mounted; everything goes away with it.
struct Place {
    dir: PathBuf,
    store: PathBuf,
    mnt: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = scratch(name);
        let (store, mnt) = (dir.join("store"), dir.join("mnt"));
        fs::create_dir(&mnt).expect("mount point");
        run(sealctl().arg("init").arg(&store).args(["--origin", "test.example/store"]));
        fs::write(store.join("policy.toml"), QUICK).expect("policy");
        Place { dir, store, mnt }
    }

    /// Starts in the background, as a user does.
    fn start(&self, args: &[&str]) -> Output {
        launch(&self.store, &self.mnt, args)
    }

    /// Who holds the store, by its lock.
    fn pid(&self) -> u32 {
        let lock = fs::read_to_string(self.store.join("lock")).expect("lock");
        let digits: String =
            lock.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a process")
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(&self.mnt));
        let until = Instant::now() + Duration::from_secs(10);
        while Path::new(&format!("/proc/{}", self.pid())).exists() {
            assert!(Instant::now() < until, "the daemon did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mounted = |text: String| text.contains(&format!(" {} ", self.mnt.display()));
        if fs::read_to_string("/proc/self/mountinfo").is_ok_and(mounted) {
            let _ = Command::new("umount").arg("-l").arg(&self.mnt).status();
        }
        harness::remove(&self.dir);
    }
}

fn launch(store: &Path, mnt: &Path, args: &[&str]) -> Output {
    // Files, not pipes: a daemon that kept one open would keep us waiting, and that is a finding of its own.
    let mut command = Command::new("timeout");
    command.arg("20").arg(sealfs().get_program()).args(args).arg(store).arg(mnt);
    command.stdin(Stdio::null()).output().expect("sealfs")
}

fn is_mounted(mnt: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().any(|line| line.split(' ').nth(4) == mnt.to_str())
}

/// Every name below a folder with its size and mode.
fn names(dir: &Path) -> Vec<String> {
    let listing = run(Command::new("find").arg(dir).args(["-printf", "%P %s %m\n"]));
    let mut names: Vec<_> = listing.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// It must end with this code and one line on standard error that has all of these words.
#[track_caller]
fn told(output: &Output, code: i32, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.lines().count(), 1, "one line: {error}");
    assert!(error.starts_with("sealfs: "), "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// As [`told`], in the background and with `-f`; nothing is mounted and nothing in the store has changed.
#[track_caller]
fn refused(place: &Place, store: &Path, mnt: &Path, code: i32, words: &[&str]) {
    let before = names(&place.dir);
    for args in [&[][..], &["-f"]] {
        told(&launch(store, mnt, args), code, words);
        assert!(!is_mounted(mnt), "it is mounted");
        // The lock file may come into being; what is in the store may not change.
        let after: Vec<_> = names(&place.dir)
            .into_iter()
            .filter(|name| !name.starts_with("store/lock ") && !name.starts_with("store 4096"))
            .collect();
        let before: Vec<_> = before
            .iter()
            .filter(|name| !name.starts_with("store/lock ") && !name.starts_with("store 4096"))
            .cloned()
            .collect();
        assert_eq!(after, before, "nothing is left half made");
    }
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let place = Place::new("no-store");
    let empty = place.dir.join("empty");
    fs::create_dir(&empty).expect("folder");
    refused(&place, &empty, &place.mnt, 1, &["empty", "not a sealfs store", "sealctl init"]);
    let file = place.dir.join("file");
    fs::write(&file, "x").expect("file");
    refused(&place, &file, &place.mnt, 1, &["file", "not a sealfs store"]);
}

#[test]
fn a_store_that_is_not_there_is_refused() {
    let place = Place::new("missing-store");
    refused(&place, &place.dir.join("nowhere"), &place.mnt, 1, &["nowhere", "no such store", "sealctl init"]);
}

#[test]
fn a_store_that_others_can_enter_is_refused() {
    let place = Place::new("open-store");
    fs::set_permissions(&place.store, fs::Permissions::from_mode(0o755)).expect("mode");
    refused(&place, &place.store, &place.mnt, 1, &["open to others", "0755", "chmod 700"]);
}

#[test]
fn a_second_daemon_on_a_store_is_refused_and_told_who_holds_it() {
    let mount = Mount::new("busy-store", QUICK);
    let second = mount.dir.join("second");
    fs::create_dir(&second).expect("folder");
    let process = format!("process {}", mount.pid());
    for args in [&[][..], &["-f"]] {
        let output = launch(&mount.store, &second, args);
        told(&output, 1, &["in use", &process, mount.mnt.to_str().expect("UTF-8")]);
        assert!(!is_mounted(&second));
    }
    mount.sealed("still", b"works");
}

#[test]
fn a_mount_point_that_is_missing_a_file_or_not_empty_is_refused() {
    let place = Place::new("mount-point");
    refused(&place, &place.store, &place.dir.join("nowhere"), 1, &["nowhere", "no such folder", "mkdir"]);
    let file = place.dir.join("file");
    fs::write(&file, "x").expect("file");
    refused(&place, &place.store, &file, 1, &["file", "not a folder"]);
    fs::write(place.mnt.join("x"), "x").expect("file");
    refused(&place, &place.store, &place.mnt, 1, &["not empty", "nonempty"]);
    let output = place.start(&["-o", "nonempty"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.unmount();
}

#[test]
fn a_mount_point_in_the_store_or_around_it_is_refused() {
    let place = Place::new("nested");
    refused(&place, &place.store, &place.store.join("tree"), 1, &["must not lie in one another"]);
    refused(&place, &place.store, &place.store, 1, &["must not lie in one another"]);
    refused(&place, &place.store, &place.dir, 1, &["must not lie in one another"]);
}

#[test]
fn a_mount_point_that_is_mounted_on_is_refused() {
    let mount = Mount::new("busy-mnt", QUICK);
    let place = Place::new("busy-mnt-2");
    let output = launch(&place.store, &mount.mnt, &[]);
    told(&output, 1, &["mounted here already"]);
    mount.sealed("still", b"works");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let place = Place::new("key-mode");
    let key = place.store.join("keys/seal");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("mode");
    refused(&place, &place.store, &place.mnt, 1, &["keys/seal", "chmod 600"]);
}

#[test]
fn a_key_that_is_missing_or_none_is_refused() {
    let place = Place::new("key-gone");
    let key = place.store.join("keys/seal");
    fs::write(&key, "not a key\n").expect("write");
    refused(&place, &place.store, &place.mnt, 1, &["keys/seal"]);
    fs::remove_file(&key).expect("remove");
    refused(&place, &place.store, &place.mnt, 1, &["keys/seal"]);
}

#[test]
fn a_mistake_in_the_policy_is_told_with_its_place() {
    let place = Place::new("policy");
    let policy = place.store.join("policy.toml");
    for (text, at) in [
        ("version = 1\n[defaults]\nsettle = \"soon\"\n", ":3:10:"),
        ("version = 1\n[defaults]\nsettel = \"1s\"\n", ":3:1:"),
        ("version = 1\n[[rule]]\nmatch = [\"a/**\", \"[\"]\n", ":3:18:"),
        ("version = 1\n[defaults\n", ":2:"),
        ("version = 7\n", ":1:11:"),
    ] {
        fs::write(&policy, text).expect("policy");
        refused(&place, &place.store, &place.mnt, 1, &[&format!("policy.toml{at}")]);
    }
    fs::remove_file(&policy).expect("remove");
    refused(&place, &place.store, &place.mnt, 1, &["policy.toml"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new("usage");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (store, mnt) = (path(&place.store), path(&place.mnt));
    told(&place.start(&["-o", "shiny"]), 2, &["unknown mount option 'shiny'"]);
    for args in [vec!["--shiny", &store, &mnt], vec![&store], vec![], vec![&store, &mnt, "more"]] {
        told(&sealfs().args(&args).output().expect("sealfs"), 2, &[]);
    }
    assert!(!is_mounted(&place.mnt));
    let help = sealfs().arg("--help").output().expect("sealfs");
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Usage: sealfs"));
    let version = sealfs().arg("--version").output().expect("sealfs");
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("sealfs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_damaged_index_is_refused() {
    let place = Place::new("index");
    // With its write-ahead log SQLite would heal it.
    for name in ["index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(place.store.join(name));
    }
    fs::write(place.store.join("index.db"), "this is no database, but text\n".repeat(200)).expect("write");
    for args in [&[][..], &["-f"]] {
        told(&place.start(args), 1, &["index.db"]);
        assert!(!is_mounted(&place.mnt));
    }
}

/// A small ext4 file system in a file.
struct Loop {
    dir: PathBuf,
    mnt: PathBuf,
}

impl Loop {
    fn new(name: &str, size: &str) -> Self {
        let dir = scratch(name);
        let (image, mnt) = (dir.join("image"), dir.join("small"));
        fs::create_dir(&mnt).expect("folder");
        let small = Loop { dir, mnt };
        run(Command::new("truncate").args(["-s", size]).arg(&image));
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(&image));
        // The kernel frees such a loop device by itself at the unmount.
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&small.mnt));
        small
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mnt).status();
        harness::remove(&self.dir);
    }
}

#[test]
fn init_on_a_full_disk_leaves_nothing() {
    let small = Loop::new("full", "4M");
    let fill = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}/fill", small.mnt.display()))
        .output();
    assert!(!fill.expect("dd").status.success(), "the disk is not full");
    let store = small.mnt.join("store");
    let output = sealctl().arg("init").arg(&store).output().expect("sealctl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("sealctl: ") && error.contains("full"), "{error}");
    let mut left: Vec<_> =
        fs::read_dir(&small.mnt).expect("folder").map(|entry| entry.expect("entry").file_name()).collect();
    left.retain(|name| name != "lost+found" && name != "fill");
    assert!(left.is_empty(), "left over: {left:?}");
    // With room again it works, at the same place.
    fs::remove_file(small.mnt.join("fill")).expect("remove");
    run(sealctl().arg("init").arg(&store));
}

#[test]
fn a_start_on_a_full_disk_is_refused_or_works() {
    let small = Loop::new("full-start", "8M");
    let (store, mnt) = (small.mnt.join("store"), small.dir.join("mnt"));
    fs::create_dir(&mnt).expect("folder");
    run(sealctl().arg("init").arg(&store));
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}/fill", small.mnt.display()))
        .output();
    let output = launch(&store, &mnt, &[]);
    if output.status.success() {
        run(Command::new("umount").arg(&mnt));
        // The daemon lets go of the small file system.
        std::thread::sleep(Duration::from_millis(500));
    } else {
        told(&output, 1, &["full"]);
    }
    assert!(!is_mounted(&mnt));
    fs::remove_file(small.mnt.join("fill")).expect("remove");
    let again = launch(&store, &mnt, &[]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    run(Command::new("umount").arg(&mnt));
    std::thread::sleep(Duration::from_millis(500));
}

#[test]
fn a_policy_broken_while_running_leaves_the_old_one_in_force() {
    let mount = Mount::new("policy-live", QUICK);
    let policy = mount.store.join("policy.toml");
    let warned = |wanted: bool| {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let status = mount.ctl_ok(&["status"]);
            if status.contains("policy.toml:3:10:") == wanted {
                return status;
            }
            assert!(Instant::now() < until, "{status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    fs::write(&policy, "version = 1\n[defaults]\nsettle = \"soon\"\n").expect("policy");
    assert!(warned(true).contains("warning: "));
    fs::write(mount.path("x"), "x").expect("write");
    mount.until("x", "sealed");
    fs::write(&policy, "version = 1\n[defaults]\nsettle = \"1h\"\n").expect("policy");
    warned(false);
    fs::write(mount.path("y"), "y").expect("write");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(mount.state("y"), "settling", "the mended policy is in force");
}

#[test]
fn the_background_start_returns_when_the_mount_is_live() {
    let place = Place::new("background");
    let output = place.start(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "silent: {output:?}");
    assert!(is_mounted(&place.mnt));
    fs::write(place.mnt.join("x"), "x").expect("write at once");
    run(Command::new("cat").arg(place.mnt.join("x.seal")));
    place.unmount();
}

#[test]
fn sigterm_and_sigint_unmount_and_end_with_0() {
    for signal in ["-TERM", "-INT"] {
        let place = Place::new("signal");
        let mut daemon = sealfs()
            .arg("-f")
            .arg(&place.store)
            .arg(&place.mnt)
            .stderr(Stdio::null())
            .spawn()
            .expect("sealfs");
        let until = Instant::now() + Duration::from_secs(20);
        while !is_mounted(&place.mnt) || fs::metadata(&place.mnt).is_err() {
            assert!(Instant::now() < until, "not mounted");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Until it has its signal handlers: the control socket comes last but one.
        while !sealctl()
            .arg("--store")
            .arg(&place.store)
            .arg("status")
            .output()
            .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("running"))
        {
            assert!(Instant::now() < until, "no daemon");
        }
        std::thread::sleep(Duration::from_millis(100));
        fs::write(place.mnt.join("x"), "settles").expect("write");
        run(Command::new("kill").arg(signal).arg(daemon.id().to_string()));
        let status = daemon.wait().expect("wait");
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(!is_mounted(&place.mnt));
        // What was closed goes on after the next start.
        assert!(place.start(&[]).status.success());
        run(sealctl().args(["wait", "--timeout", "20s"]).arg(place.mnt.join("x")));
        place.unmount();
    }
}

#[test]
fn mount_8_knows_the_type() {
    let place = Place::new("mount8");
    let program = PathBuf::from(sealfs().get_program());
    let path =
        format!("{}:{}", program.parent().expect("folder").display(), std::env::var("PATH").expect("PATH"));
    // What mount(8) runs; mount itself sets PATH to the system's folders, where sealfs need not be here.
    run(Command::new("mount.fuse3")
        .arg(&place.store)
        .arg(&place.mnt)
        .args(["-t", "fuse.sealfs", "-o", "rw,noatime,nosuid"])
        .env("PATH", path));
    assert!(is_mounted(&place.mnt));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line =
        mounts.lines().find(|line| line.split(' ').nth(4) == place.mnt.to_str()).expect("line").to_owned();
    assert!(
        line.contains(" - fuse.sealfs ") && line.contains(place.store.to_str().expect("UTF-8")),
        "{line}"
    );
    assert!(
        line.contains("nosuid") && line.contains("nodev") && line.contains("default_permissions"),
        "{line}"
    );
    fs::write(place.mnt.join("x"), "x").expect("write");
    run(sealctl().arg("seal").arg(place.mnt.join("x")));
    place.unmount();
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let place = Place::new("notify");
    let socket = place.dir.join("notify");
    let inbox = std::os::unix::net::UnixDatagram::bind(&socket).expect("socket");
    inbox.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let mut daemon = sealfs()
        .arg("-f")
        .arg(&place.store)
        .arg(&place.mnt)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "3000000")
        .stderr(Stdio::null())
        .spawn()
        .expect("sealfs");
    let (mut message, mut fed) = ([0u8; 256], 0);
    let mut next = || {
        loop {
            let size = inbox.recv(&mut message).expect("a message");
            let text = String::from_utf8_lossy(&message[..size]).into_owned();
            if text != "WATCHDOG=1" {
                return (text, fed);
            }
            fed += 1;
        }
    };
    assert!(next().0.contains("READY=1"));
    harness::pause(2500);
    assert!(is_mounted(&place.mnt));
    fs::write(place.mnt.join("x"), "x").expect("write");
    run(Command::new("kill").arg(daemon.id().to_string()));
    let (text, fed) = next();
    assert!(text.contains("STOPPING=1"));
    assert!(fed >= 2, "the watchdog was fed {fed} times");
    assert_eq!(daemon.wait().expect("wait").code(), Some(0));
}

#[test]
fn a_read_only_mount_writes_nothing_and_seals_nothing() {
    let mut mount = Mount::new("read-only", QUICK);
    mount.sealed("old", b"old");
    mount.stop();
    let place = Place { dir: mount.dir.clone(), store: mount.store.clone(), mnt: mount.mnt.clone() };
    // What a crash left is not mended either.
    sh(&mount.dir, "printf torn >> store/log/attachments.jsonl; touch store/keys/seal.next");
    let picture =
        || sh(&mount.dir, "cd store; find log keys policy.toml tree -type f -exec sha256sum {} + | sort");
    let before = picture();
    for how in [&["-r"][..], &["-o", "ro"]] {
        assert!(place.start(how).status.success());
        assert_eq!(fs::read(place.mnt.join("old")).expect("read"), b"old");
        assert_eq!(errno(fs::write(place.mnt.join("new"), "new")), libc::EROFS);
        assert_eq!(errno(fs::remove_file(place.mnt.join("old"))), libc::EROFS);
        run(sealctl().arg("verify").arg(place.mnt.join("old")));
        assert!(run(sealctl().arg("--store").arg(&place.store).arg("status")).contains("read-only"));
        place.unmount();
        assert_eq!(picture(), before);
    }
    mount.start();
    sh(&mount.mnt, "cp /bin/true new; cat new.seal > /dev/null");
    mount.ctl_ok(&["verify", "--all"]);
}

#[test]
fn a_dead_mount_of_a_killed_daemon_is_cleared_at_the_next_start() {
    let place = Place::new("dead");
    assert!(place.start(&[]).status.success());
    run(Command::new("kill").arg("-9").arg(place.pid().to_string()));
    let until = Instant::now() + Duration::from_secs(10);
    while fs::metadata(&place.mnt).is_ok() {
        assert!(Instant::now() < until, "still served");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = place.start(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(place.mnt.join("x"), "x").expect("write");
    place.unmount();
    assert!(!is_mounted(&place.mnt), "one mount only");
}

#[test]
fn what_the_daemon_logs_goes_where_the_log_level_says() {
    let place = Place::new("log");
    let log = fs::File::create(place.dir.join("log")).expect("log");
    let mut daemon = sealfs()
        .arg("-f")
        .arg(&place.store)
        .arg(&place.mnt)
        .env("SEALFS_LOG", "error")
        .stderr(log)
        .spawn()
        .expect("sealfs");
    let until = Instant::now() + Duration::from_secs(20);
    while !is_mounted(&place.mnt) {
        assert!(Instant::now() < until, "not mounted");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(place.mnt.join("x"), "x").expect("write");
    run(Command::new("umount").arg(&place.mnt));
    assert_eq!(daemon.wait().expect("wait").code(), Some(0));
    assert_eq!(fs::read_to_string(place.dir.join("log")).expect("log"), "");
}

/// Whether the folder carries the immutable flag.
fn is_immutable(folder: &Path) -> bool {
    run(Command::new("lsattr").arg("-d").arg(folder)).split(' ').next().expect("flags").contains('i')
}

#[test]
fn nothing_is_written_beside_the_mount() {
    let place = Place::new("guard");
    told_ready(&place.start(&[]));
    // Where the mount does not reach: a mount namespace in which it is gone.
    let beside = format!("umount '{0}' && ! touch '{0}/bare' && ! mkdir '{0}/folder'", place.mnt.display());
    let beside = Command::new("unshare").args(["-m", "sh", "-c", &beside]).output().expect("unshare");
    assert!(beside.status.success(), "{beside:?}");
    // A clean unmount takes the flag away, so that the folder can be removed.
    place.unmount();
    assert!(!is_immutable(&place.mnt), "a clean unmount leaves the flag");
    assert!(fs::read_dir(&place.mnt).expect("list").next().is_none(), "written beside the mount");
    fs::remove_dir(&place.mnt).expect("rmdir");
    fs::create_dir(&place.mnt).expect("mkdir");

    // A killed daemon leaves it, also when its dead mount is cleared away; the next start copes with it.
    told_ready(&place.start(&[]));
    let pid = i32::try_from(place.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    harness::eventually("it is dead", || !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists());
    run(Command::new("umount").arg("-l").arg(&place.mnt));
    assert_eq!(errno(fs::write(place.mnt.join("unsealed"), "x")), libc::EPERM);
    told_ready(&place.start(&[]));
    fs::write(place.mnt.join("f"), "x").expect("the mount takes files");
    place.unmount();
    assert!(!is_immutable(&place.mnt), "the flag of a killed daemon stays");

    // An administrator's own flag stays.
    run(Command::new("chattr").arg("+i").arg(&place.mnt));
    told_ready(&place.start(&[]));
    place.unmount();
    assert!(is_immutable(&place.mnt), "an administrator's flag was taken away");
    run(Command::new("chattr").arg("-i").arg(&place.mnt));

    // And who wants none has none, and is told.
    told_ready(&place.start(&["-o", "noguard"]));
    let status = run(sealctl().arg("--store").arg(&place.store).arg("status"));
    assert!(status.contains("is not guarded: it is off"), "{status}");
    let beside = format!("umount '{0}' && touch '{0}/bare' && rm '{0}/bare'", place.mnt.display());
    run(Command::new("unshare").args(["-m", "sh", "-c", &beside]));
    place.unmount();
}

#[test]
fn a_mount_that_was_aborted_stays_guarded() {
    let place = Place::new("guard-abort");
    told_ready(&place.start(&[]));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == place.mnt.to_str()).expect("mounted");
    let device = line.split(' ').nth(2).and_then(|device| device.split_once(':')).expect("device").1;
    let connections = place.dir.join("connections");
    fs::create_dir(&connections).expect("folder");
    let abort =
        format!("mount -t fusectl none '{0}' && echo 1 > '{0}/{device}/abort'", connections.display());
    run(Command::new("unshare").args(["-m", "sh", "-c", &abort]));
    harness::eventually("the daemon has ended", || !Path::new(&format!("/proc/{}", place.pid())).exists());
    assert!(is_mounted(&place.mnt), "a dead mount");
    run(Command::new("umount").arg("-l").arg(&place.mnt));
    assert!(is_immutable(&place.mnt), "beneath a dead mount nothing is guarded");
    assert_eq!(errno(fs::write(place.mnt.join("unsealed"), "x")), libc::EPERM);
}

#[track_caller]
fn told_ready(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn paths_may_be_relative_to_the_folder_of_the_start() {
    let place = Place::new("relative");
    fs::rename(place.store.join("keys/seal"), place.dir.join("seal-key")).expect("rename");
    let mut command = Command::new("timeout");
    command.arg("20").arg(sealfs().get_program()).args(["--seal-key", "seal-key", "store", "mnt"]);
    told_ready(&command.current_dir(&place.dir).stdin(Stdio::null()).output().expect("sealfs"));
    // The next worker is started by a process that has left the folder.
    let worker = || {
        let status =
            sealctl().args(["--json", "--store"]).arg(&place.store).arg("status").output().expect("sealctl");
        // One that was just killed may have taken the request.
        serde_json::from_slice::<serde_json::Value>(&status.stdout).ok()?["pid"].as_i64()
    };
    let first = worker().expect("a worker");
    let pid = i32::try_from(first).ok().and_then(rustix::process::Pid::from_raw).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    harness::eventually("another worker", || worker().is_some_and(|pid| pid != first));
    fs::write(place.mnt.join("f"), "x").expect("write");
    run(sealctl().args(["seal", "f"]).current_dir(&place.mnt));
    place.unmount();
}

#[test]
fn a_store_that_was_copied_gets_its_immutable_flags_again() {
    let place = Place::new("copied-flags");
    told_ready(&place.start(&[]));
    for name in ["a", "b", "altered"] {
        fs::write(place.mnt.join(name), name).expect("write");
        run(sealctl().args(["seal", name]).current_dir(&place.mnt));
    }
    place.unmount();
    let copy = place.dir.join("copy");
    run(Command::new("cp").arg("-a").arg(&place.store).arg(&copy));
    let flags = |name: &str| run(Command::new("lsattr").arg(copy.join("tree").join(name)));
    let is_set = |name: &str| flags(name).split(' ').next().expect("flags").contains('i');
    assert!(!is_set("a"), "cp copies no flag");
    fs::write(copy.join("tree/altered"), "forged!").expect("write");
    told_ready(&launch(&copy, &place.mnt, &[]));
    harness::eventually("the flags are set again", || is_set("a") && is_set("b"));
    assert!(!is_set("altered"), "what was altered is not kept");
    assert!(fs::read(place.mnt.join("altered")).is_err());
    assert_eq!(fs::read(place.mnt.join("a")).expect("read"), b"a");
    harness::eventually("the count is shown", || {
        run(sealctl().arg("--store").arg(&copy).arg("status"))
            .contains("2 backing file(s) were without the immutable flag")
    });
    run(Command::new("umount").arg(&place.mnt));
}
