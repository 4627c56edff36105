//! `sealctl export PATH… DEST`: copies out, with their sidecars, checked on the way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::export_copy::{Source, copy_file, copy_link, finish_folder, write_sidecar};
use super::locate::{Target, is_plain_name};
use super::render::{count, size};
use crate::model::{RelPath, Sidecar, is_reserved};
use crate::store::EntryKind;

/// Copy files and folders out with their sidecars, checked against their seals on the way
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders
    #[arg(required = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// An existing folder to copy into; for one PATH also the free name of the copy
    #[arg(required = true, value_hint = clap::ValueHint::AnyPath)]
    dest: PathBuf,
}

/// What came out so far.
#[derive(Default)]
struct Tally {
    files: u64,
    bytes: u64,
    exit: Option<Exit>,
}

/// Does it. Nothing that is there is overwritten; what fails is told, and the rest goes on.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let into = args.dest.is_dir();
    if args.paths.len() > 1 && !into {
        return Err(Failure::about(
            args.dest.display(),
            Exit::Usage,
            "not a folder; to copy more than one PATH, make it first with 'mkdir'",
        ));
    }
    let mut tally = Tally::default();
    let exit = cx.each(&args.paths, |cx, target| {
        let reading =
            if access::is_ours(&target.store)? { Some(access::Reading::open(&target.store)?) } else { None };
        let source = Source::open(target, reading.as_ref())?;
        let dest = if into { args.dest.join(name_of(target)) } else { args.dest.clone() };
        copy(&source, &source.base, &dest, &mut tally, cx)?;
        Ok(Exit::Done)
    })?;
    if !cx.json && tally.files > 0 {
        let files = count(tally.files, "file", "files");
        cx.line(&format!("{files} exported, {}", size(tally.bytes)))?;
    }
    Ok(tally.exit.unwrap_or(Exit::Done).or(exit))
}

fn name_of(target: &Target) -> String {
    if !target.path.is_root() {
        return target.path.name().to_owned();
    }
    let name = target.full.as_deref().unwrap_or(&target.store).file_name().filter(|name| is_plain_name(name));
    name.map_or_else(|| "export".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn copy(
    source: &Source<'_>,
    path: &RelPath,
    dest: &Path,
    tally: &mut Tally,
    cx: &mut Context,
) -> Result<(), Failure> {
    let shown = source.shown(path);
    let meta = source.tree.stat_path(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => access::no_such_file(&shown),
        _ => access::unreachable(&Target { shown: shown.clone(), ..source.target.clone() }, error),
    })?;
    match meta.kind {
        EntryKind::Dir => {
            fs::create_dir(dest).map_err(|error| cannot_make(dest, &error))?;
            let dir = source.tree.dir_at(path).and_then(crate::store::list);
            let mut entries = dir.map_err(|error| Failure::about(&shown, Exit::Failed, error))?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in entries.into_iter().filter(|entry| !is_reserved(&entry.name)) {
                let done = copy(source, &path.join(&entry.name), &dest.join(&entry.name), tally, cx);
                if let Err(failure) = done {
                    if failure.is_quiet() {
                        return Err(failure);
                    }
                    cx.complain(&failure);
                    // A copy that is wrong weighs more than one that is not there.
                    if failure.exit == Exit::Verification || tally.exit.is_none() {
                        tally.exit = Some(failure.exit);
                    }
                }
            }
            finish_folder(dest, &meta)
        }
        EntryKind::File => {
            let Some(seal) = source.seal(path)? else {
                return Err(Failure::about(
                    &shown,
                    Exit::NoFile,
                    "not sealed, so not exported; 'sealctl seal' seals it",
                ));
            };
            let bytes = copy_file(source, path, &seal, &meta, dest, &shown)?;
            for kind in Sidecar::ALL {
                if let Some(content) = source.sidecar(path, kind)? {
                    write_sidecar(dest, kind, &content, &meta)?;
                }
            }
            told(path, dest, bytes, tally, cx)
        }
        EntryKind::Symlink => {
            copy_link(source, path, dest, &shown)?;
            if source.seal(path)?.is_some()
                && let Some(content) = source.sidecar(path, Sidecar::Statements)?
            {
                write_sidecar(dest, Sidecar::Statements, &content, &meta)?;
            }
            told(path, dest, 0, tally, cx)
        }
        EntryKind::Other => {
            Err(Failure::about(&shown, Exit::Failed, "a device, FIFO or socket; not exported"))
        }
    }
}

fn told(path: &RelPath, dest: &Path, bytes: u64, tally: &mut Tally, cx: &mut Context) -> Result<(), Failure> {
    tally.files += 1;
    tally.bytes += bytes;
    if cx.json {
        cx.value(&json!({ "path": path.as_str(), "copy": dest.display().to_string(), "size": bytes }))?;
    }
    Ok(())
}

/// The failure that a copy cannot be made.
pub fn cannot_make(dest: &Path, error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "already there, not overwritten; remove it, or choose another DEST".to_owned()
        }
        io::ErrorKind::NotFound => "its folder does not exist; make it first with 'mkdir -p'".to_owned(),
        _ => error.to_string(),
    };
    Failure::about(dest.display(), Exit::Failed, message)
}
