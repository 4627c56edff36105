//! `sealctl key list|rotate|retire`.

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::render;
use crate::control::protocol::{KeyView, Request};
use crate::ledger::{KeyRole, KeyRow};
use crate::model::Timestamp;

/// The keys that seal and that sign the log
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List every key that the store ever had
    List,
    /// Make a new key, signed for by the old one; old seals stay good
    Rotate {
        /// The log's key instead of the seal key
        #[arg(long)]
        log: bool,
    },
    /// Trust a key no more: its seals hold only by their place in the log before this
    Retire {
        /// SHA256:…, as 'sealctl key list' shows it
        fingerprint: String,
        /// From when on others may have had it, such as 2026-07-01 or 2026-07-01T12:00:00Z
        #[arg(long, value_name = "DATE", value_parser = super::retain::parse_date)]
        compromised_since: Timestamp,
    },
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    match &args.command {
        Command::List => list(&target, cx),
        Command::Rotate { log } => {
            let role = if *log { KeyRole::Log } else { KeyRole::Seal };
            let view = ask(&target, &Request::KeyRotate { role })?;
            tell(&view, "is used from now on; give out 'sealctl trust' anew", cx)
        }
        Command::Retire { fingerprint, compromised_since } => {
            let request = Request::KeyRetire {
                fingerprint: fingerprint.clone(),
                compromised_since: *compromised_since,
            };
            let view = ask(&target, &request)?;
            tell(&view, "is in use; give out 'sealctl trust' anew at once: the retired key is not in it", cx)
        }
    }
}

fn ask(target: &Target, request: &Request) -> Result<KeyView, Failure> {
    let items = access::connect(&target.store)?.ask(request, None)?;
    let item =
        items.into_iter().next().ok_or_else(|| Failure::new(Exit::Failed, "the daemon said nothing"))?;
    Ok(access::parse(item)?)
}

fn tell(view: &KeyView, what: &str, cx: &mut Context) -> Result<Exit, Failure> {
    if cx.json {
        cx.value(view)?;
    } else {
        cx.line(&format!("{} key {} {what}", word(view.role), view.fingerprint))?;
    }
    Ok(Exit::Done)
}

fn word(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Seal => "seal",
        KeyRole::Log => "log",
    }
}

fn list(target: &Target, cx: &mut Context) -> Result<Exit, Failure> {
    if !access::is_ours(&target.store)? {
        return Err(Failure::about(
            &target.shown,
            Exit::Refused,
            "only the store's owner lists its keys; 'sealctl trust' prints those that are trusted",
        ));
    }
    let reading = Reading::open(&target.store)?;
    for row in reading.index.keys()? {
        let state = match (row.retired, row.until) {
            (Some(_), _) => "retired",
            (None, Some(_)) => "rotated",
            (None, None) => "in use",
        };
        if cx.json {
            cx.value(&serde_json::json!({
                "fingerprint": row.fingerprint, "role": row.role, "state": state, "public": row.public,
                "since": row.since, "until": row.until, "retired": row.retired,
                "compromised_since": row.compromised,
            }))?;
        } else {
            cx.line(&format!("{:<4}  {:<7}  {}  {}", word(row.role), state, row.fingerprint, span(&row)))?;
        }
    }
    Ok(Exit::Done)
}

fn span(row: &KeyRow) -> String {
    let until = row.until.map_or_else(|| "on".to_owned(), |until| format!("to {until}"));
    let retired = match (row.retired, row.compromised) {
        (Some(retired), Some(since)) => {
            format!("; retired by entry {retired}, compromised since {}", render::second(since))
        }
        _ => String::new(),
    };
    format!("from entry {} {until}{retired}", row.since)
}
