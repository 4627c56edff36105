//! `sealctl stat PATH…`: everything about a file.

use std::io;
use std::path::PathBuf;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::view;
use crate::control::client::ClientError;
use crate::control::protocol::{FileView, Request};
use crate::model::Timestamp;

/// Tell everything about files: state, hash, retention, holds, rule
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let mut first = true;
    cx.each(&args.paths, |cx, target| {
        let (view, now) = of(target)?;
        if cx.json {
            cx.value(&view)?;
            return Ok(Exit::Done);
        }
        if !std::mem::take(&mut first) {
            cx.line("")?;
        }
        cx.text(&view::details(&view, now, cx.paint))?;
        Ok(Exit::Done)
    })
}

/// What is known of a target, and the time that is now there: from the index for a sealed file of our own
/// store, else from the daemon; without one, from the tree.
pub fn of(target: &Target) -> Result<(FileView, Timestamp), Failure> {
    if !access::is_ours(&target.store)? {
        return Ok((access::ask_one(target, &Request::Stat)?, access::wall()));
    }
    let reading = Reading::open(&target.store)?;
    let policy = reading.policy().ok();
    if let Some(record) = reading.index.find(&target.path)? {
        return Ok((view::of_record(&record, reading.now, policy.as_ref()), reading.now));
    }
    if target.full.is_some() {
        match access::connect(&target.store) {
            Ok(_) => return Ok((access::ask_one(target, &Request::Stat)?, reading.now)),
            Err(ClientError::NoDaemon(_) | ClientError::NoWorker { .. }) => {}
            Err(error) => return Err(Failure::from(error).with_path(&target.shown)),
        }
    }
    let meta = reading.tree()?.stat_path(&target.path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => access::no_such_file(&target.shown),
        _ => Failure::about(&target.shown, Exit::Failed, error),
    })?;
    let pending = reading.index.pending()?.into_iter().find(|pending| pending.path == target.path);
    let view = view::of_tree(&target.path, &meta, pending.as_ref(), policy.as_ref());
    Ok((view, reading.now))
}
