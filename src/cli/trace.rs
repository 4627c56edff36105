//! `sealctl trace COMMIT|SHA256|PATH`: what came of what.

use std::os::fd::AsFd;
use std::path::Path;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::render;
use crate::control::protocol::Request;
use crate::seal::{COMMIT_MIN, Query, TraceView, trace};

/// Tell which artifacts came of a commit, or from which commit and run an artifact came
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first digits of a commit (7 or more), a SHA-256, or a file in the mount
    #[arg(value_name = "COMMIT|SHA256|PATH")]
    what: String,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let hex = args.what.len() >= COMMIT_MIN && args.what.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A file of that name in the current folder is meant by './…'.
    let hex = (hex && args.what.len() <= 64).then(|| args.what.clone());
    let target = if hex.is_some() { cx.here()? } else { cx.target(Path::new(&args.what))? };
    let found = find(&target, hex)?;
    if found.is_empty() {
        return Err(Failure::about(
            &args.what,
            Exit::NoFile,
            "no seal came of it; a commit is known only if the writer's CI variables named it",
        ));
    }
    for view in &found {
        if cx.json {
            cx.value(view)?;
        } else {
            let ended = if view.stands { "" } else { " (ended)" };
            cx.line(&format!("{}{ended}", view.path))?;
            cx.text(&in_words(view))?;
        }
    }
    Ok(Exit::Done)
}

fn find(target: &Target, hex: Option<String>) -> Result<Vec<TraceView>, Failure> {
    if access::is_ours(&target.store)? {
        let reading = Reading::open(&target.store)?;
        let query = hex.map_or_else(|| Query::Path(target.path.clone()), Query::Hex);
        return trace(&reading.index, &reading.origin, &query)
            .map_err(|error| Failure::about(&target.shown, Exit::Failed, error));
    }
    let mut client = access::connect(&target.store)?;
    let fd = if hex.is_none() { Some(access::descriptor(target)?) } else { None };
    let items = client.ask(&Request::Trace { hex }, fd.as_ref().map(AsFd::as_fd))?;
    items.into_iter().map(|item| Ok(access::parse(item)?)).collect()
}

fn in_words(view: &TraceView) -> String {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "not claimed".to_owned());
    let commits = if view.commits.is_empty() { "not claimed".to_owned() } else { view.commits.join(", ") };
    let written =
        if view.executables.is_empty() { "unknown".to_owned() } else { view.executables.join(", ") };
    let mut fields = [
        ("sha256", view.sha256.clone()),
        ("sealed", format!("{}, entry {}", render::second(view.sealed_at), view.log_index)),
        ("policy", format!("{} (sha256), namespace {}", view.policy, view.namespace)),
        ("commit", commits),
        ("repository", or(&view.repository)),
        ("run", or(&view.run)),
        ("written by", written),
        ("builder", view.builder.clone().unwrap_or_else(|| "no provenance".to_owned())),
    ];
    // Names of executables are others' words: they write on no terminal but in one line.
    for (_, value) in &mut fields {
        *value = value.replace(char::is_control, "?");
    }
    render::fields("  ", &fields)
}
