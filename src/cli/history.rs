//! `sealctl history PATH`: what the log says about a file, in words.

use std::path::PathBuf;

use serde_json::Value;

use super::access::{self, Reading};
use super::below;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::render;
use crate::control::protocol::Request;
use crate::model::Timestamp;

/// Tell what the log says about a file: seals, extensions, holds, ends
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, one that is gone too; or a folder: all files in it
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.target(&args.path)?;
    let (files, unread) = below::of(cx, &target).unwrap_or_default();
    if files.first().is_none_or(|file| file.target == target) {
        return one(&target, cx);
    }
    // What was never sealed has no history.
    below::show_each(cx, files, unread, |cx, file| one(file, cx))
}

/// What the log says about one file.
fn one(target: &Target, cx: &mut Context) -> Result<Exit, Failure> {
    let entries: Vec<Value> = if access::is_ours(&target.store)? {
        let rows = Reading::open(&target.store)?.index.history(&target.path)?;
        rows.into_iter()
            .map(|row| serde_json::from_str(&row.body).unwrap_or(Value::String(row.body)))
            .collect()
    } else {
        access::ask(target, &Request::History)?
    };
    if entries.is_empty() {
        return Err(Failure::about(
            &target.shown,
            Exit::NoFile,
            "the log has nothing about it; only what was sealed has a history",
        ));
    }
    for entry in &entries {
        if cx.json {
            cx.value(entry)?;
        } else {
            cx.line(&in_words(entry))?;
        }
    }
    Ok(Exit::Done)
}

/// `   17  2026-07-01 12:00:07Z  sealed: …`.
pub fn in_words(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("?");
    let time = |name: &str, show: fn(Timestamp) -> String| {
        text(name).parse::<Timestamp>().map_or_else(|_| text(name).to_owned(), show)
    };
    let by = match &entry["by"]["uid"] {
        Value::Null => String::new(),
        uid => format!(" by uid {uid}"),
    };
    let until = || time("retainUntil", render::second);
    let what = match text("type") {
        "sealed" => {
            let size = render::size(entry["size"].as_u64().unwrap_or(0));
            let kind = if text("kind") == "symlink" { " as a symbolic link" } else { "" };
            let torn = if entry["torn"] == true { ", kept although torn" } else { "" };
            format!(
                "sealed{kind}: {size}, sha256 {}, retained until {} ({}), namespace {}{torn}",
                text("sha256"),
                until(),
                text("mode"),
                text("namespace")
            )
        }
        "extended" => format!("retention extended to {}{by}", until()),
        "shortened" => format!("retention shortened to {}{by}: {}", until(), text("reason")),
        "held" => format!("hold {} placed{by}", text("hold")),
        "released" => format!("hold {} removed{by}", text("hold")),
        "ended" => {
            let how = match entry["how"].as_str().unwrap_or("renamed") {
                "removed" => "unlinked".to_owned(),
                "replaced" => "replaced by another file".to_owned(),
                "rewritten" => "written anew".to_owned(),
                "renamed" => format!("renamed to {}", entry["how"]["renamed"].as_str().unwrap_or("?")),
                "purged" => "purged".to_owned(),
                "swept" => "swept after expiry, as the policy says".to_owned(),
                other => other.to_owned(),
            };
            format!("seal {} ended: {how}{by}", entry["seal"])
        }
        "symlink" => match entry["target"].as_str() {
            Some(target) => format!("symbolic link to {target} made{by}"),
            None => format!("symbolic link removed{by}"),
        },
        "attested" => format!("attestation added{by}: {}", text("predicate")),
        "store" => format!("store {} made", text("origin")),
        "policy" => format!("policy in force: sha256 {}", text("sha256")),
        "key-made" => format!("{} key adopted: {}", text("role"), text("key")),
        "key-rotated" => format!(
            "{} key rotated{by}: {} takes the place of {}",
            text("role"),
            text("key"),
            text("previous")
        ),
        "key-retired" => format!(
            "{} key {} retired{by}: compromised since {}",
            text("role"),
            text("key"),
            text("compromisedSince")
        ),
        "clock-gap" => format!(
            "the host was off for {} s: {} s believed, {} s doubted",
            entry["wallSeconds"], entry["believedSeconds"], entry["doubtedSeconds"]
        ),
        "clock-accepted" => format!("{} s accepted{by}", entry["seconds"]),
        "index-differs" => format!("index.db found edited: {}", text("found")),
        "altered" => format!("backing file found altered: {}", text("found")),
        _ => entry.to_string(),
    };
    let line =
        format!("{:>5}  {}  {what}", entry["index"].as_u64().unwrap_or(0), time("time", render::second));
    // Targets of links, reasons and the like are others' words: they write on no terminal but in one line.
    line.replace(char::is_control, "?")
}
