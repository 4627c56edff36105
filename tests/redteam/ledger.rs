//! Root at index, log, checkpoint, policy and keys, past the daemon: what is noticed, by which command, and what
//! only a checkpoint kept elsewhere shows.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::harness::{self, Mount, eventually, run, sealctl, sealfs, sh};
use super::scene::{Seen, Table, check, refused};

const POLICY: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"30d\"\nmax = \"10y\"\n";

pub fn attacks(table: &mut Table) {
    let base = Base::new();
    rows(table, &base);
    put_back(table, &base);
    exported(table, &base);
    keys(table, &base);
    policy(table);
}

/// A store with a history, unmounted, to be copied for each attack; and an older state of it.
struct Base {
    mount: Mount,
}

impl Base {
    fn new() -> Self {
        let mut mount = Mount::new("ledger", POLICY);
        for name in ["early", "f", "held"] {
            mount.sealed(name, format!("content of {name}\n").as_bytes());
        }
        mount.ctl_ok(&["hold", "add", "case-1", "held"]);
        mount.stop();
        sh(
            &mount.dir,
            "sqlite3 store/index.db 'pragma wal_checkpoint(truncate)' >/dev/null; cp -a store older; cp store/log/checkpoint kept-early",
        );
        mount.start();
        mount.sealed("late", b"content of late\n");
        mount.ctl_ok(&["retain", "f", "--for", "60d"]);
        mount.stop();
        sh(&mount.dir, "cp store/log/checkpoint kept");
        Base { mount }
    }

    fn copy(&self, of: &str) -> Copy {
        let dir = harness::scratch("ledger-copy");
        let copy = Copy { store: dir.join("store"), dir };
        run(Command::new("cp").arg("-a").arg(self.mount.dir.join(of)).arg(&copy.store));
        fs::create_dir(copy.dir.join("mnt")).expect("mkdir");
        copy
    }
}

/// A copy of the store, to be attacked.
struct Copy {
    dir: PathBuf,
    store: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.join("mnt")).stderr(Stdio::null()).status();
        harness::remove(&self.dir);
    }
}

impl Copy {
    fn ctl(&self, args: &[&str]) -> Output {
        sealctl().arg("--store").arg(&self.store).args(args).current_dir(&self.dir).output().expect("sealctl")
    }

    fn sql(&self, statement: &str) {
        run(Command::new("sqlite3").arg(self.store.join("index.db")).arg(statement));
    }

    /// The command must end with 3 and these words.
    fn noticed(&self, args: &[&str], words: &str) -> Seen {
        let output = self.ctl(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains(words));
        match (output.status.code(), line) {
            (Some(3), Some(line)) => {
                Ok(format!("{}: {}", args.join(" "), line.trim_start_matches("sealctl: ")))
            }
            (code, _) => Err(format!("{}: {code:?}, without {words:?}: {text}", args.join(" "))),
        }
    }

