//! `sealctl purge [PATH]`: removes what has expired.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::{count, size};
use crate::control::protocol::{FileView, Request};

/// Remove files whose retention is over and on which no hold stands
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove a file although it is retained, in mode governance (role governance; with --reason); log and reason stay
    #[arg(long, requires = "reason", requires = "path")]
    bypass_governance: bool,
    /// Why a file is removed although it is retained; kept in the log
    #[arg(long, value_name = "TEXT", requires = "bypass_governance")]
    reason: Option<String>,
    /// A file or folder; without it the whole store
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.target_or_here(args.path.as_deref())?;
    let mut client = access::connect(&target.store)?;
    let fd = args.path.as_ref().map(|_| access::descriptor(&target)).transpose()?;
    let request =
        Request::Purge { dry_run: args.dry_run, bypass: args.bypass_governance, reason: args.reason.clone() };
    let (mut files, mut bytes) = (0, 0);
    let mut output = Ok(());
    let done = client.ask_each(&request, fd.as_ref().map(AsFd::as_fd), &mut |item| {
        let view: FileView = access::parse(item)?;
        files += 1;
        bytes += view.size;
        output = if cx.json { cx.value(&view) } else { cx.line(&view.path) };
        output.clone()
    });
    output?;
    done.map_err(|failure: Failure| match &args.path {
        Some(_) => failure.with_path(&target.shown),
        None => failure,
    })?;
    if !cx.json {
        let verb = if args.dry_run { "would be removed" } else { "removed" };
        cx.line(&format!("{} {verb}, {}", count(files, "file", "files"), size(bytes)))?;
    }
    Ok(Exit::Done)
}
