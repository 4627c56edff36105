//! What changes or ends a seal is decided in the transaction that does it, from what is signed; and what may not
//! follow on a seal is in no log.
#![cfg(target_os = "linux")]

mod harness;
#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::os::fd::AsFd;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use harness::{Mount, NOBODY, QUICK, errno};
use rustix::fs::{Mode, OFlags};
use sealed_store::{Filling, ORIGIN, Store, filled};
use sealfs::control::client::Client;
use sealfs::control::protocol::Request;
use sealfs::crypto::SigningKey;
use sealfs::ledger::{Actor, Change, Ending, Signature, SignedStatement};
use sealfs::model::{Digest, RetentionMode, SealRecord, Span, Timestamp};
use sealfs::policy::Policy;
use sealfs::seal::{Keys, Public, RetainError, Retention, Right, Wanted};
use sealfs::store::SystemNames;

fn days(days: u64) -> Span {
    Span::of(Duration::from_secs(days * 86_400))
}

fn keys(store: &Store, filling: &Filling) -> Arc<Keys> {
    let read = |name: &str| SigningKey::read(&store.path().join("keys").join(name)).unwrap();
    Arc::new(Keys::new(read("seal"), read("log"), Public::read(filling.index.read()).unwrap()))
}

fn by() -> Actor {
    Actor::Uid(1000)
}

#[test]
fn an_older_request_never_shortens_what_a_newer_one_extended() {
    let store = Store::made();
    let filling = Filling::of(&store);
    let keys = keys(&store, &filling);
    filling.compare();
    let retention = Retention { index: &filling.index, clock: &filling.clock, keys: &keys, origin: ORIGIN };
    let policy = "version = 1\n[defaults]\nretention = \"30d\"\nmax = \"3650d\"\n";
    let policy = Policy::parse(policy, "policy.toml", &SystemNames::default()).unwrap();
    let owner = Right::Owner(policy.defaults());
    let role = Right::Role { bypass: false, reason: None };
    let bypass = Right::Role { bypass: true, reason: Some("wrong build") };
    for (mode, first) in [(RetentionMode::Compliance, owner), (RetentionMode::Governance, role)] {
        let name = format!("{mode}");
        // All of them have read the same record.
        let stale = filling.seal(&name, "x", "1d", mode);
        let end = retention.set(&stale, Wanted::After(days(3000)), first, None, by()).unwrap();
        let second = retention.set(&stale, Wanted::After(days(10)), owner, None, by());
        assert!(matches!(second, Err(RetainError::Refused(_))), "{second:?}");
        let now = filling.index.read().find(&stale.path).unwrap().unwrap();
        assert_eq!(now.retain_until, end);
        // Nor does a role without saying so, though it was an extension of what it has read.
        assert!(retention.set(&stale, Wanted::After(days(10)), role, None, by()).is_err());
        assert!(retention.hold(&stale, "case", true, by()).unwrap());
        assert!(!retention.hold(&stale, "case", true, by()).unwrap());
        let shortened = retention.set(&stale, Wanted::After(days(0)), bypass, None, by());
        assert_eq!(shortened.is_ok(), mode == RetentionMode::Governance);
    }
}

/// A change of a seal that no request asked for.
fn line() -> SignedStatement {
    SignedStatement { sha256: Digest([0; 32]), key: "SHA256:x".to_owned(), signature: Signature([0; 64]) }
}

#[test]
fn what_may_not_follow_on_a_seal_gets_into_no_log() {
    let (_store, filling) = filled();
    let strict = filling.seal("strict", "1", "1d", RetentionMode::Compliance);
    let loose = filling.seal("loose", "2", "1d", RetentionMode::Governance);
    let held = filling.seal("held", "3", "1s", RetentionMode::Governance);
    filling.change(&held, &sealfs::statement::RetentionChange::Hold("case", true));
    filling.pass("1h");
    let at = |record: &SealRecord| (record.path.clone(), record.log_index);
    let extended = |record: &SealRecord, retain_until: Timestamp| {
        let (path, seal) = at(record);
        Change::Extended { path, seal, retain_until, by: by(), statement: line() }
    };
    let shortened = |record: &SealRecord, retain_until: Timestamp, reason: &str| {
        let ((path, seal), reason) = (at(record), reason.to_owned());
        Change::Shortened { path, seal, retain_until, reason, by: by(), statement: line() }
    };
    let ended = |record: &SealRecord| {
        let (path, seal) = at(record);
        Change::Ended { path, seal, how: Ending::Removed, by: by() }
    };
    let hold = |record: &SealRecord, hold: &str, placed: bool| {
        let ((path, seal), hold, statement) = (at(record), hold.to_owned(), line());
        if placed {
            Change::Held { path, seal, hold, by: by(), statement }
        } else {
            Change::Released { path, seal, hold, by: by(), statement }
        }
    };
    let early = Timestamp(strict.retain_until.0 - 1);
    for (change, words) in [
        (extended(&strict, strict.retain_until), "is not later"),
        (extended(&strict, early), "is not later"),
        (shortened(&strict, early, "why"), "cannot be shortened"),
        (shortened(&loose, loose.retain_until, "why"), "is not earlier"),
        (shortened(&loose, early, " "), "needs a reason"),
        (ended(&strict), "cannot end"),
        (ended(&loose), "cannot end"),
        (ended(&held), "hold(s) cannot end"),
        (hold(&held, "case", true), "stands already"),
        (hold(&held, "other", false), "no hold"),
    ] {
        let mut batch = filling.index.batch(&filling.clock).unwrap();
        let refused = batch.note(change.clone()).unwrap_err().to_string();
        assert!(refused.contains(words), "{change:?}: {refused}");
    }
    // The same entries, in another order or at another time, are taken.
    let mut batch = filling.index.batch(&filling.clock).unwrap();
    for change in [hold(&held, "case", false), ended(&held), shortened(&loose, early, "why")] {
        batch.note(change).unwrap();
    }
    batch.commit().unwrap();
}

