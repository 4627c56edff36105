//! `index.db` edited past the daemon, while it is down and beneath it: nothing becomes free, and everybody is told.
#![cfg(target_os = "linux")]

mod harness;
#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::io::{self, Write};
use std::process::Command;

use harness::{Mount, errno, eventually, run};
use sealed_store::{ORIGIN, Store, filled};
use sealfs::crypto::SigningKey;
use sealfs::ledger::check_rollback;
use sealfs::model::{RetentionMode, Timestamp};
use sealfs::recovery::compare_in;
use sealfs::statement::RetentionChange;

const POLICY: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"7y\"\nmode = \"compliance\"\n\
    [[rule]]\nmatch = [\"brief/**\"]\nretention = \"1s\"\nmax = \"7y\"\n\
    [[rule]]\nmatch = [\"links/**\"]\nsymlinks = \"seal\"\n";

fn sql(mount: &Mount, statement: &str) {
    let index = mount.store.join("index.db");
    run(Command::new("sqlite3").arg("-cmd").arg(".timeout 5000").arg(index).arg(statement));
}

fn warnings(mount: &Mount) -> String {
    mount.ctl_json(&["status"])[0]["warnings"].to_string()
}

fn log(mount: &Mount) -> String {
    mount.ctl_ok(&["log", "show"])
}

/// A mount with sealed files `a/f`, `a/g`, an expired and held one, and a sealed link.
fn mounted(name: &str) -> Mount {
    let mount = Mount::new(name, POLICY);
    for folder in ["a", "brief", "links"] {
        fs::create_dir(mount.path(folder)).expect("mkdir");
    }
    for name in ["a/f", "a/g", "a/h"] {
        mount.sealed(name, name.as_bytes());
    }
    for name in ["brief/held", "brief/longer", "brief/over"] {
        fs::write(mount.path(name), name).expect("write");
    }
    mount.ctl_ok(&["seal", "brief/held", "brief/longer", "brief/over"]);
    mount.ctl_ok(&["hold", "add", "case-1", "brief/held"]);
    mount.ctl_ok(&["retain", "brief/longer", "--for", "1y"]);
    std::os::unix::fs::symlink("../a/f", mount.path("links/l")).expect("symlink");
    mount.ctl_ok(&["seal", "links/l"]);
    mount.until("brief/over", "expired");
    mount
}

/// Everything that would free a file; each must fail, and the bytes stay.
fn is_kept(mount: &Mount, name: &str) {
    let path = mount.path(name);
    let before = fs::read(mount.backing(name)).expect("backing");
    let fails = |what: &str, done: io::Result<()>| {
        let errno = errno(done);
        assert!([libc::EPERM, libc::EIO].contains(&errno), "{what} {name}: {errno}\n{}", mount.log());
    };
    fs::write(mount.path("unsealed"), "x").expect("write");
    fails("unlink", fs::remove_file(&path));
    fails("rename", fs::rename(&path, mount.path("moved")));
    fails("rename over", fs::rename(mount.path("unsealed"), &path));
    fails("rewrite", fs::File::create(&path).map(drop));
    fails(
        "append",
        fs::OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"x")),
    );
    fails("rename its folder", fs::rename(path.parent().expect("a folder"), mount.path("moved")));
    mount.ctl(&["purge"]);
    assert_eq!(fs::read(mount.backing(name)).expect("kept"), before, "{name}");
    let flags = Command::new("lsattr").arg(mount.backing(name)).output().expect("lsattr");
    assert!(String::from_utf8_lossy(&flags.stdout).contains('i'), "{name}: thawed");
}

const EDITS: [(&str, &str); 9] = [
    ("a/f", "update artifact set retain_until = 1 where name = 'f'"),
    ("a/f", "update artifact set retain_until = 1, retain_sealed = 1 where name = 'f'"),
    ("a/f", "update artifact set retain_until = 1, mode = 0 where name = 'f'"),
    ("a/f", "delete from artifact where name = 'f'"),
    ("a/f", "update artifact set live = 0 where name = 'f'"),
    ("a/f", "update artifact set name = 'elsewhere' where name = 'f'"),
    ("brief/held", "delete from hold; update artifact set holds = 0"),
    ("brief/held", "delete from hold; delete from line; update artifact set holds = 0"),
    (
        "brief/longer",
        "delete from line; delete from about; \
         update artifact set retain_until = retain_sealed where name = 'longer'",
    ),
];

