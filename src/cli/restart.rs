//! `sealctl restart`: a new worker, or a newer program, under the live mount.

use std::time::{Duration, Instant};

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use crate::control::protocol::{Request, StatusView};

/// How long a new worker may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a worker may take to report how it is.
const ANSWER: Duration = Duration::from_secs(10);

/// Replace the daemon's worker under the live mount: open files stay open
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
pub fn run(_: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    let before = status(&target)?;
    match access::connect(&target.store).and_then(|mut client| client.ask(&Request::Restart, None)) {
        // A worker that ends before it has replied is followed by another one, as was asked for.
        Err(error) if !access::is_cut_off(&error) => {
            return Err(Failure::from(error).with_path(&target.shown));
        }
        _ => {}
    }
    let asked = Instant::now();
    loop {
        // There is a moment in which nobody listens.
        match status(&target) {
            Ok(view) if view.pid != before.pid => {
                let took = asked.elapsed().as_millis();
                if cx.json {
                    cx.value(&view)?;
                } else {
                    cx.line(&format!(
                        "process {} serves now, version {}, after {took} ms",
                        view.pid, view.version
                    ))?;
                }
                return Ok(Exit::Done);
            }
            _ if asked.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            Ok(_) => {
                let what =
                    "the old process still serves; see 'journalctl', or the log beside the control socket";
                return Err(Failure::about(&target.shown, Exit::Failed, what.to_owned()));
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn status(target: &Target) -> Result<StatusView, Failure> {
    // A worker that is stuck must not keep this command beyond its patience.
    let items = access::ask_status(&target.store, Some(ANSWER))
        .map_err(|error| Failure::from(error).with_path(&target.shown))?;
    let item = items.into_iter().next().unwrap_or_default();
    access::parse(item).map_err(|error| Failure::from(error).with_path(&target.shown))
}
