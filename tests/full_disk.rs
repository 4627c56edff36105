//! The backing file system says no: full, without inodes, read-only, failing; or there are no descriptors. Writers are
//! told, readers go on, nothing is reported sealed that is not durable, what has expired can be removed, the daemon
//! lives, and all is well once the fault is gone.

mod harness;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::Mount;
use harness::image::Image;

/// Expires a second after the seal where the name says so.
const POLICY: &str = "version = 1\n[defaults]\nsettle = \"200ms\"\nretention = \"1h\"\n\
                      [[rule]]\nmatch = [\"**/*.tmp\"]\nseal = \"never\"\n\
                      [[rule]]\nmatch = [\"**/slow*\"]\nsettle = \"1h\"\n\
                      [[rule]]\nmatch = [\"**/brief*\"]\nretention = \"1s\"\nsettle = \"200ms\"\n";

/// Each kind of backing file system that behaves in a way of its own when it is full.
fn kinds() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut kinds =
        vec![("ext4", vec![]), ("ext4", vec!["-b", "1024"]), ("ext4", vec!["-b", "1024", "-m", "0"])];
    if Command::new("mkfs.xfs").arg("-V").output().is_ok() {
        kinds.push(("xfs", vec![]));
    } else {
        assert!(std::env::var_os("CI").is_none(), "mkfs.xfs is missing: install xfsprogs");
        eprintln!("SKIPPED: xfs: no mkfs.xfs: install xfsprogs");
    }
    kinds
}

fn on(image: &Image) -> Mount {
    Mount::at(&image.root().join("sealfs"), POLICY)
}

fn status(mount: &Mount) -> serde_json::Value {
    mount.ctl_json(&["status"]).remove(0)
}

fn warned(mount: &Mount, of: &str) -> bool {
    status(mount)["warnings"].to_string().contains(of)
}

/// The worker that serves now is the one that served first: nothing has died.
#[track_caller]
fn alive(mount: &Mount, since: &serde_json::Value) {
    let now = status(mount);
    assert_eq!(now["pid"], since["pid"], "the worker was replaced: {}\n{}", now["warnings"], mount.log());
}

/// Writes through the mount until there is no room; answers the errno.
fn write_until_full(mount: &Mount, name: &str) -> i32 {
    let mut file = File::create(mount.path(name)).expect("create");
    let chunk = vec![0x5a; 64 << 10];
    for _ in 0..1 << 16 {
        if let Err(error) = file.write_all(&chunk) {
            return error.raw_os_error().expect("errno");
        }
    }
    panic!("it was never full");
}

fn removable_on_a_full_disk(kind: &str, arguments: &[&str]) {
    let what = format!("{kind} {arguments:?}");
    let image = Image::new(kind, if kind == "xfs" { 320 } else { 96 }, arguments);
    let mut mount = on(&image);
    mount.sealed("kept", b"kept");
    let brief: Vec<String> = (0..60).map(|n| format!("brief{n}")).collect();
    for name in &brief {
        fs::write(mount.path(name), name.repeat(2000)).expect("write");
    }
    mount.ctl_ok(&["wait", mount.path("brief59").to_str().expect("path")]);
    for name in &brief {
        mount.until(name, "expired");
    }
    let before = status(&mount);
    assert!(mount.store.join("reserve/15").exists(), "{what}: no reserve");

    assert_eq!(write_until_full(&mount, "big.tmp"), libc::ENOSPC, "{what}");
    image.fill();
    // What was closed cannot be recorded, or else it is sealed for good; never something between.
    let _ = fs::write(mount.path("late"), b"late");
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept", "{what}");
    assert!(fs::read(mount.path("brief7")).expect("read") == "brief7".repeat(2000).into_bytes(), "{what}");
    assert!(fs::read(mount.path("kept.seal")).is_ok(), "{what}");

    // Somebody who takes at once whatever becomes free.
    let greedy = greedy(&image);
    for name in &brief[..30] {
        fs::remove_file(mount.path(name))
            .unwrap_or_else(|error| panic!("{what}: {name}: {error}\n{}", mount.log()));
    }
    let purged = mount.ctl_json(&["purge"]);
    assert_eq!(purged.len(), 30, "{what}: {purged:?}");
    for name in &brief {
        assert!(!mount.path(name).exists() && !mount.backing(name).exists(), "{what}: {name}");
    }
    drop(greedy);
    alive(&mount, &before);

    // Still full: a new daemon can begin, and a new worker.
    image.fill();
    mount.ctl_ok(&["restart"]);
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept", "{what}");
    image.fill();
    mount.restart();
    assert_eq!(mount.state("kept"), "sealed", "{what}");

    image.empty();
    fs::remove_file(mount.path("big.tmp")).expect("rm");
    harness::eventually("the reserve is whole again", || !warned(&mount, "reserve"));
    // The kernel forgets what was removed a moment later.
    harness::eventually("there is room again", || image.room() > 10 << 20);
    mount.sealed("after", b"after");
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    mount.stop();
}