#[test]
fn an_index_that_was_edited_while_the_daemon_was_down_frees_nothing() {
    let mut mount = mounted("edited-down");
    for (n, (name, edit)) in EDITS.into_iter().enumerate() {
        mount.stop();
        sql(&mount, &format!("pragma foreign_keys = off; {edit}"));
        mount.start();
        eventually("the edit is found", || warnings(&mount).contains("EDITED"));
        is_kept(&mount, name);
        assert!(log(&mount).contains("index.db found edited"), "{edit}");
        // What was not touched goes on as before.
        assert_eq!(fs::read(mount.path("a/g")).expect("read"), b"a/g");
        mount.sealed(format!("new{n}"), b"new");
        mount.stop();
        // Made anew from the log, it is whole again.
        mount.ctl_ok(&["rebuild"]);
        mount.start();
        eventually("compared again", || !warnings(&mount).contains("index.db"));
        assert!(fs::read(mount.path(name)).is_ok(), "{name} after {edit}");
        assert_eq!(errno(fs::remove_file(mount.path(name))), libc::EPERM, "{name} after {edit}");
    }
    // What had expired was purged all the while.
    assert!(!mount.path("brief/over").exists());
}

#[test]
fn an_index_that_is_edited_beneath_the_daemon_frees_nothing() {
    let mount = mounted("edited-live");
    sql(&mount, "update artifact set retain_until = 1 where name = 'f'");
    is_kept(&mount, "a/f");
    sql(&mount, "pragma foreign_keys = off; delete from artifact where name = 'g'");
    is_kept(&mount, "a/f");
    eventually("both are told", || warnings(&mount).contains("EDITED at 2 path(s)"));
    is_kept(&mount, "a/g");
    assert_eq!(errno(fs::File::open(mount.path("a/g"))), libc::EIO);
    // A hold that was taken away, an extension, and an owner who "extends" to less.
    sql(&mount, "delete from line; delete from about; delete from hold; update artifact set holds = 0");
    sql(&mount, "update artifact set retain_until = retain_sealed where name = 'longer'");
    is_kept(&mount, "brief/held");
    is_kept(&mount, "brief/longer");
    for args in [["retain", "brief/longer", "--for", "1h"].as_slice(), &["hold", "add", "x", "brief/held"]] {
        let output = mount.ctl(args);
        assert!([1, 4].contains(&output.status.code().expect("code")), "{output:?}");
    }
    // A sealed link whose row is gone is no free link.
    sql(&mount, "pragma foreign_keys = off; delete from artifact where name = 'l'");
    eventually("the link is told", || warnings(&mount).contains("EDITED at 5 path(s)"));
    assert_eq!(errno(fs::remove_file(mount.path("links/l"))), libc::EIO);
    // Nor does a folder go with what is missing in it.
    for file in ["held", "longer"].map(|name| mount.backing(format!("brief/{name}"))) {
        run(Command::new("chattr").arg("-i").arg(&file));
        fs::remove_file(file).expect("unlink");
    }
    assert_eq!(errno(fs::remove_dir(mount.path("brief"))), libc::EPERM);
    // What is as the log says goes on: it is sealed, extended, and removed when it has expired.
    fs::write(mount.path("brief/new"), "x").expect("write");
    mount.ctl_ok(&["seal", "brief/new"]);
    mount.until("brief/new", "expired");
    fs::remove_file(mount.path("brief/new")).expect("expired");
    mount.ctl_ok(&["retain", "a/h", "--for", "9y"]);
    // A writer that changes nothing of what is signed is no finding.
    fs::write(mount.path("brief/last"), "x").expect("write");
    mount.ctl_ok(&["seal", "brief/last"]);
    mount.until("brief/last", "expired");
    let before = log(&mount).lines().count();
    sql(&mount, "create table notes (text text)");
    fs::remove_file(mount.path("brief/last")).expect("expired");
    assert_eq!(log(&mount).lines().count(), before + 1);
}

