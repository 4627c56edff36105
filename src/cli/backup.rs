//! `sealctl backup DEST`, `sealctl restore SRC STORE`: metadata out and in.

use std::path::PathBuf;

use serde_json::json;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::count;
use crate::ledger::log_keys;
use crate::recovery::{self, BackupError, Restored};

/// Copy index, log, public keys and policy to DEST, also from a running daemon (no artifacts, no private keys)
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// A free name, or an empty folder
    #[arg(value_hint = clap::ValueHint::DirPath)]
    dest: PathBuf,
}

/// Bring a backup's metadata back into a store that has lost them
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// What 'sealctl backup' made
    #[arg(value_hint = clap::ValueHint::DirPath)]
    source: PathBuf,
    /// A free name, or a store with only its 'tree' (and 'keys')
    #[arg(value_name = "STORE", value_hint = clap::ValueHint::DirPath)]
    into: PathBuf,
}

fn failure(error: &BackupError) -> Failure {
    let exit = match error {
        BackupError::Broken(_) | BackupError::Ledger(crate::ledger::LedgerError::Rollback(_)) => {
            Exit::Verification
        }
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// Makes a backup.
pub fn backup(args: &BackupArgs, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    if !access::is_ours(&target.store)? {
        return Err(Failure::about(
            &target.shown,
            Exit::Refused,
            "only the store's owner copies it; run as that user",
        ));
    }
    let reading = Reading::open(&target.store)?;
    let keys = log_keys(&reading.layout.keys());
    let done = recovery::backup(&reading.layout, &reading.index, &reading.origin, &keys, &args.dest)
        .map_err(|error| failure(&error))?;
    tell("backed up", &done, cx)?;
    if !cx.json {
        cx.line("not in it: the artifacts ('tree') and the private keys; keep those elsewhere too")?;
    }
    Ok(Exit::Done)
}

/// Brings one back.
pub fn restore(args: &RestoreArgs, cx: &mut Context) -> Result<Exit, Failure> {
    let done = recovery::restore(&args.source, &args.into).map_err(|error| failure(&error))?;
    tell("restored", &done, cx)?;
    if !cx.json && !args.into.join("keys/seal").exists() {
        cx.line(
            "private keys are in no backup: put 'seal' and 'log' back into its 'keys', or give new ones with --seal-key \
             and --log-key",
        )?;
    }
    for path in &done.missing {
        cx.complain(&Failure::about(path, Exit::Failed, "is not in the tree; bring the artifact back too"));
    }
    Ok(if done.missing.is_empty() { Exit::Done } else { Exit::Verification })
}

fn tell(what: &str, done: &Restored, cx: &mut Context) -> Result<(), Failure> {
    if cx.json {
        return cx.value(
            &json!({ "entries": done.entries, "checkpoint": done.exported, "missing": done.missing }),
        );
    }
    let entries = count(done.entries, "entry", "entries");
    cx.line(&format!("{entries} {what}, checkpoint over {}", done.exported))
}
