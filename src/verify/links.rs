//! Free symbolic links against the log: each change of one is logged, so one that is gone, or that leads elsewhere without
//! an entry, is noticed.

use super::{Finding, Verifier};
use crate::ledger::{Change, LedgerError};
use crate::model::RelPath;
use crate::store::{self, EntryKind};

impl Verifier<'_> {
    /// Hands over the free symbolic links below a folder that are not what the log says last, and those that were
    /// removed from a folder in which sealed files still stand. A link that was replaced is what the log says; one that
    /// was removed from a folder without sealed files is nobody's loss.
    ///
    /// # Errors
    /// If the index or the log cannot be read.
    pub fn links_below(
        &self,
        path: &RelPath,
        each: &mut dyn FnMut(RelPath, Finding),
    ) -> Result<(), LedgerError> {
        for (link, index) in self.index().last_about(path)? {
            let Some(entry) = self.index().entry(index)? else { continue };
            let Change::Symlink { target, .. } = entry.parse()?.change else { continue };
            // Sealed since, or in a folder that is gone or was renamed.
            if self.index().find(&link)?.is_some() || self.index().page_of(&link.parent(), 1)?.is_empty() {
                continue;
            }
            let Ok(dir) = self.tree().dir_at(&link.parent()) else { continue };
            let found = match store::stat_at(&dir, link.name()) {
                Ok(meta) if meta.kind == EntryKind::Symlink => {
                    store::readlink_at(&dir, link.name()).ok().and_then(|target| target.into_string().ok())
                }
                _ => None,
            };
            if target.is_none() && found.is_none() {
                each(link, Finding::Link("it was removed from a folder whose sealed files stand".to_owned()));
            } else if found != target {
                let word = |target: &Option<String>| {
                    target
                        .as_ref()
                        .map_or_else(|| "no link".to_owned(), |target| format!("a link to {target:?}"))
                };
                each(link, Finding::Link(format!("it is {}, the log says {}", word(&found), word(&target))));
            }
        }
        Ok(())
    }
}
