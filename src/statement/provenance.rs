//! Line 2 of `F.seal.jsonl`: who wrote the file, as SLSA provenance (<https://slsa.dev/spec/v1.0/provenance>).
//!
//! SLSA tells what the platform observed from what the tenant claimed. `internalParameters` is what the kernel showed of
//! the writers; `externalParameters` and the resolved commit are what their environment claimed, which anybody can set.
//! The builder's id says how much was seen: `…/builder/observed/v1` all writers, `…/builder/partial/v1` some,
//! `…/builder/unobserved/v1` none.

use std::fmt;

use serde_json::{Map, Value, json};

use super::render::{STATEMENT_TYPE, subject};
use crate::crypto::jcs;
use crate::model::SealRecord;

/// The predicate's type.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// How files come to be here: somebody writes them.
const BUILD_TYPE: &str = "https://sealfs.dev/buildtype/write/v1";
/// Stands for what differs from file to file, until it is known. No JSON text holds it unescaped.
const FINISHED: &str = "\u{1}finished";
const SUBJECT: &str = "\u{1}subject";

/// What is kept once of the writers of files: canonical JSON. `more`: so many other writers were not kept.
///
/// # Errors
/// If it holds what canonical JSON cannot.
pub fn provenance_body(writers: &[Value], more: u64) -> Result<String, jcs::JcsError> {
    let mut body = json!({ "v": 1, "sealfs": env!("CARGO_PKG_VERSION"), "writers": writers });
    if more > 0 {
        body["more"] = json!(more);
    }
    jcs::canonical(&body)
}

/// What is said of a writer that is not known, for this reason.
#[must_use]
pub fn unknown_writer(why: &str) -> Value {
    json!({ "unknown": why })
}

/// Commits that the writers claimed to build from, lowercase hexadecimal; of a body that cannot be read, none.
#[must_use]
pub fn claimed_commits(body: &str) -> Vec<String> {
    let Ok(body) = serde_json::from_str::<Value>(body) else { return Vec::new() };
    let mut commits: Vec<String> = writers(&body)
        .iter()
        .filter_map(|writer| writer["claims"]["commit"].as_str())
        .map(str::to_owned)
        .collect();
    commits.sort();
    commits.dedup();
    commits
}

fn writers(body: &Value) -> &[Value] {
    body["writers"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Why a provenance statement cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceError(String);

impl fmt::Display for ProvenanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "provenance: {}", self.0)
    }
}

impl std::error::Error for ProvenanceError {}

impl From<jcs::JcsError> for ProvenanceError {
    fn from(error: jcs::JcsError) -> Self {
        ProvenanceError(error.to_string())
    }
}

/// The statements of all files of the same writers: they differ in the file and in when it was finished only.
#[derive(Debug, Clone)]
pub struct ProvenanceTemplate {
    before_finished: String,
    before_subject: String,
    after: String,
}

impl ProvenanceTemplate {
    /// Reads what [`provenance_body`] wrote, in a store of this name.
    ///
    /// # Errors
    /// If it did not write it.
    pub fn of(body: &str, origin: &str) -> Result<Self, ProvenanceError> {
        let body: Value = serde_json::from_str(body).map_err(|error| ProvenanceError(error.to_string()))?;
        let text = jcs::canonical(&json!({
            "_type": STATEMENT_TYPE,
            "predicateType": PROVENANCE_TYPE,
            "predicate": predicate(&body, origin),
            "subject": SUBJECT,
        }))?;
        let quoted = |mark: &str| jcs::canonical(&json!(mark));
        let broken = || ProvenanceError("not what is kept of writers".to_owned());
        let (before_finished, rest) = text.split_once(&quoted(FINISHED)?).ok_or_else(broken)?;
        let (before_subject, after) = rest.split_once(&quoted(SUBJECT)?).ok_or_else(broken)?;
        Ok(ProvenanceTemplate {
            before_finished: before_finished.to_owned(),
            before_subject: before_subject.to_owned(),
            after: after.to_owned(),
        })
    }

