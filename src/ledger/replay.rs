//! An index made again from the log: the same entries, through the same code, into an empty index.

use std::path::Path;

use super::LedgerError;
use super::apply::{self, Backing};
use super::entry::{Change, Entry};
use super::index::{self, Attachment, Connection, Interned, Writer};
use super::log::Edge;
use crate::clock::Anchor;
use crate::model::{Digest, SealRecord, Timestamp};

/// An index that is being made again.
pub struct Replay {
    connection: Connection,
    known: Interned,
    edge: Edge,
    anchor: Anchor,
}

impl Replay {
    /// Begins a new index in a new file, mode 0600. Until [`Replay::finish`] it is not durable, and nobody's.
    ///
    /// # Errors
    /// If the file exists or SQLite fails.
    pub fn begin(path: &Path) -> Result<Self, LedgerError> {
        let connection = index::fresh(path)?;
        let zero = std::time::Duration::ZERO;
        let anchor = Anchor {
            sealfs: Timestamp(0),
            boot_id: "of the log".to_owned(),
            boottime: 0,
            wall: Timestamp(0),
            believed: zero,
            doubted: zero,
        };
        Ok(Replay { connection, known: Interned::default(), edge: Edge::default(), anchor })
    }

    /// Takes an attachment; they come in the order of their numbers, before the entries that refer to them.
    ///
    /// # Errors
    /// If it is out of order or SQLite fails.
    pub fn attach(&mut self, attachment: &Attachment, commits: &[String]) -> Result<(), LedgerError> {
        let writer = Writer::new(&self.connection, &mut self.known);
        let id = writer.attach(attachment.kind, &attachment.body, commits)?;
        if id != attachment.id {
            return Err(LedgerError::Log(format!("attachment {} stands for {id}", attachment.id)));
        }
        Ok(())
    }

    /// Takes the next entry. `backing` is asked for what only the disk knows of a seal. `without_writers`: the
    /// attachment that says who wrote the file is lost; the seal then goes without.
    ///
    /// # Errors
    /// If it is no entry, not the next one, goes back in time, or does not follow from those before.
    pub fn entry(
        &mut self,
        text: &str,
        without_writers: bool,
        backing: impl FnOnce(&SealRecord) -> Backing,
    ) -> Result<(), LedgerError> {
        let mut entry = Entry::parse(text.as_bytes())?;
        if entry.time < self.anchor.sealfs {
            return Err(LedgerError::Entry(format!(
                "entry {} is earlier than the one before it",
                entry.index
            )));
        }
        let first = matches!(entry.change, Change::Store { .. });
        if first != (entry.index == 0) {
            return Err(LedgerError::Entry("a log begins with the entry of its store, once".to_owned()));
        }
        let mut writer = Writer::new(&self.connection, &mut self.known);
        if let Change::Store { origin, .. } = &entry.change {
            writer.meta("origin", origin)?;
        }
        let backing = match &mut entry.change {
            Change::Sealed(sealed) => {
                if without_writers {
                    sealed.provenance = None;
                }
                backing(&sealed.to_record(entry.index, entry.time, entry.wall))
            }
            _ => Backing::default(),
        };
        apply::append(&mut writer, &mut self.edge, &entry, text, backing)?;
        (self.anchor.sealfs, self.anchor.wall) = (entry.time, entry.wall);
        self.believe(&entry.change);
        Ok(())
    }

    /// The budget of belief follows from the gaps and acceptances.
    fn believe(&mut self, change: &Change) {
        let seconds = std::time::Duration::from_secs;
        match change {
            Change::ClockGap { believed_seconds, doubted_seconds, .. } => {
                self.anchor.believed = self.anchor.believed.saturating_add(seconds(*believed_seconds));
                self.anchor.doubted = self.anchor.doubted.saturating_add(seconds(*doubted_seconds));
            }
            Change::ClockAccepted { .. } => {
                (self.anchor.believed, self.anchor.doubted) = (seconds(0), seconds(0));
            }
            _ => {}
        }
    }

    /// How many entries were taken.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root over them.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.edge.root()
    }

    /// Ends it: on return the file is a whole index, and durable. `exported`: so many entries stand in exported
    /// tiles, and need not stay in the index.
    ///
    /// # Errors
    /// If SQLite or the disk fails.
    pub fn finish(mut self, path: &Path, exported: Option<u64>) -> Result<(), LedgerError> {
        let writer = Writer::new(&self.connection, &mut self.known);
        writer.clock(&self.anchor, None)?;
        if let Some(size) = exported {
            writer.prune(size)?;
        }
        index::close_fresh(self.connection)?;
        let sync = std::fs::File::open(path)
            .and_then(|file| crate::durable::sync_file(&file))
            .and_then(|()| crate::durable::sync_parent(path));
        sync.map_err(|error| LedgerError::Broken(format!("{}: {error}", path.display())))
    }
}
