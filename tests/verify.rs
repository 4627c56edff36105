//! `sealctl verify` and `export`: whatever is altered, somebody is told.

mod harness;
#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sealed_store::{Store, bad, filled, good, names};
use serde_json::Value;

/// The code of the one finding of `verify PATH`, with exit code 3.
fn finding(store: &Store, path: &str) -> (String, String) {
    let output = store.run(&["--json", "verify", path]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<_> = found.iter().filter(|value| value["ok"] == false).collect();
    assert_eq!(wrong.len(), 1, "{text}");
    (wrong[0]["code"].as_str().unwrap().to_owned(), wrong[0]["message"].as_str().unwrap().to_owned())
}

fn sql(store: &Store, statement: &str) {
    let db = store.path().join("index.db");
    let done = std::process::Command::new("python3")
        .args([
            "-c",
            "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.executescript(sys.argv[2])\nc.commit()",
        ])
        .arg(db)
        .arg(statement)
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn what_was_not_touched_is_verified() {
    let (store, filling) = filled();
    assert_eq!(good(&store.run(&["verify", "--all"])), "4 files verified, 23 B read\n");
    assert_eq!(good(&store.run(&["verify", "releases", "evidence.bin"])), "3 files verified, 20 B read\n");
    let json: Vec<Value> = good(&store.run(&["--json", "verify", "--all"]))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json.len(), 4);
    assert!(json.iter().all(|value| value["ok"] == true && value["sha256"].as_str().unwrap().len() == 64));
    // Unsealed files are counted by --all, and fail a folder; folders and free links do neither.
    filling.write("releases/1.0/extra", "?");
    std::os::unix::fs::symlink("1.0", store.tree("releases/current")).unwrap();
    assert!(
        good(&store.run(&["verify", "--all"])).starts_with("1 file is not sealed (yet)\n4 files verified")
    );
    assert_eq!(finding(&store, "releases").0, "not-sealed");
    bad(&store.run(&["verify", "releases/1.0/extra"]), 5);
    bad(&store.run(&["verify", "nowhere"]), 5);
}

#[test]
fn each_alteration_is_found_for_what_it_is() {
    let (store, filling) = filled();
    let app = store.tree("releases/1.0/app");
    let restore = || {
        let _ = fs::remove_file(&app);
        filling.write("releases/1.0/app", "hello sealfs\n");
    };
    let code = |path: &str| finding(&store, path).0;
    filling.write("releases/1.0/app", "HELLO sealfs\n");
    assert_eq!(code("releases"), "content");
    let error = String::from_utf8(store.run(&["verify", "--all"]).stderr).unwrap();
    assert!(
        error.starts_with("sealctl: releases/1.0/app: the content was altered: its SHA-256 is "),
        "{error}"
    );
    filling.write("releases/1.0/app", "longer than before\n");
    assert_eq!(code("releases/1.0/app"), "size");
    fs::remove_file(&app).unwrap();
    assert_eq!(code("releases/1.0/app"), "missing");
    std::os::unix::fs::symlink("/etc/passwd", &app).unwrap();
    assert_eq!(code("releases/1.0/app"), "kind");
    restore();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o777)).unwrap();
    let (code_found, message) = finding(&store, "releases/1.0/app");
    assert_eq!((code_found.as_str(), message.as_str()), ("attribute", "its mode is 0777, sealed was 0640"));
    restore();
    good(&store.run(&["verify", "releases/1.0/app"]));
    fs::rename(store.tree("releases"), store.tree("moved")).unwrap();
    let output = store.run(&["--json", "verify", "releases"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches("\"missing\"").count(), 2);
}

#[test]
fn an_index_that_lies_is_found_out() {
    let set = |what: &str| format!("update artifact set {what} where name = 'app'");
    let of_app = "(select id from artifact where name = 'app')";
    for (statement, expected) in [
        (set("retain_until = 0"), "retention"),
        (set("retain_sealed = 0, retain_until = 0"), "statement"),
        (set("mode = 0"), "statement"),
        (set("uid = uid + 1"), "statement"),
        (set("log_index = 2"), "statement"),
        (set("signature = zeroblob(64)"), "signature"),
        (set("sealed_wall = sealed_wall + 1"), "statement"),
        (set("key = policy"), "unknown-key"),
        ("delete from entry where idx = 1".to_owned(), "log"),
        (
            "update entry set body = replace(body, '\"size\":13', '\"size\":14') where idx = 1".to_owned(),
            "log",
        ),
        ("update entry set body = body || ' ' where idx = 1".to_owned(), "log"),
        (format!("insert into hold values ({of_app}, 'h', 0); {}", set("holds = 1")), "retention"),
    ] {
        let (store, filling) = filled();
        drop(filling);
        sql(&store, &statement);
        assert_eq!(finding(&store, "releases/1.0/app").0, expected, "{statement}");
    }
    for (statement, expected) in [
        ("delete from line", "retention"),
        ("update line set idx = idx - 1", "retention"),
        ("update entry set body = replace(body, '2026-06-12', '2026-06-13') where idx = 6", "log"),
    ] {
        let (store, filling) = filled();
        drop(filling);
        sql(&store, statement);
        assert_eq!(finding(&store, "releases/1.0/notes.txt").0, expected, "{statement}");
    }
}

