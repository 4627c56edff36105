//! Retention arithmetic.

use super::super::Decision;
use super::super::retention::{Change, at_seal, change_by_role, check_removal, extend_by_owner};
use super::{path, policy};
use crate::model::{ArtifactKind, Digest, FileTime, Hold, RetentionMode, SealRecord, Timestamp};

/// 2026-01-01T00:00:00Z and so many days.
fn day(days: i64) -> Timestamp {
    Timestamp::from_parts(1_767_225_600 + days * 86_400, 0)
}

fn ns(time: Timestamp, more: i64) -> Timestamp {
    Timestamp(time.0 + more)
}

fn decision(text: &str) -> Decision {
    policy(&format!("[defaults]\n{text}")).defaults().clone()
}

#[test]
fn at_the_seal_a_request_is_clamped_and_seconds_are_whole() {
    let range = decision("min='10d'\nmax='60d'");
    for (request, expected) in [
        (None, day(30)),
        (Some(day(20)), day(20)),
        (Some(ns(day(20), 1)), Timestamp::from_parts(day(20).to_parts().0 + 1, 0)),
        (Some(day(1)), day(10)),
        (Some(Timestamp(i64::MIN)), day(10)),
        (Some(day(90)), day(60)),
        (Some(Timestamp::MAX), day(60)),
    ] {
        assert_eq!(at_seal(&range, day(0), request), expected, "{request:?}");
    }
    let fixed = decision("");
    assert_eq!(at_seal(&fixed, day(0), Some(day(1))), day(30), "without min and max there is no choice");
    let late = at_seal(&fixed, ns(day(0), 1), None);
    assert_eq!(late, Timestamp::from_parts(day(30).to_parts().0 + 1, 0));
    assert_eq!(at_seal(&decision("retention='9999y'"), day(0), None), Timestamp::MAX);
}

#[test]
fn an_owner_only_extends_up_to_max() {
    let rule = decision("max='60d'");
    assert_eq!(extend_by_owner(day(0), day(30), day(40), &rule), Ok(day(40)));
    assert_eq!(extend_by_owner(day(0), day(30), day(90), &rule), Ok(day(60)));
    let told = |current, wanted, rule: &Decision| {
        extend_by_owner(day(0), current, wanted, rule).unwrap_err().to_string()
    };
    assert_eq!(
        told(day(30), day(30), &rule),
        "retained until 2026-01-31T00:00:00Z: this can only be extended, and 2026-01-31T00:00:00Z is not later"
    );
    assert_eq!(
        told(day(30), day(29), &rule),
        "retained until 2026-01-31T00:00:00Z: this can only be extended, and 2026-01-30T00:00:00Z is not later"
    );
    assert_eq!(
        told(day(30), day(40), &decision("")),
        "retention may reach at most 2026-01-31T00:00:00Z here (max = 30d), and already lasts until \
         2026-01-31T00:00:00Z"
    );
    // A role had extended it beyond max: never back.
    assert!(extend_by_owner(day(0), day(70), day(80), &rule).is_err());
    // Sealed within a second: the rounded end at the seal is the limit, not one second more.
    let sealed = ns(day(0), 5);
    let current = at_seal(&decision(""), sealed, None);
    assert!(extend_by_owner(sealed, current, day(99), &decision("")).is_err());
    let most = extend_by_owner(sealed, current, day(99), &rule).unwrap();
    assert_eq!(most, Timestamp::from_parts(day(60).to_parts().0 + 1, 0));
}

#[test]
fn a_role_shortens_governance_only_and_with_bypass() {
    use RetentionMode::{Compliance, Governance};
    for mode in [Governance, Compliance] {
        for bypass in [false, true] {
            assert_eq!(change_by_role(mode, day(30), day(31), day(1), bypass), Ok(Change::Extended(day(31))));
            assert_eq!(change_by_role(mode, day(30), day(30), day(1), bypass), Ok(Change::Unchanged));
            assert_eq!(change_by_role(mode, day(30), ns(day(30), -1), day(1), bypass), Ok(Change::Unchanged));
        }
    }
    assert_eq!(change_by_role(Governance, day(30), day(2), day(1), true), Ok(Change::Shortened(day(2))));
    // At once means now, not at the next whole second.
    let now = ns(day(1), 7);
    assert_eq!(change_by_role(Governance, day(30), now, now, true), Ok(Change::Shortened(now)));
    assert_eq!(
        change_by_role(Governance, day(30), day(1), day(1), false).unwrap_err().to_string(),
        "retained until 2026-01-31T00:00:00Z in governance mode: to shorten it, a holder of the role governance \
         gives --bypass-governance and --reason"
    );
    for bypass in [false, true] {
        assert_eq!(
            change_by_role(Compliance, day(30), day(1), day(1), bypass).unwrap_err().to_string(),
            "retained until 2026-01-31T00:00:00Z in compliance mode: nobody may shorten it, not root either"
        );
    }
}

fn record(holds: &[&str]) -> SealRecord {
    SealRecord {
        id: 7,
        path: path("a/b"),
        kind: ArtifactKind::File,
        sha256: Digest([0; 32]),
        size: 1,
        perm: 0o644,
        uid: 0,
        gid: 0,
        mtime: FileTime::default(),
        sealed_at: day(0),
        sealed_wall: day(0),
        retain_sealed: day(30),
        retain_until: day(30),
        mode: RetentionMode::Compliance,
        policy: Digest([0; 32]),
        namespace: "sealfs".into(),
        log_index: 0,
        key: String::new(),
        signature: None,
        statement_signature: [0; 64],
        provenance: None,
        template: 1,
        ino: 1,
        ctime: FileTime::default(),
        holds: holds.iter().map(|name| Hold { name: (*name).to_owned(), since: day(3) }).collect(),
        torn_kept: false,
    }
}

#[test]
fn removal_waits_for_retention_and_holds() {
    assert_eq!(check_removal(&record(&[]), day(30)), Ok(()));
    let told = |holds: &[&str], now| check_removal(&record(holds), now).unwrap_err().to_string();
    assert_eq!(
        told(&[], ns(day(30), -1)),
        "retained until 2026-01-31T00:00:00Z (compliance); nobody can free the name before that, not root either: use another name"
    );
    assert_eq!(
        told(&["case-7"], day(1)),
        "retained until 2026-01-31T00:00:00Z (compliance), and a legal hold stands: \"case-7\" since \
         2026-01-04T00:00:00Z"
    );
    assert_eq!(
        told(&["case-7", "b"], day(99)),
        "retention ended 2026-01-31T00:00:00Z, but a legal hold stands: \"case-7\" since 2026-01-04T00:00:00Z, \
         \"b\" since 2026-01-04T00:00:00Z"
    );
}
