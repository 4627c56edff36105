//! `sealctl verify`: is it still what was sealed?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde_json::json;

use super::access::{self, Reading};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::locate::Target;
use super::progress::{self, Position};
use super::render::{count, size};
use crate::crypto::signers::{Signer, parse_allowed_signers};
use crate::ledger::log_keys;
use crate::model::RelPath;
use crate::store::EntryKind;
use crate::verify::{
    Checked, Copied, Finding, OfflineError, Progress, Requirement, Together, Unsealed, Verifier, check_index,
    copies_below, verify_copy,
};

/// Check content, signatures, statements and log of files, folders or the whole store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders; of a folder everything must be sealed
    #[arg(required_unless_present = "all", value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// The whole store
    #[arg(long, conflicts_with_all = ["paths", "offline"])]
    all: bool,
    /// Check copies by the sidecars beside them alone, without a store
    #[arg(long, requires = "trust")]
    offline: bool,
    /// allowed_signers to trust with --offline: what 'sealctl trust' printed
    #[arg(long, value_name = "FILE", requires = "offline", value_hint = clap::ValueHint::FilePath)]
    trust: Option<PathBuf>,
    /// What must be so beyond that: commit=, repository=, builder= (observed, or an id), uid=, path= (a glob),
    /// sealed-after= (a date); may be given several times. Commit and repository are what the writer claimed
    #[arg(long, value_name = "KEY=VALUE")]
    require: Vec<Requirement>,
}

/// How long the daemon may take to log a change of a free symbolic link.
const LINKS_LOGGED: std::time::Duration = std::time::Duration::from_millis(1500);

/// What came out so far.
#[derive(Default)]
struct Tally {
    good: u64,
    bad: u64,
    unsealed: u64,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    if let Some(trust) = args.trust.as_ref().filter(|_| args.offline) {
        return offline(args, trust, cx);
    }
    let mut tally = Tally::default();
    let seen = Progress::default();
    let exit = if args.all {
        let target = cx.here()?;
        let exit = below(&target, args, &mut tally, &seen, cx)?;
        if !cx.json && tally.unsealed > 0 {
            cx.line(&format!("{} not sealed (yet)", count(tally.unsealed, "file is", "files are")))?;
        }
        exit
    } else {
        cx.each(&args.paths, |cx, target| below(target, args, &mut tally, &seen, cx))?
    };
    summary(&tally, seen.bytes.load(Ordering::Relaxed), cx)?;
    // That something is wrong weighs more than that something is not there.
    Ok(if tally.bad > 0 { Exit::Verification } else { exit })
}

fn summary(tally: &Tally, bytes: u64, cx: &mut Context) -> Result<(), Failure> {
    if cx.json || tally.good + tally.bad == 0 {
        return Ok(());
    }
    let line = outcome(tally, cx);
    cx.line(&format!("{line}, {} read", size(bytes)))
}

/// How many failed and how many are good, the failures first: `9 FAILED, 42 verified`.
fn outcome(tally: &Tally, cx: &Context) -> String {
    if tally.bad == 0 {
        return cx.paint.good(&format!("{} verified", count(tally.good, "file", "files")));
    }
    let bad = cx.paint.bad(&format!("{} FAILED", tally.bad));
    format!("{bad}, {} verified", tally.good)
}

