//! Workers that come and go under a live mount: what one leaves the next one clears or finishes.

mod harness;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Mount, QUICK, SLOW};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};

/// `FUSE_DEV_IOC_BACKING_CLOSE` of linux/fuse.h.
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

fn status(mount: &Mount) -> serde_json::Value {
    mount.ctl_json(&["status"]).remove(0)
}

fn kill(pid: Pid) {
    rustix::process::kill_process(pid, Signal::KILL).expect("kill");
}

/// The parent's own descriptor of the device.
fn device(mount: &Mount) -> OwnedFd {
    let parent = mount.pid();
    let entry = fs::read_dir(format!("/proc/{parent}/fd"))
        .expect("descriptors")
        .flatten()
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == "/dev/fuse"))
        .expect("a device");
    let number = entry.file_name().to_string_lossy().parse().expect("a number");
    let pid = Pid::from_raw(i32::try_from(parent).expect("pid")).expect("pid");
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
    rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty()).expect("descriptor")
}

/// Backing files that the kernel still has, of the first so many numbers; they are given back.
fn registered(mount: &Mount, numbers: u32) -> Vec<u32> {
    let device = device(mount);
    let close = |id: &u32| {
        // SAFETY: the request reads four bytes at the pointer, which is to a number that lives through the call.
        unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, std::ptr::from_ref(id)) == 0 }
    };
    (1..=numbers).filter(close).collect()
}

/// Whether backing files are registered at all here.
fn passes_through(mount: &Mount) -> bool {
    let passes = status(mount)["passthrough"] == true;
    assert!(passes || std::env::var_os("CI").is_none(), "no passthrough: Linux 6.9 is needed");
    if !passes {
        eprintln!("SKIPPED: no passthrough here");
    }
    passes
}

fn all_closed(mount: &Mount) {
    harness::eventually("all is closed", || status(mount)["unsealed"]["open"] == 0);
}

/// Kills a worker as it is about to write something down, for the so-manyth time: in a create or an open that is what
/// the next worker must know.
struct KilledAt(Child);

impl KilledAt {
    fn begin(worker: Pid, (call, step): (&str, u32)) -> Self {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={step}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        command.args(["-p", &worker.as_raw_nonzero().to_string()]);
        let strace = KilledAt(command.stderr(Stdio::null()).spawn().expect("strace"));
        harness::eventually("strace has every thread", || {
            // It may have died by now, of such a call of its own.
            let tasks = fs::read_dir(format!("/proc/{}/task", worker.as_raw_nonzero()));
            tasks.into_iter().flatten().flatten().all(|task| {
                let text = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !text.contains("TracerPid:\t0\n")
            })
        });
        strace
    }
}

