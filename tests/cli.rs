//! `sealctl` on real stores, without a mount: what it prints, how it fails, what it leaves.

#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use sealed_store::{ORIGIN, Store, bad, filled, good, names, sealctl};
use serde_json::Value;

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn init_makes_a_whole_store_and_says_what_comes_next() {
    let store = Store::made();
    let mode = |path: &str| fs::metadata(store.path().join(path)).unwrap().permissions().mode() & 0o7777;
    let modes =
        [("", 0o700), ("keys", 0o700), ("keys/seal", 0o600), ("keys/log", 0o600), ("policy.toml", 0o600)];
    for (path, expected) in modes {
        assert_eq!(mode(path), expected, "{path}");
    }
    assert_eq!(mode("index.db"), 0o600);
    assert_eq!(names(&store.path().join("keys")), ["log", "log.pub", "seal", "seal.pub"]);
    let other = store.beside("a b").display().to_string();
    let text = good(&sealctl(&["init", &other, "--origin", "x/y", "--retention", "7y"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("store     {other}"));
    assert_eq!(lines[1], "origin    x/y");
    assert!(lines[2].starts_with("seal key  SHA256:") && lines[3].starts_with("log key   SHA256:"));
    assert_eq!(lines[6], format!("  sealfs '{other}' MOUNTPOINT"));
    assert_eq!(lines[7], format!("  sealctl --store '{other}' trust > allowed_signers"));
    assert!(
        fs::read_to_string(store.beside("a b").join("policy.toml")).unwrap().contains("retention = \"7y\"")
    );
    let json: Value =
        serde_json::from_str(&good(&sealctl(&["--json", "init", &format!("{other}2")]))).unwrap();
    assert!(json["origin"].as_str().unwrap().starts_with("sealfs.local/"));
    // Nothing half made is left beside them, and an empty folder is as good as none.
    assert_eq!(names(store.path().parent().unwrap()), ["a b", "a b2", "store"]);
    fs::create_dir(store.beside("empty")).unwrap();
    good(&sealctl(&["init", store.beside("empty").to_str().unwrap()]));
    assert_eq!(fs::metadata(store.beside("empty")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn init_touches_nothing_that_is_there() {
    let store = Store::made();
    let before = fs::read(store.path().join("keys/seal")).unwrap();
    let error = bad(&sealctl(&["init", store.text()]), 1);
    assert_eq!(
        error,
        format!(
            "sealctl: {}: already exists and is not an empty folder; choose another place\n",
            store.text()
        )
    );
    assert_eq!(fs::read(store.path().join("keys/seal")).unwrap(), before);
    fs::write(store.beside("file"), "x").unwrap();
    bad(&sealctl(&["init", store.beside("file").to_str().unwrap()]), 1);
    bad(&sealctl(&["init", store.beside("s").to_str().unwrap(), "--origin", "Not OK"]), 2);
    bad(&sealctl(&["init", store.beside("s").to_str().unwrap(), "--retention", "soon"]), 2);
    assert!(!store.beside("s").exists());
}

#[test]
fn errors_are_one_line_with_the_contracts_exit_codes() {
    let (store, _) = filled();
    let error = bad(&store.run(&["stat", "none/of/it"]), 5);
    assert_eq!(error, "sealctl: none/of/it: no such file; 'sealctl ls' lists what is sealed\n");
    for command in [
        &["seal", "evidence.bin"][..],
        &["wait", "evidence.bin"],
        &["retain", "evidence.bin", "--for", "1d"],
        &["hold", "add", "h", "evidence.bin"],
        &["purge"],
    ] {
        let error = bad(&store.run(command), 6);
        let told =
            format!("no daemon is running for {0}; start it with 'sealfs {0} MOUNTPOINT'\n", store.text());
        assert!(error.ends_with(&told), "{error}");
    }
    for usage in [
        &["stauts"][..],
        &[],
        &["stat"],
        &["retain", "x"],
        &["retain", "x", "--for", "1d", "--until", "2030-01-01"],
        &["retain", "x", "--for", "1d", "--bypass-governance"],
        &["hold", "add", "a b", "x"],
        &["ls", "--state", "closed"],
        &["ls", "--expiring", "soon"],
        &["verify"],
        &["verify", "x", "--offline"],
    ] {
        bad(&store.run(usage), 2);
    }
    bad(&sealctl(&["ls"]), 2);
    bad(&sealctl(&["stat", "/etc/passwd"]), 2);
    let error = bad(&sealctl(&["--store", "/nowhere", "ls"]), 1);
    assert_eq!(error, "sealctl: /nowhere: no such store; make one with 'sealctl init /nowhere'\n");
    bad(&sealctl(&["--store", "/etc", "status"]), 1);
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(bad(&store.run(&["ls"]), 1).contains("close it with 'chmod 700"));
}

#[test]
fn of_many_paths_the_good_ones_are_done() {
    let (store, _) = filled();
    let output = store.run(&["--json", "stat", "evidence.bin", "gone", "log/build.log"]);
    assert_eq!(output.status.code(), Some(5));
    let seen = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((&seen[0]["path"], &seen[1]["path"]), (&"evidence.bin".into(), &"log/build.log".into()));
}

#[test]
fn ls_shows_retention() {
    let (store, _) = filled();
    let expected = "\
PATH                    SIZE  STATE    RETAINED-UNTIL                MODE        HOLDS
evidence.bin             1 B  sealed   2026-06-01 13:00Z (24 h ago)  governance  case-42
log/build.log            3 B  expired  2026-06-01 13:00Z (24 h ago)  governance
releases/1.0/app        13 B  sealed   2026-07-01 12:00Z (in 28 d)   compliance
releases/1.0/notes.txt   6 B  sealed   2026-06-12 12:00Z (in 9 d)    governance
";
    assert_eq!(good(&store.run(&["ls"])), expected);
    let paths = |args: &[&str]| -> Vec<String> {
        let text = good(&store.run(&[&["--json", "ls"], args].concat()));
        json_lines(&text).iter().map(|view| view["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(&["releases"]), ["releases/1.0/app", "releases/1.0/notes.txt"]);
    assert_eq!(paths(&["releases/1.0/app"]), ["releases/1.0/app"]);
    assert_eq!(paths(&["--state", "expired"]), ["log/build.log"]);
    assert_eq!(paths(&["--expiring", "10d", "releases"]), ["releases/1.0/notes.txt"]);
    assert_eq!(good(&store.run(&["ls", "--state", "expired", "releases"])), "");
    bad(&store.run(&["ls", "nothing"]), 5);
    bad(&store.run(&["ls", "--state", "torn"]), 6);
    let first = &json_lines(&good(&store.run(&["--json", "ls"])))[0];
    assert_eq!(first["retain_until"], "2026-06-01T13:00:00Z");
    assert_eq!(
        (&first["size"], &first["state"], &first["holds"][0]),
        (&1.into(), &"sealed".into(), &"case-42".into())
    );
}

#[test]
fn stat_tells_everything() {
    let (store, filling) = filled();
    let record =
        filling.index.read().find(&sealfs::model::RelPath::parse("evidence.bin").unwrap()).unwrap().unwrap();
    let expected = format!(
        "\
evidence.bin
  state      sealed
  size       1 B (1 byte)
  sha256     2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
  sealed     2026-06-01 12:00:00Z (25 h ago)
  retained   until 2026-06-01 13:00:00Z (24 h ago), governance
  holds      case-42
  mode       0640, uid {}, gid {}
  modified   2026-06-01T12:00:00Z
  log        entry 3
  key        {}
  namespace  sealfs
  rule       defaults
",
        record.uid, record.gid, record.key
    );
    assert_eq!(good(&store.run(&["stat", "evidence.bin"])), expected);
    assert!(good(&store.run(&["stat", "/"])).contains("(folder)"));
    filling.write("fresh", "1");
    let text = good(&store.run(&["stat", "fresh"]));
    assert!(text.contains("state      unsealed") && text.contains("waits for  the daemon"), "{text}");
}

#[test]
fn history_and_why_are_told_in_words() {
    let (store, _) = filled();
    let expected = format!(
        "    4  2026-06-01 12:00:00Z  sealed: 6 B, sha256 {}, retained until 2026-06-02 12:00:00Z (governance), \
         namespace sealfs\n    6  2026-06-01 13:00:00Z  retention extended to 2026-06-12 12:00:00Z by uid 1000\n",
        sealfs::crypto::sha256(b"notes\n")
    );
    assert_eq!(good(&store.run(&["history", "releases/1.0/notes.txt"])), expected);
    assert!(good(&store.run(&["history", "evidence.bin"])).contains("hold case-42 placed by uid 1000"));
    let json = json_lines(&good(&store.run(&["--json", "history", "evidence.bin"])));
    assert_eq!((&json[0]["type"], &json[1]["type"]), (&"sealed".into(), &"held".into()));
    bad(&store.run(&["history", "never"]), 5);
    assert_eq!(
        good(&store.run(&["why", "releases/1.0/app"])),
        "releases/1.0/app: sealed, retained until 2026-07-01 12:00Z (in 28 d, compliance)\n  under defaults\n  \
         2026-06-01 13:00:00Z  unlink refused to uid 1000 (rm, pid 4242), 3 times: retained until \
         2026-07-01T12:00:00Z (governance)\n"
    );
    assert!(good(&store.run(&["why", "log/build.log"])).ends_with("  no refusals are kept\n"));
    bad(&store.run(&["why", "never"]), 5);
}

#[test]
fn status_without_a_daemon_tells_what_the_index_says() {
    let (store, _) = filled();
    let text = good(&store.run(&["status"]));
    assert!(text.starts_with("daemon   not running\n"), "{text}");
    assert!(text.contains("sealed   3 retained, 1 expired, 1 held; 23 B\n"), "{text}");
    assert!(text.contains("time     2026-06-02 13:00:00Z"), "{text}");
    let json: Value = serde_json::from_str(&good(&store.run(&["--json", "status"]))).unwrap();
    assert_eq!(
        (&json["daemon"], &json["sealed"], &json["log_entries"]),
        (&"not running".into(), &3.into(), &7.into())
    );
    let env =
        Command::new(env!("CARGO_BIN_EXE_sealctl")).arg("status").env("SEALFS_STORE", store.path()).output();
    assert!(good(&env.unwrap()).contains(ORIGIN));
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = good(&sealctl(&["completions", shell]));
        assert!(script.contains("sealctl") && script.contains("retain"), "{shell}");
    }
    bad(&sealctl(&["completions", "tcsh"]), 2);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (store, _) = filled();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sealctl"))
        .args(["--store", store.text(), "ls"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