fn below(
    target: &Target,
    args: &Args,
    tally: &mut Tally,
    seen: &Progress,
    cx: &mut Context,
) -> Result<Exit, Failure> {
    let all = args.all;
    if !access::is_ours(&target.store)? {
        return Err(Failure::about(
            &target.shown,
            Exit::Refused,
            "only the store's owner can check against its log; run as that user, or export it and check the copy \
             with --offline --trust FILE",
        ));
    }
    let reading = Reading::open(&target.store)?;
    let keys = log_keys(&reading.layout.keys());
    let mut verifier = Verifier::new(&reading.layout, &reading.index, reading.origin.clone(), &keys)
        .map_err(|finding| Failure::about(&target.shown, Exit::Verification, finding))?;
    let folder =
        target.path.is_root() || verifier.kind_of(&target.path).is_ok_and(|kind| kind == EntryKind::Dir);
    if !folder && reading.index.find(&target.path)?.is_none() {
        // Its folder may be gone with it: then what was sealed below is missing, which is a finding.
        let there = verifier.kind_of(&target.path).is_ok();
        let sealed_below = !there && has_below(&reading, &target.path)?;
        if there {
            return Err(Failure::about(
                &target.shown,
                Exit::NoFile,
                "not sealed; 'sealctl why' tells what it waits for",
            ));
        }
        if !sealed_below {
            return Err(access::no_such_file(&target.shown));
        }
    }
    let total =
        if all { reading.index.summary(reading.now).ok().map(|all| all.sealed + all.expired) } else { None };
    if all {
        let size = verifier.log().checkpoint().size;
        let checked = progress::counted("checking the log", size, |seen| verifier.check_log(seen));
        if let Err(finding) = checked {
            bad(&target.store.join("log").display().to_string(), &finding, tally, cx)?;
        }
    }
    let mut output = Ok(());
    let position = || {
        let (done, bytes) = (seen.files.load(Ordering::Relaxed), seen.bytes.load(Ordering::Relaxed));
        let words = format!("verifying: {}", progress::amount(done, total, bytes));
        Position { done, of: total, words }
    };
    progress::during(position, || {
        verifier.verify_below(&target.path, seen, &mut |mut checked| {
            require(&mut checked, &verifier, &args.require);
            output = tell(&checked, tally, cx);
            output.is_ok()
        })
    })?;
    output?;
    if all {
        agrees(target, &reading, &verifier, tally, cx)?;
    }
    let mut extra = Vec::new();
    if folder {
        verifier.unsealed_below(&target.path, &mut |path, what| extra.push((path, what)))?;
    }
    // Of a folder that is named; a free link that was removed somewhere in a store is no fault of the store.
    if folder && !all {
        let mut links = Vec::new();
        verifier.links_below(&target.path, &mut |path, finding| links.push((path, finding)))?;
        if !links.is_empty() {
            // The daemon logs changes of links once a second: what was changed a moment ago is looked at again.
            std::thread::sleep(LINKS_LOGGED);
            links.clear();
            verifier.links_below(&target.path, &mut |path, finding| links.push((path, finding)))?;
        }
        for (path, finding) in links {
            bad(path.as_str(), &finding, tally, cx)?;
        }
    }
    for (path, what) in extra {
        let plain = match what {
            Unsealed::Content => None,
            Unsealed::Empty => Some("an empty file, which is not sealed"),
            Unsealed::Link => Some("a symbolic link that is not sealed"),
        };
        if let Some(plain) = plain {
            if cx.json {
                cx.value(
                    &json!({ "path": path.as_str(), "ok": null, "code": "not-sealed", "message": plain }),
                )?;
            } else if !all {
                cx.line(&format!("{path}: {plain}"))?;
            }
        } else if all {
            tally.unsealed += 1;
            if cx.json {
                cx.value(&json!({ "path": path.as_str(), "ok": null, "code": "not-sealed" }))?;
            }
        } else {
            bad(path.as_str(), &Finding::NotSealed, tally, cx)?;
        }
    }
    Ok(Exit::Done)
}

/// The index against the log.
fn agrees(
    target: &Target,
    reading: &Reading,
    verifier: &Verifier<'_>,
    tally: &mut Tally,
    cx: &mut Context,
) -> Result<(), Failure> {
    let size = verifier.log().checkpoint().size;
    let folder = scratch()?;
    let mut found = Vec::new();
    let agreed = progress::counted("comparing the index with the log", size, |seen| {
        check_index(&reading.index, size, folder.path(), seen, &mut |path, finding| {
            found.push((path, finding));
        })
    });
    if let Err(finding) = agreed {
        bad(&target.store.join("log").display().to_string(), &finding, tally, cx)?;
    }
    for (path, finding) in found {
        let shown = if path.is_root() {
            target.store.join("index.db").display().to_string()
        } else {
            path.to_string()
        };
        bad(&shown, &finding, tally, cx)?;
    }
    Ok(())
}

