//! `sealctl wait PATH…`: until it is sealed.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::access;
use super::below::{self, Below};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::view;
use crate::control::protocol::{FileView, Request};
use crate::model::{Span, State};

/// How long nothing is said while a file is waited for, in milliseconds.
const SILENT_MS: u64 = 2_000;

/// Wait until files are sealed
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long at most for all of them, such as 30s; else as long as it takes
    #[arg(long, value_name = "D")]
    timeout: Option<Span>,
    /// Files, and folders: all files in them
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let mut targets = Vec::new();
    let exit = cx.each(&args.paths, |cx, target| {
        // A free symbolic link in a folder is never sealed, and not waited for.
        let is_awaited = |file: &Below| !file.link || below::has_state(&file.target);
        let (files, exit) = below::of(cx, target)?;
        targets.extend(files.into_iter().filter(is_awaited).map(|file| file.target));
        Ok(exit)
    })?;
    Ok(exit.or(for_all(&targets, args.timeout.map(Span::longest), cx)?))
}

/// Waits for one after the other; they are sealed side by side anyway.
pub fn for_all(targets: &[Target], timeout: Option<Duration>, cx: &mut Context) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut exit = Exit::Done;
    for target in targets {
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        let timeout_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        match wait_for(target, timeout_ms) {
            Ok(view) if cx.json => cx.value(&view)?,
            Ok(view) => cx.line(&format!("{}: {}", target.shown, view::summary(&view, access::wall())))?,
            Err(failure) => {
                cx.complain(&failure);
                exit = exit.or(failure.exit);
            }
        }
    }
    Ok(exit)
}

fn wait_for(target: &Target, timeout_ms: Option<u64>) -> Result<FileView, Failure> {
    let first = timeout_ms.map_or(SILENT_MS, |timeout| timeout.min(SILENT_MS));
    let left = timeout_ms.map(|timeout| timeout - first);
    let begun = Instant::now();
    let view: FileView = match access::ask_one(target, &Request::Wait { timeout_ms: Some(first) }) {
        // Not yet, as the time that has passed shows: what it waits for is said once, and it is waited for on.
        Err(failure)
            if failure.exit == Exit::Failed
                && left != Some(0)
                && begun.elapsed() >= Duration::from_millis(first) =>
        {
            let view: FileView = access::ask_one(target, &Request::Stat)?;
            let waits = view.waits_for.as_deref().unwrap_or("its quiet time to pass");
            let what = format!("{}: waits for {waits}; 'sealctl seal' seals it now", target.shown);
            let _ = writeln!(std::io::stderr(), "sealctl: {what}");
            access::ask_one(target, &Request::Wait { timeout_ms: left })?
        }
        other => other?,
    };
    if view.state.is_some_and(State::is_frozen) {
        return Ok(view);
    }
    let waits = view.waits_for.as_ref().map_or_else(String::new, |waits| format!(", waits for {waits}"));
    Err(Failure::about(
        &target.shown,
        Exit::NoFile,
        format_args!(
            "not sealed: {}{waits}; 'sealctl seal' demands it, 'sealctl why' tells more",
            view::state_word(&view)
        ),
    ))
}
