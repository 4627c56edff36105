//! `sealctl ls [PATH]`: what is sealed, and until when.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::render::Table;
use super::view;
use crate::control::protocol::{FileView, Request};
use crate::ledger::Filter;
use crate::model::{Span, State, Timestamp};

/// List sealed files with their retention
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file or folder; without it the whole store
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
    /// Only files in this state
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Option<State>,
    /// Only files whose retention ends within this time, such as 7d
    #[arg(long, value_name = "WITHIN")]
    expiring: Option<Span>,
}

/// A state's word.
pub fn parse_state(text: &str) -> Result<State, String> {
    let words = || State::ALL.map(State::as_str).join(", ");
    State::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("expected one of {}", words()))
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.target_or_here(args.path.as_deref())?;
    let ours = access::is_ours(&target.store)?;
    let reading = if ours { Some(Reading::open(&target.store)?) } else { None };
    let mut list = List {
        now: reading.as_ref().map_or_else(access::wall, |reading| reading.now),
        table: Table::new(
            ["PATH", "SIZE", "STATE", "RETAINED-UNTIL", "MODE", "HOLDS"],
            [false, true, false, false, false, false],
            cx.paint,
            cx.width,
        ),
        shown: 0,
        cx,
    };
    let frozen = args.state.is_none_or(State::is_frozen);
    match &reading {
        Some(reading) if frozen => list.index(reading, &target, args)?,
        Some(_) => list.daemon(&target, args.state, args)?,
        None => list.daemon(&target, args.state, args)?,
    }
    if reading.is_some() && args.state.is_none() && args.expiring.is_none() {
        list.unsealed(&target, args)?;
    }
    let (shown, rest) = (list.shown, list.table.finish());
    cx.text(&rest)?;
    if shown == 0 && !target.path.is_root() {
        return nothing(&target, reading.as_ref());
    }
    Ok(Exit::Done)
}

/// An empty list is an answer, but not for what is not there.
fn nothing(target: &Target, reading: Option<&Reading>) -> Result<Exit, Failure> {
    let there = match (reading, &target.full) {
        (Some(reading), _) => reading.tree()?.stat_path(&target.path).is_ok(),
        (None, Some(full)) => full.symlink_metadata().is_ok(),
        (None, None) => true,
    };
    if there { Ok(Exit::Done) } else { Err(access::no_such_file(&target.shown)) }
}

struct List<'a> {
    cx: &'a mut Context,
    now: Timestamp,
    table: Table<6>,
    shown: u64,
}

impl List<'_> {
    fn add(&mut self, view: &FileView) -> Result<(), Failure> {
        self.shown += 1;
        if self.cx.json {
            return self.cx.value(view);
        }
        let text = self.table.row(view::row(view, self.now));
        self.cx.text(&text)
    }

    fn index(&mut self, reading: &Reading, target: &Target, args: &Args) -> Result<(), Failure> {
        let filter = Filter {
            expired: args.state.map(|state| state == State::Expired),
            ending_before: args.expiring.map(|within| reading.now.plus(within)),
            now: Some(reading.now),
        };
        let mut done = Ok(());
        // Which rule a name falls under today is for `stat`: a list is about what stands.
        reading.index.below(&target.path, filter, &mut |record| {
            done = self.add(&view::of_record(&record, reading.now, None));
            done.is_ok()
        })?;
        done
    }

    fn daemon(&mut self, target: &Target, state: Option<State>, args: &Args) -> Result<(), Failure> {
        let about = |failure: Failure| failure.with_path(&target.shown);
        let mut client = access::connect(&target.store).map_err(Failure::from).map_err(about)?;
        let fd = access::descriptor(target)?;
        let request =
            Request::Ls { state, expiring_within: args.expiring.map(|within| within.longest().as_secs()) };
        let mut output = Ok(());
        let done = client.ask_each(&request, Some(fd.as_fd()), &mut |item| {
            let view = access::parse(item)?;
            output = self.add(&view);
            output.clone()
        });
        // What went wrong with our own output is not about the path.
        output.and_then(|()| done.map_err(about))
    }

    /// What the index does not have follows if the daemon can be asked; without it, that is left out.
    fn unsealed(&mut self, target: &Target, args: &Args) -> Result<(), Failure> {
        if access::connect(&target.store).is_err() || access::descriptor(target).is_err() {
            return Ok(());
        }
        for state in [State::Open, State::Settling, State::Torn] {
            self.daemon(target, Some(state), args)?;
        }
        Ok(())
    }
}
