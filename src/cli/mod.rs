//! `sealctl`: arguments, rendering, exit codes. One file a command.
//!
//! Layer 4. What only reads works without a daemon, for the store's owner, straight from index and tree;
//! everybody else, and everything that changes something, asks the daemon through `control::client`, with a
//! descriptor of the file in question.

mod access;
mod attest;
mod backup;
mod below;
mod clock;
mod completions;
mod context;
mod destroy;
mod doctor;
mod doctor_checks;
mod exit;
mod export;
mod export_copy;
mod history;
mod hold;
mod init;
mod key;
mod locate;
mod log;
mod ls;
mod policy;
mod progress;
mod purge;
mod rebuild;
mod render;
mod restart;
mod retain;
mod seal;
mod stat;
mod status;
mod trace;
mod trust;
mod usage;
mod verify;
mod view;
mod wait;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;
use exit::{Exit, Failure};

/// Administers a sealfs store: what is sealed, until when, and whether it is still what it was.
#[derive(Debug, Parser)]
#[command(name = "sealctl", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed, 4 refused by policy or \
    retention, 5 no such file or not sealed, 6 no daemon."
)]
pub struct Cli {
    /// The store; else the one whose mount holds the PATH or the current folder
    #[arg(long, global = true, env = "SEALFS_STORE", value_name = "STORE", value_hint = clap::ValueHint::DirPath)]
    store: Option<PathBuf>,
    /// One JSON document, or one object a line for lists
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Status(status::Args),
    Ls(ls::Args),
    Stat(stat::Args),
    Why(why::Args),
    History(history::Args),
    Seal(seal::Args),
    Wait(wait::Args),
    Retain(retain::Args),
    Hold(hold::Args),
    Purge(purge::Args),
    Export(export::Args),
    Verify(verify::Args),
    Trust(trust::Args),
    Key(key::Args),
    Attest(attest::Args),
    Trace(trace::Args),
    Log(log::Args),
    Clock(clock::Args),
    Rebuild(rebuild::Args),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Policy(policy::Args),
    Doctor(doctor::Args),
    Restart(restart::Args),
    Destroy(destroy::Args),
    Completions(completions::Args),
}

/// The whole program: reads the arguments, does it, and answers the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::end(&error).into(),
    };
    let mut context = Context::new(cli.store, cli.json);
    let place = crate::clock::check_namespace().map_err(|what| Failure::new(Exit::Failed, what));
    let done = place.and_then(|()| dispatch(cli.command, &mut context));
    let flushed = context.flush();
    let exit = match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            context.complain(&failure);
            failure.exit
        }
    };
    exit.into()
}

fn dispatch(command: Command, cx: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(&args, cx),
        Command::Status(args) => status::run(&args, cx),
        Command::Ls(args) => ls::run(&args, cx),
        Command::Stat(args) => stat::run(&args, cx),
        Command::Why(args) => why::run(&args, cx),
        Command::History(args) => history::run(&args, cx),
        Command::Seal(args) => seal::run(&args, cx),
        Command::Wait(args) => wait::run(&args, cx),
        Command::Retain(args) => retain::run(&args, cx),
        Command::Hold(args) => hold::run(&args, cx),
        Command::Purge(args) => purge::run(&args, cx),
        Command::Export(args) => export::run(&args, cx),
        Command::Verify(args) => verify::run(&args, cx),
        Command::Trust(args) => trust::run(&args, cx),
        Command::Key(args) => key::run(&args, cx),
        Command::Attest(args) => attest::run(&args, cx),
        Command::Trace(args) => trace::run(&args, cx),
        Command::Log(args) => log::run(&args, cx),
        Command::Clock(args) => clock::run(&args, cx),
        Command::Rebuild(args) => rebuild::run(&args, cx),
        Command::Backup(args) => backup::backup(&args, cx),
        Command::Restore(args) => backup::restore(&args, cx),
        Command::Policy(args) => policy::run(&args, cx),
        Command::Doctor(args) => doctor::run(&args, cx),
        Command::Restart(args) => restart::run(&args, cx),
        Command::Destroy(args) => destroy::run(&args, cx),
        Command::Completions(args) => completions::run(&args, cx),
    }
}
