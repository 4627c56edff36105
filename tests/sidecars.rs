//! Contract, section 4: the sidecars, checked by the tools that everybody has, and never by our own code.

mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Mount, NOBODY, SLOW, errno, sh, sh_as, sha256sum, xattr};
use serde_json::Value;

const ORIGIN: &str = "test.example/store";
const SEAL: &str = "https://sealfs.dev/attestation/seal/v1";

/// What `ssh-keygen -Y verify` says of a content and a signature.
fn ssh_verifies(signers: &Path, namespace: &str, signature: &Path, content: &Path) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-I", ORIGIN, "-n", namespace, "-f"]).arg(signers).arg("-s").arg(signature);
    command.stdin(fs::File::open(content).expect("content"));
    command.output().expect("ssh-keygen").status.success()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn base64(text: &str) -> Vec<u8> {
    use base64ct::Encoding;
    base64ct::Base64::decode_vec(text).expect("base64")
}

/// A PEM file for each key of the mount.
fn keys(mount: &Mount) -> Vec<PathBuf> {
    let text = fs::read_to_string(mount.path(".seal/keys.pem")).expect("keys.pem");
    let end = "-----END PUBLIC KEY-----";
    let blocks = text.split_inclusive(end).filter(|block| block.contains(end));
    let write = |(n, block): (usize, &str)| {
        let path = mount.dir.join(format!("key-{n}.pem"));
        let begin = block.find("-----BEGIN").expect("PEM");
        fs::write(&path, format!("{}\n", &block[begin..])).expect("write");
        path
    };
    let keys: Vec<_> = blocks.enumerate().map(write).collect();
    assert!(!keys.is_empty(), "{text}");
    keys
}

/// Whether openssl finds a DSSE envelope signed by one of the keys.
fn openssl_verifies(mount: &Mount, envelope: &Value) -> bool {
    let kind = envelope["payloadType"].as_str().expect("payloadType");
    let payload = base64(envelope["payload"].as_str().expect("payload"));
    let mut pae = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    pae.extend(payload);
    let (message, signature) = (mount.dir.join("pae"), mount.dir.join("sig"));
    fs::write(&message, pae).expect("write");
    fs::write(&signature, base64(envelope["signatures"][0]["sig"].as_str().expect("sig"))).expect("write");
    keys(mount).iter().any(|key| {
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]).arg(key);
        command.arg("-in").arg(&message).arg("-sigfile").arg(&signature);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("openssl").success()
    })
}

