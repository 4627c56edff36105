//! `F.seal` against the real `ssh-keygen`.

use super::super::sha256;
use super::super::signers::allowed_signers_line;
use super::super::testing::Dir;
use super::*;

const CONTENT: &str = "the content\n";

#[test]
fn ssh_keygen_accepts_our_armor_and_nothing_else() {
    let dir = Dir::new();
    let key = SigningKey::generate().unwrap();
    let origin = "acme/builds".parse().unwrap();
    let namespaces = ["sealfs".to_owned(), "acme-release".to_owned()];
    let line = allowed_signers_line(&origin, &namespaces, &key.public(), "seals").unwrap();
    dir.write("allowed_signers", format!("# trusted\n{line}\n"));
    dir.write("F", CONTENT);
    dir.write("G", "other content\n");
    let check = |origin: &str, namespace: &str, file: &str| {
        let args = ["-Y", "verify", "-f", "allowed_signers", "-I", origin, "-n", namespace, "-s", "F.seal"];
        dir.try_run("ssh-keygen", &args, Some(file))
    };
    for namespace in &namespaces {
        let signature = sign_digest(&key, namespace, &sha256(CONTENT.as_bytes()));
        dir.write("F.seal", armor(&key.public(), namespace, &signature));
        let said = check("acme/builds", namespace, "F").unwrap();
        assert!(said.contains(&key.public().fingerprint()), "{said}");
        check("acme/builds", namespace, "G").unwrap_err();
        check("acme/builds", "git", "F").unwrap_err();
        check("acme/build", namespace, "F").unwrap_err();
        check("*", namespace, "F").unwrap_err();
    }
    // Signed, but for a namespace that the line does not allow.
    let signature = sign_digest(&key, "git", &sha256(CONTENT.as_bytes()));
    dir.write("F.seal", armor(&key.public(), "git", &signature));
    check("acme/builds", "git", "F").unwrap_err();
}

#[test]
fn our_armor_is_ssh_keygens_byte_for_byte() {
    let dir = Dir::new();
    let key = SigningKey::generate().unwrap();
    key.write_new(&dir.path("k"), "").unwrap();
    dir.write("F", CONTENT);
    let digest = sha256(CONTENT.as_bytes());
    // 37 to 40 bytes fill the last line to the end.
    for len in [1, 2, 3, 6, 36, 37, 38, 39, 40, 41, NAMESPACE_MAX] {
        let namespace = "n".repeat(len);
        let args = ["-q", "-Y", "sign", "-O", "hashalg=sha256", "-f", "k", "-n", &namespace];
        let theirs = dir.try_run("ssh-keygen", &args, Some("F")).unwrap();
        let parsed = parse(theirs.as_bytes()).unwrap();
        parsed.verify(&key.public(), &namespace, &digest).unwrap();
        assert_eq!(parsed.signature, sign_digest(&key, &namespace, &digest));
        assert_eq!(armor(&key.public(), &namespace, &parsed.signature), theirs);
        assert_eq!(armored_len(&namespace), theirs.len());
    }
}

#[test]
fn signatures_of_other_kinds_are_told_apart() {
    let dir = Dir::new();
    dir.write("F", CONTENT);
    dir.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "k"]);
    dir.run("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "e"]);
    let sign = |key: &str, hash: &str| {
        let args = ["-q", "-Y", "sign", "-O", hash, "-f", key, "-n", "sealfs"];
        dir.try_run("ssh-keygen", &args, Some("F")).unwrap()
    };
    let sha512 = parse(sign("k", "hashalg=sha512").as_bytes());
    assert_eq!(sha512, Err(SigError::Hash("sha512".into())));
    let ecdsa = parse(sign("e", "hashalg=sha256").as_bytes());
    assert_eq!(ecdsa, Err(SigError::Algorithm("ecdsa-sha2-nistp256".into())));
}

#[test]
fn every_flipped_bit_is_refused_unless_it_decodes_to_the_same() {
    let key = SigningKey::generate().unwrap();
    let digest = sha256(CONTENT.as_bytes());
    let signature = sign_digest(&key, "sealfs", &digest);
    let text = armor(&key.public(), "sealfs", &signature);
    let good = parse(text.as_bytes()).unwrap();
    let (mut same, mut refused) = (0, 0);
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bad = text.clone().into_bytes();
            bad[at] ^= 1 << bit;
            let accepted = parse(&bad).and_then(|found| {
                found.verify(&key.public(), "sealfs", &digest)?;
                Ok(found)
            });
            match accepted {
                Ok(found) => {
                    assert_eq!(found, good, "byte {at} bit {bit}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert_eq!(same, 0, "of {refused} flips");
    for end in 0..text.len() - 1 {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn key_namespace_and_digest_must_all_fit() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let digest = sha256(CONTENT.as_bytes());
    let text = armor(&key.public(), "a", &sign_digest(&key, "a", &digest));
    let parsed = parse(text.as_bytes()).unwrap();
    parsed.verify(&key.public(), "a", &digest).unwrap();
    let refusal = |key: &SigningKey, namespace, content: &[u8]| {
        parsed.verify(&key.public(), namespace, &sha256(content)).unwrap_err()
    };
    assert!(matches!(refusal(&other, "a", CONTENT.as_bytes()), SigError::OtherKey { .. }));
    assert!(matches!(refusal(&key, "b", CONTENT.as_bytes()), SigError::OtherNamespace { .. }));
    assert_eq!(refusal(&key, "a", b"x"), SigError::Bad);
    let empty = sign_digest(&key, "", &digest);
    assert!(verify_digest(&key.public(), "", &digest, &empty).is_err());
    assert_eq!(parse(armor(&key.public(), "", &empty).as_bytes()), Err(SigError::Malformed));
}

#[test]
fn namespaces_are_plain_words() {
    for good in ["sealfs", "acme-release", "file", "a@b.c/d+e:f=1", &"x".repeat(NAMESPACE_MAX)] {
        check_namespace(good).unwrap();
    }
    for bad in ["", "a b", "a,b", "a*", "a?", "!a", "a\"", "a\\", "a\n", "é", &"x".repeat(NAMESPACE_MAX + 1)]
    {
        assert!(check_namespace(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn garbage_never_panics() {
    for text in [&b""[..], b"\xff\xfe", b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"] {
        assert_eq!(parse(text), Err(SigError::Malformed));
    }
    assert_eq!(parse(&vec![b'A'; MAX_TEXT + 1]), Err(SigError::Malformed));
    // Lengths that point beyond the end, a newer version, bytes left over.
    for blob in [&b"SSHSIG\0\0\0\x01\xff\xff\xff\xff"[..], b"SSHSIG", b"SSHSIG\0\0\0\x01"] {
        let text = super::super::armor::encode(LABEL, blob, 70);
        assert_eq!(parse(text.as_bytes()), Err(SigError::Malformed));
    }
    let newer = super::super::armor::encode(LABEL, b"SSHSIG\0\0\0\x02", 70);
    assert_eq!(parse(newer.as_bytes()), Err(SigError::Version(2)));
}
