//! `sealctl trust`: what a deploy host pins.

use std::fs;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use crate::model::Origin;
use crate::seal::{Public, trust};

/// Print allowed_signers for ssh-keygen -Y verify: the seal keys and what they may sign
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The keys as PEM, for openssl
    #[arg(long)]
    pem: bool,
    /// The log's key, as a verifier key for checkpoints (C2SP signed-note)
    #[arg(long, conflicts_with = "pem")]
    log: bool,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.here()?;
    let fail = |message: String| Failure::about(&target.shown, Exit::Failed, message);
    if !access::is_ours(&target.store)? {
        // What comes with the mount is no root of trust, but it is what somebody else can see.
        let Some(full) = &target.full else {
            return Err(fail(
                "only its owner may read the keys; run as that user, or where it is mounted".to_owned(),
            ));
        };
        let file = full.join(".seal").join(if args.pem { "keys.pem" } else { "allowed_signers" });
        let text = fs::read_to_string(&file).map_err(|error| fail(format!("{}: {error}", file.display())))?;
        return print(cx, &text, None, args.pem);
    }
    let reading = Reading::open(&target.store)?;
    let keys = Public::read(&reading.index)?.trusted;
    if keys.is_empty() {
        return Err(fail("every seal key was retired; 'sealctl key rotate' makes a new one".to_owned()));
    }
    if args.log {
        for key in super::log::verifier_keys(&reading) {
            cx.line(&key)?;
        }
        return Ok(Exit::Done);
    }
    let text = if args.pem {
        trust::keys_pem(&keys)
    } else {
        let origin: Origin = reading.origin.parse().map_err(|error| fail(format!("its origin: {error}")))?;
        let namespaces = trust::namespaces(&reading.policy()?, &reading.index.namespaces()?);
        trust::allowed_signers(&origin, &namespaces, &keys).map_err(|error| fail(error.to_string()))?
    };
    print(cx, &text, Some(&reading.origin), args.pem)
}

fn print(cx: &mut Context, text: &str, origin: Option<&str>, pem: bool) -> Result<Exit, Failure> {
    if cx.json {
        let name = if pem { "keys_pem" } else { "allowed_signers" };
        cx.value(&serde_json::json!({ "origin": origin, name: text }))?;
    } else {
        cx.text(text)?;
    }
    Ok(Exit::Done)
}
