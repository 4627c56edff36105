//! Who wrote it: line 2, others' attestations, trace, and a deploy gate that asks for them.

mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{Mount, QUICK, SLOW, sh, sh_as};
use sealfs::crypto::{SigningKey, dsse, from_base64};
use serde_json::{Value, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CI: &str = "export GITHUB_ACTIONS=true GITHUB_REPOSITORY=acme/app GITHUB_REF=refs/tags/v1 GITHUB_RUN_ID=7 \
    GITHUB_SHA=0123456789abcdef0123456789abcdef01234567 GITHUB_TOKEN=hunter2 SECRET=hunter2;";

fn lines(mount: &Mount, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(mount.path(format!("{name}.seal.jsonl"))).expect("statements");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn payload(envelope: &Value) -> Value {
    let bytes = from_base64(envelope["payload"].as_str().expect("payload")).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn provenance(mount: &Mount, name: &str) -> Value {
    let statement = payload(&lines(mount, name)[1]);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], name);
    assert_eq!(statement["subject"][0]["digest"]["sha256"], harness::sha256sum(&mount.path(name)));
    statement["predicate"].clone()
}

/// openssl checks one line's signature, with the keys of the mount.
fn openssl_accepts(mount: &Mount, name: &str, line: usize) -> bool {
    let script = format!(
        r#"line=$(sed -n {line}p 'mnt/{name}.seal.jsonl')
        type=$(jq -r .payloadType <<<"$line"); jq -r .payload <<<"$line" | base64 -d > payload
        {{ printf 'DSSEv1 %d %s %d ' ${{#type}} "$type" "$(stat -c %s payload)"; cat payload; }} > pae
        jq -r '.signatures[0].sig' <<<"$line" | base64 -d > sig
        openssl pkeyutl -verify -pubin -inkey mnt/.seal/keys.pem -rawin -in pae -sigfile sig >&2"#
    );
    Command::new("bash")
        .args(["-c", &script])
        .current_dir(&mount.dir)
        .output()
        .expect("bash")
        .status
        .success()
}

#[test]
fn line_2_says_who_wrote_it_and_what_was_claimed() {
    let mount = Mount::new("provenance", SLOW);
    sh(&mount.mnt, &format!("{CI} cp /bin/true app"));
    let predicate = provenance(&mount, "app");
    assert!(openssl_accepts(&mount, "app", 1) && openssl_accepts(&mount, "app", 2));
    let build = &predicate["buildDefinition"];
    let claimed = &build["externalParameters"];
    assert_eq!(claimed["repository"], "https://github.com/acme/app");
    assert_eq!((&claimed["ref"], &claimed["commit"]), (&json!("refs/tags/v1"), &json!(COMMIT)));
    assert_eq!(claimed["command"], json!(["cp", "/bin/true", "app"]));
    assert_eq!(build["resolvedDependencies"][0]["digest"]["gitCommit"], COMMIT);
    assert_eq!(build["resolvedDependencies"][0]["uri"], "git+https://github.com/acme/app@refs/tags/v1");
    let writer = &build["internalParameters"]["writers"][0];
    let cp = fs::canonicalize("/bin/cp").expect("cp");
    assert_eq!(writer["executable"].as_str(), cp.to_str());
    assert_eq!(writer["executableSha256"], harness::sha256sum(&cp));
    assert_eq!(writer["directory"].as_str(), mount.mnt.to_str());
    assert_eq!(writer["uid"]["real"], 0);
    assert!(
        writer["claims"].is_null() && writer["environment"].is_null(),
        "what was claimed is not observed"
    );
    let parents = writer["parents"].as_array().expect("parents");
    assert!(
        parents.iter().any(|parent| parent["executable"].as_str().is_some_and(|path| path.ends_with("bash")))
    );
    let run = &predicate["runDetails"];
    assert_eq!(run["builder"]["id"], "https://sealfs.dev/builder/observed/v1");
    assert_eq!(run["metadata"]["invocationId"], "https://github.com/acme/app/actions/runs/7");
    // No secret is anywhere in the store.
    let found = Command::new("grep").args(["-rlaF", "hunter2"]).arg(&mount.store).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // Nor do arguments stand in the log, which cannot be redacted.
    sh(&mount.mnt, "sh -c 'echo x > of-sh; : unmistakable'; cat of-sh.seal");
    assert_eq!(provenance(&mount, "of-sh")["buildDefinition"]["externalParameters"]["command"][0], "sh");
    let bundles =
        Command::new("grep").args(["-rlaF", "unmistakable"]).arg(mount.store.join("log/tile")).output();
    assert!(bundles.expect("grep").stdout.is_empty());
}

#[test]
fn every_writer_is_told_once_and_a_file_written_anew_forgets() {
    let mount = Mount::new("writers", SLOW);
    sh(
        &mount.mnt,
        "sh -c 'echo one > f; echo two >> f; echo three >> f'; bash -c 'exec 3>>f; echo four >&3'",
    );
    let writers = provenance(&mount, "f")["buildDefinition"]["internalParameters"]["writers"].clone();
    let names: Vec<_> =
        writers.as_array().expect("writers").iter().map(|w| w["arguments"][0].clone()).collect();
    assert_eq!(names, ["sh", "bash"]);
    sh(&mount.mnt, "sh -c 'echo one > g'; bash -c 'echo two > g'; cat g.seal.jsonl >/dev/null");
    let writers = provenance(&mount, "g")["buildDefinition"]["internalParameters"]["writers"].clone();
    assert_eq!(writers.as_array().expect("writers").len(), 1);
    assert_eq!(writers[0]["arguments"][0], "bash");
}

#[test]
fn after_a_restart_the_writer_is_unknown_and_says_so() {
    let mut mount = Mount::new("unknown", SLOW);
    sh(&mount.mnt, "echo x > f; sleep 0.2");
    mount.restart();
    let predicate = provenance(&mount, "f");
    assert_eq!(predicate["runDetails"]["builder"]["id"], "https://sealfs.dev/builder/unobserved/v1");
    assert!(predicate["buildDefinition"]["internalParameters"]["writers"][0]["unknown"].is_string());
    mount.ctl_ok(&["verify", "f"]);
    mount.ctl_exit(&["verify", "f", "--require", "builder=observed"], 3);
}

#[test]
fn the_policy_says_what_is_told() {
    let policy = format!("{SLOW}[provenance]\narguments = \"off\"\nenv = [\"TICKET\"]\n");
    let mount = Mount::new("told", &policy);
    sh(&mount.mnt, "export TICKET=T-42 OTHER=no; cp /bin/true f");
    let predicate = provenance(&mount, "f");
    assert_eq!(predicate["buildDefinition"]["internalParameters"]["writers"][0]["arguments"], "off");
    assert_eq!(predicate["buildDefinition"]["externalParameters"]["environment"], json!({"TICKET": "T-42"}));
    assert!(!predicate.to_string().contains("/bin/true"), "no arguments anywhere");
}

#[test]
fn only_readers_of_a_file_learn_who_wrote_it() {
    let mount = Mount::new("readers", SLOW);
    sh(&mount.mnt, "umask 077; echo secret > f; cat f.seal >/dev/null; chmod 755 .");
    let (code, _) = sh_as(1234, &mount.mnt, "cat f.seal.jsonl");
    assert_ne!(code, 0);
    let (code, text) = sh_as(1234, &mount.mnt, "cat .seal/checkpoint && ls .seal/log/tile/entries");
    assert_eq!(code, 0, "{text}");
    let (code, _) = sh_as(1234, &mount.mnt, "cat .seal/log/tile/entries/000.p/*");
    assert_ne!(code, 0, "entry bundles hold names: for auditors");
    harness::eventually("the seal is exported", || {
        sh(&mount.mnt, "cat .seal/log/tile/entries/000.p/*").contains("\"path\":\"f\"")
    });
    fs::write(mount.store.join("policy.toml"), format!("{SLOW}[roles]\nauditor = [\"uid:1234\"]\n"))
        .expect("policy");
    harness::eventually("the auditor reads them", || {
        sh_as(1234, &mount.mnt, "cat .seal/log/tile/entries/000.p/*").0 == 0
    });
}

/// An envelope as another tool would make it.
fn attestation(key: &SigningKey, predicate: &str, sha256: &str) -> String {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "whatever", "digest": {"sha256": sha256}}],
        "predicateType": predicate,
        "predicate": {"ok": true},
    })
    .to_string();
    let kind = "application/vnd.in-toto+json";
    let signature = dsse::sign(key, kind, statement.as_bytes());
    dsse::envelope(kind, statement.as_bytes(), "other", &signature)
}

#[test]
fn attestations_of_others_are_added_and_checked() {
    let mount = Mount::new("attest", SLOW);
    let file = mount.sealed("f", b"content\n");
    let other = mount.sealed("other", b"other\n");
    let key = SigningKey::generate().expect("key");
    let write = |name: &str, text: &str| {
        let path = mount.dir.join(name);
        fs::write(&path, text).expect("write");
        path.to_str().expect("UTF-8").to_owned()
    };
    let sbom = attestation(&key, "https://spdx.dev/Document/v2.3", &harness::sha256sum(&file));
    let good = write("good", &sbom);
    mount.ctl_ok(&["attest", "f", &good]);
    let text = fs::read_to_string(mount.path("f.seal.jsonl")).expect("statements");
    assert_eq!(text.lines().last(), Some(sbom.as_str()), "verbatim, as a further line");
    mount.ctl_ok(&["verify", "f", "other"]);
    assert!(
        mount
            .ctl_ok(&["history", "f"])
            .contains("attestation added by uid 0: https://spdx.dev/Document/v2.3")
    );
    // A Sigstore bundle, and two lines of envelopes.
    let test =
        attestation(&key, "https://in-toto.io/attestation/test-result/v0.1", &harness::sha256sum(&file));
    let bundle = write("bundle", &format!("{{\"mediaType\":\"x\",\"dsseEnvelope\":{test}}}"));
    mount.ctl_ok(&["attest", "f", &bundle]);
    assert_eq!(lines(&mount, "f").len(), 4);
    // Twice, of another file, or nothing of the kind.
    assert!(mount.ctl_exit(&["attest", "f", &good], 4).contains("was added before"));
    assert!(mount.ctl_exit(&["attest", "other", &good], 4).contains("none of its subjects has the SHA-256"));
    for bad in [
        "",
        "{}",
        "not json",
        "{\"payload\":\"\",\"payloadType\":\"text/plain\",\"signatures\":[{\"sig\":\"\"}]}",
    ] {
        let output = mount.ctl(&["attest", "f", &write("bad", bad)]);
        assert!(matches!(output.status.code(), Some(1 | 4)), "{bad}: {output:?}");
    }
    assert_eq!(lines(&mount, "f").len(), 4);
    let _ = other;
    // It goes with a copy, which says that it did not check who signed it.
    sh(&mount.dir, "mkdir copy; cp mnt/f mnt/f.seal mnt/f.seal.jsonl copy");
    write("trust", &mount.ctl_ok(&["trust"]));
    let offline = harness::run(
        harness::sealctl()
            .args(["verify", "--offline", "--trust", "trust", "copy/f"])
            .current_dir(&mount.dir),
    );
    assert!(offline.contains("not checked offline: who signed 2 added attestation(s)"), "{offline}");
    // Others may not.
    fs::set_permissions(&good, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let refused = mount.ctl_as(1234, &["attest", "f", &good]);
    assert_eq!(refused.status.code(), Some(4));
}

#[test]
fn trace_answers_both_ways_and_a_gate_asks() {
    let mount = Mount::new("trace", QUICK);
    sh(
        &mount.mnt,
        &format!("mkdir rel; {CI} cp /bin/true rel/a; cp /bin/false rel/b; unset GITHUB_SHA; cp /bin/true c"),
    );
    for name in ["rel/a", "rel/b", "c"] {
        mount.until(name, "sealed");
    }
    let of = |what: &str| -> Vec<String> {
        mount
            .ctl_json(&["trace", what])
            .iter()
            .map(|view| view["path"].as_str().expect("path").to_owned())
            .collect()
    };
    assert_eq!(of(COMMIT), ["rel/a", "rel/b"]);
    assert_eq!(of(&COMMIT[..7]), ["rel/a", "rel/b"]);
    assert_eq!(of(&harness::sha256sum(Path::new("/bin/true"))), ["rel/a", "c"]);
    let view = &mount.ctl_json(&["trace", "rel/b"])[0];
    assert_eq!(view["commits"], json!([COMMIT]));
    assert_eq!(
        (&view["sha256"], view["stands"].as_bool()),
        (&json!(harness::sha256sum(Path::new("/bin/false"))), Some(true))
    );
    mount.ctl_exit(&["trace", "fffffff"], 5);
    mount.ctl_exit(&["trace", "nowhere"], 5);

    fs::write(mount.dir.join("trust"), mount.ctl_ok(&["trust"])).expect("write");
    sh(
        &mount.dir,
        "mkdir copy; for f in a b; do cp mnt/rel/$f mnt/rel/$f.seal mnt/rel/$f.seal.jsonl copy; done",
    );
    for (requirement, met) in [
        (format!("commit={COMMIT}"), true),
        (format!("commit={}", COMMIT.replace('0', "1")), false),
        ("repository=https://github.com/acme/app".to_owned(), true),
        ("repository=https://github.com/acme/other".to_owned(), false),
        ("builder=observed".to_owned(), true),
        ("uid=0".to_owned(), true),
        ("uid=7".to_owned(), false),
        ("path=rel/*".to_owned(), true),
        ("path=*".to_owned(), false),
        ("sealed-after=2020-01-01".to_owned(), true),
        ("sealed-after=2999-01-01".to_owned(), false),
    ] {
        let code = if met { 0 } else { 3 };
        let online = mount.ctl(&["verify", "rel/a", "--require", &requirement]);
        assert_eq!(online.status.code(), Some(code), "{requirement}: {online:?}");
        let offline = harness::sealctl()
            .args(["verify", "--offline", "--trust", "trust", "copy", "--require", &requirement])
            .current_dir(&mount.dir)
            .output()
            .expect("sealctl");
        assert_eq!(offline.status.code(), Some(code), "{requirement}: {offline:?}");
    }
    mount.ctl_exit(&["verify", "rel/a", "--require", "colour=blue"], 2);
    let error = mount.ctl_exit(&["verify", "rel", "c", "--require", &format!("commit={COMMIT}")], 3);
    assert!(error.contains("c: required is commit") && error.contains("found is none"), "{error}");
}

#[test]
fn a_provenance_that_was_exchanged_is_found() {
    let mount = Mount::new("exchanged", SLOW);
    sh(&mount.mnt, &format!("{CI} cp /bin/true f; cat f.seal > /dev/null"));
    sh(&mount.mnt, "cp /bin/false g; cat g.seal > /dev/null");
    fs::write(mount.dir.join("trust"), mount.ctl_ok(&["trust"])).expect("write");
    sh(
        &mount.dir,
        "mkdir copy; cp mnt/[fg]* copy; for f in f g; do cp mnt/$f.seal mnt/$f.seal.jsonl copy; done",
    );
    let check = |name: &str| {
        let mut command = harness::sealctl();
        command.args(["verify", "--offline", "--trust", "trust", name]).current_dir(&mount.dir);
        let output = command.output().expect("sealctl");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("copy/f").0, Some(0));
    // Line 2 of another file, and one signed by somebody else.
    let of_f = fs::read_to_string(mount.dir.join("copy/f.seal.jsonl")).expect("read");
    let of_g = fs::read_to_string(mount.dir.join("copy/g.seal.jsonl")).expect("read");
    let (line1, line2) = of_f.split_once('\n').expect("two lines");
    let other = of_g.lines().nth(1).expect("line 2");
    fs::write(mount.dir.join("copy/f.seal.jsonl"), format!("{line1}\n{other}\n")).expect("write");
    let (code, error) = check("copy/f");
    assert!(
        code == Some(3) && error.contains("line 2 of the statements: it is about another file"),
        "{error}"
    );
    let envelope: Value = serde_json::from_str(line2).expect("JSON");
    let text = payload(&envelope).to_string().replace(COMMIT, &COMMIT.replace('0', "1"));
    let kind = "application/vnd.in-toto+json";
    let forged = dsse::sign(&SigningKey::generate().expect("key"), kind, text.as_bytes());
    let forged = dsse::envelope(
        kind,
        text.as_bytes(),
        envelope["signatures"][0]["keyid"].as_str().expect("id"),
        &forged,
    );
    fs::write(mount.dir.join("copy/f.seal.jsonl"), format!("{line1}\n{forged}\n")).expect("write");
    assert_eq!(check("copy/f").0, Some(3));
    // In the store: what the statement is made of.
    mount.ctl_ok(&["verify", "f"]);
    let sql =
        format!("update attachment set body = replace(body, '{COMMIT}', '{}')", COMMIT.replace('0', "1"));
    let done = Command::new("sqlite3").arg(mount.store.join("index.db")).arg(sql).status().expect("sqlite3");
    assert!(done.success());
    let error = mount.ctl_exit(&["verify", "f"], 3);
    assert!(error.contains("the provenance statement does not hold"), "{error}");
}

#[test]
fn sigstores_verifier_accepts_every_line_and_refuses_changed_ones() {
    let has =
        |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !has("npm") || !has("node") {
        assert!(std::env::var_os("CI").is_none(), "npm is missing; scripts/test installs it");
        eprintln!("SKIPPED: npm is missing; scripts/test installs it");
        return;
    }
    let mount = Mount::new("sigstore", SLOW);
    sh(&mount.mnt, "cp /bin/true f; cat f.seal > /dev/null");
    mount.ctl_ok(&["retain", "f", "--for", "2h"]);
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop");
    let script = format!(
        "cp {scripts}/package.json {scripts}/verify.js . && npm install --silent --no-audit --no-fund && \
         node verify.js mnt/.seal/keys.pem mnt/f.seal.jsonl"
    );
    assert_eq!(sh(&mount.dir, &script).trim(), "3 lines accepted, each refused when changed");
    // With another store's keys it accepts nothing.
    let other = Mount::new("sigstore-other", SLOW);
    let keys = other.path(".seal/keys.pem");
    let output = Command::new("node")
        .arg("verify.js")
        .arg(keys)
        .arg("mnt/f.seal.jsonl")
        .current_dir(&mount.dir)
        .output();
    assert!(!output.expect("node").status.success());
}

#[test]
fn a_linked_copy_was_written_by_who_wrote_its_source() {
    let mount = Mount::new("linked", SLOW);
    sh(&mount.mnt, "sh -c 'echo x > a'; ln a b; sleep 0.3");
    let writers = provenance(&mount, "b")["buildDefinition"]["internalParameters"]["writers"].clone();
    assert_eq!(writers[0]["arguments"], json!(["sh", "-c", "echo x > a"]));
    assert_eq!(
        writers.as_array().expect("writers").len(),
        2,
        "and who linked it, or why that is unknown: {writers}"
    );
    mount.ctl_ok(&["verify", "b"]);
}

#[test]
fn others_words_stay_in_their_line() {
    let mount = Mount::new("words", QUICK);
    sh(&mount.mnt, "cp /bin/cp $'../odd\\e[31m'; $'../odd\\e[31m' /bin/true f; cat f.seal > /dev/null");
    let text = mount.ctl_ok(&["trace", "f"]);
    assert!(text.contains("odd?[31m") && !text.contains('\u{1b}'), "{text}");
}
