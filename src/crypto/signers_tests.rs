//! `allowed_signers` lines; that `ssh-keygen` takes ours is shown in the tests of `sshsig`.

use super::super::SigningKey;
use super::super::sha256;
use super::super::sshsig::{armor, sign_digest};
use super::super::testing::Dir;
use super::*;

fn key() -> PublicKey {
    SigningKey::generate().unwrap().public()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn our_line_reads_back() {
    let key = key();
    let origin: Origin = "acme.example/builds-1".parse().unwrap();
    let names = words(&["sealfs", "acme-release"]);
    let line = allowed_signers_line(&origin, &names, &key, "since\n2026").unwrap();
    let start = "acme.example/builds-1 namespaces=\"sealfs,acme-release\" ssh-ed25519 AAAA";
    assert!(line.starts_with(start) && line.ends_with(" since 2026") && !line.contains('\n'));
    let signers = parse_allowed_signers(&line).unwrap();
    let expected = Signer {
        principals: words(&["acme.example/builds-1"]),
        namespaces: Some(names),
        valid_after: None,
        valid_before: None,
        key,
    };
    assert_eq!(signers, [expected]);
    let none = allowed_signers_line(&origin, &[], &key, "");
    assert_eq!(none, Err(SignersError::NoNamespace));
    for bad in ["*", "a,b", "a\" b", "", "!a"] {
        assert!(allowed_signers_line(&origin, &words(&[bad]), &key, "").is_err(), "{bad}");
    }
}

#[test]
fn lines_of_others_are_read() {
    let key = key();
    let line = key.to_openssh("me");
    let text = format!(
        "# comment\n\n \t# another\r\n\
         a@b,!c@b,*@d {line}\r\n\
         \"x y\" namespaces=\"file,\\\"q\\\"\",valid-after=\"20260101Z\",VALID-BEFORE=\"20260201123000Z\" {line}\n\
         r ssh-rsa AAAAB3NzaC1yc2E=\n\
         e namespaces=\"file\" ecdsa-sha2-nistp256 AAAA\n\
         s sk-ssh-ed25519@openssh.com AAAA c\n\
         ca cert-authority,namespaces=\"file\" {line}\n\
         last\t{line}"
    );
    let signers = parse_allowed_signers(&text).unwrap();
    assert_eq!(signers.len(), 3);
    assert_eq!(signers[0].principals, words(&["a@b", "!c@b", "*@d"]));
    assert_eq!(signers[0].namespaces, None);
    assert_eq!(signers[1].principals, words(&["x y"]));
    assert_eq!(signers[1].namespaces, Some(words(&["file", "\"q\""])));
    let (after, before) = (signers[1].valid_after.unwrap(), signers[1].valid_before.unwrap());
    assert_eq!(after.to_rfc3339(), "2026-01-01T00:00:00Z");
    assert_eq!(before.to_rfc3339(), "2026-02-01T12:30:00Z");
    assert!(signers.iter().all(|signer| signer.key == key));

    let allows = |at| signers[1].allows("x y", "file", at);
    assert!(allows(after) && allows(before));
    assert!(!allows(Timestamp(after.0 - 1)) && !allows(Timestamp(before.0 + 1)));
    assert!(!signers[1].allows("x y", "git", after) && !signers[1].allows("x", "file", after));
    assert!(signers[0].allows("z@d", "anything", after) && !signers[0].allows("c@b", "git", after));
}

#[test]
fn mistakes_are_told_with_their_line() {
    let line = key().to_openssh("");
    for bad in [
        "alone".to_owned(),
        format!("a namespace=\"file\" {line}"),
        format!("a namespaces=file {line}"),
        format!("a namespaces=\"file {line}"),
        format!("a namespaces=\"\" {line}"),
        format!("a namespaces=\"x\",namespaces=\"y\" {line}"),
        format!("a valid-after=\"20260101\" {line}"),
        format!("a valid-after=\"20261301Z\" {line}"),
        format!("a valid-after=\"é0260101Z\" {line}"),
        format!("a valid-after=\"20260102Z\",valid-before=\"20260101Z\" {line}"),
        format!("a namespaces=\"x\"y\"z\" {line}"),
        format!("a namespaces=\"x\", {line}"),
        format!("a ,namespaces=\"x\" {line}"),
        format!("a,,b {line}"),
        format!("\"a {line}"),
        "a ssh-ed25519 AAAA".to_owned(),
        "a ssh-ed25519".to_owned(),
        "a b c".to_owned(),
    ] {
        let found = parse_allowed_signers(&format!("#\n\n{bad}\nok {line}"));
        assert!(matches!(found, Err(SignersError::Line { line: 3, .. })), "{bad}: {found:?}");
    }
}

#[test]
fn patterns_match_as_in_openssh() {
    for (pattern, text, expected) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("ab", "abc", false),
        ("*", "", true),
        ("?", "", false),
        ("a*c", "abbc", true),
        ("a*c*", "abcb", true),
        ("*a*b", "aab", true),
        ("*a?", "aab", true),
        ("*aab", "aaab", true),
        ("a**", "a", true),
    ] {
        assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
    }
    let hard = "*a".repeat(60) + "b";
    assert!(!matches_pattern(&hard, &"a".repeat(5000)));
}

#[test]
fn ssh_keygen_decides_the_same() {
    let dir = Dir::new();
    let key = SigningKey::generate().unwrap();
    dir.write("F", "x");
    dir.write("F.seal", armor(&key.public(), "sealfs", &sign_digest(&key, "sealfs", &sha256(b"x"))));
    let line = key.public().to_openssh("");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Timestamp::from_parts(i64::try_from(now.as_secs()).unwrap(), 0);
    for (head, expected) in [
        ("a", true),
        ("b", false),
        ("a,b", true),
        ("*", true),
        ("*,!a", false),
        ("!a,*", false),
        ("!b", false),
        ("\"a\"", true),
        ("a namespaces=\"sealfs\"", true),
        ("a namespaces=\"git,sealfs\"", true),
        ("a namespaces=\"git\"", false),
        ("a namespaces=\"seal*\"", true),
        ("a namespaces=\"*,!sealfs\"", false),
        ("a valid-after=\"20200101Z\"", true),
        ("a valid-before=\"20200101Z\"", false),
        ("a valid-after=\"21000101000000Z\"", false),
        ("a valid-after=\"202001010000Z\",valid-before=\"21000101Z\",namespaces=\"sealfs\"", true),
        ("a cert-authority", false),
    ] {
        let text = format!("{head} {line}\n");
        dir.write("allowed_signers", &text);
        let args = ["-Y", "verify", "-f", "allowed_signers", "-I", "a", "-n", "sealfs", "-s", "F.seal"];
        let theirs = dir.try_run("ssh-keygen", &args, Some("F")).is_ok();
        let ours = parse_allowed_signers(&text).unwrap().iter().any(|s| s.allows("a", "sealfs", now));
        assert_eq!((theirs, ours), (expected, expected), "{head}");
    }
}
