//! `sealctl seal PATH…`: seals now, and waits for it.

use std::path::PathBuf;

use super::access;
use super::below;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::wait;
use crate::control::protocol::Request;

/// Seal files now, and wait until that is durable
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep files whose writer was killed, too
    #[arg(long)]
    torn: bool,
    /// Files, and folders: all files in them
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

/// Does it: everything is demanded before anything is waited for, so that one batch can hold it all.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let mut demanded = Vec::new();
    let exit = below::each(cx, &args.paths, |_, target| {
        access::ask(target, &Request::Seal { torn: args.torn })?;
        demanded.push(target.clone());
        Ok(Exit::Done)
    })?;
    Ok(exit.or(wait::for_all(&demanded, None, cx)?))
}
