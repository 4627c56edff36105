//! Log entries that no call waits for: changes of free symbolic links.

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::ledger::{Actor, Change, Index, LedgerError};
use crate::model::RelPath;

#[derive(Clone)]
struct Note {
    path: RelPath,
    target: Option<String>,
    by: Actor,
}

/// Where notes are handed in.
#[derive(Clone)]
pub struct Notes(Sender<Note>);

/// Where they are taken out and written down.
pub struct NotesInbox {
    new: Receiver<Note>,
    /// Taken out, and not yet written down.
    left: Mutex<Vec<Note>>,
}

impl Notes {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, NotesInbox) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (Notes(sender), NotesInbox { new: receiver, left: Mutex::default() })
    }

    pub(super) fn symlink(&self, path: RelPath, target: Option<String>, by: Actor) {
        let _ = self.0.send(Note { path, target, by });
    }
}

impl NotesInbox {
    /// Writes down, in one transaction, what has come in. Called from a thread that nothing waits for.
    ///
    /// # Errors
    /// If the index fails; the notes are kept for the next time.
    pub fn write_down(&self, index: &Index, clock: &Clock) -> Result<usize, LedgerError> {
        let mut notes = self.left.lock();
        notes.extend(self.new.try_iter());
        if notes.is_empty() {
            return Ok(0);
        }
        let mut batch = index.batch(clock)?;
        for note in notes.iter().cloned() {
            batch.note(Change::Symlink { path: note.path, target: note.target, by: note.by })?;
        }
        batch.commit()?;
        let count = notes.len();
        notes.clear();
        Ok(count)
    }
}