/// So many files; each is tried with another distance between the two.
const RACES: usize = 60;

#[test]
fn a_hold_that_was_confirmed_keeps_its_file() {
    let policy = "version = 1\n[defaults]\nretention = \"1s\"\nmax = \"3650d\"\nmode = \"compliance\"\nsettle = \"0s\"\n";
    let mount = Mount::new("races", policy);
    let path = |n: usize| mount.path(format!("f{n}"));
    for n in 0..RACES {
        fs::write(path(n), "x").expect("write");
    }
    for n in 0..RACES {
        mount.until(format!("f{n}"), "expired");
    }
    let (mut kept, mut gone) = (0, 0);
    for n in 0..RACES {
        let file = rustix::fs::open(path(n), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
        let mut client = Client::connect(&mount.store, 0).expect("connect");
        let request = match n % 2 {
            0 => Request::Hold { add: true, name: "CASE-17".to_owned() },
            _ => Request::Retain {
                until: None,
                seconds: Some(86_400),
                months: 0,
                yes: false,
                bypass: false,
                reason: None,
            },
        };
        let together = Barrier::new(2);
        let (asked, removed) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                together.wait();
                client.ask(&request, Some(file.as_fd()))
            });
            together.wait();
            std::thread::sleep(Duration::from_micros(100) * u32::try_from(n % 20).expect("small"));
            let removed = match n % 3 {
                0 => fs::remove_file(path(n)),
                1 => fs::rename(path(n), mount.path(format!("moved{n}"))),
                // Answered with "stale", which the kernel turns into a second look at a new, empty file.
                _ => fs::File::create(path(n)).map(drop),
            };
            (asking.join().expect("joined"), removed)
        });
        match (&asked, &removed) {
            (Ok(_), Err(_)) => {
                kept += 1;
                assert_eq!(errno(removed), libc::EPERM);
                assert_eq!(fs::read(path(n)).expect("kept"), b"x");
            }
            (Err(_), Ok(())) => gone += 1,
            (Ok(view), Ok(())) => panic!("f{n} was removed, after {view:?}"),
            (Err(error), Err(removal)) => panic!("f{n}: neither: {error}, {removal}"),
        }
    }
    eprintln!("{kept} kept, {gone} gone");
    mount.ctl_ok(&["verify", "--all"]);
}

/// Half an upload was sealed: under governance one command frees the name and keeps the evidence, and the refusal
/// names it; under compliance nobody can.
#[test]
fn a_file_that_was_sealed_by_mistake_has_a_way_back_under_governance() {
    let policy = format!("{QUICK}[[rule]]\nmatch = [\"strict/**\"]\nmode = \"compliance\"\n");
    let mut mount = Mount::new("way-back", &policy);
    let path = mount.sealed("half", b"half an upload");
    fs::create_dir(mount.path("strict")).expect("mkdir");
    let strict = mount.sealed("strict/half", b"half an upload");
    let why = |path: &std::path::Path| {
        assert_eq!(errno(fs::remove_file(path)), libc::EPERM);
        mount.ctl_ok(&["why", path.to_str().expect("UTF-8")])
    };
    let told = why(&path);
    assert!(told.contains("sealctl purge --bypass-governance --reason TEXT"), "{told}");
    let told = why(&strict);
    assert!(told.contains("retained until") && told.contains("use another name"), "{told}");

    let purge = |options: &[&str], path: &std::path::Path| {
        let output = mount.ctl(&[&["purge"], options, &[path.to_str().expect("UTF-8")]].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let bypass = ["--bypass-governance", "--reason", "the upload was cut"];
    assert_eq!(purge(&[], &path).0, Some(4), "retained");
    assert_eq!(purge(&["--bypass-governance"], &path).0, Some(2), "no reason");
    assert_eq!(purge(&["--bypass-governance", "--reason", " "], &path).0, Some(2), "no words");
    let (code, told) = purge(&bypass, &strict);
    assert!(code == Some(4) && told.contains("compliance"), "{code:?} {told}");
    let other =
        mount.ctl_as(NOBODY, &["purge", bypass[0], bypass[1], bypass[2], path.to_str().expect("UTF-8")]);
    assert_eq!(other.status.code(), Some(4), "another user");
    mount.ctl_ok(&["hold", "add", "CASE-1", path.to_str().expect("UTF-8")]);
    let (code, told) = purge(&bypass, &path);
    assert!(code == Some(4) && told.contains("CASE-1"), "{code:?} {told}");
    mount.ctl_ok(&["hold", "remove", "CASE-1", path.to_str().expect("UTF-8")]);
    assert_eq!(fs::read(&path).expect("read"), b"half an upload", "nothing was changed");

    assert_eq!(purge(&bypass, &path), (Some(0), String::new()));
    assert!(!path.exists(), "the name is free");
    fs::write(&path, "the whole upload").expect("write");
    mount.until("half", "sealed");
    let log = mount.ctl_ok(&["log", "show"]);
    assert!(log.contains("the upload was cut") && log.contains("purged"), "{log}");
    mount.ctl_ok(&["verify", "--all"]);
    assert_eq!(errno(fs::remove_file(&strict)), libc::EPERM);
    mount.stop();
}
