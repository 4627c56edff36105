//! New keys, and keys that are trusted no more: each a log entry, and files that follow from it.
//!
//! The entry decides. A new private key is durable under `NAME.next` before it, and takes its place after it; what a
//! crash leaves in between is finished at the next start ([`KeyFiles::settle`]). An old private key is removed: nobody
//! needs it any more, and whoever steals it later could sign the past.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::keys::{Keys, Public};
use crate::clock::Clock;
use crate::crypto::{KeyError, PublicKey, SigningKey, dsse};
use crate::durable;
use crate::ledger::{
    Actor, Change, Index, KeyRole, LedgerError, ROTATION_TYPE, ReadIndex, Signature, rotation_payload,
};
use crate::model::Timestamp;

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The key is not the store's own.
    #[error(
        "this key comes from {0}, not from the store: put the new one there and start sealfs again, which logs it"
    )]
    External(String),
    /// The log knows no such key.
    #[error("no key {0} is in use or was; 'sealctl key list' lists them")]
    Unknown(String),
    /// It was retired before.
    #[error("the key {0} is retired already")]
    Retired(String),
    /// A key file.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Key(PathBuf, #[source] KeyError),
    /// The disk.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
    /// The index.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Where the key files are, and which keys come from elsewhere.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// The store's folder of keys.
    pub folder: PathBuf,
    /// The file of a seal key that is not the store's own.
    pub external_seal: Option<PathBuf>,
    /// The same of a log key.
    pub external_log: Option<PathBuf>,
}

fn name(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Seal => "seal",
        KeyRole::Log => "log",
    }
}

impl KeyFiles {
    fn external(&self, role: KeyRole) -> Option<&PathBuf> {
        match role {
            KeyRole::Seal => self.external_seal.as_ref(),
            KeyRole::Log => self.external_log.as_ref(),
        }
    }

    fn private(&self, role: KeyRole) -> PathBuf {
        self.folder.join(name(role))
    }

    fn next(&self, role: KeyRole) -> PathBuf {
        self.folder.join(format!("{}.next", name(role)))
    }

    /// The public half of a key that is in use no more, or of one that comes from elsewhere.
    fn public_of(&self, role: KeyRole, key: &PublicKey) -> PathBuf {
        let number: String = key.to_bytes()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{}-{number}.pub", name(role)))
    }

    /// Finishes what a crash interrupted: if the log says that the key waiting as `NAME.next` is in use, it takes its
    /// place; if not, it was never used and goes.
    ///
    /// # Errors
    /// If a file cannot be read or moved.
    pub fn settle(&self, role: KeyRole, index: &ReadIndex) -> Result<(), RotateError> {
        let next = self.next(role);
        if !next.exists() || self.external(role).is_some() {
            return Ok(());
        }
        let waiting = SigningKey::read(&next).ok().map(|key| key.public());
        match waiting {
            Some(key) if current(index, role)?.as_deref() == Some(key.fingerprint().as_str()) => {
                self.put_in_place(role, &key)
            }
            _ => fs::remove_file(&next).map_err(|error| RotateError::Io(next, error)),
        }
    }

    /// Keeps the public half of a key that comes from elsewhere, where verifiers look.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_public(&self, role: KeyRole, key: &PublicKey) -> Result<(), RotateError> {
        let path = self.public_of(role, key);
        let line = key.to_openssh("") + "\n";
        durable::replace(&path, 0o644, line.as_bytes()).map_err(|error| RotateError::Io(path, error))
    }

    /// The key that waits becomes the one in use. Every step can be done again.
    fn put_in_place(&self, role: KeyRole, key: &PublicKey) -> Result<(), RotateError> {
        let (private, public) = (self.private(role), self.folder.join(format!("{}.pub", name(role))));
        let fail = |path: &PathBuf| {
            let path = path.clone();
            move |error| RotateError::Io(path, error)
        };
        let old = fs::read_to_string(&public).ok().and_then(|line| PublicKey::from_openssh(line.trim()).ok());
        if let Some(old) = old.filter(|old| old != key) {
            self.keep_public(role, &old)?;
        }
        durable::replace(&public, 0o644, (key.to_openssh("") + "\n").as_bytes()).map_err(fail(&public))?;
        fs::rename(self.next(role), &private).map_err(fail(&private))?;
        durable::sync_parent(&private).map_err(fail(&private))
    }
}

