//! The `policy.toml` that `sealctl init` writes.

use crate::model::Span;

/// The text of a new store's policy; `retention` stands for the default of 30 days.
#[must_use]
pub fn init_text(retention: Option<Span>) -> String {
    let retention = retention.map_or_else(|| "30d".to_owned(), |span| span.to_string());
    TEMPLATE.replace("@RETENTION@", &retention)
}

/// What `init` writes, but for the retention.
const TEMPLATE: &str = r#"# The policy of this store: what is sealed, when, for how long, and who may change that.
#
#   sealctl policy check          tells mistakes with line and column
#   sealctl policy explain PATH   tells what holds for a path, and why
#
# A changed policy holds for what is sealed from then on; it never shortens what is sealed already. While
# there is a mistake in it, the daemon keeps the policy that it had.
# Lengths of time: ms, s, m, h, d, w (7 days), y (365 days), or a sum such as "1d12h".
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

# Rules. The first one that matches wins; what it leaves out comes from [defaults]. Globs are over the path
# from the mount's root: `*` and `?` stay inside a name, `**` crosses directories (also none), case counts.

# Scratch: temporary names and staging folders of editors, downloaders, mktemp, pip, rustc and
# rsync --delay-updates. They stay writable, and begin to settle when they are renamed to another name.
[[rule]]
match = ["**/.~tmp~/**", "**/.rsync-partial/**", "**/*.tmp", "**/*.tmp/**", "**/.tmp*/**",
         "**/tmp.??????????", "**/*.part", "**/*.partial", "**/*.aria2", "**/*.aria2__temp", "**/*~", "**/.*.sw?"]
seal = "never"

# Indexes that must change with each upload (Maven, apt, OCI layouts). They are not sealed: what they point
# to is. Take the # away if such repositories lie in this mount.
# [[rule]]
# match = ["**/maven-metadata.xml*", "**/Packages", "**/Packages.*", "**/Release", "**/Release.gpg",
#          "**/InRelease", "**/index.json"]
# seal = "never"

# Releases: kept for years, which nobody may shorten, and under a namespace of their own. Whoever may write
# anywhere under a namespace can have bytes signed for it, so give one to what deploy scripts trust.
# [[rule]]
# match = ["releases/**"]
# retention = "7y"
# mode = "compliance"
# namespace = "acme-release"
# symlinks = "seal"
"#;