#[test]
fn what_only_the_whole_log_tells_is_told_by_verify_all() {
    for (statement, expected) in [
        // The seal and all that belongs to it are gone from the index; its bytes are still there.
        (
            "delete from hold; delete from line; delete from artifact where name = 'evidence.bin'",
            "evidence.bin: the index is not what the log says: the log has a seal that is not in it",
        ),
        (
            "update artifact set live = 0 where name = 'app'",
            "releases/1.0/app: the index is not what the log says",
        ),
        (
            "update key set retired = 3, compromised = 0 where role = 0",
            "index.db: the index is not what the log says",
        ),
    ] {
        let (store, filling) = filled();
        drop(filling);
        sql(&store, statement);
        let output = store.run(&["verify", "--all"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{statement}: {error}");
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[test]
fn a_foreign_key_vouches_for_nothing() {
    // A checkpoint by a key that is not the log's.
    let (store, _) = filled();
    let (other, _) = filled();
    fs::copy(other.path().join("keys/log.pub"), store.path().join("keys/log.pub")).unwrap();
    let error = bad(&store.run(&["verify", "--all"]), 3);
    assert!(error.contains("not signed by test.example/store with a key that is trusted here"), "{error}");
    // A seal key that the log does not name.
    let (store, filling) = filled();
    drop(filling);
    let line = fs::read_to_string(other.path().join("keys/seal.pub")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    sql(&store, &format!("update key set public = '{} {}' where role = 0", words[0], words[1]));
    let error = bad(&store.run(&["verify", "releases/1.0/app"]), 3);
    assert!(error.contains("it has another fingerprint"), "{error}");
}

#[test]
fn export_copies_with_sidecars_and_a_copy_can_be_verified_alone() {
    let (store, _) = filled();
    let out = store.beside("out");
    let out_text = out.to_str().unwrap();
    assert_eq!(good(&store.run(&["export", "releases", out_text])), "2 files exported, 19 B\n");
    assert_eq!(
        names(&out.join("1.0")),
        ["app", "app.seal", "app.seal.jsonl", "notes.txt", "notes.txt.seal", "notes.txt.seal.jsonl"]
    );
    let (copy, original) =
        (fs::metadata(out.join("1.0/app")).unwrap(), fs::metadata(store.tree("releases/1.0/app")).unwrap());
    assert_eq!((copy.mode(), copy.mtime()), (original.mode(), original.mtime()));
    assert_eq!(fs::metadata(out.join("1.0/app.seal")).unwrap().mode() & 0o777, 0o440);
    let lines = fs::read_to_string(out.join("1.0/notes.txt.seal.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2, "the seal and its extension");

    let signers = store.beside("allowed_signers");
    fs::write(&signers, good(&store.run(&["trust"]))).unwrap();
    let offline = |path: &str| {
        sealed_store::sealctl(&["verify", "--offline", "--trust", signers.to_str().unwrap(), path])
    };
    let told = good(&offline(out_text));
    assert!(told.starts_with("not checked offline: ") && told.ends_with("\n2 files verified\n"), "{told}");
    let app = out.join("1.0/app");
    let app_text = app.to_str().unwrap();
    good(&offline(app_text));
    fs::copy(&app, out.join("1.0/other")).unwrap();
    for kind in [".seal", ".seal.jsonl"] {
        fs::copy(out.join(format!("1.0/app{kind}")), out.join(format!("1.0/other{kind}"))).unwrap();
    }
    assert!(bad(&offline(out.join("1.0/other").to_str().unwrap()), 3).contains("sealed under another name"));
    fs::write(&app, "HELLO sealfs\n").unwrap();
    assert!(bad(&offline(app_text), 3).contains("the content was altered"));
    fs::remove_file(out.join("1.0/app.seal.jsonl")).unwrap();
    bad(&offline(app_text), 5);
    let (other, _) = filled();
    fs::write(&signers, good(&other.run(&["trust"]))).unwrap();
    assert!(bad(&offline(out.join("1.0/notes.txt").to_str().unwrap()), 3).contains("trusted key"));
}

#[test]
fn export_overwrites_nothing_and_leaves_nothing_altered() {
    let (store, filling) = filled();
    let out = store.beside("out");
    fs::create_dir(&out).unwrap();
    let out_text = out.to_str().unwrap();
    good(&store.run(&["export", "evidence.bin", "log/build.log", out_text]));
    let error = bad(&store.run(&["export", "evidence.bin", out_text]), 1);
    assert!(
        error.ends_with("already there, not overwritten; remove it, or choose another DEST\n"),
        "{error}"
    );
    filling.write("releases/1.0/app", "HELLO sealfs\n");
    filling.write("releases/1.0/fresh", "x");
    bad(&store.run(&["export", "releases/1.0/fresh", out_text]), 5);
    assert!(bad(&store.run(&["export", "releases/1.0/app", out_text]), 3).contains("not exported"));
    assert!(!out.join("app").exists() && !out.join("fresh").exists());
    let output = store.run(&["export", "releases", out_text]);
    assert_eq!(output.status.code(), Some(3), "what is wrong weighs more than what is not sealed");
    assert_eq!(names(&out.join("releases/1.0")), ["notes.txt", "notes.txt.seal", "notes.txt.seal.jsonl"]);
    bad(&store.run(&["export", "a", "b", "/nowhere"]), 2);
    bad(&store.run(&["export", "gone", out_text]), 5);
}

#[test]
fn what_only_the_raw_disk_shows_is_found_beside_a_running_daemon() {
    let image = harness::image::Image::new("ext4", 64, &[]);
    let mut mount = harness::Mount::at(&image.root().join("sealfs"), harness::QUICK);
    let content = "GOODGOOD".repeat(1024);
    // A file that is in memory since it was written, and one that somebody has mapped.
    let path = mount.sealed("f", content.as_bytes());
    let mapped = mount.sealed("mapped", content.replace("GOOD", "MAPD").as_bytes());
    let sleeper = "import mmap,sys; f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); m[:]; print('mapped',flush=True); sys.stdin.read()";
    let mut reader = std::process::Command::new("python3");
    reader.args(["-c", sleeper]).arg(&mapped);
    reader.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut reader = reader.spawn().expect("python3");
    let mut line = [0; 7];
    std::io::Read::read_exact(reader.stdout.as_mut().expect("output"), &mut line).expect("mapped");
    harness::run(std::process::Command::new("sync").arg("-f").arg(image.root()));
    mount.ctl_ok(&["verify", "--all"]);
    for pattern in ["GOODGOODGOOD", "MAPDMAPDMAPD"] {
        let disk = fs::File::options().read(true).write(true).open(image.file()).expect("disk");
        let bytes = fs::read(image.file()).expect("disk");
        let at = bytes
            .windows(pattern.len())
            .position(|window| window == pattern.as_bytes())
            .expect("on the disk");
        std::os::unix::fs::FileExt::write_all_at(&disk, b"EVIL", at as u64).expect("write");
        disk.sync_all().expect("sync");
    }
    assert_eq!(fs::read(&path).expect("read"), content.as_bytes(), "memory has what was sealed");
    let output = mount.ctl(&["verify", "--all"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{told}");
    for name in ["f", "mapped"] {
        assert!(told.contains(&format!("sealctl: {name}: the content was altered")), "{told}");
    }
    drop(reader.stdin.take());
    let _ = reader.wait();
    mount.stop();
}

#[test]
fn failures_come_first_and_last_and_a_closed_pipe_is_no_panic() {
    let (store, filling) = filled();
    filling.write("evidence.bin", "altered");
    let output = store.run(&["verify", "--all"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(err.starts_with("sealctl: evidence.bin: "), "{err}");
    assert!(out.lines().last().is_some_and(|line| line.starts_with("1 FAILED, 3 verified")), "{out}");
    // Standard output, standard error, both; also for what is said of wrong arguments.
    let ctl = env!("CARGO_BIN_EXE_sealctl");
    let at = store.path().display().to_string();
    let dir = store.beside("pipe");
    fs::create_dir(&dir).unwrap();
    for command in [
        format!("{ctl} --store {at} verify --all"),
        format!("{ctl} --store {at} --json ls"),
        format!("{ctl} --store {at} verify --nonsense"),
        format!("{ctl} --store /nowhere status"),
        format!("{ctl} --help"),
        format!("{ctl} completions bash"),
        format!("{ctl} --store {at} log show"),
        format!("{} --nonsense", env!("CARGO_BIN_EXE_sealfs")),
        format!("{} /nowhere /nowhere", env!("CARGO_BIN_EXE_sealfs")),
        format!("{} -f /nowhere /nowhere", env!("CARGO_BIN_EXE_sealfs")),
    ] {
        for redirection in ["| true", "2>&1 >/dev/null | true", "2>&1 | true"] {
            // The reader is gone before the first byte comes.
            let script = format!("{{ sleep 0.1; {command}; echo $? >code; }} {redirection}");
            let mut shell = std::process::Command::new("bash");
            assert!(shell.args(["-c", &script]).current_dir(&dir).status().unwrap().success());
            let code = fs::read_to_string(dir.join("code")).unwrap();
            assert!(["0", "1", "2", "3", "141"].contains(&code.trim()), "{command} {redirection}: {code}");
        }
    }
}
