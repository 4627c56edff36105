//! `sealctl trust`, `policy`, `doctor` and `destroy`, and what is made of a daemon's answers.

#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use sealed_store::{ORIGIN, Store, bad, filled, good, sealctl};
use sealfs::control::frame;
use sealfs::control::protocol::{Reply, Request, StatusView};
use sealfs::seal::Counts;
use sealfs::store::Layout;
use serde_json::Value;

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn trust_is_what_ssh_keygen_and_openssl_take() {
    let (store, _) = filled();
    let policy = fs::read_to_string(store.path().join("policy.toml")).unwrap();
    let rule = "\n[[rule]]\nmatch = [\"r/**\"]\nnamespace = \"acme-release\"\n";
    fs::write(store.path().join("policy.toml"), policy + rule).unwrap();
    let text = good(&store.run(&["trust"]));
    assert!(text.starts_with(&format!("{ORIGIN} namespaces=\"acme-release,sealfs\" ssh-ed25519 ")), "{text}");
    fs::write(store.beside("allowed_signers"), &text).unwrap();
    good(&store.run(&["export", "releases/1.0/app", store.beside("app").to_str().unwrap()]));
    let mut verify = Command::new("ssh-keygen");
    verify.current_dir(store.path().parent().unwrap());
    verify.args(["-Y", "verify", "-f", "allowed_signers", "-I", ORIGIN, "-n", "sealfs", "-s", "app.seal"]);
    verify.stdin(fs::File::open(store.beside("app")).unwrap());
    assert!(good(&verify.output().unwrap()).contains("Good"));
    fs::write(store.beside("keys.pem"), good(&store.run(&["trust", "--pem"]))).unwrap();
    let key = store.beside("keys.pem");
    let openssl =
        Command::new("openssl").args(["pkey", "-pubin", "-noout", "-in"]).arg(key).output().unwrap();
    assert!(openssl.status.success());
    let json: Value = serde_json::from_str(&good(&store.run(&["--json", "trust"]))).unwrap();
    assert_eq!(
        (json["origin"].as_str(), json["allowed_signers"].as_str()),
        (Some(ORIGIN), Some(text.as_str()))
    );
}

