//! `sealctl log show|check|prove`: the log itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::history::in_words;
use super::locate::Target;
use super::progress;
use crate::crypto::note;
use crate::crypto::to_base64;
use crate::ledger::EntryRow;
use crate::ledger::log::{Checkpoint, InclusionProof, inclusion_proof};
use crate::ledger::log_keys;
use crate::verify::{Finding, LogView};

/// The log: its entries, whether it holds together, proofs for others
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tell entries in words; or print the signed checkpoint, to be kept elsewhere
    Show {
        /// The signed checkpoint (C2SP tlog-checkpoint), as it is
        #[arg(long, conflicts_with_all = ["from", "to"])]
        checkpoint: bool,
        /// The first entry
        #[arg(long, default_value_t = 0, value_name = "INDEX")]
        from: u64,
        /// The entry to end before
        #[arg(long, value_name = "INDEX")]
        to: Option<u64>,
    },
    /// Read every entry and every tile, and compute the root anew
    Check {
        /// A checkpoint of this log that was kept elsewhere: nothing that it covers may have changed
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        against: Option<PathBuf>,
    },
    /// Print a proof (C2SP tlog-proof) that the seal of PATH stands in the log
    Prove {
        /// A sealed file
        #[arg(required_unless_present_any = ["index", "since"], value_hint = clap::ValueHint::AnyPath)]
        path: Option<PathBuf>,
        /// Of this entry instead
        #[arg(long, value_name = "INDEX", conflicts_with = "path")]
        index: Option<u64>,
        /// Of the growth since this checkpoint instead (RFC 9162, section 2.1.4)
        #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "index"], value_hint = clap::ValueHint::FilePath)]
        since: Option<PathBuf>,
    },
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = match &args.command {
        Command::Prove { path: Some(path), .. } => cx.target(path)?,
        _ => cx.here()?,
    };
    if let Command::Show { checkpoint: true, .. } = &args.command {
        return show_checkpoint(&target, cx);
    }
    if !access::is_ours(&target.store)? {
        return Err(Failure::about(
            &target.shown,
            Exit::Refused,
            "only the store's owner reads its log whole; run as that user, or read '/.seal/log' in its mount",
        ));
    }
    let reading = Reading::open(&target.store)?;
    match &args.command {
        Command::Show { from, to, .. } => show(&reading, *from, *to, cx),
        Command::Check { against } => check(&target, &reading, against.as_deref(), cx),
        Command::Prove { since: Some(file), .. } => prove_growth(&target, &reading, file, cx),
        Command::Prove { index, .. } => {
            let index = match index {
                Some(index) => *index,
                None => {
                    let found = reading.index.find(&target.path)?;
                    found.ok_or_else(|| not_sealed(&target))?.log_index
                }
            };
            prove(&target, &reading, index, cx)
        }
    }
}

fn not_sealed(target: &Target) -> Failure {
    Failure::about(&target.shown, Exit::NoFile, "not sealed; 'sealctl wait' waits until it is")
}

/// Also for those who only see the mount.
fn show_checkpoint(target: &Target, cx: &mut Context) -> Result<Exit, Failure> {
    let file = if access::is_ours(&target.store)? {
        target.store.join("log/checkpoint")
    } else if let Some(full) = &target.full {
        full.join(".seal/checkpoint")
    } else {
        return Err(Failure::about(
            &target.shown,
            Exit::Refused,
            "only its owner may read it where it is not mounted",
        ));
    };
    let text = fs::read_to_string(&file).map_err(|error| {
        Failure::about(file.display(), Exit::Failed, format_args!("{error}; is the daemon running?"))
    })?;
    if cx.json {
        cx.value(&json!({ "checkpoint": text }))?;
    } else {
        cx.text(&text)?;
    }
    Ok(Exit::Done)
}

fn show(reading: &Reading, from: u64, to: Option<u64>, cx: &mut Context) -> Result<Exit, Failure> {
    let end = reading.index.entries()?.min(to.unwrap_or(u64::MAX));
    for index in from..end {
        let row = reading.index.entry(index)?;
        let row = row.ok_or_else(|| Failure::new(Exit::Failed, format_args!("entry {index} is missing")))?;
        let entry: Value = serde_json::from_str(&row.body).unwrap_or(Value::String(row.body));
        if cx.json {
            cx.value(&entry)?;
        } else {
            let about = entry["path"].as_str().map_or_else(String::new, |path| format!("  {path}"));
            cx.line(&format!("{}{about}", in_words(&entry)))?;
        }
    }
    Ok(Exit::Done)
}