/// The envelopes of `F.seal.jsonl`.
fn envelopes(mount: &Mount, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(mount.path(format!("{name}.seal.jsonl"))).expect("statements");
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The statement in an envelope.
fn statement(envelope: &Value) -> Value {
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let payload = base64(envelope["payload"].as_str().expect("payload"));
    let statement: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    statement
}

fn ours(mount: &Mount, name: &str, attribute: &str) -> Option<String> {
    xattr(&mount.path(name), &format!("user.seal.{attribute}"))
}

#[test]
fn ssh_keygen_accepts_the_signature_and_refuses_anything_else() {
    let policy = format!("{SLOW}[[rule]]\nmatch = [\"releases/**\"]\nnamespace = \"acme-release\"\n");
    let mount = Mount::new("ssh", &policy);
    fs::create_dir(mount.path("releases")).expect("mkdir");
    let big: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    mount.sealed("f", b"content\n");
    mount.sealed("big", &big);
    mount.sealed("releases/r", b"release\n");
    let trust = mount.dir.join("trust");
    fs::write(&trust, mount.ctl_ok(&["trust"])).expect("write");
    for signers in [mount.path(".seal/allowed_signers"), trust] {
        let check = |name: &str, namespace: &str, content: &str| {
            ssh_verifies(&signers, namespace, &mount.path(format!("{name}.seal")), &mount.path(content))
        };
        assert!(check("f", "sealfs", "f"));
        assert!(check("big", "sealfs", "big"));
        assert!(check("releases/r", "acme-release", "releases/r"));
        assert!(!check("f", "sealfs", "big"), "another content");
        assert!(!check("releases/r", "sealfs", "releases/r"), "another namespace");
        assert!(!check("f", "acme-release", "f"), "another namespace");
        let tampered = mount.dir.join("tampered");
        for content in [&b"Content\n"[..], b"content", b"content\n\n", b""] {
            fs::write(&tampered, content).expect("write");
            assert!(!ssh_verifies(&signers, "sealfs", &mount.path("f.seal"), &tampered));
        }
    }
    // Another store's signers do not know its key.
    let other = Mount::new("ssh-other", SLOW);
    let signers = other.path(".seal/allowed_signers");
    assert!(!ssh_verifies(&signers, "sealfs", &mount.path("f.seal"), &mount.path("f")));
}

#[test]
fn a_copy_with_its_sidecars_is_verified_offline() {
    let mount = Mount::new("offline", SLOW);
    mount.sealed("f", b"content\n");
    fs::write(mount.dir.join("trust"), mount.ctl_ok(&["trust"])).expect("write");
    sh(&mount.dir, "mkdir copy; cp mnt/f mnt/f.seal mnt/f.seal.jsonl copy");
    let check = || {
        let mut command = harness::sealctl();
        command.args(["verify", "--offline", "--trust", "trust", "copy/f"]).current_dir(&mount.dir);
        command.output().expect("sealctl").status.code()
    };
    assert_eq!(check(), Some(0));
    fs::write(mount.dir.join("copy/f"), b"Content\n").expect("write");
    assert_eq!(check(), Some(3));
}

#[test]
fn the_seal_statement_is_signed_and_says_what_stat_and_xattrs_say() {
    let mount = Mount::new("statement", SLOW);
    fs::create_dir(mount.path("d é")).expect("mkdir");
    let name = "d é/f \"q\"";
    fs::write(mount.path(name), b"content\n").expect("write");
    sh(
        &mount.mnt,
        "f='d é/f \"q\"'; chmod 751 \"$f\"; chown 1234:4321 \"$f\"; touch -d '2001-02-03 04:05:06.123456789 UTC' \"$f\"",
    );
    mount.ctl_ok(&["seal", name]);
    let envelopes = envelopes(&mount, name);
    assert!(openssl_verifies(&mount, &envelopes[0]));
    let statement = statement(&envelopes[0]);
    assert_eq!(statement["predicateType"], SEAL);
    let meta = fs::metadata(mount.path(name)).expect("stat");
    let seal = &statement["predicate"];
    assert_eq!(seal["path"], name);
    assert_eq!(seal["size"], meta.size());
    assert_eq!(seal["mode"], format!("{:04o}", meta.mode() & 0o7777));
    assert_eq!(seal["mode"], "0751");
    assert_eq!((&seal["uid"], &seal["gid"]), (&1234.into(), &4321.into()));
    assert_eq!(seal["mtime"], "2001-02-03T04:05:06.123456789Z");
    let digest = sha256sum(&mount.backing(name));
    let subject = serde_json::json!([{ "name": name, "digest": { "sha256": digest } }]);
    assert_eq!(statement["subject"], subject);
    assert_eq!(seal["sha256"], digest.as_str());
    assert_eq!(ours(&mount, name, "sha256"), Some(digest));
    for (field, attribute) in
        [("sealedAt", "sealed_at"), ("retainUntil", "retain_until"), ("retentionMode", "mode")]
    {
        assert_eq!(seal[field].as_str(), ours(&mount, name, attribute).as_deref(), "{field}");
    }
    assert!(seal["sealedAtWallClock"].as_str().expect("wall clock").ends_with('Z'));
    assert_eq!(seal["policy"]["sha256"], sha256sum(&mount.store.join("policy.toml")).as_str());
    assert_eq!(seal["namespace"], "sealfs");
    assert_eq!(seal["log"]["origin"], ORIGIN);
    assert_eq!(Some(seal["log"]["index"].to_string()), ours(&mount, name, "index"));
    assert_eq!(envelopes[0]["signatures"][0]["keyid"].as_str(), ours(&mount, name, "key").as_deref());
    // One letter of the payload changed, and it is nobody's.
    let mut forged = envelopes[0].clone();
    let payload = forged["payload"].as_str().expect("payload").replacen('e', "f", 1);
    forged["payload"] = payload.into();
    assert!(!openssl_verifies(&mount, &forged));
}

#[test]
fn extensions_and_holds_append_signed_lines_and_never_change_the_first() {
    let mount = Mount::new("lines", SLOW);
    mount.sealed("f", b"content\n");
    let before = envelopes(&mount, "f");
    let signature = fs::read(mount.path("f.seal")).expect("seal");
    mount.ctl_ok(&["retain", "f", "--for", "2d"]);
    mount.ctl_ok(&["hold", "add", "case-42", "f"]);
    mount.ctl_ok(&["hold", "remove", "case-42", "f"]);
    mount.ctl_ok(&["retain", "f", "--for", "1d", "--bypass-governance", "--reason", "a mistake"]);
    let after = envelopes(&mount, "f");
    assert_eq!(after.len(), before.len() + 4);
    assert_eq!(after[..before.len()], before);
    assert_eq!(fs::read(mount.path("f.seal")).expect("seal"), signature);
    let size = fs::metadata(mount.path("f.seal.jsonl")).expect("stat").len();
    assert_eq!(fs::read(mount.path("f.seal.jsonl")).expect("read").len() as u64, size);
    let mut index = 0;
    for envelope in &after[before.len()..] {
        assert!(openssl_verifies(&mount, envelope));
        let statement = statement(envelope);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], sha256sum(&mount.backing("f")).as_str());
        let next = statement["predicate"]["log"]["index"].as_u64().expect("index");
        assert!(next > index, "in the order of the log");
        index = next;
    }
    let said: Vec<Value> = after[before.len()..].iter().map(statement).collect();
    assert_eq!(said[1]["predicate"]["hold"], "case-42");
    assert_eq!(
        (&said[1]["predicate"]["placed"], &said[2]["predicate"]["placed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(said[3]["predicate"]["reason"], "a mistake");
    assert_eq!(said[3]["predicate"]["retainUntil"].as_str(), ours(&mount, "f", "retain_until").as_deref());
}

#[test]
fn sidecars_have_their_files_owner_and_read_bits() {
    let mount = Mount::new("owner", SLOW);
    sh(&mount.mnt, "for m in 755 644 640 600; do echo x > $m; chmod $m $m; chown 1234:4321 $m; done");
    for mode in ["755", "644", "640", "600"] {
        mount.ctl_ok(&["seal", mode]);
        let file = fs::metadata(mount.path(mode)).expect("stat");
        for suffix in ["seal", "seal.jsonl"] {
            let sidecar = fs::symlink_metadata(mount.path(format!("{mode}.{suffix}"))).expect("stat");
            assert!(sidecar.is_file());
            assert_eq!(sidecar.permissions().mode() & 0o7777, file.mode() & 0o444, "{mode}.{suffix}");
            assert_eq!((sidecar.uid(), sidecar.gid()), (1234, 4321));
        }
    }
    let (code, text) = sh_as(NOBODY, &mount.mnt, "cat 644.seal 755.seal.jsonl > /dev/null");
    assert_eq!(code, 0, "{text}");
    for name in ["640.seal", "600.seal", "600.seal.jsonl"] {
        let (code, text) = sh_as(NOBODY, &mount.mnt, &format!("cat {name}"));
        assert!(code != 0 && text.contains("Permission denied"), "{name}: {text}");
    }
    let (code, text) = sh_as(1234, &mount.mnt, "cat 600.seal > /dev/null");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn sidecars_are_not_listed() {
    let mount = Mount::new("unlisted", SLOW);
    mount.sealed("f", b"content\n");
    fs::read(mount.path("f.seal")).expect("looked up before");
    assert_eq!(names(&mount.mnt), ["f"]);
    assert_eq!(sh(&mount.mnt, "echo *; ls -A; find . | wc -l"), "f\nf\n2\n");
    assert_eq!(names(&mount.store.join("tree")), ["f"]);
    sh(&mount.dir, "cp -a mnt copy; ls -A copy | diff - <(echo f)");
}

#[test]
fn sidecars_are_listed_where_policy_says_so() {
    let policy = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1s\"\n[sidecars]\nlisted = true\n";
    let mount = Mount::new("listed", policy);
    fs::create_dir(mount.path("d")).expect("mkdir");
    fs::write(mount.path("d/f"), b"content\n").expect("write");
    assert_eq!(names(&mount.path("d")), ["f"]);
    // The kernel says of the close only after it.
    mount.until("d/f", "settling");
    mount.stays("d/f", "settling", 300);
    mount.ctl_ok(&["seal", "d/f"]);
    assert_eq!(names(&mount.path("d")), ["f", "f.seal", "f.seal.jsonl"]);
    sh(
        &mount.dir,
        "ls -l mnt/d > /dev/null; cp -r mnt/d copy; diff -r mnt/d copy; test -s copy/f.seal.jsonl",
    );
    assert_eq!(names(&mount.backing("d")), ["f"]);
    mount.until("d/f", "expired");
    sh(&mount.mnt, "rm -r d");
    assert!(!mount.backing("d").exists());
}

#[test]
fn virtual_attributes_are_readable_and_not_listed() {
    let mount = Mount::new("xattrs", SLOW);
    fs::write(mount.path("f"), b"content\n").expect("write");
    sh(&mount.mnt, "setfattr -n user.note -v kept f");
    mount.until("f", "settling");
    for attribute in ["sha256", "sealed_at", "retain_until", "mode", "hold", "index", "key", "signature"] {
        assert_eq!(ours(&mount, "f", attribute), None, "{attribute} before the seal");
    }
    mount.ctl_ok(&["seal", "f"]);
    assert_eq!(ours(&mount, "f", "state").as_deref(), Some("sealed"));
    assert_eq!(ours(&mount, "f", "sha256"), Some(sha256sum(&mount.backing("f"))));
    assert_eq!(ours(&mount, "f", "mode").as_deref(), Some("governance"));
    assert_eq!(ours(&mount, "f", "signature"), fs::read_to_string(mount.path("f.seal")).ok());
    assert_eq!(ours(&mount, "f", "nonsense"), None);
    for attribute in ["sealed_at", "retain_until"] {
        let time = ours(&mount, "f", attribute).expect("a time");
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let key = ours(&mount, "f", "key").expect("key");
    let keygen = sh(&mount.dir, "for k in store/keys/*; do ssh-keygen -l -f $k; done");
    assert!(key.starts_with("SHA256:") && keygen.contains(&key), "{key}: {keygen}");
    mount.ctl_ok(&["hold", "add", "case-42", "f"]);
    assert_eq!(ours(&mount, "f", "hold").as_deref(), Some("case-42"));
    let listed = sh(&mount.mnt, "getfattr -d -m - f");
    assert!(listed.contains("user.note=\"kept\"") && !listed.contains("user.seal"), "{listed}");
    assert_eq!(sh(&mount.mnt, "getfattr --only-values -n user.seal.state f"), "sealed");
}

#[test]
fn a_name_too_long_for_a_sidecar_is_sealed_all_the_same() {
    let mount = Mount::new("long", SLOW);
    // A sidecar's name ends in 5, or in 11 more bytes.
    let (fits, half, none) = ("a".repeat(244), "b".repeat(250), "c".repeat(255));
    for name in [&fits, &half, &none] {
        mount.sealed(name, b"content\n");
        let signature = xattr(&mount.path(name), "user.seal.signature").expect("signature");
        let file = mount.dir.join("signature");
        fs::write(&file, signature).expect("write");
        assert!(ssh_verifies(&mount.path(".seal/allowed_signers"), "sealfs", &file, &mount.path(name)));
        mount.ctl_ok(&["verify", name]);
    }
    assert!(fs::read(mount.path(format!("{fits}.seal.jsonl"))).is_ok());
    assert!(fs::read(mount.path(format!("{half}.seal"))).is_ok());
    for name in [format!("{half}.seal.jsonl"), format!("{none}.seal")] {
        assert_eq!(errno(fs::read(mount.path(name))), libc::ENAMETOOLONG);
    }
}

#[test]
fn dot_seal_is_not_listed_but_can_be_opened() {
    let mount = Mount::new("dot-seal", SLOW);
    mount.sealed("f", b"content\n");
    assert_eq!(names(&mount.mnt), ["f"]);
    let inside = names(&mount.path(".seal"));
    for name in ["allowed_signers", "keys.pem"] {
        assert!(inside.iter().any(|inside| inside == name), "{name}: {inside:?}");
        let meta = fs::metadata(mount.path(".seal").join(name)).expect("stat");
        let content = fs::read(mount.path(".seal").join(name)).expect("read");
        assert_eq!(meta.len(), content.len() as u64);
    }
    assert_eq!(errno(fs::metadata(mount.path(".seal/absent"))), libc::ENOENT);
    let (code, text) = sh_as(NOBODY, &mount.mnt, "cat .seal/keys.pem .seal/allowed_signers");
    assert!(code == 0 && text.contains("PUBLIC KEY") && text.contains("ssh-ed25519"), "{text}");
    // Only the root has one.
    fs::create_dir(mount.path("d")).expect("mkdir");
    assert_eq!(errno(fs::metadata(mount.path("d/.seal"))), libc::ENOENT);
}

#[test]
fn the_artifacts_view_is_for_people_who_like_sql() {
    let mount = Mount::new("sql", SLOW);
    fs::create_dir(mount.path("d")).expect("mkdir");
    mount.sealed("d/f", b"content\n");
    sh(&mount.mnt, "chmod 755 d");
    mount.ctl_ok(&["hold", "add", "case-42", "d/f"]);
    fs::write(mount.path("unsealed"), b"x").expect("write");
    let columns = "path, sha256, size, mode, state, retention_mode, holds, log_index, key";
    let get = |attribute: &str| ours(&mount, "d/f", attribute).expect("an attribute");
    let wanted = format!(
        "d/f|{}|8|0644|sealed|governance|case-42|{}|{}",
        sha256sum(&mount.backing("d/f")),
        get("index"),
        get("key")
    );
    assert_eq!(mount.sql(&format!("select {columns} from artifacts")), wanted);
    let retain_until = get("retain_until");
    assert_eq!(mount.sql("select retain_until from artifacts"), retain_until);
    assert_eq!(mount.sql("select sealed_at from artifacts")[..19], get("sealed_at")[..19]);
    assert_eq!(mount.sql("select count(*) from pragma_table_info('artifacts')"), "11");
}

#[test]
fn content_is_hashed_in_one_pass() {
    const SIZE: u64 = 64 << 20;
    let mount = Mount::new("one-pass", SLOW);
    let read = || {
        let io = fs::read_to_string(format!("/proc/{}/io", mount.pid())).expect("io");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("rchar");
        line.parse::<u64>().expect("a number")
    };
    let before = read();
    sh(&mount.mnt, "head -c 64M /dev/urandom > f");
    // Without passthrough what is written comes through the daemon, and is hashed on its way.
    let through = mount.ctl_json(&["status"])[0]["passthrough"] == false;
    mount.ctl_ok(&["seal", "f"]);
    let passed = read() - before;
    let allowed = SIZE + SIZE / 4;
    assert!(passed < allowed, "{passed} bytes read for {SIZE}, through the daemon: {through}");
    assert!(fs::read(mount.path("f.seal")).is_ok() && fs::read(mount.path("f.seal.jsonl")).is_ok());
    assert_eq!(ours(&mount, "f", "sha256"), Some(sha256sum(&mount.backing("f"))));
}
