//! Starting and ending: bad input gets one line and the right exit code, and leaves nothing half made.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::{Mount, QUICK, remove, run, scratch, sealctl, sealfs};

/// A store and an empty mount point that is not mounted.
struct Store {
    dir: std::path::PathBuf,
}

impl Store {
    fn new(name: &str) -> Self {
        let dir = scratch(name);
        fs::create_dir(dir.join("mnt")).unwrap();
        run(sealctl().arg("init").arg(dir.join("store")).args(["--origin", "test.example/store"]));
        Store { dir }
    }

    fn start(&self, store: &str, mnt: &str, more: &[&str]) -> Output {
        let mut command = sealfs();
        command.arg("-f").args(more).arg(self.dir.join(store)).arg(self.dir.join(mnt));
        let mut guarded = Command::new("timeout");
        guarded.arg("20").arg(command.get_program()).args(command.get_args());
        guarded.env("SEALFS_LOG", "off").output().unwrap()
    }

    /// It must not start: one line that has these words, and this exit code.
    #[track_caller]
    fn refuses(&self, store: &str, mnt: &str, more: &[&str], code: i32, words: &[&str]) {
        let output = self.start(store, mnt, more);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("sealfs: "), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "something is mounted");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.join("mnt")).output();
        remove(&self.dir);
    }
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let store = Store::new("no-store");
    fs::create_dir(store.dir.join("empty")).unwrap();
    store.refuses("empty", "mnt", &[], 1, &["empty", "not a sealfs store", "sealctl init"]);
    store.refuses("missing", "mnt", &[], 1, &["missing", "no such store", "sealctl init"]);
    fs::write(store.dir.join("file"), "x").unwrap();
    store.refuses("file", "mnt", &[], 1, &["not a sealfs store"]);
    assert_eq!(fs::read_dir(store.dir.join("empty")).unwrap().count(), 0);
}

#[test]
fn a_store_that_is_open_to_others_is_refused() {
    let store = Store::new("open-store");
    fs::set_permissions(store.dir.join("store"), PermissionsExt::from_mode(0o755)).unwrap();
    store.refuses("store", "mnt", &[], 1, &["open to others", "chmod 700"]);
}

#[test]
fn a_bad_mount_point_is_refused() {
    let store = Store::new("mnt");
    store.refuses("store", "missing", &[], 1, &["missing", "no such folder", "mkdir"]);
    fs::write(store.dir.join("file"), "x").unwrap();
    store.refuses("store", "file", &[], 1, &["not a folder"]);
    fs::create_dir_all(store.dir.join("full/x")).unwrap();
    store.refuses("store", "full", &[], 1, &["not empty", "nonempty"]);
    fs::create_dir(store.dir.join("store/inside")).unwrap();
    store.refuses("store", "store/inside", &[], 1, &["must not lie in one another"]);
}

#[test]
fn a_mount_point_that_is_in_use_is_refused() {
    let mount = Mount::new("mnt-busy", QUICK);
    let store = Store::new("mnt-busy-two");
    let output = sealfs().arg("-f").arg(store.dir.join("store")).arg(&mount.mnt).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mounted here already"));
}

#[test]
fn the_second_daemon_of_a_store_says_who_has_it() {
    let mount = Mount::new("busy", QUICK);
    let other = scratch("busy-mnt");
    let output = sealfs().arg("-f").arg(&mount.store).arg(&other).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("process {}", mount.pid())), "{text}");
    assert!(text.contains(mount.mnt.to_str().unwrap()), "{text}");
    assert_eq!(mount.state(""), "", "the first one still answers");
    remove(&other);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let store = Store::new("key");
    fs::set_permissions(store.dir.join("store/keys/seal"), PermissionsExt::from_mode(0o644)).unwrap();
    store.refuses("store", "mnt", &[], 1, &["keys/seal", "chmod"]);
    fs::remove_file(store.dir.join("store/keys/seal")).unwrap();
    store.refuses("store", "mnt", &[], 1, &["keys/seal"]);
}

