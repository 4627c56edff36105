//! What every command has: where to write, how, and which store was stated.

use std::io::{BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::locate::{self, Target};
use super::render::{Paint, terminal_width};
use crate::mounts::Mount;

/// The surroundings of a command.
pub struct Context {
    /// `--store` or `SEALFS_STORE`.
    pub store: Option<PathBuf>,
    /// Whether JSON is wanted.
    pub json: bool,
    /// Colours.
    pub paint: Paint,
    /// Columns, on a terminal.
    pub width: Option<usize>,
    out: BufWriter<Stdout>,
    mounts: Option<Vec<Mount>>,
}

impl Context {
    /// Writes to standard output.
    pub fn new(store: Option<PathBuf>, json: bool) -> Self {
        Context {
            store: store.filter(|store| !store.as_os_str().is_empty()),
            json,
            paint: Paint::on_stdout(),
            width: terminal_width(),
            out: BufWriter::with_capacity(64 * 1024, std::io::stdout()),
            mounts: None,
        }
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|error| Failure::output(&error))
    }

    /// Writes a line.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.text(line)?;
        self.text("\n")
    }

    /// Writes a value as one line of JSON.
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::new(Exit::Failed, format_args!("cannot be written as JSON: {error}"))
        })?;
        self.line(&text)
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    /// Tells a failure on standard error, after what was written so far.
    pub fn complain(&mut self, failure: &Failure) {
        let _ = self.out.flush();
        if !failure.is_quiet() {
            let _ = writeln!(std::io::stderr(), "{failure}");
        }
    }

    /// What is mounted; read once.
    pub fn mounts(&mut self) -> Result<&[Mount], Failure> {
        let mounts = match self.mounts.take() {
            Some(mounts) => mounts,
            None => locate::mounts()?,
        };
        Ok(self.mounts.insert(mounts))
    }

    /// Where a PATH lies.
    pub fn target(&mut self, path: &Path) -> Result<Target, Failure> {
        let store = self.store.clone();
        locate::target(path, store.as_deref(), self.mounts()?)
    }

    /// The root of the store that is meant where no PATH is given.
    pub fn here(&mut self) -> Result<Target, Failure> {
        let store = self.store.clone();
        locate::here(store.as_deref(), self.mounts()?)
    }

    /// The PATH, or the root of the store that is meant without one.
    pub fn target_or_here(&mut self, path: Option<&Path>) -> Result<Target, Failure> {
        match path {
            Some(path) => self.target(path),
            None => self.here(),
        }
    }

    /// Does something for each PATH. What fails is told, and the others go on; the first failure's exit
    /// code is answered.
    pub fn each(
        &mut self,
        paths: &[PathBuf],
        mut work: impl FnMut(&mut Context, &Target) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let mut exit = Exit::Done;
        for path in paths {
            let done = self.target(path).and_then(|target| work(self, &target));
            match done {
                Ok(more) => exit = exit.or(more),
                Err(failure) if failure.is_quiet() => return Err(failure),
                Err(failure) => {
                    self.complain(&failure);
                    exit = exit.or(failure.exit);
                }
            }
        }
        Ok(exit)
    }
}