    /// The daemon must refuse to start, with these words.
    fn not_started(&self, words: &str) -> Seen {
        let mut daemon = sealfs()
            .arg("-f")
            .arg(&self.store)
            .arg(self.dir.join("mnt"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("sealfs");
        // It may be mounted for a moment, until the worker has looked at the store.
        let until = Instant::now() + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = daemon.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > until {
                let _ = Command::new("umount").arg(self.dir.join("mnt")).status();
                let _ = daemon.wait();
                return Err("the daemon started".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut text = String::new();
        daemon.stderr.take().expect("piped").read_to_string(&mut text).expect("read");
        let line = text.lines().find(|line| line.contains(words)).map(str::to_owned);
        let line = line.ok_or_else(|| format!("{status}, without {words:?}: {text}"))?;
        check(status.code() == Some(1), format!("not started: {line}"))
    }

    /// Mounts it for a while.
    fn while_mounted<T>(&self, run: impl FnOnce(&Path) -> T) -> T {
        let mnt = self.dir.join("mnt");
        harness::run(sealfs().arg(&self.store).arg(&mnt));
        let done = run(&mnt);
        harness::run(Command::new("umount").arg(&mnt));
        let lock = self.store.join("lock");
        eventually("the daemon has ended", || {
            fs::File::open(&lock).is_ok_and(|file| {
                rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
            })
        });
        done
    }
}

const WHO: &str = "root, store";
const ALL: [&str; 2] = ["verify", "--all"];

fn rows(table: &mut Table, base: &Base) {
    let of_f = "(select id from artifact where name = 'f')";
    let edits = [
        ("a hash edited", "update artifact set sha256 = zeroblob(32) where name = 'f'".to_owned(), "f: "),
        ("retention shortened", "update artifact set retain_until = 0 where name = 'f'".to_owned(), "f: "),
        ("a mode made governance", "update artifact set mode = 1 - mode where name = 'f'".to_owned(), "f: "),
        ("a name edited", "update artifact set name = 'g' where name = 'f'".to_owned(), "f: "),
        ("a hold taken away", "delete from hold; update artifact set holds = 0".to_owned(), "held: "),
        (
            "a seal deleted",
            format!("delete from line where artifact = {of_f}; delete from artifact where name = 'f'"),
            "f: ",
        ),
        ("a seal ended", "update artifact set live = 0 where name = 'f'".to_owned(), "f: "),
        (
            "a seal added",
            "create temp table t as select * from artifact where name = 'f'; update t set id = 99, name = 'made-up'; \
             insert into artifact select * from t"
                .to_owned(),
            "made-up: ",
        ),
        (
            "an entry edited",
            "update entry set body = replace(body, 'case-1', 'case-2')".to_owned(),
            "log",
        ),
        ("an entry deleted", "delete from entry where idx = (select max(idx) from entry)".to_owned(), ""),
        ("a key retired", "update key set retired = 1, compromised = 0 where role = 0".to_owned(), "key"),
    ];
    for (name, statement, words) in edits {
        let copy = base.copy("store");
        copy.sql(&statement);
        table.add(&format!("index: {name}"), WHO, copy.noticed(&ALL, words));
    }
    let copy = base.copy("store");
    fs::remove_file(copy.store.join("index.db")).expect("unlink");
    table.add("index: deleted", WHO, copy.not_started("index"));
    edited_and_removed(table, base);
}

/// An edited index frees nothing: who had it edited, and then tries to remove the file.
fn edited_and_removed(table: &mut Table, base: &Base) {
    let of_f = "(select id from artifact where name = 'f')";
    let edits = [
        ("shortened", "f", "update artifact set retain_until = 0 where name = 'f'".to_owned()),
        (
            "an extension taken back",
            "f",
            format!(
                "delete from line where artifact = {of_f}; update artifact set retain_until = retain_sealed"
            ),
        ),
        (
            "its row deleted",
            "f",
            format!("delete from line where artifact = {of_f}; delete from artifact where id = {of_f}"),
        ),
        ("its row ended", "f", "update artifact set live = 0 where name = 'f'".to_owned()),
        (
            "a hold deleted",
            "held",
            "delete from hold; delete from line; update artifact set holds = 0, retain_until = 0".to_owned(),
        ),
    ];
    for (what, name, edit) in edits {
        let edit = format!("pragma foreign_keys = off; {edit}");
        let remove = |mnt: &Path| refused(&[libc::EPERM, libc::EIO], fs::remove_file(mnt.join(name)));
        let told = |copy: &Copy| {
            let status = String::from_utf8_lossy(&copy.ctl(&["status"]).stdout).into_owned();
            check(status.contains("EDITED"), "status tells nothing")
        };
        let copy = base.copy("store");
        copy.sql(&edit);
        let seen = copy.while_mounted(|mnt| remove(mnt).and_then(|seen| told(&copy).map(|_| seen)));
        table.add(&format!("index: {what} while the daemon is down, the file removed"), WHO, seen);
        let copy = base.copy("store");
        let seen = copy.while_mounted(|mnt| {
            copy.sql(&edit);
            let removed = remove(mnt);
            eventually("status tells", || told(&copy).is_ok());
            removed
        });
        table.add(&format!("index: {what} beneath the daemon, the file removed"), WHO, seen);
    }
}

fn put_back(table: &mut Table, base: &Base) {
    let index_of = |copy: &Copy, older: &Path| {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(copy.store.join(format!("index.db{suffix}")));
        }
        fs::copy(older.join("index.db"), copy.store.join("index.db")).expect("copy");
    };
    let older = base.mount.dir.join("older");
    let copy = base.copy("store");
    index_of(&copy, &older);
    table.add("index: an older one put back", WHO, copy.not_started("index.db is older than the log"));
    table.add(
        "index: an older one put back, asked",
        WHO,
        copy.noticed(&ALL, "index.db is older than the log"),
    );
    let other = Mount::new("ledger-other", POLICY);
    for name in ["early", "f", "held", "late", "more"] {
        other.sealed(name, b"of another store");
    }
    let copy = base.copy("store");
    other.ctl_ok(&["backup", copy.dir.join("backup").to_str().expect("UTF-8")]);
    index_of(&copy, &copy.dir.join("backup"));
    table.add("index: one of another store put in", WHO, copy.not_started(""));
    let copy = base.copy("store");
    fs::remove_dir_all(copy.store.join("log")).expect("remove");
    run(Command::new("cp").arg("-a").arg(older.join("log")).arg(copy.store.join("log")));
    table.add("log: an older one put back, mounted again", WHO, {
        copy.while_mounted(|_| ());
        let checked = copy.ctl(&["log", "check"]);
        let against = base.mount.dir.join("kept");
        let against = copy.ctl(&["log", "check", "--against", against.to_str().expect("UTF-8")]);
        let whole = checked.status.success() && against.status.success() && copy.ctl(&ALL).status.success();
        check(whole, "the index has what is missing: exported anew at the start")
    });
    // Everything together: this host alone cannot tell.
    let copy = base.copy("older");
    let alone = copy.ctl(&ALL).status.success() && copy.ctl(&["log", "check"]).status.success();
    let kept = base.mount.dir.join("kept");
    let against = copy.noticed(&["log", "check", "--against", kept.to_str().expect("UTF-8")], "");
    table.add(
        "index, log, tree and checkpoint put back together",
        WHO,
        against.and_then(|seen| check(alone, format!("not noticed by the store alone (told so); {seen}"))),
    );
}

fn exported(table: &mut Table, base: &Base) {
    let check_log = ["log", "check"];
    let files = |copy: &Copy| {
        let list = sh(&copy.store.join("log"), "find tile -type f | sort -V");
        list.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let edited = |copy: &Copy, name: &str| {
        let path = copy.store.join("log").join(name);
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let _ = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600));
        fs::write(path, bytes).expect("write");
    };
    for (what, part) in [("a tile edited", "tile/0/"), ("an entry bundle edited", "tile/entries/")] {
        let copy = base.copy("store");
        // The widest: narrower ones only stand for it until it is there.
        let name = files(&copy).into_iter().rfind(|name| name.starts_with(part)).expect("a tile");
        edited(&copy, &name);
        table.add(&format!("log: {what}"), WHO, copy.noticed(&check_log, ""));
    }
    let copy = base.copy("store");
    for name in files(&copy) {
        fs::remove_file(copy.store.join("log").join(name)).expect("unlink");
    }
    table.add("log: all tiles deleted", WHO, copy.noticed(&check_log, ""));
    let copy = base.copy("store");
    edited(&copy, "checkpoint");
    table.add("log: the checkpoint edited", WHO, copy.noticed(&check_log, ""));
    let copy = base.copy("store");
    let path = copy.store.join("log/checkpoint");
    let note = fs::read_to_string(&path).expect("checkpoint");
    let lines: Vec<_> = note.lines().collect();
    // As large, with another root, its signature as it was.
    let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    fs::write(&path, note.replace(lines[2], root)).expect("write");
    table.add("log: the checkpoint's root replaced", WHO, copy.noticed(&check_log, ""));
    table.add("log: the checkpoint's root replaced, mounted", WHO, copy.not_started(""));
    let copy = base.copy("store");
    let early = fs::read(base.mount.dir.join("kept-early")).expect("read");
    fs::write(copy.store.join("log/checkpoint"), early).expect("write");
    table.add("log: an older checkpoint put back, mounted again", WHO, {
        copy.while_mounted(|_| ());
        let kept = base.mount.dir.join("kept");
        let again = copy.ctl(&["log", "check", "--against", kept.to_str().expect("UTF-8")]);
        check(again.status.success(), "signed anew from the index at the start")
    });
}

fn keys(table: &mut Table, base: &Base) {
    for key in ["seal", "log"] {
        let copy = base.copy("store");
        sh(
            &copy.dir,
            &format!("rm -f store/keys/{key}*; ssh-keygen -q -t ed25519 -N '' -C '' -f store/keys/{key}"),
        );
        table.add(
            &format!("keys: the {key} key replaced by another"),
            WHO,
            copy.not_started("is not the key that the log names"),
        );
        let copy = base.copy("store");
        fs::remove_file(copy.store.join("keys").join(key)).expect("unlink");
        table.add(&format!("keys: the {key} key deleted"), WHO, copy.not_started("keys/"));
        let copy = base.copy("store");
        let path = copy.store.join("keys").join(key);
        let bytes = fs::read(&path).expect("read");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("write");
        table.add(&format!("keys: the {key} key cut"), WHO, copy.not_started("keys/"));
    }
    let copy = base.copy("store");
    sh(&copy.dir, "chmod 644 store/keys/seal");
    table.add("keys: made readable for others", WHO, copy.not_started("chmod 600"));
    let copy = base.copy("store");
    let swapped = copy.while_mounted(|mnt| {
        sh(&copy.dir, "rm -f store/keys/seal*; ssh-keygen -q -t ed25519 -N '' -C '' -f store/keys/seal");
        fs::write(mnt.join("new"), b"sealed with which key?").expect("write");
        run(sealctl().arg("--store").arg(&copy.store).arg("seal").arg(mnt.join("new")));
        let state = || harness::xattr(&mnt.join("new"), "user.seal.state").unwrap_or_default();
        eventually("sealed", || state() == "sealed");
        String::from_utf8_lossy(&copy.ctl(&ALL).stderr).into_owned()
    });
    table.add("keys: replaced under a running daemon", WHO, {
        let seen = copy.not_started("is not the key that the log names");
        seen.and_then(|seen| check(!swapped.contains("new"), format!("it goes on with its own; then {seen}")))
    });
}

/// Changes of the policy are root's to make: each is logged, and frees nothing.
fn policy(table: &mut Table) {
    let mount = Mount::new("ledger-policy", POLICY);
    mount.sealed("f", b"retained for 30 days");
    let file = mount.store.join("policy.toml");
    let logged = || mount.ctl_ok(&["log", "show"]).matches("policy").count();
    let before = logged();
    let short = POLICY.replace("30d", "1s").replace("10y", "1s");
    fs::write(&file, short).expect("write");
    eventually("the new policy is logged", || logged() == before + 1);
    table.add("policy: shortened", WHO, {
        let seen = refused(&[libc::EPERM], fs::remove_file(mount.path("f")));
        seen.map(|seen| format!("logged; what is sealed keeps its retention ({seen})"))
    });
    fs::write(&file, POLICY).expect("write");
    eventually("the old policy is logged", || logged() == before + 2);
    table.add("policy: put back", WHO, check(mount.ctl(&ALL).status.success(), "logged again"));
    fs::write(&file, "version = 1\n[defaults\n").expect("write");
    eventually("status warns", || mount.ctl_ok(&["status"]).contains("policy.toml:2"));
    table.add(
        "policy: broken",
        WHO,
        check(logged() == before + 2, "the old one stays in force; status warns"),
    );
    fs::remove_file(&file).expect("unlink");
    eventually("status warns", || mount.ctl_ok(&["status"]).contains("policy.toml"));
    table.add(
        "policy: deleted",
        WHO,
        refused(&[libc::EPERM], fs::remove_file(mount.path("f")))
            .map(|_| "the old one stays in force; status warns".to_owned()),
    );
}
