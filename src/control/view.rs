//! Files of a running daemon as the control socket shows them.

use super::protocol::FileView;
use crate::model::RelPath;
use crate::store::Meta;
use crate::vfs::{Standing, Vfs};

/// Any file, folder or symbolic link of the mount.
#[must_use]
pub fn of_standing(vfs: &Vfs, path: &RelPath, meta: &Meta, standing: &Standing) -> FileView {
    let rule = Some(vfs.parts().policy.get().decide(path).label.clone());
    let life = match standing {
        Standing::Sealed(record) => {
            return FileView { rule, ..FileView::of_record(record, vfs.parts().clock.now()) };
        }
        Standing::Free => return FileView { rule, ..FileView::of_tree(path, meta) },
        Standing::Unsealed(life) => life.lock(),
    };
    let waits_for = if !life.writers.is_empty() {
        Some(format!("{} writable handle(s)", life.writers.len()))
    } else if let Some(failure) = &life.failure {
        Some(failure.what.clone())
    } else {
        life.due.map(|due| {
            let rest = due.saturating_duration_since(std::time::Instant::now());
            format!("the quiet time, {} s more", rest.as_secs_f32().ceil())
        })
    };
    FileView { state: Some(life.state), rule, waits_for, ..FileView::of_tree(path, meta) }
}