    /// The statement of one file (a DSSE payload, canonical JSON).
    ///
    /// # Errors
    /// If its name holds what canonical JSON cannot.
    pub fn render(&self, record: &SealRecord) -> Result<String, ProvenanceError> {
        let finished = jcs::canonical(&json!(record.sealed_wall))?;
        Ok([&self.before_finished, &finished, &self.before_subject, &subject(record), &self.after]
            .map(String::as_str)
            .concat())
    }
}

/// The provenance statement of a file whose writers are kept as `body`.
///
/// # Errors
/// If `body` is not what [`provenance_body`] wrote.
pub fn provenance_statement(
    record: &SealRecord,
    origin: &str,
    body: &str,
) -> Result<String, ProvenanceError> {
    ProvenanceTemplate::of(body, origin)?.render(record)
}

fn predicate(body: &Value, origin: &str) -> Value {
    let writers = writers(body);
    let known: Vec<&Value> = writers.iter().filter(|writer| writer["unknown"].is_null()).collect();
    let all = known.len() == writers.len() && body["more"].is_null();
    let mode = if known.is_empty() {
        "unobserved"
    } else if all {
        "observed"
    } else {
        "partial"
    };
    let mut internal = json!({ "writers": observed(writers) });
    if !body["more"].is_null() {
        internal["more"] = body["more"].clone();
    }
    let mut metadata = json!({ "finishedOn": FINISHED });
    if let Some(first) = known.first() {
        metadata["invocationId"] = json!(invocation(first, origin));
        if !first["started"].is_null() {
            metadata["startedOn"] = first["started"].clone();
        }
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": claimed(&known),
            "internalParameters": internal,
            "resolvedDependencies": dependencies(&known),
        },
        "runDetails": {
            "builder": {
                "id": format!("https://sealfs.dev/builder/{mode}/v1"),
                "version": { "sealfs": body["sealfs"] },
            },
            "metadata": metadata,
        },
    })
}

/// The CI run that is claimed, else the process itself.
fn invocation(writer: &Value, origin: &str) -> String {
    match writer["claims"]["run"].as_str() {
        Some(run) => run.to_owned(),
        None => format!(
            "{origin}/boot/{}/process/{}/{}",
            writer["boot"].as_str().unwrap_or("unknown"),
            writer["pid"],
            writer["started"].as_str().unwrap_or("unknown")
        ),
    }
}

/// What the first writer that claims anything claims: repository, ref, commit, run, its command and the variables.
fn claimed(known: &[&Value]) -> Value {
    let mut claimed = Map::new();
    let claims = |writer: &&&Value| {
        writer["claims"].as_object().is_some_and(|claims| claims.values().any(|value| !value.is_null()))
    };
    let Some(first) = known.iter().find(claims).or(known.first()) else { return Value::Object(claimed) };
    for name in ["system", "repository", "ref", "commit", "run"] {
        if !first["claims"][name].is_null() {
            claimed.insert(name.to_owned(), first["claims"][name].clone());
        }
    }
    claimed.insert("command".to_owned(), first["arguments"].clone());
    let environment = first["environment"].as_object().filter(|variables| !variables.is_empty());
    if let Some(environment) = environment {
        claimed.insert("environment".to_owned(), Value::Object(environment.clone()));
    }
    Value::Object(claimed)
}

/// What the kernel showed, without what was claimed.
fn observed(writers: &[Value]) -> Vec<Value> {
    let mut observed = writers.to_vec();
    for writer in &mut observed {
        if let Some(fields) = writer.as_object_mut() {
            fields.remove("claims");
            fields.remove("environment");
        }
    }
    observed
}

/// Claimed commits, each once.
fn dependencies(known: &[&Value]) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for writer in known {
        let claims = &writer["claims"];
        let Some(commit) = claims["commit"].as_str() else { continue };
        let mut dependency = json!({ "digest": { "gitCommit": commit } });
        if let Some(repository) = claims["repository"].as_str() {
            let reference = claims["ref"].as_str().map_or_else(String::new, |name| format!("@{name}"));
            dependency["uri"] = json!(format!("git+{repository}{reference}"));
        }
        if !found.contains(&dependency) {
            found.push(dependency);
        }
    }
    found
}
