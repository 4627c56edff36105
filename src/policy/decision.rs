//! What a policy decides for one path, and how a rule and the defaults make it.

use std::fmt;

use super::error::{PolicyError, Source};
use super::read::{At, Table};
use crate::model::{RetentionMode, SealTrigger, Span, is_namespace};

/// Declares an enum whose values are words of the policy.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $value,)+ }

        impl $name {
            const WORDS: &'static [(&'static str, $name)] = &[$(($word, $name::$value),)+];

            /// The word as it stands in the policy.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$value => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What `link(2)` does.
    Hardlink {
        /// Makes an independent copy with its own seal.
        Copy = "copy",
        /// Is refused.
        Refuse = "refuse",
    }
}
words! {
    /// What becomes of symbolic links.
    Symlinks {
        /// They can be replaced and removed.
        Free = "free",
        /// They are sealed like files.
        Seal = "seal",
    }
}
words! {
    /// The error with which changes to what is sealed are refused.
    RefusalErrno {
        /// Operation not permitted.
        Eperm = "EPERM",
        /// Read-only file system.
        Erofs = "EROFS",
        /// Permission denied.
        Eacces = "EACCES",
    }
}
words! {
    /// What becomes of a file whose retention is over.
    Expired {
        /// It stays until somebody removes it.
        Keep = "keep",
        /// The daemon sweeps it.
        Delete = "delete",
    }
}

const MODES: &[(&str, RetentionMode)] =
    &[("governance", RetentionMode::Governance), ("compliance", RetentionMode::Compliance)];
const TRIGGERS: &[(&str, SealTrigger)] = &[
    ("close", SealTrigger::Close),
    ("readonly", SealTrigger::Readonly),
    ("explicit", SealTrigger::Explicit),
    ("never", SealTrigger::Never),
];

/// The trigger's word in the policy.
pub(super) fn trigger_word(trigger: SealTrigger) -> &'static str {
    match trigger {
        SealTrigger::Close => "close",
        SealTrigger::Readonly => "readonly",
        SealTrigger::Explicit => "explicit",
        SealTrigger::Never => "never",
    }
}

/// Everything that holds for a path. `min <= retention <= max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The rule that matched, from 0; `None` for the defaults.
    pub rule: Option<usize>,
    /// For people: `defaults`, or `rule 2 (releases/**)`, counted from 1.
    pub label: String,
    /// How long after sealing, unless somebody asks otherwise.
    pub retention: Span,
    /// The shortest that a writer may ask for.
    pub min: Span,
    /// The longest that a writer or owner may ask for.
    pub max: Span,
    /// Whether retention can be shortened.
    pub mode: RetentionMode,
    /// What seals.
    pub seal: SealTrigger,
    /// Quiet time after the last close.
    pub settle: Span,
    /// Quiet time for an empty file.
    pub settle_empty: Span,
    /// SSHSIG namespace of `F.seal`.
    pub namespace: String,
    /// What a hard link becomes.
    pub hardlink: Hardlink,
    /// What becomes of symbolic links.
    pub symlinks: Symlinks,
    /// How changes are refused.
    pub errno: RefusalErrno,
    /// What becomes of it after retention.
    pub expired: Expired,
    /// Names beside a file, `{}` for its own, while one of which stands it does not settle.
    pub unfinished: Vec<String>,
}

/// The keys that `[defaults]` and each `[[rule]]` may hold.
pub(super) const KEYS: [&str; 13] = [
    "retention",
    "min",
    "max",
    "mode",
    "seal",
    "settle",
    "settle_empty",
    "namespace",
    "hardlink",
    "symlinks",
    "errno",
    "expired",
    "unfinished",
];

/// What one table states itself; the rest is inherited.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub retention: Option<At<Span>>,
    pub min: Option<At<Span>>,
    pub max: Option<At<Span>>,
    pub mode: Option<RetentionMode>,
    pub seal: Option<SealTrigger>,
    pub settle: Option<Span>,
    pub settle_empty: Option<Span>,
    pub namespace: Option<String>,
    pub hardlink: Option<Hardlink>,
    pub symlinks: Option<Symlinks>,
    pub errno: Option<RefusalErrno>,
    pub expired: Option<Expired>,
    pub unfinished: Option<Vec<String>>,
}

impl Settings {
    /// Whether how long files are kept, in which mode, and when they are sealed is stated nowhere.
    pub(super) fn is_empty(&self) -> bool {
        self.retention.is_none() && self.mode.is_none() && self.seal.is_none() && self.settle.is_none()
    }

    /// Reads the settings of `[defaults]` or of a rule.
    pub fn read(table: &Table<'_>) -> Result<Self, PolicyError> {
        Ok(Settings {
            retention: table.span("retention")?,
            min: table.span("min")?,
            max: table.span("max")?,
            mode: table.choice("mode", MODES)?,
            seal: table.choice("seal", TRIGGERS)?,
            settle: table.span("settle")?.map(|at| at.value),
            settle_empty: table.span("settle_empty")?.map(|at| at.value),
            namespace: namespace(table)?,
            hardlink: table.choice("hardlink", Hardlink::WORDS)?,
            symlinks: table.choice("symlinks", Symlinks::WORDS)?,
            errno: table.choice("errno", RefusalErrno::WORDS)?,
            expired: table.choice("expired", Expired::WORDS)?,
            unfinished: unfinished(table)?,
        })
    }
}

