//! A sealed file whose backing file does not look as recorded: hashed before anybody reads it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

/// Looks whether the content of a backing file is what was sealed.
struct Checker<'a> {
    index: &'a Index,
    clock: &'a Clock,
    alterations: &'a Alterations,
}

impl Checker<'_> {
    /// Hashes it. What was only touched is noted as proven; what was altered is logged.
    fn check(&self, record: &SealRecord, file: BorrowedFd<'_>) -> Result<(), Fault> {
        // Before it is hashed: what changes meanwhile is another state.
        let meta = store::stat_fd(file).ok();
        if meta.as_ref().is_some_and(|meta| self.alterations.knows(record, meta)) {
            return Err(Fault::Altered);
        }
        let found = match hash_file(file, |_| true) {
            Ok(Some(content)) if content.sha256 == record.sha256 && content.size == record.size => {
                let proven = store::stat_fd(file).map_err(Fault::from).and_then(|meta| {
                    let mut batch = self.index.batch(self.clock)?;
                    batch.proven(record, meta.ino, meta.ctime)?;
                    Ok(batch.commit().map(drop)?)
                });
                if let Err(error) = proven {
                    tracing::warn!(path = %record.path, %error, "cannot keep that it is proven");
                }
                tracing::info!(path = %record.path, "backing file was touched; its content is as sealed");
                return Ok(());
            }
            Ok(Some(content)) => format!("sha256 {} instead of {}", content.sha256, record.sha256),
            Ok(None) => "unreadable".to_owned(),
            Err(error) => format!("unreadable: {error}"),
        };
        if let Err(error) = self.alterations.note(self.index, self.clock, record, &found, meta.as_ref()) {
            tracing::error!(path = %record.path, %error, "cannot log that it was altered");
        }
        Err(Fault::Altered)
    }
}

impl Vfs {
    /// A sealed file of which the daemon itself is about to copy the content, or has just done so: it must be what was
    /// sealed, as for any reader.
    ///
    /// # Errors
    /// [`Fault::Altered`], which is in the log then.
    pub(super) fn check_unaltered(&self, record: &SealRecord, file: &OwnedFd) -> Result<(), Fault> {
        if is_as_recorded(&store::stat_fd(file)?, record) {
            return Ok(());
        }
        let (index, clock) = (&*self.parts.index, &*self.parts.clock);
        Checker { index, clock, alterations: &self.alterations }.check(record, file.as_fd())
    }

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
            let checker = Checker { index: &index, clock: &clock, alterations: &alterations };
            match checker.check(&record, anchor.file()) {
                Ok(()) => done(Ok(opened)),
                Err(fault) => {
                    let_go(opened);
                    done(Err(fault));
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("recheck".to_owned()).spawn(check) {
            // The callback went with the closure; its reply is EIO by itself.
            tracing::error!(%error, "cannot start a thread to check an altered file");
        }
    }
}
