//! Keys: new ones, retired ones, and those that come from elsewhere.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Mount, SLOW, sh};

/// `ssh-keygen -Y verify`, as a deploy script does it.
fn ssh_accepts(mount: &Mount, signers: &Path, name: &str) -> bool {
    Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "test.example/store", "-n", "sealfs", "-f"])
        .arg(signers)
        .arg("-s")
        .arg(mount.path(format!("{name}.seal")))
        .stdin(fs::File::open(mount.path(name)).expect("open"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("ssh-keygen")
        .success()
}

fn pinned(mount: &Mount, name: &str) -> PathBuf {
    let path = mount.dir.join(name);
    fs::write(&path, mount.ctl_ok(&["trust"])).expect("write");
    path
}

fn key(mount: &Mount, role: &str, state: &str) -> String {
    let keys = mount.ctl_json(&["key", "list"]);
    let found = keys.iter().find(|key| key["role"] == role && key["state"] == state);
    found.unwrap_or_else(|| panic!("no {role} key {state}: {keys:?}"))["fingerprint"]
        .as_str()
        .expect("text")
        .to_owned()
}

#[test]
fn a_rotated_key_stays_good_for_what_it_sealed() {
    let mut mount = Mount::new("rotate", SLOW);
    mount.sealed("old", b"old\n");
    let before = pinned(&mount, "before");
    let first = key(&mount, "seal", "in use");
    mount.ctl_ok(&["key", "rotate"]);
    assert_eq!(key(&mount, "seal", "rotated"), first);
    assert_ne!(key(&mount, "seal", "in use"), first);
    mount.sealed("new", b"new\n");
    let after = pinned(&mount, "after");
    assert!(ssh_accepts(&mount, &before, "old") && !ssh_accepts(&mount, &before, "new"));
    assert!(ssh_accepts(&mount, &after, "old") && ssh_accepts(&mount, &after, "new"));
    assert!(ssh_accepts(&mount, &mount.path(".seal/allowed_signers"), "old"));
    mount.ctl_ok(&["verify", "old", "new"]);
    // An extension of an old seal is signed by the new key.
    mount.ctl_ok(&["retain", "old", "--for", "2h"]);
    mount.ctl_ok(&["verify", "--all"]);
    assert!(mount.ctl_ok(&["log", "show"]).contains("seal key rotated by uid 0"));
    // The old private key is gone; the new one is used after a restart.
    let private: Vec<_> = fs::read_dir(mount.store.join("keys"))
        .expect("keys")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.strip_suffix(".pub").is_none())
        .collect();
    assert_eq!(private.len(), 2, "{private:?}");
    mount.restart();
    mount.sealed("newer", b"newer\n");
    assert!(ssh_accepts(&mount, &after, "newer"));
    // The log's key too: what was signed before holds, and so does what comes.
    mount.ctl_ok(&["key", "rotate", "--log"]);
    mount.sealed("last", b"last\n");
    mount.ctl_ok(&["verify", "--all"]);
    mount.restart();
    mount.ctl_ok(&["verify", "--all"]);
}

#[test]
fn a_retired_key_holds_only_by_the_log() {
    let mount = Mount::new("retire", SLOW);
    mount.sealed("old", b"old\n");
    let first = key(&mount, "seal", "in use");
    fs::create_dir(mount.dir.join("copy")).expect("mkdir");
    sh(&mount.dir, "cp mnt/old mnt/old.seal mnt/old.seal.jsonl copy");
    mount.ctl_ok(&["key", "retire", &first, "--compromised-since", "2026-07-01"]);
    assert_eq!(key(&mount, "seal", "retired"), first);
    assert_ne!(key(&mount, "seal", "in use"), first, "another has its place");
    let after = pinned(&mount, "after");
    assert!(!ssh_accepts(&mount, &after, "old"));
    mount.sealed("new", b"new\n");
    assert!(ssh_accepts(&mount, &after, "new"));
    let text = mount.ctl_ok(&["verify", "old", "new"]);
    assert!(text.contains("old: its key was retired later") && text.contains("2026-07-01"), "{text}");
    assert!(!text.contains("new: its key"), "{text}");
    let mut offline = harness::sealctl();
    offline.args(["verify", "--offline", "--trust", "after", "copy/old"]).current_dir(&mount.dir);
    assert_eq!(offline.output().expect("sealctl").status.code(), Some(3));
    assert!(
        mount
            .ctl_exit(&["key", "retire", &first, "--compromised-since", "2026-07-01"], 4)
            .contains("retired already")
    );
    mount.ctl_exit(&["key", "retire", "SHA256:none", "--compromised-since", "2026-07-01"], 5);
    mount.ctl_exit(&["key", "retire", &first, "--compromised-since", "then"], 2);
    // Whoever is not trusted with it may do neither.
    assert_eq!(mount.ctl_as(1234, &["key", "rotate"]).status.code(), Some(4));
    mount.ctl_ok(&["verify", "--all"]);
}