/// Fills what becomes free, as fast as it can, until it is dropped.
struct Greedy(std::process::Child);

fn greedy(image: &Image) -> Greedy {
    let script = "n=0; while :; do n=$((n+1)); fallocate -l 16K filler-greedy-$n 2>/dev/null || { rm -f filler-greedy-$n; sleep 0.001; }; done";
    Greedy(Command::new("bash").arg("-c").arg(script).current_dir(image.root()).spawn().expect("bash"))
}

impl Drop for Greedy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_has_expired_can_be_removed_from_a_full_disk() {
    for (kind, arguments) in kinds() {
        removable_on_a_full_disk(kind, &arguments);
    }
}

/// Writes files and asks for their seals until the disk is full, and a while longer; answers with what was reported
/// sealed, and what was closed without an error.
fn seal_until_full(mount: &Mount, prefix: &str) -> (Vec<String>, Vec<String>) {
    let (mut sealed, mut closed) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for n in 0..20_000 {
        let name = format!("{prefix}-{n}");
        let written = File::create(mount.path(&name)).and_then(|mut file| {
            file.write_all(name.repeat(n % 97).as_bytes())?;
            file.write_all(b"\n")
        });
        let Err(error) = written else {
            closed.push(name.clone());
            if fs::read(mount.path(format!("{name}.seal"))).is_ok() {
                sealed.push(name);
            } else {
                refused += 1;
            }
            if refused > 20 {
                break;
            }
            continue;
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{name}: {error}");
        refused += 1;
        if refused > 20 {
            break;
        }
    }
    (sealed, closed)
}

fn nothing_is_lost_when_full(kind: &str, arguments: &[&str]) {
    let what = format!("{kind} {arguments:?}");
    let image = Image::new(kind, if kind == "xfs" { 320 } else { 64 }, arguments);
    let mut mount = on(&image);
    let before = status(&mount);
    mount.sealed("first", b"first");
    image.fill();
    // Some room, so that it is seals that meet the end of it.
    image.free(2 << 20);
    let (sealed, closed) = seal_until_full(&mount, "f");
    assert!(sealed.len() > 10, "{what}: {}", sealed.len());
    alive(&mount, &before);
    assert!(warned(&mount, "not sealed yet") || warned(&mount, "reserve") || closed.len() == sealed.len());
    for name in &sealed {
        assert_eq!(mount.state(name), "sealed", "{what}: {name}");
    }
    // A power cut in the middle of that: what was reported is there.
    image.cut();
    mount.kill();
    image.unmount();
    image.mount();
    let _ = fs::remove_file(mount.store.join("journal"));
    mount.start();
    for name in &sealed {
        assert_eq!(mount.state(name), "sealed", "{what}: {name}");
    }
    image.empty();
    // Of what was not reported, some may be torn by the cut; of what is written now, nothing.
    mount.sealed("after", b"after");
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    eprintln!("{what}: {} closed, {} of them reported sealed, none lost", closed.len(), sealed.len());
    mount.stop();
}

#[test]
fn nothing_reported_sealed_is_lost_on_a_full_disk() {
    for (kind, arguments) in kinds() {
        nothing_is_lost_when_full(kind, &arguments);
    }
}

#[test]
fn what_was_closed_on_a_full_disk_is_sealed_once_there_is_room() {
    let image = Image::new("ext4", 64, &["-b", "1024"]);
    let mut mount = on(&image);
    let before = status(&mount);
    let names: Vec<String> = (0..200).map(|n| format!("slow{n}")).collect();
    for name in &names {
        fs::write(mount.path(name), name).expect("write");
    }
    image.fill();
    // Each asks for a seal by itself; at some point there is no room for one more.
    let refused =
        names.iter().filter(|name| fs::read(mount.path(format!("{name}.seal"))).is_err()).take(5).count();
    assert_eq!(refused, 5, "the end was not met");
    assert!(warned(&mount, "not sealed yet"), "{}", status(&mount)["warnings"]);
    alive(&mount, &before);
    for name in &names {
        assert_ne!(mount.state(name), "torn", "{name}");
    }
    // Neither a worker nor a daemon that begins there leaves a closed file torn.
    mount.ctl_ok(&["restart"]);
    assert_eq!(status(&mount)["unsealed"]["torn"], 0);
    image.fill();
    mount.restart();
    assert_eq!(status(&mount)["unsealed"]["torn"], 0);
    image.empty();
    harness::eventually("there is room again", || image.room() > 10 << 20);
    for name in &names {
        mount.ctl_ok(&["seal", mount.path(name).to_str().expect("path")]);
        assert_eq!(fs::read(mount.path(name)).expect("read"), name.as_bytes());
    }
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn shared_memory_without_room_is_an_error_and_not_the_end() {
    use std::os::unix::process::ExitStatusExt;
    // Blocks smaller than a page: where the first one of a page finds room, and the rest do not.
    let image = Image::new("ext4", 64, &["-b", "1024", "-m", "0"]);
    let mut mount = on(&image);
    mount.sealed("kept", b"kept");
    mount.kill();
    fs::remove_dir_all(mount.store.join("reserve")).expect("rm");
    // Whoever comes first makes the shared memory anew.
    fs::remove_file(mount.store.join("index.db-shm")).expect("rm");
    let small = |n: u32| image.root().join(format!("filler-small-{n}"));
    (0..80).for_each(|n| fs::write(small(n), [1; 1024]).expect("write"));
    image.fill();
    let mut failed = 0;
    for n in 0..80 {
        let done = harness::sealctl().arg("--store").arg(&mount.store).arg("ls").output().expect("sealctl");
        assert_eq!(done.status.signal(), None, "with {n} blocks");
        failed += u32::from(!done.status.success());
        let _ = fs::remove_file(mount.store.join("index.db-shm"));
        fs::remove_file(small(n)).expect("rm");
    }
    assert!(failed > 0, "there was always room");
    image.empty();
    mount.start();
    mount.sealed("after", b"after");
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn without_inodes_writers_are_told_and_what_has_expired_goes() {
    let image = Image::new("ext4", 64, &["-N", "2048"]);
    let mut mount = on(&image);
    mount.sealed("kept", b"kept");
    for name in ["brief-a", "brief-b", "brief-c"] {
        mount.sealed(name, name.as_bytes());
        mount.until(name, "expired");
    }
    let mut open = File::create(mount.path("open")).expect("create");
    let before = status(&mount);
    assert!(image.fill_inodes() > 500);
    let told = fs::write(mount.path("new"), b"new").expect_err("no inode");
    assert_eq!(told.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(
        fs::create_dir(mount.path("folder")).expect_err("no inode").raw_os_error(),
        Some(libc::ENOSPC)
    );
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept");
    // A file that has its inode is written, closed, and sealed; the checkpoint follows when there is room.
    open.write_all(b"open").expect("write");
    drop(open);
    assert!(fs::read(mount.path("open.seal")).is_ok());
    fs::remove_file(mount.path("brief-a")).expect("rm");
    assert_eq!(mount.ctl_json(&["purge", mount.path("brief-b").to_str().expect("path")]).len(), 1);
    alive(&mount, &before);
    image.fill_inodes();
    mount.ctl_ok(&["restart"]);
    image.fill_inodes();
    mount.restart();
    fs::remove_file(mount.path("brief-c")).expect("rm after a start without inodes");
    assert_eq!(mount.state("open"), "sealed");
    image.empty();
    harness::eventually("the reserve is whole", || !warned(&mount, "reserve"));
    harness::eventually("the log is exported", || !warned(&mount, "checkpoint"));
    mount.sealed("new", b"new");
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    mount.stop();
}

#[test]
fn without_descriptors_callers_are_told_and_seals_go_on_later() {
    let dir = harness::scratch("few");
    let program = dir.join("sealfs-few");
    let script = format!("#!/bin/sh\nulimit -n 100\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_sealfs"));
    fs::write(&program, script).expect("write");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut mount = Mount::of_program("descriptors", POLICY, &program);
    mount.sealed("kept", b"kept");
    let mut open = File::create(mount.path("open")).expect("create");
    open.write_all(b"open").expect("write");
    let before = status(&mount);
    // Each open file costs the daemon one.
    let mut held = Vec::new();
    let told = loop {
        assert!(held.len() < 100, "no end of descriptors");
        match File::create(mount.path(format!("held{}", held.len()))) {
            Ok(mut file) => {
                file.write_all(b"held").expect("write");
                held.push(file);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(told.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)), "{told}");
    // The last one that there is goes to whoever asks first. What cannot be done now is done later, and nothing is torn.
    drop(open);
    for n in 0..50 {
        let error = fs::read(mount.path(format!("kept{n}"))).expect_err("not there");
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EMFILE | libc::ENFILE)),
            "a name that is not there: {error}"
        );
    }
    harness::pause(1500);
    // What is open goes on.
    for file in &mut held {
        file.write_all(b" and more").expect("write");
    }
    let count = held.len();
    drop(held);
    alive(&mount, &before);
    mount.until("open", "sealed");
    for n in 0..count {
        mount.until(format!("held{n}"), "sealed");
        assert_eq!(fs::read(mount.path(format!("held{n}"))).expect("read"), b"held and more");
    }
    assert_eq!(status(&mount)["unsealed"]["torn"], 0);
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn a_backing_file_system_that_turns_read_only_is_survived() {
    let image = Image::with("ext4", 64, &[], "loop,errors=remount-ro");
    let mut mount = on(&image);
    mount.sealed("kept", b"kept");
    mount.sealed("brief", b"brief");
    mount.until("brief", "expired");
    fs::write(mount.path("settling"), b"settling").expect("write");
    let mut open = File::create(mount.path("open")).expect("create");
    open.write_all(b"open").expect("write");
    let before = status(&mount);
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", image.device());
    fs::write(&trigger, b"a test").expect("trigger");
    let told = fs::write(mount.path("new"), b"new").expect_err("read-only");
    assert_eq!(told.raw_os_error(), Some(libc::EROFS), "{told}");
    assert!(open.write_all(b"more").is_err());
    assert_eq!(fs::remove_file(mount.path("open")).expect_err("read-only").raw_os_error(), Some(libc::EROFS));
    let expired = fs::remove_file(mount.path("brief")).expect_err("read-only");
    assert!(matches!(expired.raw_os_error(), Some(libc::EROFS | libc::EIO)), "{expired}");
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept");
    assert!(fs::read(mount.path("kept.seal")).is_ok());
    assert_eq!(mount.state("brief"), "expired", "nothing is changed by a call that failed");
    assert_ne!(mount.state("open"), "torn", "nor torn");
    drop(open);
    harness::pause(1500);
    alive(&mount, &before);
    assert!(warned(&mount, "ead-only"), "{}", status(&mount)["warnings"]);
    mount.kill();
    let mut again = harness::sealfs();
    let told = again.args(["-f", "-o", "noguard"]).args([&mount.store, &mount.mnt]).output().expect("sealfs");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("file system is read-only"), "{said}");
    // The fault is gone: mounted anew after a check. Another mount namespace has its own mount for a while.
    let mut other = Command::new("unshare");
    other.args(["--mount", "--propagation", "private", "sleep", "1"]);
    let mut other = other.spawn().expect("unshare");
    harness::eventually("it has its own mounts", || {
        let own = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        own(&other.id().to_string()) != own("self")
    });
    image.unmount();
    let _ = other.wait();
    image.check();
    image.mount();
    let _ = fs::remove_file(mount.store.join("journal"));
    mount.start();
    assert_eq!(mount.state("kept"), "sealed");
    mount.sealed("new", b"new");
    fs::remove_file(mount.path("brief")).expect("rm");
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn writers_leave_the_room_that_is_kept_for_root() {
    let image = Image::new("ext4", 64, &["-m", "20"]);
    for options in [&[][..], &["-o", "passthrough=off"]] {
        let dir = image.root().join(format!("sealfs{}", options.len()));
        let mut mount = Mount::at(&dir, POLICY).stopped().again(options);
        fs::set_permissions(&mount.mnt, fs::Permissions::from_mode(0o777)).expect("chmod");
        let (code, said) = harness::sh_as(harness::NOBODY, &mount.mnt, "dd if=/dev/zero of=big bs=64k 2>&1");
        assert_ne!(code, 0, "{said}");
        let room = rustix::fs::statvfs(&mount.mnt).expect("statvfs");
        let (free, wanted) = (room.f_bfree * room.f_frsize, (64u64 << 20) / 5);
        assert!(free > wanted - (3 << 20), "{options:?}: {free} of {wanted} bytes are left for root");
        fs::remove_file(mount.path("big")).expect("rm");
        mount.stop();
    }
}

/// Has calls of a process fail, until it is dropped.
struct Meddling(std::process::Child);

impl Meddling {
    /// Each of these sets of calls, in this way.
    fn begin(pid: &serde_json::Value, ways: &[(&str, &str)]) -> Self {
        let mut command = Command::new("strace");
        let calls: Vec<&str> = ways.iter().map(|(calls, _)| *calls).collect();
        command.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        command.args(["-e", &format!("trace={}", calls.join(","))]);
        for (calls, way) in ways {
            command.args(["-e", &format!("inject={calls}:{way}")]);
        }
        let strace = Meddling(command.spawn().expect("strace"));
        let traced = |task: &std::path::Path| {
            let text = fs::read_to_string(task.join("status")).unwrap_or_default();
            !text.contains("TracerPid:\t0\n")
        };
        harness::eventually("strace has every thread", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("tasks");
            tasks.flatten().all(|task| traced(&task.path()))
        });
        strace
    }
}

impl Drop for Meddling {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.0.wait();
    }
}