/// A folder of our own for an index that is made to be compared, with a name that nobody can foresee, gone afterwards.
fn scratch() -> Result<tempfile::TempDir, Failure> {
    let parent = std::env::temp_dir();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("sealctl-verify-").permissions(mode).tempdir_in(&parent);
    made.map_err(|error| Failure::about(parent.display(), Exit::Failed, error))
}

/// What is required beyond being sealed.
fn require(checked: &mut Checked, verifier: &Verifier<'_>, requirements: &[Requirement]) {
    if requirements.is_empty() || checked.outcome.is_err() {
        return;
    }
    let met = verifier.facts(&checked.record).and_then(|facts| {
        requirements.iter().try_for_each(|wanted| wanted.check(&facts).map_err(Finding::Requirement))
    });
    if let Err(finding) = met {
        checked.outcome = Err(finding);
    }
}

fn has_below(reading: &Reading, path: &RelPath) -> Result<bool, Failure> {
    let mut any = false;
    reading.index.below(path, crate::ledger::Filter::default(), &mut |_| {
        any = true;
        false
    })?;
    Ok(any)
}

fn tell(checked: &Checked, tally: &mut Tally, cx: &mut Context) -> Result<(), Failure> {
    match &checked.outcome {
        Err(finding) => bad(checked.record.path.as_str(), finding, tally, cx),
        Ok(note) => {
            tally.good += 1;
            let path = checked.record.path.as_str();
            if cx.json {
                let sha256 = checked.record.sha256.to_hex();
                cx.value(&json!({ "path": path, "ok": true, "sha256": sha256, "note": note }))?;
            } else if let Some(note) = note {
                let line = cx.paint.warn(&format!("{path}: {note}"));
                cx.line(&line)?;
            }
            Ok(())
        }
    }
}

fn bad(path: &str, finding: &Finding, tally: &mut Tally, cx: &mut Context) -> Result<(), Failure> {
    tally.bad += 1;
    if cx.json {
        let message = finding.to_string();
        return cx.value(&json!({ "path": path, "ok": false, "code": finding.code(), "message": message }));
    }
    cx.complain(&Failure::about(path, Exit::Verification, finding));
    Ok(())
}

fn offline(args: &Args, trust: &Path, cx: &mut Context) -> Result<Exit, Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        let advice = "give what 'sealctl trust' printed";
        Failure::about(trust.display(), Exit::Failed, format_args!("{error}; {advice}"))
    };
    let text = std::fs::read_to_string(trust).map_err(|error| fail(&error))?;
    let signers = parse_allowed_signers(&text).map_err(|error| fail(&error))?;
    if signers.is_empty() {
        return Err(fail(&"no Ed25519 key in it"));
    }
    let (mut tally, mut exit) = (Tally::default(), Exit::Done);
    let mut unchecked = BTreeSet::new();
    for path in &args.paths {
        let found = if path.is_dir() { copies_below(path) } else { Ok([path.clone()].into()) };
        let copies = match found {
            Ok(copies) => copies,
            Err(error) => {
                cx.complain(&Failure::new(Exit::NoFile, error));
                exit = exit.or(Exit::NoFile);
                continue;
            }
        };
        let mut together = Together::default();
        if path.is_dir() {
            unchecked.insert("whether files are missing together with their sidecars".to_owned());
        }
        for copy in copies {
            let inside = copy.strip_prefix(path).ok().filter(|inside| !inside.as_os_str().is_empty());
            let folder = inside.map(|inside| (inside, &mut together));
            let found = one_copy(&copy, folder, &signers, &args.require, &mut tally, &mut unchecked, cx)?;
            exit = exit.or(found);
        }
    }
    if !cx.json && tally.good + tally.bad > 0 {
        for what in &unchecked {
            cx.line(&format!("not checked offline: {what}"))?;
        }
        let line = outcome(&tally, cx);
        cx.line(&line)?;
    }
    Ok(if tally.bad > 0 { Exit::Verification } else { exit })
}

