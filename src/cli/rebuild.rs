//! `sealctl rebuild`: a new index from log and tree.

use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::progress;
use super::render::count;
use crate::crypto::SigningKey;
use crate::ledger::{Index, log_keys};
use crate::recovery::{RebuildError, rebuild};
use crate::store::{Layout, LockError, StoreLock};

/// Make the index anew from log and tree; the old one is kept beside it
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Signs the clock's row, which comes from the log, if the log's key is in the store.
fn sign_clock(layout: &Layout) -> Result<(), Failure> {
    let key = SigningKey::read(&layout.log_key()).map_err(|error| Failure::new(Exit::Failed, error))?;
    let index = Index::open(&layout.index())?;
    let origin = index.read().origin()?;
    index.sign_anchors(&origin, Box::new(move |message| key.sign_raw(message)));
    Ok(index.sign_kept_anchor()?)
}

/// Does it.
pub fn run(_args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let store = match &cx.store {
        Some(store) => store.clone(),
        None => cx.here()?.store,
    };
    let layout = Layout::open_damaged(&store)?;
    let shown = layout.root().display().to_string();
    let who = format!("sealctl rebuild (process {})", std::process::id());
    let lock = StoreLock::take(&layout, &who).map_err(|error| match error {
        LockError::Busy(_) => Failure::about(&shown, Exit::Refused, error),
        LockError::ReadOnly | LockError::Io(_) => Failure::about(&shown, Exit::Failed, error),
    })?;
    let keys = log_keys(&layout.keys());
    let done =
        progress::counted("rebuilding the index", 0, |seen| rebuild(&layout, &lock, None, &keys, seen));
    let done = done.map_err(|error| {
        let exit = match &error {
            RebuildError::Io(..) => Exit::Failed,
            _ => Exit::Verification,
        };
        Failure::about(&shown, exit, error)
    })?;
    if let Err(error) = sign_clock(&layout) {
        cx.complain(&Failure::about(
            &shown,
            Exit::Failed,
            format_args!("the clock's row is not signed: {error}; what passed since the last entry of the log counts once \
             it is accepted ('sealctl clock accept')"),
        ));
    }
    for path in &done.missing {
        cx.complain(&Failure::about(
            path,
            Exit::Failed,
            "is not in the tree as it was sealed; 'sealctl verify' tells more",
        ));
    }
    if cx.json {
        cx.value(&json!({
            "entries": done.entries, "salvaged": done.salvaged, "seals": done.seals, "missing": done.missing,
            "without_writers": done.without_writers, "old_index": done.kept,
        }))?;
    } else {
        let (entries, seals) =
            (count(done.entries, "entry", "entries"), count(done.seals, "seal stands", "seals stand"));
        let line = cx.paint.good(&format!("index made anew from {entries}; {seals}"));
        cx.line(&line)?;
        if done.salvaged > 0 {
            let salvaged = count(done.salvaged, "of these was", "of these were");
            cx.line(&format!("{salvaged} not exported yet, and taken from the old index"))?;
        }
        if done.without_writers > 0 {
            let lost = count(done.without_writers, "seal", "seals");
            cx.line(&format!("who wrote it is lost for {lost}: log/attachments.jsonl is cut short"))?;
        }
        if let Some(kept) = &done.kept {
            cx.line(&format!("the old index is {}", kept.display()))?;
        }
        cx.line("refusals, and what was closed and not sealed yet, are in no log and start anew")?;
    }
    Ok(if done.missing.is_empty() { Exit::Done } else { Exit::Verification })
}
