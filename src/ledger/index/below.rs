//! The seals at or below a path: page by page where there may be many, so that no transaction stays open.

use rusqlite::{OptionalExtension, params};

use super::read::{Filter, ReadIndex, collect, range, with_holds};
use super::row::{COLUMNS, FROM, record};
use crate::ledger::LedgerError;
use crate::model::{RelPath, SealRecord, Timestamp};

/// Seals that are read at a time.
const PAGE: usize = 512;

impl ReadIndex {
    /// The seals of everything at or below a path, folder by folder, handed over one by one; `each` returns whether to
    /// go on. Without a filter they are read page by page, so that no transaction stays open while `each` works: what is
    /// sealed or ended meanwhile may or may not be among them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn below(
        &self,
        path: &RelPath,
        filter: Filter,
        each: &mut dyn FnMut(SealRecord) -> bool,
    ) -> Result<(), LedgerError> {
        if filter.ending_before.is_some() || filter.expired.is_some() {
            return self.below_filtered(path, filter, each);
        }
        if !path.is_root()
            && let Some(record) = self.find(path)?
            && !each(record)
        {
            return Ok(());
        }
        let (low, high) = range(path);
        let mut folder = path.to_string();
        loop {
            let mut after = String::new();
            loop {
                let page = self.page(&folder, &after)?;
                let Some(last) = page.last() else { break };
                last.path.name().clone_into(&mut after);
                let full = page.len() == PAGE;
                for record in page {
                    if !each(record) {
                        return Ok(());
                    }
                }
                if !full {
                    break;
                }
            }
            let next = self.with(|c| {
                let (sql, from) = if path.is_root() {
                    ("SELECT path FROM dir WHERE path > ?1 AND ?2 = ?2 ORDER BY path LIMIT 1", &folder)
                } else {
                    let from = if folder < low { &low } else { &folder };
                    ("SELECT path FROM dir WHERE path > ?1 AND path < ?2 ORDER BY path LIMIT 1", from)
                };
                let found = c.prepare_cached(sql)?.query_row(params![from, high], |row| row.get(0));
                found.optional()
            })?;
            match next {
                Some(next) => folder = next,
                None => return Ok(()),
            }
        }
    }

    /// The next seals of a folder after a name, in the order of names.
    fn page(&self, folder: &str, after: &str) -> Result<Vec<SealRecord>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS} {FROM} WHERE live = 1 AND dir.path = ?1 AND artifact.name > ?2 \
             ORDER BY artifact.name LIMIT {PAGE}"
        );
        self.with(|c| collect(c, &sql, params![folder, after]))
    }

    /// The first seals of a folder, in the order of names.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn page_of(&self, folder: &RelPath, most: usize) -> Result<Vec<SealRecord>, LedgerError> {
        let mut page = self.page(folder.as_str(), "")?;
        page.truncate(most);
        Ok(page)
    }

    fn below_filtered(
        &self,
        path: &RelPath,
        filter: Filter,
        each: &mut dyn FnMut(SealRecord) -> bool,
    ) -> Result<(), LedgerError> {
        let (low, high) = range(path);
        let (dir, name) = path.split().unwrap_or(("", ""));
        let now = filter.now.unwrap_or(Timestamp(i64::MIN)).0;
        let expired = "(artifact.holds = 0 AND artifact.retain_until <= ?5)";
        let state = match filter.expired {
            None => String::new(),
            Some(true) => format!("AND {expired}"),
            Some(false) => format!("AND NOT {expired}"),
        };
        let place = if path.is_root() {
            "?1 = ?1 AND ?2 = ?2 AND ?3 = ?3 AND ?4 = ?4 AND ?7 = ?7".to_owned()
        } else {
            "(dir.path = ?7 OR (dir.path >= ?1 AND dir.path < ?2) OR (dir.path = ?3 AND artifact.name = ?4))"
                .to_owned()
        };
        // The whole index in the order of its indexes: rows come at once and nothing is sorted. Where few are
        // wanted by the end of retention, SQLite does better by itself.
        let whole = path.is_root() && filter.ending_before.is_none() && filter.expired != Some(true);
        let from = if whole { "FROM dir CROSS JOIN artifact ON dir.id = artifact.dir" } else { FROM };
        let sql = format!(
            "SELECT {COLUMNS} {from} WHERE live = 1 AND {place} AND artifact.retain_until < ?6 AND ?5 = ?5 {state} \
             ORDER BY dir.path, artifact.name"
        );
        let before = filter.ending_before.map_or(i64::MAX, |time| time.0);
        self.with(|c| {
            let mut statement = c.prepare_cached(&sql)?;
            let mut rows = statement.query(params![low, high, dir, name, now, before, path.as_str()])?;
            while let Some(row) = rows.next()? {
                if !each(with_holds(c, record(row)?)?) {
                    break;
                }
            }
            Ok(())
        })
    }
}
