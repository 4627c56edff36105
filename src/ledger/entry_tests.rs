use super::*;
use crate::crypto::sha256;
use crate::ledger::{Sealed, StatementDigests};
use crate::model::{ArtifactKind, FileTime, ProvenanceRef, RetentionMode, SealRecord};

fn record() -> SealRecord {
    SealRecord {
        id: 0,
        path: RelPath::parse("rel/é \"1\"").unwrap(),
        kind: ArtifactKind::File,
        sha256: sha256(b"x"),
        size: 1,
        perm: 0o640,
        uid: 1,
        gid: 2,
        mtime: FileTime { seconds: -5, nanos: 7 },
        sealed_at: Timestamp(1_700_000_000_000_000_001),
        sealed_wall: Timestamp(1_700_000_000_000_000_002),
        retain_sealed: Timestamp(1_800_000_000_000_000_000),
        retain_until: Timestamp(1_800_000_000_000_000_000),
        mode: RetentionMode::Compliance,
        policy: sha256(b"p"),
        namespace: "sealfs".to_owned(),
        log_index: 7,
        key: "SHA256:abc".to_owned(),
        signature: Some([1; 64]),
        statement_signature: [2; 64],
        provenance: Some(ProvenanceRef { attachment: 3, signature: [4; 64] }),
        template: 1,
        ino: 0,
        ctime: FileTime::default(),
        holds: Vec::new(),
        torn_kept: true,
    }
}

fn changes() -> Vec<Change> {
    let path = RelPath::parse("a/b").unwrap();
    let statement = || SignedStatement {
        sha256: sha256(b"s"),
        key: "SHA256:k".to_owned(),
        signature: Signature([5; 64]),
    };
    let (by, seal) = (Actor::Uid(1000), 7);
    let digests = StatementDigests { seal: sha256(b"1"), provenance: Some(sha256(b"2")) };
    let time = Timestamp(1_700_000_000_000_000_000);
    vec![
        Change::Store { origin: "o".to_owned(), seal_key: "k".to_owned(), log_key: "l".to_owned() },
        Change::Sealed(Box::new(Sealed::of(&record(), digests))),
        Change::Extended { path: path.clone(), seal, retain_until: time, by, statement: statement() },
        Change::Shortened {
            path: path.clone(),
            seal,
            retain_until: time,
            reason: "r".to_owned(),
            by,
            statement: statement(),
        },
        Change::Held { path: path.clone(), seal, hold: "h".to_owned(), by, statement: statement() },
        Change::Released { path: path.clone(), seal, hold: "h".to_owned(), by, statement: statement() },
        Change::Attested {
            path: path.clone(),
            seal,
            attachment: 9,
            sha256: sha256(b"e"),
            predicate: "https://spdx.dev/Document".to_owned(),
            by,
        },
        Change::Ended { path: path.clone(), seal, how: Ending::Swept, by: Actor::Daemon },
        Change::Ended { path: path.clone(), seal, how: Ending::Renamed(path.clone()), by },
        Change::Symlink { path: path.clone(), target: None, by },
        Change::Symlink { path: path.clone(), target: Some("t".to_owned()), by },
        Change::Altered { path: path.clone(), seal, found: "missing".to_owned() },
        Change::IndexDiffers { path: Some(path), found: "retention".to_owned() },
        Change::IndexDiffers { path: None, found: "keys".to_owned() },
        Change::Policy { sha256: sha256(b"p") },
        Change::KeyMade { role: KeyRole::Log, key: "k".to_owned() },
        Change::KeyRotated {
            role: KeyRole::Seal,
            key: "k".to_owned(),
            previous: "SHA256:p".to_owned(),
            signature: Signature([6; 64]),
            by,
        },
        Change::KeyRetired { role: KeyRole::Seal, key: "SHA256:k".to_owned(), compromised_since: time, by },
        Change::ClockGap { wall_seconds: 3, believed_seconds: 2, doubted_seconds: 1 },
        Change::ClockAccepted { seconds: 1, by },
    ]
}