/// The fingerprint of the key that is in use by the log.
///
/// # Errors
/// If the index cannot be read.
pub fn current(index: &ReadIndex, role: KeyRole) -> Result<Option<String>, LedgerError> {
    let rows = index.keys()?;
    Ok(rows.into_iter().find(|row| row.role == role && row.until.is_none()).map(|row| row.fingerprint))
}

/// What changing keys needs.
pub struct Rotation<'a> {
    /// The index.
    pub index: &'a Index,
    /// Sealfs time.
    pub clock: &'a Clock,
    /// The keys.
    pub keys: &'a Keys,
    /// Their files.
    pub files: &'a KeyFiles,
    /// The store's name.
    pub origin: &'a str,
}

impl Rotation<'_> {
    /// Makes a new key, vouched for by the old one, and uses it from now on. On return it is durable and logged.
    ///
    /// # Errors
    /// [`RotateError`]; nothing has then changed, but for a file that did not get its place: that is mended at the
    /// next start.
    pub fn rotate(&self, role: KeyRole, by: Actor) -> Result<PublicKey, RotateError> {
        if let Some(external) = self.files.external(role) {
            return Err(RotateError::External(external.display().to_string()));
        }
        // Else the key that waits may be the one that a failed rotation has logged after all.
        self.index.rule_out_doubt(self.clock)?;
        let next = self.files.next(role);
        let key_error = |error| RotateError::Key(next.clone(), error);
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RotateError::Io(next, error));
            }
            _ => {}
        }
        let key = SigningKey::generate().map_err(key_error)?;
        key.write_new(&next, self.origin).map_err(key_error)?;
        durable::sync_parent(&next).map_err(|error| RotateError::Io(next.clone(), error))?;
        let public = key.public();
        // Nobody signs between the entry and the change.
        let _alone = self.keys.alone();
        let old = match role {
            KeyRole::Seal => self.keys.seal(),
            KeyRole::Log => self.keys.log(),
        };
        let (line, previous) = (public.to_openssh(""), old.public().fingerprint());
        let mut batch = self.index.batch(self.clock)?;
        let payload = rotation_payload(self.origin, batch.next_index(), role, &line, &previous)?;
        let signature = Signature(dsse::sign(&old, ROTATION_TYPE, payload.as_bytes()));
        batch.note(Change::KeyRotated { role, key: line, previous, signature, by })?;
        batch.commit()?;
        self.keys.change(role, Some(key), Public::read(self.index.read())?);
        self.files.put_in_place(role, &public)?;
        Ok(public)
    }

    /// Takes a key out of trust; if it is the one in use, another takes its place first. On return that is logged.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn retire(
        &self,
        fingerprint: &str,
        compromised_since: Timestamp,
        by: Actor,
    ) -> Result<(), RotateError> {
        let unknown = || RotateError::Unknown(fingerprint.to_owned());
        let row = self.index.read().keys()?.into_iter().find(|row| row.fingerprint == fingerprint);
        let row = row.ok_or_else(unknown)?;
        if row.retired.is_some() {
            return Err(RotateError::Retired(fingerprint.to_owned()));
        }
        if row.until.is_none() {
            self.rotate(row.role, by)?;
        }
        let _alone = self.keys.alone();
        let mut batch = self.index.batch(self.clock)?;
        let key = fingerprint.to_owned();
        batch.note(Change::KeyRetired { role: row.role, key, compromised_since, by })?;
        batch.commit()?;
        self.keys.change(row.role, None, Public::read(self.index.read())?);
        if row.role == KeyRole::Log
            && let Ok(key) = PublicKey::from_openssh(&row.public)
        {
            // Its checkpoints are believed no more.
            let path = self.files.public_of(KeyRole::Log, &key);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RotateError::Io(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
