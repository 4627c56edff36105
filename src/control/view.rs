//! Files as the control socket shows them.

use super::protocol::FileView;
use crate::model::{ArtifactKind, RelPath, SealRecord, State, Timestamp};
use crate::store::{EntryKind, Meta};
use crate::vfs::{Standing, Vfs};

/// A sealed file, from the index alone.
#[must_use]
pub fn of_record(record: &SealRecord, now: Timestamp) -> FileView {
    let state = if record.is_expired(now) { State::Expired } else { State::Sealed };
    FileView {
        path: record.path.to_string(),
        kind: match record.kind {
            ArtifactKind::File => "file",
            ArtifactKind::Symlink => "symlink",
        }
        .to_owned(),
        state: Some(state),
        size: record.size,
        mode: format!("{:04o}", record.perm),
        uid: record.uid,
        gid: record.gid,
        mtime: record.mtime.to_string(),
        sha256: Some(record.sha256.to_hex()),
        sealed_at: Some(record.sealed_at),
        retain_until: Some(record.retain_until),
        retention_mode: Some(record.mode.to_string()),
        holds: record.holds.iter().map(|hold| hold.name.clone()).collect(),
        log_index: Some(record.log_index),
        key: Some(record.key.clone()),
        namespace: Some(record.namespace.clone()),
        rule: None,
        waits_for: None,
    }
}

/// Any file, folder or symbolic link of the mount.
#[must_use]
pub fn of_standing(vfs: &Vfs, path: &RelPath, meta: &Meta, standing: &Standing) -> FileView {
    let policy = vfs.parts().policy.get();
    let rule = Some(policy.decide(path).label.clone());
    if let Standing::Sealed(record) = standing {
        return FileView { rule, ..of_record(record, vfs.parts().clock.now()) };
    }
    let (state, waits_for) = match standing {
        Standing::Unsealed(life) => {
            let state = life.lock();
            let waits_for = if !state.writers.is_empty() {
                Some(format!("{} writable handle(s)", state.writers.len()))
            } else if let Some(failure) = &state.failure {
                Some(failure.what.clone())
            } else {
                state.due.map(|due| {
                    let rest = due.saturating_duration_since(std::time::Instant::now());
                    format!("the quiet time, {} s more", rest.as_secs_f32().ceil())
                })
            };
            (Some(state.state), waits_for)
        }
        Standing::Free | Standing::Sealed(_) => (None, None),
    };
    FileView {
        path: path.to_string(),
        kind: match meta.kind {
            EntryKind::Dir => "folder",
            EntryKind::Symlink => "symlink",
            EntryKind::File | EntryKind::Other => "file",
        }
        .to_owned(),
        state,
        size: meta.size,
        mode: format!("{:04o}", meta.perm),
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime.to_string(),
        sha256: None,
        sealed_at: None,
        retain_until: None,
        retention_mode: None,
        holds: Vec::new(),
        log_index: None,
        key: None,
        namespace: None,
        rule,
        waits_for,
    }
}
