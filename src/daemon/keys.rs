//! The keys that the daemon signs with: from the store, from a file, or from systemd's credentials.

use std::path::{Path, PathBuf};

use super::{Args, StartError};
use crate::crypto::SigningKey;
use crate::ledger::{Change, KeyRole, LedgerError, ReadIndex};
use crate::seal::{KeyFiles, Keys, Public, current_key};
use crate::store::Layout;

/// Where the keys are: what the arguments say, else what systemd hands over (`LoadCredential=seal-key:…`), else the
/// store.
pub fn files(layout: &Layout, args: &Args) -> KeyFiles {
    let credential = |name: &str| {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
        path.exists().then_some(path)
    };
    KeyFiles {
        folder: layout.keys(),
        external_seal: args.seal_key.clone().or_else(|| credential("seal-key")),
        external_log: args.log_key.clone().or_else(|| credential("log-key")),
    }
}

/// Reads them, and checks that they are the ones that the log names. One that comes from elsewhere and is new is
/// adopted: the changes are to be logged.
pub fn load(files: &KeyFiles, index: &ReadIndex, read_only: bool) -> Result<(Keys, Vec<Change>), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::failed(error.to_string());
    if !read_only {
        for role in [KeyRole::Seal, KeyRole::Log] {
            files.settle(role, index).map_err(|error| failed(&error))?;
        }
    }
    let mut adopted = Vec::new();
    let seal = one(KeyRole::Seal, files.external_seal.as_deref(), files, index, &mut adopted)?;
    let log = one(KeyRole::Log, files.external_log.as_deref(), files, index, &mut adopted)?;
    if read_only && !adopted.is_empty() {
        return Err(StartError::failed(
            "a key that the log does not know is not adopted by a read-only mount",
        ));
    }
    let public = Public::read(index).map_err(|error| failed(&error))?;
    Ok((Keys::new(seal, log, public), adopted))
}

/// What was adopted is known from now on.
pub fn refresh(keys: &Keys, index: &ReadIndex) -> Result<(), StartError> {
    let public = Public::read(index).map_err(|error: LedgerError| StartError::failed(error.to_string()))?;
    keys.change(KeyRole::Seal, None, public);
    Ok(())
}

fn one(
    role: KeyRole,
    external: Option<&Path>,
    files: &KeyFiles,
    index: &ReadIndex,
    adopted: &mut Vec<Change>,
) -> Result<SigningKey, StartError> {
    let name = match role {
        KeyRole::Seal => "seal",
        KeyRole::Log => "log",
    };
    let path = external.map_or_else(|| files.folder.join(name), Path::to_owned);
    let key = SigningKey::read(&path)
        .map_err(|error| StartError::failed(format!("{}: {error}", path.display())))?;
    let failed = |error: &dyn std::fmt::Display| StartError::failed(error.to_string());
    let fingerprint = key.public().fingerprint();
    let known = index.keys().map_err(|error| failed(&error))?;
    let current = current_key(index, role).map_err(|error| failed(&error))?;
    if current.as_deref() == Some(fingerprint.as_str()) {
        return Ok(key);
    }
    let shown = path.display();
    if known.iter().any(|row| row.role == role && row.fingerprint == fingerprint) {
        return Err(StartError::failed(format!(
            "{shown}: {fingerprint} was in use before and another took its place; give the newer key"
        )));
    }
    if external.is_none() {
        return Err(StartError::failed(format!(
            "{shown}: {fingerprint} is not the key that the log names ({}); restore that one, or adopt this one, which \
             is logged, with --{name}-key {shown}",
            current.unwrap_or_else(|| "none".to_owned())
        )));
    }
    tracing::warn!(key = fingerprint, "a new {name} key is adopted from {shown}");
    files.keep_public(role, &key.public()).map_err(|error| failed(&error))?;
    adopted.push(Change::KeyMade { role, key: key.public().to_openssh("") });
    Ok(key)
}
