//! Until when the files of a folder are retained, for who looks up one after the other: read together, they cost an
//! eighth of what they cost one by one. Kept as long as nothing is committed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Fault, Vfs};
use crate::model::{RelPath, Timestamp};

/// Folders kept.
const KEPT: usize = 8;
/// So many files of a folder are asked for one by one.
const FEW: u32 = 20;
/// Files of a folder that are read together; of a folder that has more, each is asked for by itself.
const MOST: u32 = 4096;

type Times = Arc<HashMap<String, (u64, Timestamp)>>;

enum Known {
    /// So many were asked for.
    Asked(u32),
    All(Times),
    TooMany,
}

struct Folder {
    path: Box<str>,
    /// See [`crate::ledger::Index::revision`].
    revision: u64,
    known: Known,
}

/// Folders in which something was looked up, the last one last.
#[derive(Default)]
pub(super) struct Retained(Mutex<Vec<Folder>>);

impl Retained {
    /// What is known of a folder; `Err`: whether it should be read.
    fn get(&self, path: &str, revision: u64) -> Result<Times, bool> {
        let mut folders = self.0.lock();
        let at = folders.iter().rposition(|folder| &*folder.path == path);
        if let Some(folder) = at.and_then(|at| folders.get_mut(at))
            && folder.revision == revision
        {
            return match &mut folder.known {
                Known::All(times) => Ok(Arc::clone(times)),
                Known::TooMany => Err(false),
                Known::Asked(times) => {
                    *times += 1;
                    Err(*times > FEW)
                }
            };
        }
        if let Some(at) = at {
            folders.remove(at);
        } else if folders.len() >= KEPT {
            folders.remove(0);
        }
        folders.push(Folder { path: path.into(), revision, known: Known::Asked(1) });
        Err(false)
    }

    /// A folder was read.
    fn set(&self, path: &str, revision: u64, times: Option<Times>) {
        let mut folders = self.0.lock();
        let found = folders.iter_mut().rfind(|folder| &*folder.path == path && folder.revision == revision);
        if let Some(folder) = found {
            folder.known = times.map_or(Known::TooMany, Known::All);
        }
    }
}

impl Vfs {
    /// Until when what is sealed at a path is retained. None if nothing is, or since so short a time that the index has to
    /// be asked.
    pub(super) fn retained_until(&self, path: &RelPath) -> Result<Option<Timestamp>, Fault> {
        let Some((dir, name)) = path.split() else { return Ok(None) };
        let index = &self.parts.index;
        // Before it is read: what is committed meanwhile makes it old.
        let revision = index.revision();
        let times = match self.retained.get(dir, revision) {
            Ok(times) => times,
            Err(false) => return Ok(index.read().retained_until(path)?),
            Err(true) => {
                let read = index.read().retention_in(&path.parent(), MOST + 1)?;
                let times = (read.len() <= MOST as usize).then(|| Arc::new(read));
                self.retained.set(dir, revision, times.clone());
                let Some(times) = times else { return Ok(index.read().retained_until(path)?) };
                times
            }
        };
        Ok(times.get(name).map(|(_, until)| *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_once_many_ask_and_again_after_a_commit() {
        let retained = Retained::default();
        for _ in 0..FEW {
            assert!(!retained.get("d", 1).unwrap_err());
        }
        assert!(retained.get("d", 1).unwrap_err());
        let times: Times = Arc::new(HashMap::from([("a".to_owned(), (1, Timestamp(7)))]));
        retained.set("d", 1, Some(times));
        assert_eq!(retained.get("d", 1).unwrap()["a"].1, Timestamp(7));
        assert!(!retained.get("d", 2).unwrap_err(), "committed since");
        // Read before a commit, and done after it.
        retained.set("d", 1, Some(Times::default()));
        assert!(!retained.get("d", 2).unwrap_err());
        retained.set("d", 2, None);
        for _ in 0..2 * FEW {
            assert!(!retained.get("d", 2).unwrap_err());
        }
        for n in 0..3 * KEPT {
            let _ = retained.get(&n.to_string(), 2);
        }
        assert_eq!(retained.0.lock().len(), KEPT);
    }
}
