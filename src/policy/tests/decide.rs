//! Rule order, inheritance and roles.

use super::super::{Decision, Expired, Hardlink, RefusalErrno, Role, Symlinks};
use super::{path, policy};
use crate::model::{RetentionMode, SealTrigger};

/// The example of the contract, section 6.
pub(super) const CONTRACT: &str = r#"
version = 1
[defaults]
retention = "30d"
mode = "governance"
seal = "close"
settle = "10s"
settle_empty = "1h"
namespace = "sealfs"
hardlink = "copy"
symlinks = "free"
errno = "EPERM"
expired = "keep"
[sidecars]
listed = false
[clock]
max_gap = "7d"
[roles]
governance = ["uid:0"]
auditor = ["uid:0"]
[[rule]]
match = ["**/.~tmp~/**", "**/.rsync-partial/**", "**/*.tmp", "**/*.tmp/**", "**/.tmp*/**",
         "**/tmp.??????????", "**/*.part", "**/*.partial", "**/*.aria2", "**/*.aria2__temp", "**/*~", "**/.*.sw?"]
seal = "never"
[[rule]]
match = ["releases/**"]
retention = "7y"
mode = "compliance"
namespace = "acme-release"
symlinks = "seal"
"#;

pub(super) fn spans(decision: &Decision) -> [String; 3] {
    [decision.min, decision.retention, decision.max].map(|span| span.to_string())
}

#[test]
fn an_empty_policy_is_the_contract_s_defaults() {
    let (empty, full) = (policy(""), policy(CONTRACT));
    let decision = empty.decide(&path("a/b"));
    assert_eq!(decision, full.decide(&path("a/b")));
    assert_eq!(decision, empty.defaults());
    assert_eq!((decision.rule, decision.label.as_str()), (None, "defaults"));
    assert_eq!(spans(decision), ["30d", "30d", "30d"]);
    assert_eq!((decision.settle.to_string(), decision.settle_empty.to_string()), ("10s".into(), "1h".into()));
    assert_eq!((decision.mode, decision.seal), (RetentionMode::Governance, SealTrigger::Close));
    assert_eq!(decision.namespace, "sealfs");
    assert_eq!((decision.hardlink, decision.symlinks), (Hardlink::Copy, Symlinks::Free));
    assert_eq!((decision.errno, decision.expired), (RefusalErrno::Eperm, Expired::Keep));
    assert_eq!((empty.sidecars_listed, empty.max_gap.to_string()), (false, "7d".into()));
    assert_eq!(empty.roles, full.roles);
    assert_eq!((empty.provenance.env.len(), empty.provenance.arguments), (0, true));
}

#[test]
fn the_first_matching_rule_wins() {
    let full = policy(CONTRACT);
    let release = full.decide(&path("releases/1.0/a.tar"));
    assert_eq!((release.rule, release.label.as_str()), (Some(1), "rule 2 (releases/**)"));
    assert_eq!(spans(release), ["7y", "7y", "7y"]);
    assert_eq!((release.mode, release.symlinks), (RetentionMode::Compliance, Symlinks::Seal));
    assert_eq!((release.namespace.as_str(), release.settle.to_string()), ("acme-release", "10s".into()));
    // Scratch stands first, so it wins inside releases too.
    for scratch in
        ["releases/a.tmp", "releases/a.tmp/x", "releases/.~tmp~/x", "tmp.a1B2c3D4e5", "x~", ".a.swp"]
    {
        let decision = full.decide(&path(scratch));
        assert_eq!((decision.rule, decision.seal), (Some(0), SealTrigger::Never), "{scratch}");
        assert_eq!(decision.label, "rule 1 (**/.~tmp~/**, …)");
    }
    // The other way round the release wins: also where a later rule's glob is the more special one.
    let turned = policy("[[rule]]\nmatch='r/**'\n[[rule]]\nmatch=['**/*.tmp','r/a']\nseal='never'\n");
    assert_eq!(turned.decide(&path("r/a.tmp")).rule, Some(0));
    assert_eq!(turned.decide(&path("r/a")).rule, Some(0));
    assert_eq!(turned.decide(&path("a.tmp")).rule, Some(1));
    assert_eq!(turned.decide(&path("r")).rule, None);
    assert_eq!(turned.decide(&path("")).rule, None);
    assert_eq!(turned.rules().len(), 2);
}

#[test]
fn limits_follow_the_retention_and_inherited_ones_are_widened() {
    for (text, expected) in [
        ("[defaults]\nretention='5d'", ["5d", "5d", "5d"]),
        ("[defaults]\nmin='1d'\nmax='60d'", ["1d", "30d", "60d"]),
        // A rule's own retention: unstated limits are its own, not the defaults' retention.
        ("[[rule]]\nmatch='**'\nretention='1d'", ["1d", "1d", "1d"]),
        ("[[rule]]\nmatch='**'\nmax='90d'", ["30d", "30d", "90d"]),
        // Inherited limits hold, and give way to a retention that the rule states.
        ("[defaults]\nmin='1d'\nmax='60d'\n[[rule]]\nmatch='**'\nretention='40d'", ["1d", "40d", "60d"]),
        ("[defaults]\nmin='1d'\nmax='60d'\n[[rule]]\nmatch='**'\nretention='7y'", ["1d", "7y", "7y"]),
        ("[defaults]\nmin='1d'\nmax='60d'\n[[rule]]\nmatch='**'\nretention='1h'", ["1h", "1h", "60d"]),
        (
            "[defaults]\nmin='1d'\nmax='60d'\n[[rule]]\nmatch='**'\nretention='7y'\nmin='2d'",
            ["2d", "7y", "7y"],
        ),
        ("[defaults]\nmin='1d'\nmax='60d'\n[[rule]]\nmatch='**'\nmin='2d'", ["2d", "30d", "60d"]),
    ] {
        assert_eq!(spans(policy(text).decide(&path("a"))), expected, "{text}");
    }
}

