//! Broken policies, each with the exact line that tells the mistake.

use super::{FakeHost, Policy};

const SPAN: &str =
    "expected a length of time such as \"10s\", \"30d\", \"6mo\" or \"7y\" (units ms, s, m, h, d, w, mo, y)";
const HOLDER: &str = "expected \"uid:NAME\", \"uid:NUMBER\", \"gid:NAME\" or \"gid:NUMBER\"";
const GLOB: &str = "expected a glob, or a list of globs, such as [\"releases/**\"]";

#[test]
#[allow(clippy::too_many_lines)] // a table
fn each_mistake_is_told_with_its_place() {
    let keys = "retention, min, max, mode, seal, settle, settle_empty, namespace, hardlink, symlinks, errno, expired, unfinished";
    let table: &[(&str, String)] = &[
        // TOML itself.
        ("version = \n", "1:11: string values must be quoted; expected literal string".into()),
        ("version = 1\nversion = 1\n", "2:1: duplicate key; expected valid TOML".into()),
        ("[defaults\n", "1:10: unclosed table; expected `]`".into()),
        ("[defaults]\nmode = \"gov\n", "2:12: invalid basic string; expected `\"`".into()),
        // Keys.
        (
            "version = 1\n[default]\n",
            "2:2: unknown key \"default\" in the policy; expected one of version, defaults, sidecars, clock, \
             roles, provenance, rule; did you mean \"defaults\"?"
                .into(),
        ),
        (
            "[defaults]\nmode = 3\n  retension = \"1d\"\n",
            format!("3:3: unknown key \"retension\" in [defaults]; expected one of {keys}; did you mean \"retention\"?"),
        ),
        (
            "[[rule]]\nmatch = \"a\"\nglobs = []\n",
            format!("3:1: unknown key \"globs\" in [[rule]]; expected one of match, except, {keys}"),
        ),
        (
            "[[rule]]\nmatch = \"a\"\nexcept = [\"a/\"]\n",
            "3:11: glob \"a/\" ends with '/'; expected \"a/**\" for all that is in the folder".into(),
        ),
        ("[sidecars]\nlist = true\n", "2:1: unknown key \"list\" in [sidecars]; expected listed; did you mean \"listed\"?".into()),
        ("clock.maxgap = '1d'\n", "1:7: unknown key \"maxgap\" in [clock]; expected max_gap; did you mean \"max_gap\"?".into()),
        // Types.
        ("version = '1'\n", "1:11: version in the policy is a string; expected version = 1".into()),
        ("version = 2\n", "1:11: version is 2; expected version = 1".into()),
        ("defaults = 1\n", "1:12: defaults in the policy is an integer; expected a table [defaults]".into()),
        (
            "[rule]\nmatch = 'a'\n",
            "1:1: rule in the policy is a table; expected each rule under its own [[rule]] (two brackets)".into(),
        ),
        ("rule = [1]\n", "1:9: a rule is of type integer; expected a table [[rule]]".into()),
        ("[defaults]\nretention = 30\n", format!("2:13: retention in [defaults] is an integer; {SPAN}")),
        (
            "[sidecars]\nlisted = 'yes'\n",
            "2:10: listed in [sidecars] is a string; expected true or false, without quotes".into(),
        ),
        // Values.
        ("[defaults]\nretention = \"30 days\"\n", format!("2:13: retention in [defaults] is \"30 days\"; {SPAN}")),
        ("[clock]\nmax_gap = \"-1d\"\n", format!("2:11: max_gap in [clock] is \"-1d\"; {SPAN}")),
        (
            "[defaults] # é\nmode = \"complience\"\n",
            "2:8: mode in [defaults] is \"complience\"; expected \"governance\" or \"compliance\"".into(),
        ),
        (
            "defaults = { namespace = \"é\", seal = \"open\" }\n",
            "1:38: seal in [defaults] is \"open\"; expected \"close\", \"readonly\", \"explicit\" or \"never\"".into(),
        ),
        ("defaults.hardlink = 'link'", "1:21: hardlink in [defaults] is \"link\"; expected \"copy\" or \"refuse\"".into()),
        ("defaults.symlinks = 'Seal'", "1:21: symlinks in [defaults] is \"Seal\"; expected \"free\" or \"seal\"".into()),
        (
            "defaults.errno = 'EIO'",
            "1:18: errno in [defaults] is \"EIO\"; expected \"EPERM\", \"EROFS\" or \"EACCES\"".into(),
        ),
        ("defaults.expired = ''", "1:20: expired in [defaults] is \"\"; expected \"keep\" or \"delete\"".into()),
        (
            "[[rule]]\nmatch = 'a'\nnamespace = 'my release'\n",
            "3:13: namespace in [[rule]] is \"my release\"; expected 1 to 128 of letters, digits and . _ @ / + : = -"
                .into(),
        ),
        (
            "defaults.namespace = \"a\\nb\"",
            "1:22: namespace in [defaults] is \"a\\nb\"; expected 1 to 128 of letters, digits and . _ @ / + : = -"
                .into(),
        ),
        (
            "defaults.namespace = ''",
            "1:22: namespace in [defaults] is \"\"; expected 1 to 128 of letters, digits and . _ @ / + : = -"
                .into(),
        ),
        // Ranges.
        (
            "[defaults]\nmin = '3d'\nmax = '2d'\n",
            "2:7: min 3d is more than max 2d; expected min to be at most max".into(),
        ),
        (
            "[defaults]\nretention = '1d'\nmin = '2d'\nmax = '3d'\n",
            "2:13: retention 1d is less than min 2d; expected retention to be at least min".into(),
        ),
        (
            "[[rule]]\nmatch = 'a'\nmax = '20d'\n",
            "3:7: retention 30d is more than max 20d; expected retention to be at most max".into(),
        ),
        (
            "[defaults]\nmax = '40d'\n[[rule]]\nmatch = 'a'\nmin = '60d'\n",
            "5:7: retention 30d is less than min 60d; expected retention to be at least min".into(),
        ),
        // Rules and globs.
        ("[[rule]]\nseal = 'never'\n", format!("1:1: this [[rule]] has no match; {GLOB}")),
        ("[[rule]]\nmatch = []\n", format!("2:9: match in [[rule]] is an empty list; {GLOB}")),
        ("[[rule]]\nmatch = 1\n", format!("2:9: match in [[rule]] is an integer; {GLOB}")),
        ("[[rule]]\nmatch = ['a', 1]\n", format!("2:15: an entry of match in [[rule]] is an integer; {GLOB}")),
        (
            "[[rule]]\nmatch = [\"a\",\n  \"b[\"]\n",
            "3:3: glob \"b[\" is not valid (unclosed character class; missing ']'); expected a valid glob".into(),
        ),
        (
            "[[rule]]\nmatch = '/releases/**'\n",
            "2:9: glob \"/releases/**\" starts with '/'; expected a glob over the path from the mount's root, \
             without a leading '/'"
                .into(),
        ),
        (
            "[[rule]]\nmatch = 'a/../b'\n",
            "2:9: glob \"a/../b\" contains '..'; expected a glob over paths inside the mount".into(),
        ),
        ("[[rule]]\nmatch = ''\n", "2:9: glob \"\" is empty; expected a glob such as \"releases/**\"".into()),
        (
            "[[rule]]\nmatch = 'releases/'\n",
            "2:9: glob \"releases/\" ends with '/'; expected \"releases/**\" for all that is in the folder".into(),
        ),
        (
            "[[rule]]\nmatch = './a'\n",
            "2:9: glob \"./a\" has an empty component or '.'; expected components that a path can have".into(),
        ),
        (
            "[[rule]]\nmatch = 'a/**.deb'\n",
            "2:9: glob \"a/**.deb\" has '**' inside a component; expected '**' as a whole component, as in \
             \"a/**/*.deb\""
                .into(),
        ),
        (
            "[[rule]]\nmatch = 'a[+-9]b'\n",
            "2:9: glob \"a[+-9]b\" has '/' in a character class; expected a class of characters inside one \
             component"
                .into(),
        ),
        (
            "[[rule]]\nmatch = '[é]'\n",
            "2:9: glob \"[é]\" has a character beyond ASCII in a class; expected alternatives instead, as in \
             \"{é,è}\""
                .into(),
        ),
        // Roles and provenance.
        ("[roles]\nauditor = 'uid:0'\n", "2:11: auditor in [roles] is a string; expected a list such as [\"uid:0\", \"gid:release\"]".into()),
        ("[roles]\nauditor = ['alice']\n", format!("2:12: an entry of auditor in [roles] is \"alice\"; {HOLDER}")),
        ("[roles]\nauditor = ['uid:']\n", format!("2:12: an entry of auditor in [roles] is \"uid:\"; {HOLDER}")),
        ("[roles]\nauditor = ['user:0']\n", format!("2:12: an entry of auditor in [roles] is \"user:0\"; {HOLDER}")),
        (
            "[roles]\ngovernance = ['uid:alice', 'uid:bob']\n",
            "2:28: governance in [roles] names the user \"bob\", which does not exist; expected an existing user, \
             or its number"
                .into(),
        ),
        (
            "[roles]\ngovernance = ['gid:alice']\n",
            "2:15: governance in [roles] names the group \"alice\", which does not exist; expected an existing \
             group, or its number"
                .into(),
        ),
        (
            "[roles]\ngovernance = ['uid:4294967295']\n",
            "2:15: an entry of governance in [roles] is \"uid:4294967295\"; expected a number up to 4294967294".into(),
        ),
        (
            "[provenance]\nenv = ['A=B']\n",
            "2:8: an entry of env in [provenance] is \"A=B\"; expected the name of an environment variable".into(),
        ),
        (
            "[provenance]\narguments = true\n",
            "2:13: arguments in [provenance] is a boolean; expected \"on\" or \"off\"".into(),
        ),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let expected = format!("policy.toml:{expected}");
        let told = match Policy::parse(text, "policy.toml", &FakeHost) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        if told != expected {
            wrong.push(format!("{text:?}\n  told     {told}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_cut_or_garbled_policy_panics_and_each_error_is_one_line() {
    let text =
        super::super::init_text(super::super::Purpose::default(), None).replace("# [[rule]]", "[[rule]]");
    let ends = (0..text.len()).filter(|end| text.is_char_boundary(*end));
    let cut = ends.clone().step_by(7).map(|end| text[..end].to_owned());
    let garbled = ends.step_by(11).map(|at| format!("{}\"[é\u{1}{}", &text[..at], &text[at..]));
    for text in cut.chain(garbled) {
        if let Err(error) = Policy::parse(&text, "p", &FakeHost) {
            let told = error.to_string();
            assert!(
                !told.contains('\n') && told.starts_with("p:") && told.contains("; expected "),
                "{told:?}"
            );
        }
    }
}
