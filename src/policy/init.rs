//! The `policy.toml` that `sealctl init` writes: a common head, and rules for the purpose of the store. The rules stand in
//! files of their own, in `init/`.

use crate::model::Span;

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// Outputs of builds.
    #[default]
    Builds,
    /// Releases, put together in `staging/` and then kept for years in `releases/`.
    Releases,
    /// Repositories of packages and images, whose indexes change.
    Packages,
    /// Weights and checkpoints of models.
    Models,
    /// Logs, appended to for a time and then sealed.
    Logs,
}

impl Purpose {
    /// All, by name.
    pub const ALL: [(&str, Purpose); 5] = [
        ("builds", Purpose::Builds),
        ("releases", Purpose::Releases),
        ("packages", Purpose::Packages),
        ("models", Purpose::Models),
        ("logs", Purpose::Logs),
    ];
}

/// The text of a new store's policy; `retention` stands for the default of 30 days.
#[must_use]
pub fn init_text(purpose: Purpose, retention: Option<Span>) -> String {
    let retention = retention.map_or_else(|| "30d".to_owned(), |span| span.to_string());
    let indexes = if purpose == Purpose::Packages { INDEXES.to_owned() } else { switched_off(INDEXES) };
    let releases = match purpose {
        // In force at once, so its namespace is no example.
        Purpose::Releases => format!("{STAGING}\n{}", RELEASES.replace("acme-release", "release")),
        _ => switched_off(RELEASES),
    };
    let rules = match purpose {
        // Before scratch: a log that is named like something temporary is a log.
        Purpose::Logs => vec![LOGS, SCRATCH, &indexes, &releases],
        Purpose::Models => vec![SCRATCH, MODELS, &indexes, &releases],
        Purpose::Builds | Purpose::Releases | Purpose::Packages => vec![SCRATCH, &indexes, &releases],
    };
    HEAD.replace("@RETENTION@", &retention) + &rules.join("\n")
}

/// A rule with `# ` before each of its lines, and how to switch it on.
fn switched_off(rule: &str) -> String {
    let (about, table) = rule.split_at(rule.find("[[rule]]").unwrap_or(0));
    let table: String = table.lines().map(|line| format!("# {line}\n")).collect();
    format!("{about}# To switch this rule on, take the '# ' away.\n{table}")
}

const SCRATCH: &str = include_str!("init/scratch.toml");
const INDEXES: &str = include_str!("init/indexes.toml");
const RELEASES: &str = include_str!("init/releases.toml");
const STAGING: &str = include_str!("init/staging.toml");
const MODELS: &str = include_str!("init/models.toml");
const LOGS: &str = include_str!("init/logs.toml");

/// What stands before the rules, but for the retention.
const HEAD: &str = r#"# The policy of this store: what is sealed, when, for how long, and who may change that.
#
#   sealctl policy check          tells mistakes with line and column
#   sealctl policy explain PATH   tells what holds for a path, and why
#
# A changed policy holds for what is sealed from then on; it never shortens what is sealed already. While
# there is a mistake in it, the daemon keeps the policy that it had.
# Lengths of time: ms, s, m, h, d, w (7 days), or a sum such as "1d12h"; mo and y are those of the calendar (7y is
# never less than seven years).
version = 1

# What holds where no rule says otherwise.
[defaults]
retention = "@RETENTION@"        # how long after sealing
# min = "7d"             # a writer may ask for a retention with `touch -a -d DATE` before the seal, from min
# max = "1y"             # to max after it; both are the retention unless stated: then there is no choice
mode = "governance"      # the role "governance" may shorten retention; with "compliance" nobody may, not root
seal = "close"           # a quiet time after the last close; or "readonly": only chmod a-w; "explicit": only
                         # sealctl seal; "never": scratch
settle = "10s"           # that quiet time; "0s" seals at once
settle_empty = "1h"      # the quiet time of a file without content
# A file does not settle while one of these stands beside it: control files of aria2, of browsers, axel and lftp.
unfinished = ["{}.aria2", "{}.part", "{}.st", "{}.lftp-pget-status"]
namespace = "sealfs"     # SSHSIG namespace of F.seal: ssh-keygen -Y verify -n sealfs
hardlink = "copy"        # a hard link becomes an independent copy; or "refuse"
symlinks = "free"        # symbolic links can be replaced; or "seal": they are sealed like files
errno = "EPERM"          # how changes are refused; or "EROFS", "EACCES"
expired = "keep"         # files stay after their retention; or "delete": the daemon removes them

[sidecars]
listed = false           # F.seal and F.seal.jsonl can always be opened; true: directories list them too

[clock]
max_gap = "7d"           # time with the host off that is believed in all, until `sealctl clock accept`

# Who may ask the daemon for what: "uid:NAME", "uid:NUMBER", "gid:NAME", "gid:NUMBER". A list holds exactly
# those that stand in it: leave root (uid:0) in, unless root shall not.
[roles]
governance = ["uid:0"]   # shorten, bypass, accept the clock, remove holds, seal --torn of others, keys
auditor = ["uid:0"]      # read everything: ls, log, verify of what they could not open

# Rules. The first one that matches wins; what it leaves out comes from [defaults]. A rule leaves what matches its
# `except` to the rules after it. Globs are over the path from the mount's root: `*` and `?` stay inside a name, `**`
# crosses directories (also none), case counts.

"#;
