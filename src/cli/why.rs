//! `sealctl why PATH`: what was refused, and why.

use std::path::PathBuf;

use super::access::{self, Reading};
use super::below;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::render::{count, second};
use super::{stat, view};
use crate::control::client::ClientError;
use crate::control::protocol::{RefusalView, Request};

/// Tell why changes of a file were refused, and what it waits for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, or a folder: it and all files in it of which refusals are kept
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.target(&args.path)?;
    // An empty folder has no files; and a name that is refused need not be there.
    let (files, unread) = below::of(cx, &target).unwrap_or_default();
    if files.first().is_none_or(|file| file.target == target) {
        return one(&target, false, cx);
    }
    let exit = unread.or(one(&target, false, cx)?);
    // Free links have no refusals of their own, and a file may be gone by now.
    below::show_each(cx, files, exit, |cx, file| one(file, true, cx))
}

/// Shows what is kept of one file; `quiet`: only if there are refusals.
fn one(target: &Target, quiet: bool, cx: &mut Context) -> Result<Exit, Failure> {
    let (stands, refusals) = if access::is_ours(&target.store)? {
        // The last second's are still in the daemon's memory, if there is one.
        let _ = access::connect(&target.store).and_then(|mut daemon| daemon.ask(&Request::Flush, None));
        let reading = Reading::open(&target.store)?;
        let stands = stat::of(target);
        let refusals = reading.index.refusals(target.path.as_str())?;
        // A refused name (a reserved one, say) need not exist to be asked about.
        match stands {
            Err(failure) if refusals.is_empty() => return Err(failure),
            stands => (stands.ok(), refusals),
        }
    } else {
        let refusals = access::ask(target, &Request::Why)?
            .into_iter()
            .map(access::parse)
            .collect::<Result<Vec<RefusalView>, ClientError>>()
            .map_err(|error| Failure::from(error).with_path(&target.shown))?;
        (stat::of(target).ok(), refusals)
    };
    if quiet && refusals.is_empty() {
        return Ok(Exit::Done);
    }
    if cx.json {
        for refusal in &refusals {
            cx.value(refusal)?;
        }
        return Ok(Exit::Done);
    }
    if let Some((view, now)) = &stands {
        cx.line(&format!("{}: {}", target.path, view::summary(view, *now)))?;
        if let Some(rule) = &view.rule {
            cx.line(&format!("  under {rule}"))?;
        }
    }
    if refusals.is_empty() {
        cx.line("  no refusals are kept")?;
    }
    for refusal in &refusals {
        cx.line(&format!("  {}", in_words(refusal)))?;
    }
    Ok(Exit::Done)
}

/// `2026-07-01 12:00:07Z  unlink refused to uid 1000 (rm, pid 4242), 3 times: retained until …`.
fn in_words(refusal: &RefusalView) -> String {
    let times = if refusal.times > 1 {
        format!(", {}", count(refusal.times, "time", "times"))
    } else {
        String::new()
    };
    format!(
        "{}  {} refused to uid {} ({}, pid {}){times}: {}",
        second(refusal.at),
        refusal.operation,
        refusal.uid,
        refusal.program,
        refusal.pid,
        refusal.reason
    )
}