fn view<'a>(target: &Target, reading: &'a Reading) -> Result<LogView<'a>, Failure> {
    let keys = log_keys(&reading.layout.keys());
    LogView::open(&reading.index, &reading.origin, &keys).map_err(|finding| wrong(target, &finding))
}

fn wrong(target: &Target, finding: &Finding) -> Failure {
    Failure::about(target.store.display(), Exit::Verification, finding)
}

fn check(
    target: &Target,
    reading: &Reading,
    against: Option<&Path>,
    cx: &mut Context,
) -> Result<Exit, Failure> {
    let log = view(target, reading)?;
    let size = log.checkpoint().size;
    progress::counted("checking the log", size, |seen| log.check_whole(seen))
        .map_err(|finding| wrong(target, &finding))?;
    if let Some(file) = against {
        let kept = read_checkpoint(file, reading)?;
        log.check_against(&kept).map_err(|finding| wrong(target, &finding))?;
    }
    if cx.json {
        cx.value(&json!({ "ok": true, "size": size, "root": to_base64(&log.checkpoint().root.0) }))?;
    } else {
        let since = if against.is_some() { ", and it contains all that the other covers" } else { "" };
        let line = cx.paint.good(&format!("{size} entries hold together under the checkpoint{since}"));
        cx.line(&line)?;
    }
    Ok(Exit::Done)
}

/// A checkpoint that was kept elsewhere: signed by any log key that this store ever had.
fn read_checkpoint(file: &Path, reading: &Reading) -> Result<Checkpoint, Failure> {
    let bytes = fs::read(file).map_err(|error| Failure::about(file.display(), Exit::NoFile, error))?;
    let mut keys = log_keys(&reading.layout.keys());
    for row in reading.index.keys()? {
        keys.extend(crate::crypto::PublicKey::from_openssh(&row.public));
    }
    match Checkpoint::open(&bytes, &reading.origin, &keys) {
        Ok((checkpoint, _)) => Ok(checkpoint),
        Err(error) => Err(Failure::about(file.display(), Exit::Verification, error)),
    }
}

fn prove(target: &Target, reading: &Reading, index: u64, cx: &mut Context) -> Result<Exit, Failure> {
    let log = view(target, reading)?;
    let row: EntryRow = reading.index.entry(index)?.ok_or_else(|| {
        Failure::about(&target.shown, Exit::NoFile, format_args!("the log has no entry {index}"))
    })?;
    if !log.covers(index) {
        return Err(Failure::about(
            &target.shown,
            Exit::Failed,
            "its entry is not under a checkpoint yet; a running daemon exports it within a second",
        ));
    }
    log.check_included(&row).map_err(|finding| wrong(target, &finding))?;
    let checkpoint = log.checkpoint();
    let hashes = inclusion_proof(index, checkpoint.size, &reading.index.log().hashes(checkpoint.size))?;
    let note = String::from_utf8_lossy(log.note()).into_owned();
    let proof = InclusionProof { extra: Some(row.body.into_bytes()), index, hashes, checkpoint: note };
    if cx.json {
        cx.value(&json!({ "index": index, "proof": proof.to_text() }))?;
    } else {
        cx.text(&proof.to_text())?;
    }
    Ok(Exit::Done)
}

fn prove_growth(target: &Target, reading: &Reading, file: &Path, cx: &mut Context) -> Result<Exit, Failure> {
    let old = read_checkpoint(file, reading)?;
    let log = view(target, reading)?;
    log.check_against(&old).map_err(|finding| wrong(target, &finding))?;
    let new = log.checkpoint();
    let hashes =
        crate::ledger::log::consistency_proof(old.size, new.size, &reading.index.log().hashes(new.size))?;
    let hashes: Vec<String> = hashes.iter().map(|hash| to_base64(&hash.0)).collect();
    if cx.json {
        cx.value(&json!({ "old": old.size, "new": new.size, "hashes": hashes }))?;
    } else {
        cx.text(&format!("old {}\nnew {}\n", old.size, new.size))?;
        for hash in &hashes {
            cx.line(hash)?;
        }
        cx.text(&format!("\n{}", String::from_utf8_lossy(log.note())))?;
    }
    Ok(Exit::Done)
}

/// The log's verifier key (C2SP signed-note), for `trust --log`.
pub fn verifier_keys(reading: &Reading) -> Vec<String> {
    log_keys(&reading.layout.keys()).iter().map(|key| note::verifier_key(&reading.origin, key)).collect()
}