#[test]
fn a_failed_fsync_is_final_and_what_is_kept_comes_from_the_disk() {
    let image = Image::new("ext4", 64, &[]);
    let mut mount = on(&image);
    let before = status(&mount);
    let pid = before["pid"].clone();
    let pattern = b"0123456789abcdef this is what the writer wrote ".repeat(200);
    let mut file = File::create(mount.path("told")).expect("create");
    file.write_all(&pattern).expect("write");
    let failing = Meddling::begin(&pid, &[("fsync", "error=EIO")]);
    assert_eq!(file.sync_all().expect_err("injected").raw_os_error(), Some(libc::EIO));
    drop(failing);
    // The kernel's next one succeeds: that is not believed.
    assert_eq!(file.sync_all().expect_err("lost").raw_os_error(), Some(libc::EIO));
    drop(file);
    mount.until("told", "torn");
    assert!(fs::read(mount.path("told.seal")).is_err());
    assert!(warned(&mount, "told"), "{}", status(&mount)["warnings"]);

    // What a lost write-back leaves: other bytes on the disk than in memory.
    harness::run(Command::new("sync").arg("-f").arg(image.root()));
    let other = b"0123456789ABCDEF this is what the disk came to have ".repeat(200);
    assert!(image.exchange(&pattern, &other[..pattern.len()]), "not found on the disk");
    assert!(fs::read(mount.path("told")).expect("read") == pattern, "memory has it no more");
    mount.ctl_ok(&["seal", "--torn", mount.path("told").to_str().expect("path")]);
    assert!(fs::read(mount.path("told")).expect("read") == other[..pattern.len()], "sealed from memory");
    mount.ctl_ok(&["verify", "--all"]);

    // The same file written from scratch is as any other.
    let file = File::create(mount.path("again")).expect("create");
    (&file).write_all(b"one").expect("write");
    let failing = Meddling::begin(&pid, &[("fsync", "error=EIO")]);
    assert!(file.sync_all().is_err());
    drop(failing);
    drop(file);
    mount.until("again", "torn");
    fs::write(mount.path("again"), b"two").expect("write from scratch");
    mount.until("again", "sealed");
    alive(&mount, &before);

    // Nor does another worker believe in a file whose writer was told.
    let file = File::create(mount.path("across")).expect("create");
    (&file).write_all(b"one").expect("write");
    let failing = Meddling::begin(&pid, &[("fsync", "error=EIO")]);
    assert!(file.sync_all().is_err());
    drop(failing);
    mount.ctl_ok(&["restart"]);
    (&file).write_all(b"two").expect("write");
    drop(file);
    mount.until("across", "torn");
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

/// A large file that is still being written, and on its way to the disk.
fn begun(mount: &Mount, name: &str) -> File {
    let mut file = File::create(mount.path(name)).expect("create");
    file.write_all(&vec![7; 16 << 20]).expect("write");
    // Looked at after 20, 60, 140 ms.
    std::thread::sleep(Duration::from_secs(1));
    file
}

/// Large files are on their way to the disk while they are written. What the disk had taken of any of them may be lost when
/// a flush fails, whosever turn it was.
#[test]
fn a_flush_that_fails_while_files_are_written_is_final_for_large_ones() {
    let image = Image::new("ext4", 256, &[]);
    let mut mount = on(&image);
    let pid = status(&mount)["pid"].clone();
    let before = begun(&mount, "before");
    let failing = Meddling::begin(&pid, &[("fsync", "error=EIO")]);
    let during = begun(&mount, "during");
    drop(failing);
    let after = begun(&mount, "after");
    let mut small = File::create(mount.path("small")).expect("create");
    small.write_all(b"small").expect("write");
    for file in [&before, &during] {
        assert_eq!(file.sync_all().expect_err("lost").raw_os_error(), Some(libc::EIO));
    }
    for file in [&after, &small] {
        file.sync_all().expect("fsync");
    }
    // Nor does another worker believe in them.
    mount.ctl_ok(&["restart"]);
    drop((before, during, after, small));
    for (name, state) in [("before", "torn"), ("during", "torn"), ("after", "sealed"), ("small", "sealed")] {
        mount.until(name, state);
    }
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

/// The disk is flushed by every sync, and whose fails does not know whose bytes that was about.
#[test]
fn a_sync_that_fails_for_a_small_file_is_final_for_large_ones_on_their_way() {
    let image = Image::new("ext4", 256, &[]);
    let mut mount = on(&image);
    let pid = status(&mount)["pid"].clone();
    mount.sealed("sealed", b"sealed");
    let told = |what: &str| mount.log().matches(what).count();
    let ways = [
        ("writer", "fsync"),
        ("reader", "fsync"),
        ("folder", "fsync"),
        ("seal", "fsync"),
        ("batch", "syncfs"),
        ("mark", "syncfs"),
    ];
    for (way, call) in ways {
        let name = |what: &str| format!("{what} by {way}");
        let large = begun(&mount, &name("large"));
        let failing = Meddling::begin(&pid, &[(call, "error=EIO")]);
        let fails = |file: File| {
            assert_eq!(file.sync_all().expect_err("fails").raw_os_error(), Some(libc::EIO), "{way}");
        };
        match way {
            "writer" => fails(File::create(mount.path(name("small"))).expect("create")),
            "reader" => fails(File::open(mount.path("sealed")).expect("open")),
            "folder" => fails(File::open(&mount.mnt).expect("open")),
            "seal" => {
                fs::write(mount.path(name("small")), "small").expect("write");
                let path = mount.path(name("small")).display().to_string();
                assert!(!mount.ctl(&["seal", &path]).status.success());
            }
            // After a syncfs that has failed each file is synced by itself.
            "batch" => drop(batches_until(&mount, || told("syncfs failed; each file") > 0, |_| ())),
            // Closed and not sealed: after 2 s it is synced, and marked.
            _ => {
                let what = "background sync of closed files failed";
                // What is torn is marked too: perhaps this has failed before.
                let before = told(what);
                fs::write(mount.path("scratch.tmp"), "scratch").expect("write");
                harness::eventually("it is synced", || told(what) > before);
            }
        }
        drop(failing);
        assert_eq!(large.sync_all().expect_err("lost").raw_os_error(), Some(libc::EIO), "{way}");
        drop(large);
        mount.until(name("large"), "torn");
    }
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

/// Small files that settle together, again and again until that is so: where the host has much to write, each is synced
/// by itself at once. `closed` is told the round, when they are written; answers the last.
fn batches_until(mount: &Mount, done: impl Fn() -> bool, closed: impl Fn(u32)) -> u32 {
    for round in 0..20 {
        rustix::fs::sync();
        let files: Vec<PathBuf> = (0..40).map(|n| mount.path(format!("small{n} in {round}"))).collect();
        for file in &files {
            fs::write(file, format!("{} ", file.display()).repeat(40)).expect("write");
        }
        closed(round);
        for file in &files {
            harness::eventually("it is sealed or torn", || {
                ["sealed", "torn"].contains(&mount.state(file).as_str())
            });
        }
        if done() {
            return round;
        }
    }
    panic!("no batch");
}

/// What a `syncfs` that failed had written is in memory, and may not be on the disk.
#[test]
fn after_a_syncfs_that_failed_small_files_are_read_from_the_disk() {
    let image = Image::new("ext4", 64, &[]);
    let mut mount = on(&image);
    let pid = status(&mount)["pid"].clone();
    // Time to meddle with the disk when a file is on it.
    let failing = Meddling::begin(&pid, &[("syncfs", "error=EIO"), ("fsync", "delay_exit=100000")]);
    let alter = |round: u32| {
        let disk = File::options().read(true).write(true).open(image.file()).expect("disk");
        let text = format!("small35 in {round} ");
        harness::eventually("it is on the disk", || {
            let bytes = fs::read(image.file()).expect("disk");
            let found = bytes
                .windows(2 * text.len())
                .position(|bytes| bytes.starts_with(text.as_bytes()) && bytes.get(text.len()) == Some(&b'/'));
            found.is_some_and(|at| disk.write_all_at(b"S", at as u64).is_ok())
        });
    };
    let round = batches_until(&mount, || mount.log().contains("syncfs failed; each file"), alter);
    drop(failing);
    for (n, state) in [(34, "sealed"), (35, "torn"), (36, "sealed")] {
        mount.until(format!("small{n} in {round}"), state);
    }
    mount.stop();
}

/// What the disk has to tell of a file is told once: to the seal, even if a writer has come meanwhile and it is worth nothing.
#[test]
fn a_write_back_that_fails_under_a_seal_that_is_given_up_is_final() {
    let image = Image::new("ext4", 256, &[]);
    let mut mount = on(&image);
    let pid = status(&mount)["pid"].clone();
    // No early write-back of scratch; and larger than what is hashed ahead of the disk.
    fs::write(mount.path("large.tmp"), vec![7; 64 << 20]).expect("write");
    let failing = Meddling::begin(&pid, &[("sync_file_range", "error=EIO:delay_enter=1000000")]);
    fs::rename(mount.path("large.tmp"), mount.path("large")).expect("rename");
    // It has settled, and waits for the disk.
    std::thread::sleep(Duration::from_millis(600));
    let again = File::options().append(true).open(mount.path("large")).expect("open");
    std::thread::sleep(Duration::from_millis(1500));
    drop(failing);
    drop(again);
    mount.until("large", "torn");
    mount.stop();
}

/// Files whose seals are asked for while calls fail: one by itself, or many at once.
fn seals_while(what: &str, calls: &str, error: &str, files: usize, torn: bool, readable: bool) {
    let mut mount = Mount::new("failing", POLICY);
    mount.sealed("first", b"first");
    let before = status(&mount);
    let pid = before["pid"].clone();
    let names: Vec<String> = (0..files).map(|n| format!("slow{n}")).collect();
    for name in &names {
        fs::write(mount.path(name), name).expect("write");
    }
    let all: Vec<String> = names.iter().map(|name| mount.path(name).display().to_string()).collect();
    let failing = Meddling::begin(&pid, &[(calls, &format!("error={error}"))]);
    let asked: Vec<&str> = ["seal"].into_iter().chain(all.iter().map(String::as_str)).collect();
    assert!(!mount.ctl(&asked).status.success(), "{what}: reported sealed");
    for name in &names {
        assert_ne!(mount.state(name), "sealed", "{what}: {name}");
    }
    if readable {
        assert_eq!(fs::read(mount.path("first")).expect("read"), b"first", "{what}");
        assert!(fs::read(mount.path("first.seal")).is_ok(), "{what}");
    }
    let warnings = status(&mount)["warnings"].clone();
    assert_ne!(warnings.as_array().map(Vec::len), Some(0), "{what}: nothing is told");
    drop(failing);
    alive(&mount, &before);
    for (name, path) in names.iter().zip(&all) {
        let how: &[&str] = if torn { &["seal", "--torn", path] } else { &["seal", path] };
        mount.ctl_ok(how);
        mount.until(name, "sealed");
        assert_eq!(fs::read(mount.path(name)).expect("read"), name.as_bytes());
    }
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    mount.stop();
}

#[test]
fn seals_whose_bytes_are_not_durable_are_not_reported() {
    seals_while("one file", "fsync", "EIO", 1, true, true);
    seals_while("many files", "syncfs,fsync", "EIO", 40, true, true);
    seals_while("many files, each by itself", "sync_file_range,syncfs,fsync", "EIO", 40, true, true);
    seals_while("no room for the index", "pwrite64", "ENOSPC", 3, false, true);
    seals_while("the index fails", "pwrite64", "EIO", 3, false, true);
    seals_while("the immutable flag", "ioctl", "EIO", 2, false, false);
    seals_while("hashing", "pread64", "EIO", 2, false, false);
    seals_while("no descriptors", "openat,openat2", "EMFILE", 2, false, false);
}

#[test]
fn a_disk_that_cannot_be_written_any_more_loses_nothing_that_was_reported() {
    let image = Image::thin("ext4", 128, 24);
    let mut mount = on(&image);
    mount.sealed("first", b"first");
    let mut sealed = Vec::new();
    let mut failed = 0;
    // The file system believes that there is room; the disk knows better when bytes are written back.
    for n in 0..200 {
        let name = format!("f{n}");
        let content = name.repeat(150_000 / name.len()).into_bytes();
        let done = fs::write(mount.path(&name), &content);
        if done.is_ok() && fs::read(mount.path(format!("{name}.seal"))).is_ok() {
            sealed.push((name, content));
        } else {
            failed += 1;
            if failed > 5 {
                break;
            }
        }
    }
    assert!(failed > 5 && sealed.len() > 20, "{failed} failed, {} sealed", sealed.len());
    assert!(!status(&mount)["warnings"].as_array().expect("warnings").is_empty());
    assert_eq!(fs::read(mount.path("first")).expect("read"), b"first");
    mount.kill();
    image.unmount();
    image.thicken(200);
    image.check();
    image.mount();
    let _ = fs::remove_file(mount.store.join("journal"));
    mount.start();
    for (name, content) in &sealed {
        assert_eq!(mount.state(name), "sealed", "{name}");
        assert!(fs::read(mount.path(name)).expect("read") == *content, "{name} is not what it was");
    }
    mount.sealed("after", b"after");
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    eprintln!("{} reported sealed before the disk failed, none lost", sealed.len());
    mount.stop();
}