#[test]
fn a_seal_by_a_key_that_was_not_valid_then_is_found() {
    let mount = Mount::new("invalid", SLOW);
    mount.sealed("old", b"old\n");
    mount.ctl_ok(&["key", "rotate"]);
    mount.sealed("new", b"new\n");
    mount.ctl_ok(&["verify", "--all"]);
    // A row that says the old key was retired before it sealed.
    let sql = "update key set retired = 1, compromised = 0 where until is not null and role = 0";
    assert!(
        Command::new("sqlite3")
            .arg(mount.store.join("index.db"))
            .arg(sql)
            .status()
            .expect("sqlite3")
            .success()
    );
    let error = mount.ctl_exit(&["verify", "old"], 3);
    assert!(error.contains("which was retired before (entry 1)"), "{error}");
    let error = mount.ctl_exit(&["verify", "--all"], 3);
    assert!(error.contains("index.db: the index is not what the log says: its keys are others"), "{error}");
}

#[test]
fn keys_may_come_from_elsewhere_but_not_silently() {
    let mut mount = Mount::new("external", SLOW);
    mount.sealed("old", b"old\n");
    mount.stop();
    sh(&mount.dir, "ssh-keygen -q -t ed25519 -N '' -C '' -f k; cp store/keys/seal original");
    // Another key in the store's place is not used.
    fs::copy(mount.dir.join("k"), mount.store.join("keys/seal")).expect("copy");
    let output = harness::sealfs().arg("-f").arg(&mount.store).arg(&mount.mnt).output().expect("sealfs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("is not the key that the log names") && error.contains("--seal-key"), "{error}");
    fs::copy(mount.dir.join("original"), mount.store.join("keys/seal")).expect("copy");
    // Given by name it is adopted, which is logged.
    let file = mount.dir.join("k");
    let mut mount = mount.again(&["--seal-key", file.to_str().expect("UTF-8")]);
    mount.sealed("new", b"new\n");
    let signers = pinned(&mount, "after");
    assert!(ssh_accepts(&mount, &signers, "old") && ssh_accepts(&mount, &signers, "new"));
    assert!(mount.ctl_ok(&["log", "show"]).contains("seal key adopted: ssh-ed25519"));
    mount.ctl_ok(&["verify", "--all"]);
    assert!(mount.ctl_exit(&["key", "rotate"], 4).contains("this key comes from"));
    mount.restart();
    let adopted = mount.ctl_ok(&["log", "show"]).matches("seal key adopted").count();
    assert_eq!(adopted, 1, "only the first time");
    // The store's own key was replaced by it: going back would be a new adoption, and is refused.
    mount.stop();
    let output = harness::sealfs().arg("-f").arg(&mount.store).arg(&mount.mnt).output().expect("sealfs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another took its place"), "{output:?}");
    // One that others can read is refused.
    sh(&mount.dir, "cp k open; chmod 644 open");
    let output = harness::sealfs()
        .arg("-f")
        .arg("--seal-key")
        .arg(mount.dir.join("open"))
        .arg(&mount.store)
        .arg(&mount.mnt)
        .output();
    assert!(String::from_utf8_lossy(&output.expect("sealfs").stderr).contains("chmod 600"));
}

#[test]
fn systemd_credentials_are_taken() {
    let mut mount = Mount::new("credentials", SLOW);
    mount.stop();
    sh(
        &mount.dir,
        "mkdir creds; ssh-keygen -q -t ed25519 -N '' -C '' -f creds/seal-key; chmod 400 creds/seal-key",
    );
    let mut daemon = harness::sealfs()
        .arg("-f")
        .arg(&mount.store)
        .arg(&mount.mnt)
        .env("CREDENTIALS_DIRECTORY", mount.dir.join("creds"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sealfs");
    harness::eventually("mounted", || mount.is_mounted());
    sh(&mount.mnt, "echo x > f; cat f.seal > /dev/null");
    let line = sh(&mount.dir, "ssh-keygen -l -f creds/seal-key.pub");
    assert!(
        line.contains(harness::xattr(&mount.path("f"), "user.seal.key").expect("key").as_str()),
        "{line}"
    );
    mount.unmount();
    assert!(daemon.wait().expect("wait").success());
}

#[test]
fn a_rotation_that_was_cut_short_is_finished() {
    let mut mount = Mount::new("cut", SLOW);
    mount.sealed("old", b"old\n");
    sh(&mount.dir, "cp -a store/keys before");
    mount.ctl_ok(&["key", "rotate"]);
    mount.stop();
    // As if it had been killed between the entry and the files.
    sh(
        &mount.dir,
        "mv store/keys/seal after; rm -r store/keys; cp -a before store/keys; mv after store/keys/seal.next",
    );
    mount.start();
    mount.sealed("new", b"new\n");
    mount.ctl_ok(&["verify", "--all"]);
    // And before the entry: a key that was never used.
    mount.stop();
    sh(&mount.dir, "ssh-keygen -q -t ed25519 -N '' -f x; mv x store/keys/seal.next");
    mount.start();
    mount.sealed("newer", b"newer\n");
    assert!(!mount.store.join("keys/seal.next").exists());
    mount.ctl_ok(&["verify", "--all"]);
}