/// Names of control files that downloaders keep beside what they have not finished.
fn unfinished(table: &Table<'_>) -> Result<Option<Vec<String>>, PolicyError> {
    let expected = "a list of names in which {} stands for the file's, such as [\"{}.part\"]";
    let Some(names) = table.strings("unfinished", false, expected)? else { return Ok(None) };
    for name in &names {
        if !name.value.contains("{}") || name.value == "{}" || name.value.contains(['/', '\0']) {
            return Err(table.wrong_text("an entry of unfinished", name, expected));
        }
    }
    Ok(Some(names.into_iter().map(|name| name.value.to_owned()).collect()))
}

/// The namespace goes into `allowed_signers`, whose lists know spaces, commas, quotes and wildcards.
fn namespace(table: &Table<'_>) -> Result<Option<String>, PolicyError> {
    let expected = "1 to 128 of letters, digits and . _ @ / + : = -";
    let Some(text) = table.string("namespace", expected)? else { return Ok(None) };
    if !is_namespace(text.value) {
        return Err(table.wrong_text("namespace", &text, expected));
    }
    Ok(Some(text.value.to_owned()))
}

impl Decision {
    /// What holds where the policy states nothing at all.
    pub(super) fn built_in() -> Self {
        let seconds = |s| Span::of(std::time::Duration::from_secs(s));
        let retention = seconds(30 * 86_400);
        Decision {
            rule: None,
            label: "defaults".to_owned(),
            retention,
            min: retention,
            max: retention,
            mode: RetentionMode::Governance,
            seal: SealTrigger::Close,
            settle: seconds(10),
            settle_empty: seconds(3600),
            namespace: "sealfs".to_owned(),
            hardlink: Hardlink::Copy,
            symlinks: Symlinks::Free,
            errno: RefusalErrno::Eperm,
            expired: Expired::Keep,
            unfinished: ["{}.aria2", "{}.part", "{}.st", "{}.lftp-pget-status"].map(str::to_owned).to_vec(),
        }
    }

    /// This decision with `own` over it; `inherited` is what stated `min` and `max` before, if anything did.
    /// A retention that `own` states itself widens inherited limits.
    pub(super) fn overlaid(
        &self,
        own: &Settings,
        inherited: &Settings,
        source: Source<'_>,
    ) -> Result<Self, PolicyError> {
        let retention = own.retention.as_ref().map_or(self.retention, |at| at.value);
        let limit = |own_limit: &Option<At<Span>>,
                     before: &Option<At<Span>>,
                     widen: fn(Span, Span) -> Span| match (own_limit, before) {
            (None, Some(at)) if own.retention.is_some() => widen(at.value, retention),
            (Some(at), _) | (None, Some(at)) => at.value,
            (None, None) => retention,
        };
        let min = limit(&own.min, &inherited.min, Ord::min);
        let max = limit(&own.max, &inherited.max, Ord::max);
        check_range(own, retention, min, max, source)?;
        Ok(Decision {
            rule: self.rule,
            label: self.label.clone(),
            retention,
            min,
            max,
            mode: own.mode.unwrap_or(self.mode),
            seal: own.seal.unwrap_or(self.seal),
            settle: own.settle.unwrap_or(self.settle),
            settle_empty: own.settle_empty.unwrap_or(self.settle_empty),
            namespace: own.namespace.clone().unwrap_or_else(|| self.namespace.clone()),
            hardlink: own.hardlink.unwrap_or(self.hardlink),
            symlinks: own.symlinks.unwrap_or(self.symlinks),
            errno: own.errno.unwrap_or(self.errno),
            expired: own.expired.unwrap_or(self.expired),
            unfinished: own.unfinished.clone().unwrap_or_else(|| self.unfinished.clone()),
        })
    }
}

/// `min <= retention <= max`, told at the value that the table states itself.
fn check_range(
    own: &Settings,
    retention: Span,
    min: Span,
    max: Span,
    source: Source<'_>,
) -> Result<(), PolicyError> {
    if let (Some(at), Some(_)) = (&own.min, &own.max)
        && min > max
    {
        return Err(source.error(
            &at.span,
            format!("min {min} is more than max {max}"),
            "min to be at most max",
        ));
    }
    let (violated, found, expected) = if retention < min {
        (&own.min, format!("retention {retention} is less than min {min}"), "retention to be at least min")
    } else if retention > max {
        (&own.max, format!("retention {retention} is more than max {max}"), "retention to be at most max")
    } else {
        return Ok(());
    };
    // One of the two is stated here: a table that states neither inherits a range that holds.
    let span = own.retention.as_ref().or(violated.as_ref()).map_or(0..0, |at| at.span.clone());
    Err(source.error(&span, found, expected))
}
