//! `sealctl clock show|accept`: sealfs time beside the wall clock.

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render;
use crate::clock::{SystemTime, TimeSource};
use crate::control::protocol::{ClockView, Request};

/// Sealfs time, which decides about retention, beside the wall clock
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show both, and what is believed and doubted of the time in which the host was off
    Show,
    /// Accept what is doubted: sealfs time leaps forward by it (role governance, logged)
    Accept,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    let view = match args.command {
        Command::Show => {
            if !access::is_ours(&target.store)? {
                return Err(Failure::about(
                    &target.shown,
                    Exit::Refused,
                    "only the store's owner sees its clock; 'sealctl status' shows the time",
                ));
            }
            let reading = Reading::open(&target.store)?;
            let anchor = reading.index.anchor()?;
            let seconds = |pick: fn(&crate::clock::Anchor) -> std::time::Duration| {
                anchor.as_ref().map_or(0, |anchor| pick(anchor).as_secs())
            };
            ClockView {
                time: reading.now,
                wall: SystemTime.wall(),
                believed_seconds: seconds(|anchor| anchor.believed),
                doubted_seconds: seconds(|anchor| anchor.doubted),
                accepted_seconds: 0,
            }
        }
        Command::Accept => {
            let items = access::connect(&target.store)?.ask(&Request::ClockAccept, None)?;
            let item = items.into_iter().next();
            access::parse(item.ok_or_else(|| Failure::new(Exit::Failed, "the daemon said nothing"))?)?
        }
    };
    if cx.json {
        cx.value(&view)?;
        return Ok(Exit::Done);
    }
    let mut lines = vec![
        ("sealfs", render::second(view.time)),
        ("wall", render::second(view.wall)),
        ("believed", format!("{} s of absence since the last acceptance", view.believed_seconds)),
        ("doubted", format!("{} s", view.doubted_seconds)),
    ];
    if matches!(args.command, Command::Accept) {
        lines.push(("accepted", format!("{} s", view.accepted_seconds)));
    }
    cx.text(&render::fields("", &lines))?;
    Ok(Exit::Done)
}
