//! The composition root: arguments, threads, signals, and what is wired to what.
//!
//! Layer 6.

mod about;
mod args;
mod background;
mod comparing;
mod exporting;
mod fallbacks;
mod guard;
mod handshake;
mod housekeeping;
mod keeper;
mod keys;
mod link;
mod memory;
mod mount;
mod mountpoint;
mod privileges;
mod process;
mod recover;
mod serve;
mod session;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

pub use args::Args;

/// What `sealfs` says when it cannot: one line. Exit code 2 for wrong usage, 1 for all else.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// The line.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl StartError {
    fn failed(message: impl Into<String>) -> Self {
        StartError { message: message.into(), code: 1 }
    }

    fn usage(message: impl Into<String>) -> Self {
        StartError { message: message.into(), code: 2 }
    }
}

/// Runs `sealfs`.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            let _ = writeln!(std::io::stderr(), "sealfs: {}", one_line(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    let args = match args.absolute() {
        Ok(args) => args,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sealfs: {error}");
            return ExitCode::from(error.code);
        }
    };
    let done = match args.options() {
        Ok(options) if worker::is_worker() => serve::run_worker(&args, &options),
        Ok(options) if args.foreground && options.takeover => keeper::run(&args, &options),
        Ok(options) if args.foreground => serve::run_alone(&args, &options),
        Ok(_) => background::start(&args),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sealfs: {error}");
            ExitCode::from(error.code)
        }
    }
}

/// The first paragraph of what clap says of wrong arguments, on one line.
fn one_line(text: &str) -> String {
    let text = text.trim_start().trim_start_matches("error:");
    let first: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    format!("{}; 'sealfs --help' tells what goes", first.join(" ").trim()).replace(char::is_control, " ")
}