#[test]
fn a_broken_policy_is_told_with_its_place_and_nothing_is_mounted() {
    let store = Store::new("policy");
    let policy = store.dir.join("store/policy.toml");
    fs::write(&policy, "version = 1\n[defaults]\nretention = \"soon\"\n").unwrap();
    store.refuses("store", "mnt", &[], 1, &["policy.toml:3:13:", "soon", "expected"]);
    fs::write(&policy, "version = 1\n[defaults\n").unwrap();
    store.refuses("store", "mnt", &[], 1, &["policy.toml:2:"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let store = Store::new("usage");
    store.refuses("store", "mnt", &["-o", "colour"], 2, &["unknown mount option 'colour'", "passthrough"]);
    assert_eq!(sealfs().output().unwrap().status.code(), Some(2));
    assert_eq!(sealfs().arg("--help").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_running_daemon_keeps_its_policy_when_the_file_breaks_and_takes_the_next_good_one() {
    let mount = Mount::new("reload", QUICK);
    let policy = mount.store.join("policy.toml");
    fs::write(&policy, "version = 2\n").unwrap();
    let warned = || mount.ctl_ok(&["status", "--json"]).contains("policy.toml:1:");
    let until = Instant::now() + Duration::from_secs(10);
    while !warned() {
        assert!(Instant::now() < until, "no warning");
        std::thread::sleep(Duration::from_millis(50));
    }
    mount.sealed("kept", b"sealed under the old policy");
    fs::write(&policy, "version = 1\n[defaults]\nnamespace = \"fresh\"\n").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while warned() {
        assert!(Instant::now() < until, "still warned");
        std::thread::sleep(Duration::from_millis(50));
    }
    mount.sealed("new", b"sealed under the new one");
    let stat = mount.ctl_ok(&["stat", "--json", "new"]);
    assert!(stat.contains("\"fresh\""), "{stat}");
}

#[test]
fn in_the_background_the_command_returns_when_the_mount_is_live() {
    let store = Store::new("background");
    let (from, mnt) = (Instant::now(), store.dir.join("mnt"));
    run(sealfs().arg(store.dir.join("store")).arg(&mnt));
    assert!(from.elapsed() < Duration::from_secs(10));
    fs::write(mnt.join("f"), "content").unwrap();
    assert!(fs::read_to_string(mnt.join("f.seal")).unwrap().contains("SSH SIGNATURE"));
    run(Command::new("umount").arg(&mnt));
    wait_for_lock(&store.dir.join("store"));
}

/// The daemon ends a moment after the unmount: it has let the store go then.
fn wait_for_lock(store: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    while !Command::new("flock").arg("-n").arg(store.join("lock")).arg("true").status().unwrap().success() {
        assert!(Instant::now() < until, "the daemon is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_background_start_that_fails_says_why_and_ends_with_its_code() {
    let store = Store::new("background-bad");
    fs::write(store.dir.join("store/policy.toml"), "version = 3\n").unwrap();
    let output = sealfs().arg(store.dir.join("store")).arg(store.dir.join("mnt")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("policy.toml:1:"), "{text}");
}

#[test]
fn sigterm_finishes_the_seals_under_way_and_ends_with_0() {
    let store = Store::new("sigterm");
    let (path, mnt) = (store.dir.join("store"), store.dir.join("mnt"));
    let mut daemon = sealfs().arg("-f").arg(&path).arg(&mnt).env("SEALFS_LOG", "off").spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(mnt.to_str().unwrap()) {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::write(mnt.join("f"), vec![7u8; 50 << 20]).unwrap();
    run(Command::new("chmod").arg("a-w").arg(mnt.join("f")));
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(mnt.to_str().unwrap()));
    let listed = run(sealctl().arg("--store").arg(&path).args(["ls", "--json"]));
    assert!(listed.contains("\"f\""), "what was demanded is sealed: {listed}");
}

#[test]
fn systemd_is_told_when_the_mount_is_live() {
    let store = Store::new("notify");
    let socket = store.dir.join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = sealfs();
    command.arg("-f").arg(store.dir.join("store")).arg(store.dir.join("mnt"));
    let mut daemon = command.env("NOTIFY_SOCKET", &socket).env("SEALFS_LOG", "off").spawn().unwrap();
    let mut buffer = [0u8; 100];
    let size = listener.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"READY=1");
    assert!(fs::write(store.dir.join("mnt/f"), "x").is_ok());
    run(Command::new("umount").arg(store.dir.join("mnt")));
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

#[test]
fn mount_8_mounts_it_by_its_type() {
    let store = Store::new("mount8");
    let bin = Path::new(env!("CARGO_BIN_EXE_sealfs")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (dir, mnt) = (store.dir.join("store"), store.dir.join("mnt"));
    // What mount(8) runs for 'mount -t fuse.sealfs'; mount itself resets PATH to the system's folders.
    run(Command::new("mount.fuse3")
        .arg(&dir)
        .arg(&mnt)
        .args(["-t", "fuse.sealfs", "-o", "rw"])
        .env("PATH", path));
    fs::write(mnt.join("f"), "x").unwrap();
    run(Command::new("umount").arg(&mnt));
    wait_for_lock(&dir);
}

#[test]
fn a_read_only_mount_takes_no_writes_and_shows_what_is_there() {
    let mut mount = Mount::with("read-only", QUICK, &[]);
    mount.sealed("f", b"content");
    mount.stop();
    let mut command = sealfs();
    command.arg("-f").arg("-r").arg(&mount.store).arg(&mount.mnt).env("SEALFS_LOG", "off");
    let mut daemon = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !mount.is_mounted() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
    assert!(fs::read_to_string(mount.path("f.seal")).unwrap().contains("SSH SIGNATURE"));
    let refused = fs::write(mount.path("g"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    run(Command::new("umount").arg(&mount.mnt));
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

#[test]
fn init_on_a_full_disk_leaves_nothing_behind() {
    let dir = scratch("full");
    let (image, disk) = (dir.join("image"), dir.join("disk"));
    fs::create_dir(&disk).unwrap();
    run(Command::new("truncate").args(["-s", "2M"]).arg(&image));
    run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&image));
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk));
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", disk.join("fill").display()))
        .output();
    let output = sealctl().arg("init").arg(disk.join("store")).output().unwrap();
    let left: Vec<_> = fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    run(Command::new("umount").arg(&disk));
    remove(&dir);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(left.iter().all(|name| name == "fill" || name == "lost+found"), "{left:?}");
}
