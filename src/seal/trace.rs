//! Which artifacts came of a commit, and from which commit an artifact came.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lines::{LinesError, provenance_payload};
use crate::ledger::{ReadIndex, Traced};
use crate::model::{Digest, RelPath, Timestamp};
use crate::statement::claimed_commits;

/// Fewest digits of a commit that are looked for.
pub const COMMIT_MIN: usize = 7;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Seals of a path, those that have ended too.
    Path(RelPath),
    /// Hexadecimal digits: the beginning of a commit, or a whole SHA-256 of content.
    Hex(String),
}

/// One seal and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// Path from the mount's root.
    pub path: String,
    /// SHA-256 of the content.
    pub sha256: String,
    /// When it was sealed, sealfs time.
    pub sealed_at: Timestamp,
    /// Whether it still has its name.
    pub stands: bool,
    /// Position of its entry in the log.
    pub log_index: u64,
    /// SHA-256 of the policy that decided.
    pub policy: String,
    /// SSHSIG namespace.
    pub namespace: String,
    /// Commits that its writers claimed.
    #[serde(default)]
    pub commits: Vec<String>,
    /// Repository that was claimed.
    pub repository: Option<String>,
    /// CI run that was claimed.
    pub run: Option<String>,
    /// Executables that wrote it, as the kernel showed them.
    #[serde(default)]
    pub executables: Vec<String>,
    /// The builder's id: how much was seen of the writers.
    pub builder: Option<String>,
}

/// Finds seals, in the order of the log.
///
/// # Errors
/// If index or log cannot be read.
pub fn trace(index: &ReadIndex, origin: &str, query: &Query) -> Result<Vec<TraceView>, LinesError> {
    let found: Vec<Traced> = match query {
        Query::Path(path) => {
            let ended = index.ended(path)?.into_iter().map(|record| Traced { record, stands: false });
            let standing = index.find(path)?.map(|record| Traced { record, stands: true });
            ended.chain(standing).collect()
        }
        Query::Hex(digits) => {
            let digits = digits.to_ascii_lowercase();
            let mut found = match digits.parse::<Digest>() {
                Ok(digest) => index.of_content(&digest)?,
                Err(_) => Vec::new(),
            };
            for traced in index.of_commit(&digits)? {
                if !found.iter().any(|known| known.record.id == traced.record.id) {
                    found.push(traced);
                }
            }
            found
        }
    };
    found.iter().map(|traced| view(index, origin, traced)).collect()
}

fn view(index: &ReadIndex, origin: &str, traced: &Traced) -> Result<TraceView, LinesError> {
    let record = &traced.record;
    let body = match &record.provenance {
        Some(made) => index.attachment(made.attachment)?.map(|attachment| attachment.body),
        None => None,
    };
    let statement = provenance_payload(record, origin, index).ok().flatten();
    let statement: Value = statement.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let build = &statement["predicate"]["buildDefinition"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let writers = build["internalParameters"]["writers"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(TraceView {
        path: record.path.to_string(),
        sha256: record.sha256.to_hex(),
        sealed_at: record.sealed_at,
        stands: traced.stands,
        log_index: record.log_index,
        policy: record.policy.to_hex(),
        namespace: record.namespace.clone(),
        commits: body.as_deref().map(claimed_commits).unwrap_or_default(),
        repository: text(&build["externalParameters"]["repository"]),
        run: text(&build["externalParameters"]["run"]),
        executables: writers.iter().filter_map(|writer| text(&writer["executable"])).collect(),
        builder: text(&statement["predicate"]["runDetails"]["builder"]["id"]),
    })
}