#[test]
fn policy_is_checked_shown_and_explained() {
    let store = Store::made();
    let file = store.path().join("policy.toml");
    assert!(good(&store.run(&["policy", "check"])).contains(": no mistakes; 4 rules, sha256 "));
    assert_eq!(good(&store.run(&["policy", "show"])), fs::read_to_string(&file).unwrap());
    let text = "[defaults]\nretention = \"30d\"\nmax = \"1y\"\n[[rule]]\nmatch = [\"releases/**\"]\nretention = \"7y\"\nmode = \
                \"compliance\"\n";
    fs::write(&file, text).unwrap();
    let expected = "\
releases/1.0/app: rule 1 (releases/**), matched by \"releases/**\"
  retention     7y                                             from rule 1 (releases/**)
  min           7y                                             from the retention
  max           7y                                             from [defaults], widened to the rule's retention
  mode          compliance                                     from rule 1 (releases/**)
  seal          close                                          from built in
  settle        10s                                            from built in
  settle_empty  1h                                             from built in
  namespace     sealfs                                         from built in
  hardlink      copy                                           from built in
  symlinks      free                                           from built in
  errno         EPERM                                          from built in
  expired       keep                                           from built in
  unfinished    {}.aria2, {}.part, {}.st, {}.lftp-pget-status  from built in
";
    assert_eq!(good(&store.run(&["policy", "explain", "releases/1.0/app"])), expected);
    let json: Value = serde_json::from_str(&good(&store.run(&["--json", "policy", "explain", "x"]))).unwrap();
    assert_eq!((&json["label"], &json["settings"][0]["value"]), (&"defaults".into(), &"30d".into()));
    let broken = store.beside("broken.toml");
    fs::write(&broken, "[defaults]\nretention = \"30 days\"\n").unwrap();
    let error = bad(&sealctl(&["policy", "check", broken.to_str().unwrap()]), 1);
    let place = format!(
        "sealctl: {}:2:13: retention in [defaults] is \"30 days\"; expected a length",
        broken.display()
    );
    assert!(error.starts_with(&place), "{error}");
    fs::write(&file, "[defaults]\nretension = \"1d\"\n").unwrap();
    let error = bad(&store.run(&["policy", "check"]), 1);
    assert!(
        error.contains("policy.toml:2:1: unknown key") && error.contains("did you mean \"retention\"?"),
        "{error}"
    );
    bad(&sealctl(&["policy", "check", "/nowhere.toml"]), 5);
}

#[test]
fn doctor_tells_a_remedy_for_what_is_wrong() {
    let store = Store::made();
    let checks = json_lines(&good(&store.run(&["--json", "doctor"])));
    let of =
        |checks: &[Value], what: &str| checks.iter().find(|check| check["check"] == what).unwrap().clone();
    for what in ["store", "seal key", "log key", "policy", "index"] {
        assert_eq!(of(&checks, what)["result"], "ok", "{what}");
    }
    assert_eq!(of(&checks, "daemon")["result"], "warn");
    fs::set_permissions(store.path().join("keys/seal"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(store.path().join("policy.toml"), "x").unwrap();
    let output = store.run(&["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let checks = json_lines(&String::from_utf8(output.stdout).unwrap());
    for what in ["seal key", "policy"] {
        let check = of(&checks, what);
        assert_eq!(check["result"], "fail", "{what}");
        assert!(!check["remedy"].as_str().unwrap().is_empty());
    }
    assert!(!store.path().join("probe").exists());
}

#[test]
fn destroy_refuses_while_anything_is_retained() {
    let (store, filling) = filled();
    let error = bad(&sealctl(&["destroy", store.text()]), 4);
    assert!(
        error.contains("3 files are retained, such as evidence.bin (the hold \"case-42\" stands)"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(store.tree("releases/1.0/app")).unwrap(), "hello sealfs\n");
    let find = |path: &str| {
        filling.index.read().find(&sealfs::model::RelPath::parse(path).unwrap()).unwrap().unwrap()
    };
    filling.change(&find("evidence.bin"), &sealfs::statement::RetentionChange::Hold("case-42", false));
    assert!(bad(&sealctl(&["destroy", store.text()]), 4).contains("2 files are retained"));
    filling.pass("30d");
    let lock =
        fs::File::options().write(true).create(true).truncate(false).open(store.path().join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(bad(&sealctl(&["destroy", store.text()]), 1).contains("in use by"));
    drop((lock, filling));
    let frozen = fs::File::open(store.tree("releases/1.0/app")).unwrap();
    let _ = sealfs::store::set_immutable(&frozen, true);
    assert_eq!(
        good(&sealctl(&["destroy", store.text()])),
        format!("{}: destroyed, with 4 files in it (23 B)\n", store.text())
    );
    assert!(!store.path().exists());
    bad(&sealctl(&["destroy", store.text()]), 1);
}

/// Answers one connection of the store's socket with these frames, and hands back what was asked.
fn daemon(store: &Store, replies: Vec<Reply>) -> std::thread::JoinHandle<Request> {
    let socket =
        Layout::socket_of(&store.path().canonicalize().unwrap(), owner(store), sealfs::crypto::sha256);
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let (body, fds) = frame::receive(&stream).unwrap().unwrap();
        assert!(fds.is_empty());
        for reply in replies {
            frame::send(&stream, &serde_json::to_vec(&reply).unwrap(), None).unwrap();
        }
        fs::remove_file(socket).unwrap();
        serde_json::from_slice(&body).unwrap()
    })
}

fn owner(store: &Store) -> u32 {
    fs::metadata(store.path()).unwrap().uid()
}

#[test]
fn what_the_daemon_answers_is_shown_and_its_refusals_are_exit_codes() {
    let store = Store::made();
    let view = StatusView {
        origin: ORIGIN.to_owned(),
        store: store.text().to_owned(),
        mountpoint: "/srv/art".to_owned(),
        restarts: 0,
        pid: 7,
        version: "0.1.0".to_owned(),
        uptime_seconds: 90,
        read_only: false,
        passthrough: true,
        sealed: 2,
        expired: 1,
        held: 0,
        bytes: 2048,
        log_entries: 5,
        checkpoint: 5,
        unsealed: Counts {
            open: 1,
            failing: vec![("a".to_owned(), "disk full".to_owned())],
            ..Counts::default()
        },
        time: "2026-06-01T12:00:00Z".parse().unwrap(),
        wall: "2026-06-01T12:00:01Z".parse().unwrap(),
        clock_doubted_seconds: 0,
        policy: "0".repeat(64),
        key: "SHA256:x".to_owned(),
        fallbacks: vec!["no leases".to_owned()],
        warnings: vec!["look here".to_owned()],
        counters: [("fuse_open".to_owned(), 3)].into(),
    };
    let item = Reply::Item(serde_json::to_value(&view).unwrap());
    let asked = daemon(&store, vec![item, Reply::End]);
    let expected = format!(
        "\
daemon    running, pid 7, version 0.1.0, for 1m30s
store     {}
origin    {ORIGIN}
mount     /srv/art, passthrough
sealed    2 retained, 1 expired, 0 held; 2.0 KiB
unsealed  1 open, 0 settling, 0 torn
queue     0
scratch   0 older than an hour
log       5 entries, checkpoint over 5
time      2026-06-01 12:00:00Z (wall clock 2026-06-01 12:00:01Z)
key       SHA256:x
policy    {}
note: no leases
failing: a: disk full
warning: look here
",
        store.text(),
        view.policy
    );
    assert_eq!(good(&store.run(&["status"])), expected);
    assert_eq!(asked.join().unwrap(), Request::Status);
    let refused = Reply::Error { code: 4, message: "only the role governance may purge; ask it".to_owned() };
    let asked = daemon(&store, vec![refused]);
    assert_eq!(
        bad(&store.run(&["purge", "--dry-run"]), 4),
        "sealctl: only the role governance may purge; ask it\n"
    );
    assert_eq!(asked.join().unwrap(), Request::Purge { dry_run: true, bypass: false, reason: None });
    let asked = daemon(&store, vec![]);
    // It ended with the request; there is no other one to ask.
    assert!(good(&store.run(&["status"])).contains("not running"));
    asked.join().unwrap();
}

#[test]
fn policy_check_warns_of_what_is_likely_not_meant() {
    let store = Store::made();
    let file = store.path().join("policy.toml");
    let check = |text: &str, strict: bool| {
        fs::write(&file, text).unwrap();
        let output = store.run(if strict { &["policy", "check", "--strict"] } else { &["policy", "check"] });
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let rule = |glob: &str| format!("[[rule]]\nmatch = [\"{glob}\"]\nretention = \"7y\"\n");
    for (text, word) in [
        (String::new(), "it says nothing"),
        ("version = 1\n".to_owned(), "it says nothing"),
        (rule("**") + &rule("releases/**"), "rule 2 (releases/**): it never applies, since rule 1 (**)"),
        (rule("releases/**") + &rule("releases/1.0/*"), "it never applies"),
        (rule("a") + &rule("b") + &rule("a"), "rule 3 (a): it never applies"),
        ("[defaults]\nretention = \"1d\"\n[roles]\ngovernance = []\n".to_owned(), "governance = []"),
        (
            "[defaults]\nretention = \"999y\"\nmode = \"compliance\"\n".to_owned(),
            "compliance retention of 999y",
        ),
        ("[defaults]\nretention = \"1h\"\nsettle = \"2h\"\n".to_owned(), "settle = 2h is longer"),
    ] {
        let (code, told) = check(&text, false);
        assert!(code == Some(0) && told.contains(word), "{text}: {code:?} {told}");
        assert!(told.lines().all(|line| line.contains("policy.toml: warning: ")), "{told}");
        assert_eq!(check(&text, true).0, Some(1), "{text}");
    }
    for text in [
        rule("releases/**") + &rule("**"),
        rule("releases/*") + &rule("releases/1.0/*"),
        rule("a/**") + &rule("ab/**"),
        "[[rule]]\nmatch = [\"**\"]\nexcept = [\"x\"]\nretention = \"1d\"\n".to_owned() + &rule("x"),
        "[defaults]\nretention = \"7y\"\nmode = \"compliance\"\n".to_owned(),
    ] {
        assert_eq!(check(&text, true), (Some(0), String::new()), "{text}");
    }
}
