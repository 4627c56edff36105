//! A sealed file whose backing file does not look as recorded: hashed before anybody reads it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::handles::Handle;
use super::{Done, Fault, Opened, Vfs};
use crate::clock::Clock;
use crate::ledger::{Index, LedgerError};
use crate::model::{FileTime, SealRecord};
use crate::seal::hash_file;
use crate::store::{self, Meta};

/// What was found of altered files. Each finding is logged once and each state of a file hashed once, however often
/// somebody tries to read it.
#[derive(Default)]
pub(super) struct Alterations(Mutex<HashMap<i64, (String, Option<Looks>)>>);

/// How a backing file looked: inode, size, modification and change time.
type Looks = (u64, u64, FileTime, FileTime);

fn looks(meta: &Meta) -> Looks {
    (meta.ino, meta.size, meta.mtime, meta.ctime)
}

impl Alterations {
    /// Whether a file that looks like this was found altered.
    fn knows(&self, record: &SealRecord, meta: &Meta) -> bool {
        self.0.lock().get(&record.id).is_some_and(|(_, known)| *known == Some(looks(meta)))
    }

    /// Logs a finding that is new.
    pub(super) fn note(
        &self,
        index: &Index,
        clock: &Clock,
        record: &SealRecord,
        found: &str,
        meta: Option<&Meta>,
    ) -> Result<(), LedgerError> {
        let before = self.0.lock().insert(record.id, (found.to_owned(), meta.map(looks)));
        if before.as_ref().is_some_and(|(before, _)| before == found) {
            return Ok(());
        }
        tracing::error!(path = %record.path, "BACKING FILE ALTERED: {found}; reading it is refused");
        let mut batch = index.batch(clock)?;
        batch.altered(record, found)?;
        batch.commit().map(drop)
    }
}

/// Whether a backing file looks as it did when its content was last proven.
pub(super) fn is_as_recorded(meta: &Meta, record: &SealRecord) -> bool {
    meta.ino == record.ino
        && meta.size == record.size
        && meta.mtime == record.mtime
        && meta.ctime == record.ctime
}

impl Vfs {
    /// Hashes on a thread of its own (this is rare, and may take long) and answers then.
    pub(super) fn recheck(&self, record: SealRecord, opened: Opened, done: Done<Opened>) {
        let (index, clock) = (Arc::clone(&self.parts.index), Arc::clone(&self.parts.clock));
        let (handles, alterations) = (Arc::clone(&self.handles), Arc::clone(&self.alterations));
        let let_go = move |opened: Opened| {
            if let Some(open) = handles.remove(opened.handle)
                && let Handle::File { anchor, .. } = &*open
            {
                let ino = anchor.ino();
                drop(open);
                drop(opened);
                handles.tidy(ino);
            }
        };
        // Before it is hashed: what changes meanwhile is another state.
        let meta = opened.anchor.as_ref().and_then(|anchor| store::stat_fd(anchor.file()).ok());
        if meta.as_ref().is_some_and(|meta| alterations.knows(&record, meta)) {
            let_go(opened);
            return done(Err(Fault::Altered));
        }
        let check = move || {
            let Some(anchor) = &opened.anchor else { return done(Err(Fault::BadHandle)) };
            let verdict = hash_file(anchor.file().as_fd(), |_| true);
            let found = match verdict {
                Ok(Some(content)) if content.sha256 == record.sha256 && content.size == record.size => {
                    let proven = store::stat_fd(anchor.file()).map_err(Fault::from).and_then(|meta| {
                        let mut batch = index.batch(&clock)?;
                        batch.proven(&record, meta.ino, meta.ctime)?;
                        Ok(batch.commit().map(drop)?)
                    });
                    if let Err(error) = proven {
                        tracing::warn!(path = %record.path, %error, "cannot keep that it is proven");
                    }
                    tracing::info!(path = %record.path, "backing file was touched; its content is as sealed");
                    return done(Ok(opened));
                }
                Ok(Some(content)) => format!("sha256 {} instead of {}", content.sha256, record.sha256),
                Ok(None) => "unreadable".to_owned(),
                Err(error) => format!("unreadable: {error}"),
            };
            if let Err(error) = alterations.note(&index, &clock, &record, &found, meta.as_ref()) {
                tracing::error!(path = %record.path, %error, "cannot log that it was altered");
            }
            let_go(opened);
            done(Err(Fault::Altered));
        };
        if let Err(error) = std::thread::Builder::new().name("recheck".to_owned()).spawn(check) {
            // The callback went with the closure; its reply is EIO by itself.
            tracing::error!(%error, "cannot start a thread to check an altered file");
        }
    }
}
