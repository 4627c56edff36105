//! Every parser of what comes from outside, with what must hold of whatever it takes. Used by the fuzz targets, and by
//! plain tests on a corpus.

use sealfs::crypto::{PublicKey, dsse, note, signers, sshsig};
use sealfs::ledger::Entry;
use sealfs::ledger::log::{Checkpoint, InclusionProof, Tile, bundle};
use sealfs::model::{Digest, FileTime, RelPath, Span, Timestamp};
use sealfs::policy::Policy;
use sealfs::provenance::{claims, mask, mask_value, pick};
use sealfs::statement::{ProvenanceTemplate, attested_subject, claimed_commits};
use sealfs::store::SystemNames;
use sealfs::verify::Requirement;

/// A parser by its name, and a few inputs that it takes.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: &'static [&'static [u8]],
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

fn entry(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data) {
        assert_eq!(entry.canonical().expect("canonical").as_bytes(), data, "one text for one meaning");
    }
}

fn entry_bundle(data: &[u8]) {
    let Some((width, bytes)) = data.split_first() else { return };
    let width = u16::from(*width) + 1;
    if let Ok(entries) = bundle::decode(bytes, width) {
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(bundle::encode(&entries).expect("encodes"), bytes);
    }
}

fn tile(data: &[u8]) {
    if let Some(Ok(tile)) = text(data).map(Tile::parse) {
        assert_eq!(tile.path().as_bytes(), data);
    }
}

fn checkpoint(data: &[u8]) {
    if let Some(Ok(checkpoint)) = text(data).map(Checkpoint::parse) {
        assert_eq!(Checkpoint::parse(&checkpoint.to_text()), Ok(checkpoint));
    }
}

fn signed_note(data: &[u8]) {
    let key = PublicKey::from_openssh(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGKNgVRjkHhNXn//2BJKYILmDh9Jb9GIH3hkkzNR48U",
    );
    let key = key.expect("a key");
    assert!(note::open(data, "a.example/b", &[key]).is_err(), "nobody has that key");
    if let Some(Ok((name, key))) = text(data).map(note::parse_verifier_key) {
        assert_eq!(note::parse_verifier_key(&note::verifier_key(&name, &key)), Ok((name, key)));
    }
}

fn proof(data: &[u8]) {
    if let Ok(proof) = InclusionProof::parse(data) {
        assert_eq!(InclusionProof::parse(proof.to_text().as_bytes()), Ok(proof));
    }
}

fn envelope(data: &[u8]) {
    if let Ok(envelope) = dsse::parse(data) {
        assert!(envelope.verify(&[]).is_err());
    }
    let _ = attested_subject(data, &Digest([0; 32]));
}

fn signature(data: &[u8]) {
    let _ = sshsig::parse(data);
}

fn allowed_signers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for signer in signers::parse_allowed_signers(text).unwrap_or_default() {
        let _ = signer.allows("a.example/b", "sealfs", Timestamp(0));
    }
}

fn public_key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = PublicKey::from_openssh(text) {
        assert_eq!(PublicKey::from_openssh(&key.to_openssh("")), Ok(key));
    }
    if let Ok(key) = PublicKey::from_pem(text) {
        assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key));
    }
}

fn policy(data: &[u8]) {
    if let Some(Err(error)) =
        text(data).map(|text| Policy::parse(text, "policy.toml", &SystemNames::default()))
    {
        assert!(!error.to_string().is_empty());
    }
}

fn writers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for commit in claimed_commits(text) {
        assert!(text.contains(&commit) || text.contains('\\'));
    }
    let _ = ProvenanceTemplate::of(text, "a.example/b");
}

fn environment(data: &[u8]) {
    let picked = pick(data, &["OWN".to_owned()]);
    assert!(!picked.contains_key("GITHUB_TOKEN"));
    let _ = claims(&picked);
}

fn arguments(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
    assert_eq!(mask(&arguments).len(), arguments.len());
    let _ = mask_value(text);
}

fn requirement(data: &[u8]) {
    let _ = text(data).map(str::parse::<Requirement>);
}