#[test]
fn a_file_frozen_by_a_seal_that_was_never_committed_is_free_again() {
    let mut mount = mounted("frozen");
    fs::write(mount.path("late"), "never sealed").expect("write");
    mount.kill();
    // As after a power cut between flag and commit: no journal of this boot, no mark.
    fs::remove_file(mount.store.join("journal")).expect("journal");
    sql(&mount, "delete from pending");
    run(Command::new("chattr").arg("+i").arg(mount.backing("late")));
    mount.start();
    mount.until("late", "torn");
    fs::remove_file(mount.path("late")).expect("free");
    is_kept(&mount, "a/f");
}

#[test]
fn a_journal_that_says_otherwise_thaws_no_seal() {
    let mut mount = mounted("forged-journal");
    let ino = std::os::unix::fs::MetadataExt::ino(&fs::metadata(mount.backing("a/f")).expect("stat"));
    mount.stop();
    sql(&mount, "pragma foreign_keys = off; delete from artifact where name = 'f'");
    let journal = fs::OpenOptions::new().append(true).open(mount.store.join("journal"));
    journal.expect("open").write_all(format!("c\t{ino}\ta/f\n").as_bytes()).expect("write");
    mount.start();
    is_kept(&mount, "a/f");
}

#[test]
fn every_part_of_a_comparison_finds_its_own() {
    let (store, filling) = filled();
    filling.seal_many("many", 30);
    let record = filling.seal("changed", "1", "30d", RetentionMode::Governance);
    filling.change(&record, &RetentionChange::Hold("case-1", true));
    filling.change(&record, &RetentionChange::Hold("case-2", true));
    filling.change(&record, &RetentionChange::Hold("case-1", false));
    let later = Timestamp(record.retain_until.0 + 1_000_000_000);
    filling.change(&record, &RetentionChange::Until(later, None));
    let edit = |statement: &str| {
        let index = store.path().join("index.db");
        run(Command::new("sqlite3").arg(index).arg(format!("pragma foreign_keys = off; {statement}")));
    };
    let key = SigningKey::read(&store.path().join("keys/log")).unwrap().public();
    let found = |parts| {
        let checkpoint = check_rollback(filling.index.read(), ORIGIN, &[key]).unwrap().unwrap().0;
        compare_in(filling.index.read(), Some(&checkpoint), parts, &|_, _| true).unwrap()
    };
    let all = || {
        let one = found(1);
        assert!([2, 3, 7].into_iter().all(|parts| found(parts) == one), "{one:?}");
        one
    };
    assert!(all().is_empty(), "{:?}", all());
    for (n, name) in ["00003", "00017", "00029"].into_iter().enumerate() {
        let what = [
            format!("update artifact set sha256 = zeroblob(32) where name = '{name}'"),
            format!("delete from artifact where name = '{name}'"),
            format!("update artifact set perm = 511 where name = '{name}'"),
        ];
        edit(&what[n]);
        assert_eq!(all().paths.len(), n + 1);
    }
    edit("update hold set name = 'case-3' where name = 'case-2'");
    edit(
        "delete from line where idx = (select max(idx) from line) and artifact in (select id from artifact where name = 'changed')",
    );
    assert_eq!(all().paths.len(), 4);
    assert!(all().paths.contains_key(&record.path));
    // The keys, and the log itself, are of the whole.
    edit("update key set public = replace(public, 'AAAA', 'AAAB') where role = 0");
    assert!(all().whole.is_some_and(|what| what.contains("keys")));
    assert!(found(3).whole.is_some());
}

#[test]
fn a_store_is_not_destroyed_by_the_word_of_an_edited_index() {
    let (store, filling): (Store, _) = filled();
    let record = filling.seal("kept", "1", "30d", RetentionMode::Compliance);
    drop(filling);
    let edit = "update artifact set retain_until = 1, holds = 0";
    run(Command::new("sqlite3").arg(store.path().join("index.db")).arg(edit));
    let output = sealed_store::sealctl(&["destroy", store.text()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("is not what the log says"), "{error}");
    assert!(store.tree(record.path.as_str()).exists());
}
