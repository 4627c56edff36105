//! `--require KEY=VALUE`: what a deployment asks of an artifact beyond its being sealed.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::Value;

use crate::model::Timestamp;

/// Fewest digits of a commit.
const COMMIT_MIN: usize = 7;

/// What is known of a seal from its two statements, both signed by the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Path from the mount's root.
    pub path: String,
    /// Owner.
    pub uid: Option<u64>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Commits that were claimed.
    pub commits: Vec<String>,
    /// Repository that was claimed.
    pub repository: Option<String>,
    /// The builder's id.
    pub builder: Option<String>,
}

impl Facts {
    /// Reads them out of line 1 and line 2.
    #[must_use]
    pub fn of(seal: &Value, provenance: Option<&Value>) -> Self {
        let predicate = &seal["predicate"];
        let provenance = provenance.map_or(&Value::Null, |statement| &statement["predicate"]);
        let build = &provenance["buildDefinition"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dependencies = build["resolvedDependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        Facts {
            path: text(&predicate["path"]).unwrap_or_default(),
            uid: predicate["uid"].as_u64(),
            sealed_at: predicate["sealedAt"]
                .as_str()
                .and_then(|time| time.parse().ok())
                .unwrap_or(Timestamp(i64::MIN)),
            commits: dependencies.iter().filter_map(|found| text(&found["digest"]["gitCommit"])).collect(),
            repository: text(&build["externalParameters"]["repository"]),
            builder: text(&provenance["runDetails"]["builder"]["id"]),
        }
    }
}

/// One requirement.
#[derive(Debug, Clone)]
pub enum Requirement {
    /// The writer claimed a commit that begins so.
    Commit(String),
    /// The writer claimed this repository.
    Repository(String),
    /// The builder's id is this, or is the one of this mode (`observed`).
    Builder(String),
    /// The owner is this user.
    Uid(u64),
    /// The path matches this glob.
    Path(GlobMatcher),
    /// It was sealed after this.
    SealedAfter(Timestamp),
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = "commit, repository, builder, uid, path and sealed-after";
        let (key, value) =
            text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE; keys are {known}"))?;
        if value.is_empty() {
            return Err(format!("{key} is required to be nothing"));
        }
        Ok(match key {
            "commit" => {
                let fits =
                    (COMMIT_MIN..=64).contains(&value.len()) && value.bytes().all(|c| c.is_ascii_hexdigit());
                if !fits {
                    return Err(format!("expected {COMMIT_MIN} to 64 hexadecimal digits, found {value:?}"));
                }
                Requirement::Commit(value.to_ascii_lowercase())
            }
            "repository" => Requirement::Repository(value.to_owned()),
            "builder" => Requirement::Builder(value.to_owned()),
            "uid" => Requirement::Uid(
                value.parse().map_err(|_| format!("expected a user's number, found {value:?}"))?,
            ),
            "path" => {
                let glob = GlobBuilder::new(value).literal_separator(true).build();
                Requirement::Path(glob.map_err(|error| error.to_string())?.compile_matcher())
            }
            "sealed-after" => {
                let full = if value.len() == 10 { format!("{value}T00:00:00Z") } else { value.to_owned() };
                let time = full.parse().map_err(|_| {
                    format!("expected a date such as 2026-07-01 or 2026-07-01T12:00:00Z, found {value:?}")
                })?;
                Requirement::SealedAfter(time)
            }
            _ => return Err(format!("unknown key {key:?}; keys are {known}")),
        })
    }
}

impl Requirement {
    /// Whether it is met.
    ///
    /// # Errors
    /// In words, what is required and what is found.
    pub fn check(&self, facts: &Facts) -> Result<(), String> {
        let found = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let (met, found) = match self {
            Requirement::Commit(wanted) => (
                facts.commits.iter().any(|commit| commit.starts_with(wanted.as_str())),
                if facts.commits.is_empty() { "none".to_owned() } else { facts.commits.join(", ") },
            ),
            Requirement::Repository(wanted) => (
                facts.repository.as_deref().is_some_and(|name| same_repository(name, wanted)),
                found(&facts.repository),
            ),
            Requirement::Builder(wanted) => (
                facts.builder.as_deref().is_some_and(|id| {
                    id == wanted || id == format!("https://sealfs.dev/builder/{wanted}/v1")
                }),
                found(&facts.builder),
            ),
            Requirement::Uid(wanted) => (
                facts.uid == Some(*wanted),
                facts.uid.map_or_else(|| "none".to_owned(), |uid| uid.to_string()),
            ),
            Requirement::Path(glob) => (glob.is_match(&facts.path), facts.path.clone()),
            Requirement::SealedAfter(time) => (facts.sealed_at > *time, facts.sealed_at.to_string()),
        };
        if met { Ok(()) } else { Err(format!("{self}, found is {found}")) }
    }
}

/// With or without `.git` and a slash at the end.
fn same_repository(found: &str, wanted: &str) -> bool {
    let plain = |text: &str| {
        let text = text.trim_end_matches('/');
        text.strip_suffix(".git").unwrap_or(text).to_owned()
    };
    plain(found) == plain(wanted)
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Commit(commit) => write!(f, "commit {commit}"),
            Requirement::Repository(name) => write!(f, "repository {name}"),
            Requirement::Builder(id) => write!(f, "builder {id}"),
            Requirement::Uid(uid) => write!(f, "uid {uid}"),
            Requirement::Path(glob) => write!(f, "a path that matches {}", glob.glob()),
            Requirement::SealedAfter(time) => write!(f, "sealed after {time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_requirement_is_met_and_is_not() {
        let seal =
            json!({"predicate": {"path": "rel/1.0/app", "uid": 7, "sealedAt": "2026-07-01T12:00:00Z"}});
        let provenance = json!({"predicate": {
            "buildDefinition": {
                "externalParameters": {"repository": "https://h/o/r.git"},
                "resolvedDependencies": [{"digest": {"gitCommit": "0123456789abcdef0123456789abcdef01234567"}}],
            },
            "runDetails": {"builder": {"id": "https://sealfs.dev/builder/observed/v1"}},
        }});
        let facts = Facts::of(&seal, Some(&provenance));
        for (text, met) in [
            ("commit=0123456", true),
            ("commit=0123456789ABCDEF0123456789abcdef01234567", true),
            ("commit=1234567", false),
            ("repository=https://h/o/r", true),
            ("repository=https://h/o/rr", false),
            ("builder=observed", true),
            ("builder=partial", false),
            ("builder=https://sealfs.dev/builder/observed/v1", true),
            ("uid=7", true),
            ("uid=0", false),
            ("path=rel/**", true),
            ("path=rel/*", false),
            ("path=**/app", true),
            ("sealed-after=2026-07-01", true),
            ("sealed-after=2026-07-01T12:00:00Z", false),
        ] {
            let requirement: Requirement = text.parse().unwrap();
            assert_eq!(requirement.check(&facts).is_ok(), met, "{text}");
            let nothing = Facts::of(&json!({}), None);
            assert!(requirement.check(&nothing).is_err(), "{text} of nothing");
        }
        for bad in
            ["", "commit", "commit=", "commit=xyz1234", "uid=me", "path=[", "sealed-after=then", "size=1"]
        {
            assert!(bad.parse::<Requirement>().is_err(), "{bad}");
        }
    }
}