fn values(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(path) = RelPath::parse(text) {
        assert_eq!(RelPath::parse(path.as_str()).expect("again"), path);
    }
    if let Ok(time) = text.parse::<FileTime>() {
        assert_eq!(time.to_string().parse::<FileTime>().expect("again"), time);
    }
    let _ = (text.parse::<Digest>(), text.parse::<Timestamp>(), text.parse::<Span>());
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "entry",
        run: entry,
        seeds: &[
            br#"{"index":7,"sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","time":"1970-01-01T00:00:00Z","type":"policy","v":1,"wall":"1970-01-01T00:00:00Z"}"#,
            br#"{"by":{"uid":1000},"how":{"renamed":"c"},"index":8,"path":"a/b","seal":7,"time":"1970-01-01T00:00:00Z","type":"ended","v":1,"wall":"1970-01-01T00:00:00Z"}"#,
        ],
    },
    Target { name: "bundle", run: entry_bundle, seeds: &[b"\x01\x00\x01a\x00\x02bc"] },
    Target { name: "tile", run: tile, seeds: &[b"tile/0/x001/x234/067", b"tile/entries/000.p/7"] },
    Target {
        name: "checkpoint",
        run: checkpoint,
        seeds: &[b"a.example/b\n7\nAi+jeTaNG17GWbC8jizwXycDT5ElUtywruUNQEGz9pw=\n"],
    },
    Target {
        name: "note",
        run: signed_note,
        seeds: &[
            "a.example/b\n7\nAi+jeTaNG17GWbC8jizwXycDT5ElUtywruUNQEGz9pw=\n\n\u{2014} a.example/b Jiv39lTsgMcKxO55F8XRxEb5mRoYiYE88VHa24stnon+GHv8pM7+dY1uIzapCKQA0++B9T1dgSJgTuNrsSpr03pa8Ao=\n".as_bytes(),
            b"acme.example/builds+262bf7f6+ARXAmWjaisAfrScdAf60bAcPXKxCbWS2YHreD5tOZDo+",
        ],
    },
    Target {
        name: "proof",
        run: proof,
        seeds: &[b"c2sp.org/tlog-proof@v1\nextra BQ==\nindex 5\nAi+jeTaNG17GWbC8jizwXycDT5ElUtywruUNQEGz9pw=\n\no\n7\nx\n"],
    },
    Target {
        name: "envelope",
        run: envelope,
        seeds: &[
            br#"{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"k","sig":"AAAA"}]}"#,
        ],
    },
    Target {
        name: "signature",
        run: signature,
        seeds: &[
            b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgofb8TvIxiVZRv0CL13JE5c4JSM\n-----END SSH SIGNATURE-----\n",
        ],
    },
    Target {
        name: "allowed_signers",
        run: allowed_signers,
        seeds: &[
            b"a.example/b,c namespaces=\"sealfs,x*\",valid-after=\"20260101Z\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGKNgVRjkHhNXn//2BJKYILmDh9Jb9GIH3hkkzNR48U me\n# x\n",
        ],
    },
    Target {
        name: "public_key",
        run: public_key,
        seeds: &[
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGKNgVRjkHhNXn//2BJKYILmDh9Jb9GIH3hkkzNR48U me",
            b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAEYo2BVGOQeE1ef//YEkpgguYOH0lv0YgfeGSTM1HjxQ=\n-----END PUBLIC KEY-----\n",
        ],
    },
    Target {
        name: "policy",
        run: policy,
        seeds: &[
            b"version = 1\n[defaults]\nretention = \"30d\"\nmode = \"governance\"\n[provenance]\nenv = [\"A\"]\n[[rule]]\nmatch = [\"**/*.tmp\"]\nseal = \"never\"\n",
        ],
    },
    Target {
        name: "writers",
        run: writers,
        seeds: &[
            br#"{"sealfs":"0.1.0","v":1,"writers":[{"arguments":["cp"],"claims":{"commit":"0123456789abcdef0123456789abcdef01234567","repository":"https://h/r"},"environment":{"A":"b"},"pid":7},{"unknown":"late"}]}"#,
        ],
    },
    Target {
        name: "environment",
        run: environment,
        seeds: &[b"GITHUB_ACTIONS=true\0GITHUB_SHA=abc\0GITHUB_TOKEN=x\0OWN=https://u:p@h/\0"],
    },
    Target {
        name: "arguments",
        run: arguments,
        seeds: &[b"curl\0-u\0me:pw\0-H\0Authorization: Bearer x\0https://u:p@h/?token=1&a=2\0{\"password\": \"x\"}"],
    },
    Target { name: "requirement", run: requirement, seeds: &[b"commit=0123456", b"path=rel/**", b"sealed-after=2026-07-01"] },
    Target { name: "values", run: values, seeds: &[b"a/b c/d", b"2026-07-01T12:00:00Z", b"@9223372036854775807.000000000", b"1d12h"] },
];
