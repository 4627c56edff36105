//! A killed worker does not take the mount down: descriptors go on, calls in flight are answered, nothing is lost.

mod harness;

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{Mount, QUICK, SLOW};

fn status(mount: &Mount) -> serde_json::Value {
    mount.ctl_json(&["status"]).remove(0)
}

fn worker(mount: &Mount) -> rustix::process::Pid {
    // There is a moment in which nobody listens.
    let until = Instant::now() + Duration::from_secs(30);
    let pid = loop {
        match status(mount)["pid"].as_i64() {
            Some(pid) => break pid,
            None => assert!(Instant::now() < until, "no worker"),
        }
        harness::pause(5);
    };
    rustix::process::Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid")
}

fn kill_worker(mount: &Mount) {
    rustix::process::kill_process(worker(mount), rustix::process::Signal::KILL).expect("kill");
}

/// Descriptors of every kind, opened before, used after.
fn descriptors_go_on(mut mount: Mount) {
    mount.sealed("sealed", b"sealed content");
    fs::create_dir(mount.path("folder")).expect("mkdir");
    let mut writer = File::create(mount.path("folder/writer")).expect("create");
    writer.write_all(b"one ").expect("write");
    let other_reader = File::open(mount.path("folder/writer")).expect("open");
    let frozen = File::open(mount.path("sealed")).expect("open");
    let mut statements = File::open(mount.path("sealed.seal.jsonl")).expect("open");
    let mut half = [0; 100];
    statements.read_exact(&mut half).expect("read");
    fs::write(mount.path("nameless"), b"no name").expect("write");
    let mut nameless = File::options().read(true).write(true).open(mount.path("nameless")).expect("open");
    fs::remove_file(mount.path("nameless")).expect("rm");
    let moved = File::create(mount.path("before")).expect("create");
    fs::rename(mount.path("before"), mount.path("after")).expect("mv");
    let was = fs::metadata(mount.path("folder/writer")).expect("stat").ino();

    kill_worker(&mount);

    writer.write_all(b"two ").expect("write after");
    other_reader.sync_all().expect("fsync of a reader");
    let mut buffer = [0; 8];
    other_reader.read_exact_at(&mut buffer, 0).expect("read after");
    assert_eq!(&buffer, b"one two ");
    let mut content = [0; 14];
    frozen.read_exact_at(&mut content, 0).expect("read sealed");
    assert_eq!(&content, b"sealed content");
    let mut rest = String::new();
    statements.read_to_string(&mut rest).expect("read sidecar");
    let whole = fs::read_to_string(mount.path("sealed.seal.jsonl")).expect("read");
    assert_eq!(format!("{}{rest}", String::from_utf8_lossy(&half)), whole);
    nameless.write_all_at(b"NO", 0).expect("write nameless");
    let mut text = String::new();
    nameless.rewind().expect("seek");
    nameless.read_to_string(&mut text).expect("read nameless");
    assert_eq!(text, "NO name");
    assert_eq!(nameless.metadata().expect("fstat nameless").nlink(), 0);
    (&moved).write_all(b"moved").expect("write moved");
    assert_eq!(fs::metadata(mount.path("folder/writer")).expect("stat").ino(), was);

    // A second time, with what the second worker knows; and closing works as ever.
    kill_worker(&mount);
    writer.write_all(b"three").expect("write once more");
    drop((writer, moved, other_reader));
    assert!(fs::read(mount.path("folder/writer.seal")).expect("seal").starts_with(b"-----BEGIN SSH"));
    assert_eq!(fs::read(mount.path("folder/writer")).expect("read"), b"one two three");
    assert!(fs::read(mount.path("after.seal")).is_ok());
    mount.refuses(libc::EPERM, "open sealed", || File::options().write(true).open(mount.path("sealed")));
    let view = status(&mount);
    assert_eq!(view["restarts"], 2);
    assert!(view["warnings"].to_string().contains("2 time(s) under the live mount"), "{view}");
    assert!(view["warnings"].to_string().contains("SIGKILL"), "{view}");
    drop((frozen, statements, nameless));
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn descriptors_go_on_with_passthrough() {
    descriptors_go_on(Mount::new("go-on", SLOW));
}

#[test]
fn descriptors_go_on_without_passthrough() {
    descriptors_go_on(Mount::with("go-on-plain", SLOW, &["-o", "passthrough=off"]));
}

/// Everything that changes names or content, again and again; any error at all fails.
fn work(mount: &Path, who: u64, stop: &AtomicBool, done: &AtomicU64) {
    let dir = mount.join(format!("w{who}"));
    fs::create_dir(&dir).expect("mkdir");
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let (a, b) = (dir.join(format!("a{n}")), dir.join(format!("b{n}")));
        let mut file = File::options().write(true).create_new(true).mode(0o640).open(&a).expect("create_new");
        file.write_all(format!("{who} {n} ").as_bytes()).expect("write");
        fs::rename(&a, &b).expect("rename");
        file.write_all(b"end").expect("write");
        drop(file);
        fs::hard_link(&b, dir.join(format!("l{n}"))).expect("link");
        symlink("b0", dir.join("s")).expect("symlink");
        fs::remove_file(dir.join("s")).expect("unlink symlink");
        fs::create_dir(dir.join("d")).expect("mkdir");
        fs::write(dir.join("d/x.tmp"), b"x").expect("write scratch");
        assert_eq!(fs::read(dir.join("d/x.tmp")).expect("read scratch"), b"x");
        fs::remove_file(dir.join("d/x.tmp")).expect("unlink scratch");
        fs::remove_dir(dir.join("d")).expect("rmdir");
        n += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_call_fails_while_workers_are_killed() {
    let policy = "version = 1\n[defaults]\nsettle = \"1s\"\nretention = \"1h\"\n[[rule]]\nmatch = [\"**/*.tmp\"]\nseal = \"never\"\n";
    let mut mount = Mount::new("storm", policy);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..4)
        .map(|who| {
            let (mnt, stop, done) = (mount.mnt.clone(), Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || work(&mnt, who, &stop, &done))
        })
        .collect();
    let kills = 25;
    for n in 0..kills {
        // Not always at the same moment of its life.
        std::thread::sleep(Duration::from_millis(60 + n * 7 % 50));
        // Both are a SIGKILL; only after the one that is asked for the next worker comes without a pause.
        if n % 10 == 3 {
            kill_worker(&mount);
        } else {
            worker(&mount);
            mount.ctl_ok(&["restart"]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("no call failed");
    }
    worker(&mount);
    assert_eq!(status(&mount)["restarts"], kills);
    let rounds = done.load(Ordering::Relaxed);
    assert!(rounds > 20, "{rounds} rounds only");
    // Every file that was closed is sealed, with the bytes that were written.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let view = status(&mount);
        let sealed = view["sealed"].as_u64().expect("sealed");
        if sealed == 2 * rounds {
            break;
        }
        assert!(Instant::now() < until, "{sealed} of {} sealed: {}", 2 * rounds, view["unsealed"]);
        harness::pause(200);
    }
    for who in 0..4 {
        for entry in fs::read_dir(mount.path(format!("w{who}"))).expect("list") {
            let entry = entry.expect("entry");
            let n = entry.file_name().to_string_lossy()[1..].to_owned();
            assert_eq!(fs::read_to_string(entry.path()).expect("read"), format!("{who} {n} end"));
        }
    }
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    mount.stop();
}

#[test]
fn a_writer_killed_beside_a_killed_worker_is_torn() {
    let mount = Mount::new("torn-beside", QUICK);
    let writer =
        harness::Writer::start(&mount.mnt, "exec 5> half; echo x >&5; echo ready; read -r _ || true");
    kill_worker(&mount);
    writer.kill(libc::SIGKILL);
    mount.until("half", "torn");
}

#[test]
fn restart_replaces_the_worker_and_only_root_may() {
    let mut mount = Mount::new("restart", QUICK);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"a").expect("write");
    let before = worker(&mount);
    let said = mount.ctl_ok(&["restart"]);
    assert!(said.contains("serves now"), "{said}");
    assert_ne!(worker(&mount), before);
    assert!(!status(&mount)["warnings"].to_string().contains("replaced"), "asked for is no warning");
    file.write_all(b"b").expect("write");
    drop(file);
    assert!(fs::read(mount.path("f.seal")).is_ok());
    let refused = mount.ctl_as(65534, &["restart"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    mount.stop();
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let mut mount = Mount::new("hangs", QUICK);
    let before = worker(&mount);
    rustix::process::kill_process(before, rustix::process::Signal::STOP).expect("stop");
    let asked = Instant::now();
    // Waits in the kernel until another worker answers.
    fs::write(mount.path("f"), b"late").expect("write");
    assert!(asked.elapsed() > Duration::from_secs(5), "it was not stopped");
    assert_ne!(worker(&mount), before);
    assert!(status(&mount)["warnings"].to_string().contains("silent"));
    mount.stop();
}

#[test]
fn the_mount_goes_with_the_parent_and_comes_again() {
    let mut mount = Mount::new("parent", QUICK);
    mount.sealed("f", b"f");
    let before = worker(&mount);
    let parent = mount.pid();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(parent).expect("pid")).expect("pid"),
        rustix::process::Signal::KILL,
    )
    .expect("kill");
    let until = Instant::now() + Duration::from_secs(5);
    while rustix::process::test_kill_process(before).is_ok() {
        assert!(Instant::now() < until, "the worker outlives its parent");
        harness::pause(10);
    }
    assert_eq!(fs::read_dir(&mount.mnt).expect_err("dead").raw_os_error(), Some(libc::ENOTCONN));
    mount.forget();
    mount.start();
    assert_eq!(mount.state("f"), "sealed");
    mount.stop();
}

#[test]
fn a_newer_program_that_cannot_run_is_not_the_end() {
    let dir = harness::scratch("newer");
    let program = dir.join("sealfs");
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_sealfs")).arg(&program).status();
    assert!(copied.expect("cp").success());
    let mut mount = Mount::of_program("newer", QUICK, &program);
    let file = File::create(mount.path("f")).expect("create");
    let broken = dir.join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n").expect("write");
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    fs::rename(&broken, &program).expect("mv");
    mount.ctl_ok(&["restart"]);
    (&file).write_all(b"x").expect("write");
    assert_eq!(status(&mount)["restarts"], 2, "the broken one, and the parent's own");
    drop(file);
    mount.stop();
    let _ = fs::remove_dir_all(&dir);
}
