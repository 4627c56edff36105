//! Which seal key was valid at which place in the log.

use std::collections::HashMap;

use super::Finding;
use crate::crypto::{PublicKey, dsse};
use crate::ledger::{
    Change, EntryRow, KeyRole, KeyRow, LedgerError, ROTATION_TYPE, ReadIndex, rotation_payload,
};

/// The seal keys of a store and the part of the log in which each was in use.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys {
    keys: HashMap<String, (PublicKey, KeyRow)>,
}

impl KnownKeys {
    /// Reads them from the index, and checks each against the entry that made it known. `included` says whether an
    /// entry is in the log.
    ///
    /// # Errors
    /// The first key that the log does not bear out.
    pub fn read(
        index: &ReadIndex,
        origin: &str,
        included: &dyn Fn(&EntryRow) -> Result<(), Finding>,
    ) -> Result<Self, Finding> {
        let ledger = |error: LedgerError| Finding::Unreadable(error.to_string());
        let mut known = KnownKeys::default();
        for row in index.keys().map_err(ledger)? {
            let wrong = |what: &str| Finding::Log(format!("key {}: {what}", row.fingerprint));
            let key = PublicKey::from_openssh(&row.public).map_err(|error| wrong(&error.to_string()))?;
            if key.fingerprint() != row.fingerprint {
                return Err(wrong("it has another fingerprint"));
            }
            let entry = index.entry(row.since).map_err(ledger)?;
            let entry = entry.ok_or_else(|| wrong(&format!("there is no entry {}", row.since)))?;
            included(&entry)?;
            let change = entry.parse().map_err(|error| wrong(&error.to_string()))?.change;
            let said = match (&change, row.role) {
                (Change::Store { seal_key, .. }, KeyRole::Seal) => Some(seal_key),
                (Change::Store { log_key, .. }, KeyRole::Log) => Some(log_key),
                (Change::KeyMade { role, key } | Change::KeyRotated { role, key, .. }, wanted)
                    if *role == wanted =>
                {
                    Some(key)
                }
                _ => None,
            };
            if said != Some(&row.public) {
                return Err(wrong(&format!("entry {} says nothing of it", row.since)));
            }
            if let Change::KeyRotated { role, previous, signature, .. } = &change {
                let payload = rotation_payload(origin, row.since, *role, &row.public, previous);
                let payload = payload.map_err(|error| wrong(&error.to_string()))?;
                let old = index.keys().map_err(ledger)?.into_iter().find(|old| {
                    old.fingerprint == *previous && old.role == row.role && old.since < row.since
                });
                let old = old.and_then(|old| PublicKey::from_openssh(&old.public).ok());
                let vouched = old.is_some_and(|old| {
                    old.verify_raw(&dsse::pae(ROTATION_TYPE, payload.as_bytes()), &signature.0).is_ok()
                });
                if !vouched {
                    return Err(wrong("the key before it did not sign for it"));
                }
            }
            if row.role == KeyRole::Seal {
                known.keys.insert(row.fingerprint.clone(), (key, row));
            }
        }
        Ok(known)
    }

    /// The key with this fingerprint, if it was in use at this place in the log.
    ///
    /// # Errors
    /// [`Finding::UnknownKey`], [`Finding::KeyNotValid`].
    pub fn at(&self, fingerprint: &str, index: u64) -> Result<PublicKey, Finding> {
        let Some((key, row)) = self.keys.get(fingerprint) else {
            return Err(Finding::UnknownKey(fingerprint.to_owned()));
        };
        let invalid = |what: String| Err(Finding::KeyNotValid(fingerprint.to_owned(), what));
        if index <= row.since {
            return invalid(format!("which was made later (entry {})", row.since));
        }
        if let Some(until) = row.until
            && index >= until
        {
            return invalid(format!("whose place another had taken (entry {until})"));
        }
        if let Some(retired) = row.retired
            && index >= retired
        {
            return invalid(format!("which was retired before (entry {retired})"));
        }
        Ok(*key)
    }

    /// What is to be said of a seal by this key although it holds: that the key was retired later.
    #[must_use]
    pub fn note(&self, fingerprint: &str) -> Option<String> {
        let (_, row) = self.keys.get(fingerprint)?;
        let (retired, since) = (row.retired?, row.compromised?);
        Some(format!(
            "its key was retired later (entry {retired}; compromised since {since}): it holds by its place in the log \
             alone"
        ))
    }
}