/// Whether a symbolic link that stands at `inside`, from a copied folder, leads out of that folder: by its text, or by
/// the links that it leads through.
fn leads_out(link: &Path, inside: &Path) -> bool {
    let Ok(target) = std::fs::read_link(link) else { return false };
    let root = link.ancestors().nth(inside.components().count()).and_then(|root| root.canonicalize().ok());
    if let Ok(end) = link.canonicalize()
        && !root.is_some_and(|root| end.starts_with(root))
    {
        return true;
    }
    let mut depth = inside.parent().map_or(0, |parent| parent.components().count());
    for part in target.components() {
        match part {
            std::path::Component::Normal(_) => depth += 1,
            std::path::Component::ParentDir if depth > 0 => depth -= 1,
            std::path::Component::CurDir => {}
            _ => return true,
        }
    }
    false
}

fn one_copy(
    copy: &Path,
    folder: Option<(&Path, &mut Together)>,
    signers: &[Signer],
    requirements: &[Requirement],
    tally: &mut Tally,
    unchecked: &mut BTreeSet<String>,
    cx: &mut Context,
) -> Result<Exit, Failure> {
    let shown = copy.display().to_string();
    let in_folder = folder.is_some();
    let leads_out = folder.as_ref().is_some_and(|(inside, _)| leads_out(copy, inside));
    let verified = match verify_copy(copy, signers) {
        Ok(Copied::Plain(_)) if leads_out => {
            let what = "a symbolic link that was not sealed and leads out of the folder";
            Err(OfflineError::Wrong(what.to_owned()))
        }
        Ok(Copied::Plain(what)) if in_folder => {
            if cx.json {
                cx.value(&json!({ "path": shown, "ok": null, "code": "not-sealed", "message": what }))?;
            } else {
                cx.line(&format!("{shown}: {what}"))?;
            }
            unchecked.insert("symbolic links and empty files that were not sealed".to_owned());
            return Ok(Exit::Done);
        }
        Ok(Copied::Plain(what)) => {
            cx.complain(&Failure::about(shown, Exit::NoFile, what));
            return Ok(Exit::NoFile);
        }
        Ok(Copied::Sealed(vouched)) => requirements
            .iter()
            .try_for_each(|wanted| wanted.check(&vouched.facts))
            .map_err(|what| OfflineError::Wrong(format!("required is {what}")))
            .and_then(|()| folder.map_or(Ok(()), |(inside, together)| together.add(inside, &vouched)))
            .map(|()| vouched),
        Err(error) => Err(error),
    };
    let (exit, message) = match verified {
        Ok(vouched) => {
            tally.good += 1;
            if cx.json {
                cx.value(&json!({
                    "path": shown, "ok": true, "sha256": vouched.sha256, "sealed_path": vouched.path,
                    "origin": vouched.origin, "namespace": vouched.namespace, "sealed_at": vouched.sealed_at,
                    "notes": vouched.notes, "unchecked": vouched.unchecked,
                }))?;
            } else {
                for note in &vouched.notes {
                    let line = cx.paint.warn(&format!("{shown}: {note}"));
                    cx.line(&line)?;
                }
            }
            unchecked.extend(vouched.unchecked);
            return Ok(Exit::Done);
        }
        Err(OfflineError::Wrong(what)) => {
            tally.bad += 1;
            (Exit::Verification, what)
        }
        // Of a folder everything must be sealed.
        Err(error @ OfflineError::Io(..)) if in_folder => {
            tally.bad += 1;
            (Exit::Verification, error.to_string())
        }
        Err(error @ OfflineError::Io(..)) => (Exit::NoFile, error.to_string()),
    };
    if cx.json {
        cx.value(&json!({ "path": shown, "ok": false, "message": message }))?;
    } else {
        cx.complain(&Failure::about(shown, exit, message));
    }
    Ok(exit)
}
