//! `sealctl completions SHELL`.

use clap::CommandFactory;

use super::Cli;
use super::context::Context;
use super::exit::{Exit, Failure};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealctl", &mut script);
    cx.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
