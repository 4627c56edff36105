//! A sealed file whose backing file does not look as recorded: hashed before anybody reads it.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::handles::Handle;
use super::{Done, Fault, Opened, Vfs};
use crate::model::SealRecord;
use crate::seal::hash_file;
use crate::store::{self, Meta};

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
        let handles = Arc::clone(&self.handles);
        let check = move || {
            let Some(anchor) = &opened.anchor else { return done(Err(Fault::BadHandle)) };
            let verdict = hash_file(anchor.file().as_fd(), || true);
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
            tracing::error!(path = %record.path, "BACKING FILE ALTERED: {found}; reading it is refused");
            let noted = index.batch(&clock).and_then(|mut batch| {
                batch.altered(&record, &found)?;
                batch.commit().map(drop)
            });
            if let Err(error) = noted {
                tracing::error!(path = %record.path, %error, "cannot log that it was altered");
            }
            if let Some(open) = handles.remove(opened.handle)
                && let Handle::File { anchor, .. } = &*open
            {
                let ino = anchor.ino();
                drop(open);
                drop(opened);
                handles.tidy(ino);
            }
            done(Err(Fault::Altered));
        };
        if let Err(error) = std::thread::Builder::new().name("recheck".to_owned()).spawn(check) {
            // The callback went with the closure; its reply is EIO by itself.
            tracing::error!(%error, "cannot start a thread to check an altered file");
        }
    }
}