#[test]
fn every_change_round_trips() {
    for change in changes() {
        let entry = Entry::new(7, Timestamp(1_700_000_000_000_000_001), Timestamp(0), change);
        let text = entry.canonical().unwrap();
        assert_eq!(Entry::parse(text.as_bytes()).unwrap(), entry, "{text}");
    }
}

#[test]
fn a_seal_says_all_of_its_record() {
    for record in
        [record(), SealRecord { kind: ArtifactKind::Symlink, signature: None, provenance: None, ..record() }]
    {
        let digests = StatementDigests { seal: sha256(b"1"), provenance: Some(sha256(b"2")) };
        let sealed = Sealed::of(&record, digests);
        assert_eq!(sealed.to_record(record.log_index, record.sealed_at, record.sealed_wall), record);
    }
}

#[test]
fn one_text_for_one_meaning() {
    let text = Entry::new(7, Timestamp(0), Timestamp(0), Change::Policy { sha256: sha256(b"p") })
        .canonical()
        .unwrap();
    for (from, to) in [
        (":7,", ": 7,"),
        ("\"v\":1", "\"v\":2"),
        ("{\"", "{\"more\":1,\""),
        ("1970-01-01T00:00:00Z\",\"type", "1970-01-01T00:00:00.0Z\",\"type"),
        ("policy", "polity"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text);
        assert!(Entry::parse(other.as_bytes()).is_err(), "{other}");
    }
    // Cut short or with a bit flipped anywhere: another meaning or none, never a panic.
    for change in changes() {
        let entry = Entry::new(7, Timestamp(5), Timestamp(6), change);
        let text = entry.canonical().unwrap();
        for at in 0..text.len() {
            assert!(Entry::parse(&text.as_bytes()[..at]).is_err());
            for bit in 0..8 {
                let mut bad = text.clone().into_bytes();
                bad[at] ^= 1 << bit;
                if let Ok(found) = Entry::parse(&bad) {
                    assert_ne!(found, entry);
                }
            }
        }
    }
    let long = Change::Altered { path: RelPath::parse("a").unwrap(), seal: 0, found: "x".repeat(ENTRY_MAX) };
    assert!(Entry::new(0, Timestamp(0), Timestamp(0), long).canonical().is_err());
}

#[test]
fn a_seal_is_written_as_its_values_say() {
    let mut records = vec![record()];
    let change = |change: fn(&mut SealRecord)| {
        let mut record = record();
        change(&mut record);
        record
    };
    records.push(change(|record| record.kind = ArtifactKind::Symlink));
    records.push(change(|record| (record.signature, record.provenance) = (None, None)));
    records.push(change(|record| record.torn_kept = false));
    records.push(change(|record| record.mode = RetentionMode::Governance));
    records.push(change(|record| (record.perm, record.size) = (0, u64::from(u32::MAX) * 1000)));
    records.push(change(|record| record.path = RelPath::parse("d/\u{1f600} \\").unwrap()));
    records.push(change(|record| record.mtime = FileTime { seconds: 1 << 40, nanos: 0 }));
    for record in records {
        let digests = StatementDigests { seal: sha256(b"1"), provenance: Some(sha256(b"2")) };
        let change = Change::Sealed(Box::new(Sealed::of(&record, digests)));
        let entry = Entry::new(7, record.sealed_at, record.sealed_wall, change);
        assert_eq!(entry.canonical().unwrap(), entry.canonical_by_values().unwrap());
    }
    let large = Change::Sealed(Box::new(Sealed::of(
        &SealRecord { size: 1 << 53, ..record() },
        StatementDigests { seal: sha256(b"1"), provenance: None },
    )));
    assert!(Entry::new(7, Timestamp(0), Timestamp(0), large).canonical().is_err());
}
