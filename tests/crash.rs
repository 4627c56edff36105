//! Commit and export are cut short at each of their steps: nothing that was reported sealed is lost, and the next
//! daemon goes on from what is there.

mod harness;
#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::Mount;
use sealed_store::{Filling, Store, bad, good};
use sealfs::model::RetentionMode;

/// What the daemon makes durable with.
const STEPS: &str = "fsync,fdatasync,syncfs,rename,renameat2,pwrite64,ftruncate,unlink";

/// Runs a daemon under strace, which meddles with the N-th such call of each thread, and writes files until it is gone
/// or all are written. Answers those that were reported sealed.
fn meddled(mount: &Mount, calls: &str, how: &str) -> Vec<String> {
    let mut daemon = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:{how}"),
        ])
        .arg(env!("CARGO_BIN_EXE_sealfs"))
        // A daemon of one process: each step that fails, or kills, is met once.
        .args(["-f", "-o", "takeover=off"])
        .arg(&mount.store)
        .arg(&mount.mnt)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let until = Instant::now() + Duration::from_secs(20);
    let mut sealed = Vec::new();
    while !mount.is_mounted() && daemon.try_wait().expect("wait").is_none() {
        assert!(Instant::now() < until, "neither mounted nor ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    for n in 0..12 {
        if daemon.try_wait().expect("wait").is_some() {
            break;
        }
        let name = format!("{}-{n}", how.replace([':', '='], "-"));
        let script = format!("set -e; echo {n} > {name}; cat {name}.seal > /dev/null");
        let done = Command::new("timeout")
            .args(["5", "sh", "-c", &script])
            .current_dir(&mount.mnt)
            .stderr(Stdio::null())
            .status();
        if done.is_ok_and(|status| status.success()) {
            sealed.push(name);
        }
        // Long enough for an export.
        if n % 3 == 2 {
            harness::pause(300);
        }
    }
    let _ = Command::new("umount").arg("-l").arg(&mount.mnt).stderr(Stdio::null()).status();
    let until = Instant::now() + Duration::from_secs(15);
    while daemon.try_wait().expect("wait").is_none() {
        if Instant::now() > until {
            let _ = Command::new("pkill").args(["-KILL", "-P", &daemon.id().to_string()]).status();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    sealed
}

fn survives(calls: &str, kind: &str, times: &[u32]) {
    let mut mount = Mount::new("meddled", harness::SLOW);
    mount.stop();
    let mut reported = Vec::new();
    for time in times {
        reported.extend(meddled(&mount, calls, &format!("{kind}:when={time}")));
        mount.start();
        for name in &reported {
            assert_eq!(mount.state(name), "sealed", "{kind} {time}: {name}");
        }
        // The daemon has exported what was committed; everything holds together.
        mount.ctl_ok(&["verify", "--all"]);
        mount.ctl_ok(&["log", "check"]);
        mount.stop();
    }
    assert!(reported.len() >= 3, "hardly anything was sealed: {reported:?}");
}

#[test]
fn killed_at_each_step() {
    // The call is made, and the daemon dies with it: done, or not done, but never reported as failed.
    survives(STEPS, "signal=KILL", &[2, 8, 14, 18, 21, 24, 27, 30, 33, 36, 40, 45, 50, 56, 63, 70]);
}

#[test]
fn each_kind_of_step_fails() {
    // The call is not made, and says so.
    for calls in ["fsync,fdatasync", "rename,renameat2", "pwrite64"] {
        survives(calls, "error=EIO", &[2, 5, 8, 14, 22]);
    }
    survives("syncfs,fsync", "error=ENOSPC", &[4, 9, 15]);
}

#[test]
fn an_export_goes_on_from_wherever_it_stopped() {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 300);
    let log = store.path().join("log");
    let whole = store.beside("whole");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let before = store.beside("before");
    copy(&log, &before);
    for n in 0..20 {
        filling.seal_without_export(&format!("b/{n}"), "x\n", "30d", RetentionMode::Governance);
    }
    drop(filling);
    let index = std::sync::Arc::new(sealfs::ledger::Index::open(&store.path().join("index.db")).unwrap());
    let key = sealfs::crypto::SigningKey::read(&store.path().join("keys/log")).unwrap();
    let export = || {
        let keys = [key.public()];
        let exporter =
            sealfs::ledger::Exporter::open(std::sync::Arc::clone(&index), sealed_store::ORIGIN, &keys)?;
        exporter.export(&key)
    };
    assert_eq!(export().unwrap(), 321);
    copy(&log, &whole);
    let names = |folder: &std::path::Path| {
        let output =
            Command::new("find").arg(folder).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
        let mut names: Vec<_> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let (old, new) = (names(&before), names(&whole));
    let fresh: Vec<_> = new.iter().filter(|name| !old.contains(name) || *name == "checkpoint").collect();
    assert!(fresh.len() >= 3, "{fresh:?}");
    // Each set of files that a crash can leave: the first few, the last of them whole, or torn under another name.
    for count in 0..=fresh.len() {
        for torn in [false, true] {
            copy(&before, &log);
            for (n, name) in fresh.iter().take(count).enumerate() {
                if *name == "checkpoint" {
                    continue; // It comes last.
                }
                let (from, to) = (whole.join(name), log.join(name));
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                let bytes = fs::read(from).unwrap();
                if torn && n + 1 == count {
                    fs::write(
                        to.with_file_name(format!("{}.new", to.file_name().unwrap().to_str().unwrap())),
                        &bytes[..bytes.len() / 2],
                    )
                    .unwrap();
                } else {
                    fs::write(to, bytes).unwrap();
                }
            }
            assert_eq!(export().unwrap(), 321, "{count} {torn}");
            good(&store.run(&["log", "check"]));
            assert_eq!(
                fs::read(log.join("checkpoint")).unwrap(),
                fs::read(whole.join("checkpoint")).unwrap()
            );
        }
    }
    // The checkpoint was written and the tiles were not: that no crash leaves, and it is told.
    copy(&before, &log);
    fs::copy(whole.join("checkpoint"), log.join("checkpoint")).unwrap();
    bad(&store.run(&["log", "check"]), 3);
}
