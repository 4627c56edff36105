//! `sealctl hold add|remove NAME PATH…`: legal holds.

use std::path::PathBuf;

use super::access;
use super::below;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::view;
use crate::control::protocol::{FileView, Request};

/// Place or remove a legal hold: while any stands, retention does not end
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    change: Change,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Place a hold
    Add(On),
    /// Remove a hold
    Remove(On),
}

#[derive(Debug, clap::Args)]
struct On {
    /// The hold's name, such as case-42
    #[arg(value_parser = parse_name)]
    name: String,
    /// Sealed files, and folders: all files in them
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
}

fn parse_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 letters, digits, '.', '_' and '-'".to_owned())
    }
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let (add, on) = match &args.change {
        Change::Add(on) => (true, on),
        Change::Remove(on) => (false, on),
    };
    below::each(cx, &on.paths, |cx, target| {
        let view: FileView = access::ask_one(target, &Request::Hold { add, name: on.name.clone() })?;
        if cx.json {
            cx.value(&view)?;
        } else {
            cx.line(&format!("{}: {}", target.shown, view::summary(&view, access::wall())))?;
        }
        Ok(Exit::Done)
    })
}