impl Drop for KilledAt {
    fn drop(&mut self) {
        // Not asked to let go: it would wait for each thread by itself, also for one that dies only after the others.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn backing_files_that_a_dead_worker_had_registered_are_given_back() {
    let mut mount = Mount::new("backings", SLOW);
    if !passes_through(&mount) {
        return;
    }
    // Before a create or open; with a backing file registered, and not written down (only where the backing file system
    // keeps room for root is there a call in between); and before the answer.
    let mut first = File::create(mount.path("first")).expect("create");
    let before = status(&mount)["restarts"].as_u64().expect("a number");
    for (n, step) in [("openat2", 1), ("setfsuid", 2), ("writev", 2)].into_iter().enumerate() {
        for again in [false, true] {
            let killed = KilledAt::begin(mount.worker(), step);
            let path = mount.path(format!("step{n}"));
            let file = File::options().write(true).create(true).truncate(false).open(path);
            let file = file.unwrap_or_else(|error| panic!("step {step:?} {again}: {error}"));
            file.write_all_at(b"step", 0).expect("write");
            drop((file, killed));
            // None waits for those that died before it.
            if again {
                mount.worker();
                mount.ctl_ok(&["restart"]);
            }
        }
    }
    let kills = status(&mount)["restarts"].as_u64().expect("a number") - before - 3;
    assert!(kills >= 4, "{kills} kills only");
    first.write_all(b"first").expect("write");
    // Opened and closed all the time, while workers die.
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|who| {
            let (mnt, stop) = (mount.mnt.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                for n in 0u32.. {
                    let path = mnt.join(format!("f{who}-{}", n % 40));
                    fs::write(&path, b"x").expect("write");
                    assert_eq!(fs::read(&path).expect("read"), b"x");
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    for n in 0..8 {
        harness::pause(40 + n * 11);
        mount.worker();
        mount.ctl_ok(&["restart"]);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("writer");
    }
    // What is open has its own, which is in use.
    first.write_all(b" and last").expect("write");
    drop(first);
    all_closed(&mount);
    assert_eq!(registered(&mount, 1 << 16), [0u32; 0], "never given back");
    // That such a number would have been found:
    let held = File::create(mount.path("held")).expect("create");
    assert_eq!(registered(&mount, 1 << 16).len(), 1);
    drop(held);
    assert_eq!(fs::read(mount.path("first")).expect("read"), b"first and last");
    mount.stop();
}

#[test]
fn a_file_is_not_lost_where_a_worker_dies_in_its_rename() {
    let mut mount = Mount::new("rename", QUICK);
    // Before the name changes; with the new name, that being written down nowhere, in one place, or in both. Then at the
    // close: before the journal has it.
    for (n, step) in [("renameat2", 1), ("write", 1), ("write", 2), ("write", 3)].into_iter().enumerate() {
        let (before, after) = (mount.path(format!("before{n}")), mount.path(format!("after{n}")));
        let mut file = File::create(&before).expect("create");
        file.write_all(b"one ").expect("write");
        let killed = KilledAt::begin(mount.worker(), step);
        fs::rename(&before, &after).expect("rename");
        file.write_all(b"two").expect("write");
        drop(file);
        // Nothing looks at the file: only what the daemon has of it makes that it is sealed.
        harness::eventually("it is sealed", || {
            let told =
                harness::sealctl().arg("--json").arg("--store").arg(&mount.store).arg("status").output();
            let view: serde_json::Value =
                serde_json::from_slice(&told.expect("sealctl").stdout).unwrap_or_default();
            view["sealed"] == n + 1
        });
        drop(killed);
        assert_eq!(fs::read(&after).expect("read"), b"one two");
    }
    assert!(status(&mount)["restarts"].as_u64() >= Some(2), "{}", status(&mount));
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn a_status_that_was_asked_of_a_dying_worker_is_asked_again() {
    let mut mount = Mount::new("cut-off", QUICK);
    let worker = mount.worker();
    rustix::process::kill_process(worker, Signal::STOP).expect("stop");
    let mut command = harness::sealctl();
    command.arg("--json").arg("--store").arg(&mount.store).arg("status").stdout(Stdio::piped());
    let asking = command.spawn().expect("sealctl");
    // It has connected, as far as can be told.
    harness::pause(500);
    kill(worker);
    let told = asking.wait_with_output().expect("sealctl");
    assert!(told.status.success(), "{told:?}");
    let view: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(view["restarts"], 1);
    mount.stop();
}

#[test]
fn what_lies_in_the_tree_and_is_in_no_count_is_found() {
    let mut mount = Mount::new("census", SLOW);
    mount.sealed("sealed", b"sealed");
    fs::create_dir(mount.path("d")).expect("mkdir");
    fs::write(mount.path("d/settling"), b"settling").expect("write");
    // As a fault of the daemon would leave it: with content, and unknown.
    fs::write(mount.backing("d/stray"), b"whose").expect("write");
    fs::write(mount.backing("d/empty"), b"").expect("write");
    harness::eventually("it is in a count", || status(&mount)["unsealed"]["torn"] == 1);
    let view = status(&mount);
    assert!(view["warnings"].to_string().contains("1 file(s) with content were neither sealed"), "{view}");
    assert!(mount.log().contains("d/stray"), "{}", mount.log());
    assert_eq!(mount.state("d/stray"), "torn");
    assert_eq!(mount.state("d/settling"), "settling");
    mount.stop();
}

#[test]
fn a_worker_that_dies_again_and_again_comes_back_more_slowly() {
    let mut mount = Mount::new("again", QUICK);
    let file = File::create(mount.path("f")).expect("create");
    let pauses = [0, 100, 200, 400, 800];
    for (n, pause) in (0u32..).zip(pauses) {
        kill(mount.worker());
        let asked = Instant::now();
        // Waits until somebody answers.
        file.set_permissions(fs::Permissions::from_mode(0o600 + n)).expect("chmod");
        assert!(asked.elapsed() >= Duration::from_millis(pause), "{n}: {:?}", asked.elapsed());
    }
    let log = mount.log();
    for (restarts, pause) in (1..).zip(["0ns", "100ms", "200ms", "400ms", "800ms"]) {
        let told = format!("restarts={restarts} pause={pause}");
        assert!(log.contains(&told), "{told}:\n{log}");
    }
    mount.worker();
    let view = status(&mount);
    assert_eq!(view["restarts"], 5);
    assert!(view["warnings"].to_string().contains("5 time(s) under the live mount"), "{view}");
    (&file).write_all(b"f").expect("write");
    drop(file);
    mount.until("f", "sealed");
    mount.stop();
}

/// Bytes that a process has read.
fn bytes_read(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// Waits until another worker than this one answers: in between nobody does, or the one that dies.
fn another_answers(mount: &Mount, old: Pid) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let told = harness::sealctl().arg("--json").arg("--store").arg(&mount.store).arg("status").output();
        let told = told.expect("sealctl");
        let view: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        if told.status.success()
            && view["pid"].as_i64().is_some_and(|pid| pid != i64::from(old.as_raw_nonzero().get()))
        {
            return;
        }
        assert!(Instant::now() < until, "no other worker answers");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_large_file_is_sealed_though_the_worker_dies_while_it_is_hashed() {
    const MIB: u64 = 256;
    let mut mount = Mount::new("large", SLOW);
    // On a busy machine a file may be sealed before its worker is killed: then with another one.
    let hashed_twice = (0..5u8).any(|turn| {
        let name = format!("large{turn}");
        let path = mount.path(&name);
        let file = File::create(&path).expect("create");
        for n in 0..MIB {
            let piece = vec![turn ^ u8::try_from(n % 251).expect("small"); 1 << 20];
            file.write_all_at(&piece, n << 20).expect("write");
        }
        drop(file);
        let before = harness::sha256sum(&mount.backing(&name));
        let first = mount.worker();
        let begin = bytes_read(first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod a-w");
        let until = Instant::now() + Duration::from_secs(20);
        while bytes_read(first) < begin + (8 << 20) {
            assert!(Instant::now() < until, "it is not hashed");
            std::thread::yield_now();
        }
        kill(first);
        another_answers(&mount, first);
        mount.until(&name, "sealed");
        // Before it is read by others: without passthrough that is the worker's reading, too.
        let whole = bytes_read(mount.worker()) > MIB << 20;
        assert_eq!(harness::xattr(&path, "user.seal.sha256").as_deref(), Some(before.as_str()));
        assert_eq!(harness::sha256sum(&path), before);
        whole
    });
    assert!(hashed_twice, "no worker was killed while it hashed");
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn a_newer_program_takes_over_under_the_live_mount() {
    let dir = harness::scratch("newer-program");
    let program = dir.join("sealfs");
    harness::run(Command::new("cp").arg(env!("CARGO_BIN_EXE_sealfs")).arg(&program));
    let mut mount = Mount::of_program("newer-program", QUICK, &program);
    let file = File::create(mount.path("f")).expect("create");
    (&file).write_all(b"old ").expect("write");
    let exe = |pid: Pid| fs::metadata(format!("/proc/{}/exe", pid.as_raw_nonzero())).expect("exe").ino();
    let old = exe(mount.worker());
    // Put in its place as package managers do; the same, and a few bytes more.
    let newer = dir.join("newer");
    harness::run(Command::new("cp").arg(&program).arg(&newer));
    harness::sh(&dir, "printf newer >> newer && mv newer sealfs");
    let wanted = fs::metadata(&program).expect("stat").ino();
    assert_eq!(exe(mount.worker()), old, "nothing changes by itself");
    mount.ctl_ok(&["restart"]);
    assert_ne!(wanted, old);
    assert_eq!(exe(mount.worker()), wanted, "the worker is of the old program");
    (&file).write_all(b"new").expect("an open file goes on");
    assert_eq!(status(&mount)["restarts"], 1);
    // One that dies is followed by the newer one, too.
    kill(mount.worker());
    (&file).write_all(b"er").expect("write");
    assert_eq!(exe(mount.worker()), wanted);
    drop(file);
    mount.until("f", "sealed");
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"old newer");
    mount.stop();
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn workers_that_cannot_start_are_an_error_that_ends() {
    let mut mount = Mount::new("cannot-start", QUICK);
    let worker = mount.worker();
    fs::write(mount.store.join("policy.toml"), "version = 1\nnonsense").expect("policy");
    let begun = Instant::now();
    kill(worker);
    // Whoever asks meanwhile is told that the parent lives, and what of.
    let ask = |command: &str| {
        let asked =
            harness::sealctl().arg("--store").arg(&mount.store).arg(command).output().expect("sealctl");
        String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned()
    };
    // The worker that was killed may still have taken the first request.
    harness::eventually("the reason is shown", || {
        ask("status").contains("does not respond: sealfs (process")
    });
    let told = ask("status");
    assert!(told.contains("its worker has ended:") && told.contains("policy.toml"), "{told}");
    let doctor = ask("doctor");
    assert!(doctor.contains("fail  daemon: does not respond"), "{doctor}");
    // Calls that wait for the mount end with it.
    let waiting = fs::metadata(mount.path("f"));
    assert!(
        waiting.is_err() && begun.elapsed() < Duration::from_secs(120),
        "{waiting:?} {:?}",
        begun.elapsed()
    );
    mount.forget();
    assert!(!mount.is_mounted());
    let log = mount.log();
    assert!(log.contains("workers in a row could not start"), "{log}");
    fs::write(mount.store.join("policy.toml"), QUICK).expect("policy");
    mount.start();
    mount.stop();
}
