//! `sealctl destroy STORE`: the end of a store in which nothing is retained.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::access::Reading;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::{count, minute, size};
use crate::ledger::{check_rollback, log_keys};
use crate::model::RelPath;
use crate::recovery::compare;
use crate::store::{self, LockError, StoreLock};

/// Remove a store in which nothing is retained or held, with everything in it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The store
    #[arg(value_hint = clap::ValueHint::DirPath)]
    path: PathBuf,
}

/// That nothing is retained, the index says; and it must be what the log says. A tree that is empty needs no proof.
fn check_index(reading: &Reading, shown: &str) -> Result<(), Failure> {
    let files = fs::read_dir(reading.layout.tree()).is_ok_and(|mut entries| entries.next().is_some());
    if !files {
        return Ok(());
    }
    let checkpoint = check_rollback(&reading.index, &reading.origin, &log_keys(&reading.layout.keys()))?;
    let checkpoint = checkpoint.as_ref().map(|(checkpoint, _)| checkpoint);
    let found = compare(&reading.index, checkpoint, &|_, _| true)?;
    let what = match (&found.whole, found.paths.first_key_value()) {
        (Some(whole), _) => whole.clone(),
        (None, Some((path, what))) => format!("{path}: {what}"),
        (None, None) => return Ok(()),
    };
    let what = format!("index.db is not what the log says ({what}); 'sealctl rebuild' makes it anew");
    Err(Failure::about(shown, Exit::Refused, what))
}

/// Does it. Interrupted, it leaves a store that can be destroyed again: the index, which tells that nothing is
/// retained, goes after the files.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let reading = Reading::open(&args.path)?;
    let root = reading.layout.root().to_owned();
    let shown = root.display().to_string();
    let lock = StoreLock::take(&reading.layout, &format!("sealctl destroy, pid {}", std::process::id()))
        .map_err(|error| match error {
            LockError::Busy(_) | LockError::ReadOnly | LockError::Io(_) => {
                Failure::about(&shown, Exit::Failed, error)
            }
        })?;
    let summary = reading.index.summary(reading.now)?;
    if let Some(record) = reading.index.retained_below(&RelPath::root(), reading.now)? {
        let why = match record.holds.first() {
            Some(hold) => format!("the hold {:?} stands", hold.name),
            None => format!("until {}", minute(record.retain_until)),
        };
        return Err(Failure::about(
            &shown,
            Exit::Refused,
            format_args!(
                "{} retained, such as {} ({why}); wait, or lift that first ('sealctl ls --state sealed')",
                count(summary.sealed, "file is", "files are"),
                record.path
            ),
        ));
    }
    let tree = reading.layout.tree();
    check_index(&reading, &shown)?;
    let index = reading.layout.index();
    drop(reading);
    let mut removed = Removed::default();
    let fail = |error: (PathBuf, io::Error)| {
        Failure::about(
            error.0.display(),
            Exit::Failed,
            format_args!("{}; the rest still stands, try again", error.1),
        )
    };
    removed.below(&tree).map_err(fail)?;
    let entries = fs::read_dir(&root).map_err(|error| fail((root.clone(), error)))?;
    let mut rest: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    rest.retain(|path| *path != tree);
    // The index last: without it nobody could tell that the rest may go.
    rest.sort_by_key(|path| path.starts_with(&index));
    let mut others = Removed::default();
    for path in rest {
        others.any(&path).map_err(fail)?;
    }
    let _ = fs::remove_dir(&tree);
    drop(lock);
    // A mount point stays, empty.
    if let Err(error) = fs::remove_dir(&root)
        && error.kind() != io::ErrorKind::ResourceBusy
    {
        return Err(fail((root, error)));
    }
    if cx.json {
        cx.value(&serde_json::json!({ "store": shown, "files": removed.files, "bytes": removed.bytes }))?;
    } else {
        let files = count(removed.files, "file", "files");
        cx.line(&format!("{shown}: destroyed, with {files} in it ({})", size(removed.bytes)))?;
    }
    Ok(Exit::Done)
}

#[derive(Default)]
struct Removed {
    files: u64,
    bytes: u64,
}

impl Removed {
    /// Removes what is in a folder, not the folder.
    fn below(&mut self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        let fail = |error| (folder.to_owned(), error);
        for entry in fs::read_dir(folder).map_err(fail)? {
            self.any(&entry.map_err(fail)?.path())?;
        }
        Ok(())
    }

    fn any(&mut self, path: &Path) -> Result<(), (PathBuf, io::Error)> {
        let fail = |error| (path.to_owned(), error);
        let meta = path.symlink_metadata().map_err(fail)?;
        if meta.is_dir() {
            self.below(path)?;
            return fs::remove_dir(path).map_err(fail);
        }
        if meta.is_file() {
            // A file that cannot be opened cannot be thawed; removing it tells whether it was frozen.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            if let Ok(file) = File::options().read(true).custom_flags(flags).open(path)
                && store::is_immutable(&file)
            {
                store::set_immutable(&file, false).map_err(fail)?;
            }
            self.files += 1;
            self.bytes += meta.len();
        }
        fs::remove_file(path).map_err(fail)
    }
}
