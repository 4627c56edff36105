//! `sealctl status`: the daemon and its store.

use serde_json::json;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::{fields, minute, second, size};
use crate::clock::{SystemTime, TimeSource};
use crate::control::client::ClientError;
use crate::control::protocol::StatusView;
use crate::model::Span;

/// Tell how daemon and store are: counts, queue, clock, warnings
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
pub fn run(_: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    match access::ask_status(&target.store, None) {
        Ok(items) => {
            let item = items.into_iter().next();
            let item = item.ok_or_else(|| ClientError::Protocol("nothing came".to_owned()))?;
            if cx.json {
                cx.value(&item)?;
            } else {
                let view: StatusView = access::parse(item)?;
                running(&view, cx)?;
            }
        }
        Err(ClientError::NoDaemon(_)) => stopped(&target.store, "not running", cx)?,
        Err(ClientError::NoWorker { store, holder }) => {
            stopped(&store, &format!("does not respond: {holder}"), cx)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

fn running(view: &StatusView, cx: &mut Context) -> Result<(), Failure> {
    let up = Span::of(std::time::Duration::from_secs(view.uptime_seconds));
    let unsealed = &view.unsealed;
    let mut clock = format!("{} (wall clock {})", second(view.time), second(view.wall));
    if view.clock_doubted_seconds > 0 {
        let doubted = Span::of(std::time::Duration::from_secs(view.clock_doubted_seconds));
        clock += &format!(", {doubted} of absence not believed");
    }
    let mut mount = view.mountpoint.clone();
    for (flag, word) in [(view.read_only, "read-only"), (view.passthrough, "passthrough")] {
        if flag {
            mount += &format!(", {word}");
        }
    }
    cx.text(&fields(
        "",
        &[
            ("daemon", format!("running, pid {}, version {}, for {up}", view.pid, view.version)),
            ("store", view.store.clone()),
            ("origin", view.origin.clone()),
            ("mount", mount),
            ("sealed", counts(view.sealed, view.expired, view.held, view.bytes)),
            (
                "unsealed",
                format!("{} open, {} settling, {} torn", unsealed.open, unsealed.settling, unsealed.torn),
            ),
            ("queue", unsealed.queue.to_string()),
            ("scratch", format!("{} older than an hour", unsealed.old_scratch)),
            ("log", format!("{} entries, checkpoint over {}", view.log_entries, view.checkpoint)),
            ("time", clock),
            ("key", view.key.clone()),
            ("policy", view.policy.clone()),
        ],
    ))?;
    for fallback in &view.fallbacks {
        cx.line(&format!("note: {fallback}"))?;
    }
    for (path, reason) in &unsealed.failing {
        let line = cx.paint.bad(&format!("failing: {path}: {reason}"));
        cx.line(&line)?;
    }
    for warning in &view.warnings {
        let line = cx.paint.warn(&format!("warning: {warning}"));
        cx.line(&line)?;
    }
    Ok(())
}

fn counts(sealed: u64, expired: u64, held: u64, bytes: u64) -> String {
    format!("{sealed} retained, {expired} expired, {held} held; {}", size(bytes))
}

/// Without a daemon that responds its owner still sees what the index says.
fn stopped(store: &std::path::Path, daemon: &str, cx: &mut Context) -> Result<(), Failure> {
    let shown = store.display().to_string();
    if !access::is_ours(store)? {
        if cx.json {
            return cx.value(&json!({ "daemon": daemon, "store": shown }));
        }
        return cx.text(&fields("", &[("daemon", daemon.to_owned()), ("store", shown)]));
    }
    let reading = Reading::open(store)?;
    let summary = reading.index.summary(reading.now)?;
    let pending = reading.index.pending()?;
    let torn = pending.iter().filter(|pending| pending.torn).count();
    let doubted = reading.index.anchor()?.map_or(std::time::Duration::ZERO, |anchor| anchor.doubted);
    if cx.json {
        return cx.value(&json!({
            "daemon": daemon,
            "store": shown,
            "origin": reading.origin,
            "sealed": summary.sealed,
            "expired": summary.expired,
            "held": summary.held,
            "bytes": summary.bytes,
            "log_entries": summary.entries,
            "checkpoint": reading.index.log().covered(),
            "pending": pending.len(),
            "torn": torn,
            "time": reading.now,
            "wall": SystemTime.wall(),
            "clock_doubted_seconds": doubted.as_secs(),
        }));
    }
    cx.text(&fields(
        "",
        &[
            ("daemon", daemon.to_owned()),
            ("store", shown),
            ("origin", reading.origin.clone()),
            ("sealed", counts(summary.sealed, summary.expired, summary.held, summary.bytes)),
            ("pending", format!("{} closed and not yet sealed, {torn} of them torn", pending.len())),
            (
                "log",
                format!("{} entries, checkpoint over {}", summary.entries, reading.index.log().covered()),
            ),
            ("time", format!("{} (wall clock {})", second(reading.now), minute(SystemTime.wall()))),
        ],
    ))
}
