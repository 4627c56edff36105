//! Every file that is not sealed, by number.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::life::Life;
use crate::model::{ArtifactKind, RelPath, State};

/// The lives of all unsealed files, and the lock that keeps their names still.
#[derive(Default)]
pub struct Lives {
    /// Held for reading while a path is resolved and used, for writing while a name changes. First of all
    /// locks.
    pub namespace: RwLock<()>,
    table: Mutex<HashMap<u64, Arc<Life>>>,
}

impl Lives {
    /// The life with this number.
    #[must_use]
    pub fn get(&self, ino: u64) -> Option<Arc<Life>> {
        self.table.lock().get(&ino).cloned()
    }

    /// Whether a life with this number goes on.
    #[must_use]
    pub fn is_unsealed(&self, ino: u64) -> bool {
        // A life that has just ended is in the index.
        self.get(ino).is_some_and(|life| !life.lock().over)
    }

    /// Begins a life; one that stood under the number is over (the backing file system gave it away again).
    pub fn begin(&self, ino: u64, kind: ArtifactKind, path: RelPath, state: State) -> Arc<Life> {
        let life = Arc::new(Life::new(ino, kind, path, state));
        let before = self.table.lock().insert(ino, Arc::clone(&life));
        if let Some(before) = before {
            // Whoever has it still must not write of it in the journal, where it would be taken for the new one.
            let mut state = before.lock();
            state.over = true;
            let waiters = std::mem::take(&mut state.waiters);
            drop(state);
            super::pipeline::tell_all(waiters, &Err(super::life::NotSealed::Gone));
        }
        life
    }

    /// Begins a life unless one goes on under the number; answers which, and whether it has just begun.
    pub fn begin_unless_known(
        &self,
        ino: u64,
        kind: ArtifactKind,
        path: RelPath,
        state: State,
    ) -> (Arc<Life>, bool) {
        loop {
            let known = self.get(ino);
            if let Some(known) = &known
                && !known.lock().over
            {
                return (Arc::clone(known), false);
            }
            let mut table = self.table.lock();
            let is_as_seen = match (table.get(&ino), &known) {
                (None, _) => true,
                (Some(now), Some(known)) => Arc::ptr_eq(now, known),
                (Some(_), None) => false,
            };
            if is_as_seen {
                let life = Arc::new(Life::new(ino, kind, path, state));
                table.insert(ino, Arc::clone(&life));
                return (life, true);
            }
        }
    }

    /// Ends a life, if it is still this one.
    pub fn end(&self, life: &Arc<Life>) {
        let mut table = self.table.lock();
        if table.get(&life.ino).is_some_and(|known| Arc::ptr_eq(known, life)) {
            table.remove(&life.ino);
        }
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Life>> {
        self.table.lock().values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