#[test]
fn every_key_of_a_rule_counts() {
    let text = "[defaults]\nerrno='EROFS'\n[[rule]]\nmatch='a'\nmode='compliance'\nseal='readonly'\nsettle='0s'\n\
                settle_empty='2h'\nnamespace='n'\nhardlink='refuse'\nsymlinks='seal'\nerrno='EACCES'\n\
                expired='delete'\nretention='1d'\n[[rule]]\nmatch='b'\nseal='explicit'\n";
    let policy = policy(text);
    let a = policy.decide(&path("a"));
    assert_eq!((a.mode, a.seal), (RetentionMode::Compliance, SealTrigger::Readonly));
    assert_eq!((a.settle.to_string(), a.settle_empty.to_string()), ("0s".into(), "2h".into()));
    assert_eq!((a.hardlink, a.symlinks, a.expired), (Hardlink::Refuse, Symlinks::Seal, Expired::Delete));
    assert_eq!(a.namespace, "n");
    assert_eq!(policy.decide(&path("b")).seal, SealTrigger::Explicit);
    let errnos = ["a", "b", "c"].map(|name| policy.errno_for(&path(name)));
    assert_eq!(errnos, [RefusalErrno::Eacces, RefusalErrno::Erofs, RefusalErrno::Erofs]);
}

#[test]
fn roles_hold_exactly_who_is_listed() {
    let unstated = policy("[roles]\nauditor = ['uid:alice', 'gid:release', 'uid:7', 'gid:8']\n").roles;
    assert!(unstated.has(Role::Governance, 0, &[0]), "an unlisted role is root's");
    assert!(!unstated.has(Role::Governance, 1000, &[2000]));
    assert!(!unstated.has(Role::Auditor, 0, &[0]), "a listed role is not root's unless stated");
    assert!(unstated.has(Role::Auditor, 1000, &[]) && unstated.has(Role::Auditor, 7, &[]));
    assert!(unstated.has(Role::Auditor, 1, &[5, 2000]) && unstated.has(Role::Auditor, 1, &[8]));
    assert!(!unstated.has(Role::Auditor, 8, &[7, 1000]), "users and groups are told apart");
    let nobody = policy("[roles]\ngovernance = []\n").roles;
    assert!(!nobody.has(Role::Governance, 0, &[0]) && nobody.has(Role::Auditor, 0, &[]));
}

#[test]
fn provenance_sidecars_and_clock_are_read() {
    let policy = policy(
        "provenance = { env = ['CI_JOB_ID'], arguments = 'off' }\nsidecars.listed = true\nclock.max_gap = '1d'\n",
    );
    assert_eq!(
        (policy.provenance.env.as_slice(), policy.provenance.arguments),
        (&["CI_JOB_ID".to_owned()][..], false)
    );
    assert_eq!((policy.sidecars_listed, policy.max_gap.to_string()), (true, "1d".into()));
}

#[test]
fn the_digest_is_of_the_text() {
    let policy = policy("");
    assert_eq!(policy.digest().to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(super::policy(CONTRACT).text(), CONTRACT);
}

#[test]
fn an_explanation_names_where_each_setting_comes_from() {
    let policy = policy(
        "[defaults]\nsettle='5s'\nmax='60d'\n[[rule]]\nmatch=['x', 'releases/**']\nretention='7y'\nmode='compliance'\n",
    );
    let told = policy.explain(&path("releases/a"));
    assert_eq!((told.label.as_str(), told.rule), ("rule 1 (x, …)", Some(1)));
    assert_eq!((told.path.as_str(), told.glob.as_deref()), ("releases/a", Some("releases/**")));
    let lines: Vec<String> =
        told.settings.iter().map(|s| format!("{} = {}: {}", s.name, s.value, s.from)).collect();
    assert_eq!(
        lines,
        [
            "retention = 7y: rule 1 (x, …)",
            "min = 7y: the retention",
            "max = 7y: [defaults], widened to the rule's retention",
            "mode = compliance: rule 1 (x, …)",
            "seal = close: built in",
            "settle = 5s: [defaults]",
            "settle_empty = 1h: built in",
            "namespace = sealfs: built in",
            "hardlink = copy: built in",
            "symlinks = free: built in",
            "errno = EPERM: built in",
            "expired = keep: built in",
            "unfinished = {}.aria2, {}.part, {}.st, {}.lftp-pget-status: built in",
        ]
    );
    let told = policy.explain(&path("other"));
    assert_eq!((told.label.as_str(), told.rule, told.glob), ("defaults", None, None));
    assert_eq!(told.settings[2].from, "[defaults]");
    assert!(serde_json::to_string(&policy.explain(&path("x"))).unwrap().contains("\"glob\":\"x\""));
}

#[test]
fn what_a_rule_excepts_goes_to_the_next_that_matches() {
    let policy = policy(
        "[[rule]]\nmatch=['**/*.lock', 'a/**']\nexcept='**/Cargo.lock'\nseal='never'\n\
         [[rule]]\nmatch='releases/**'\nretention='7y'\n",
    );
    let rule = |name: &str| policy.decide(&path(name)).rule;
    assert_eq!([rule("x.lock"), rule("Cargo.lock"), rule("a/Cargo.lock")], [Some(0), None, None]);
    assert_eq!([rule("releases/x.lock"), rule("releases/Cargo.lock")], [Some(0), Some(1)]);
    assert_eq!(policy.explain(&path("releases/Cargo.lock")).glob.as_deref(), Some("releases/**"));
    assert_eq!(policy.explain(&path("a/x.lock")).glob.as_deref(), Some("**/*.lock"));
}
