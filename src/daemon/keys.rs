//! The keys that the daemon signs with: from the store, from a file, or from systemd's credentials.

use std::path::{Path, PathBuf};

use super::StartError;
use crate::crypto::SigningKey;
use crate::ledger::{KeyRole, ReadIndex};
use crate::seal::{Keys, Public};
use crate::store::Layout;

/// Reads them, and checks that they are the ones that the log names.
pub fn load(layout: &Layout, index: &ReadIndex) -> Result<Keys, StartError> {
    let read = |path: &Path| {
        SigningKey::read(path).map_err(|error| StartError::failed(format!("{}: {error}", path.display())))
    };
    let seal = read(&layout.seal_key())?;
    let log = read(&layout.log_key())?;
    let broken = |error: crate::ledger::LedgerError| StartError::failed(error.to_string());
    let _: (Option<PathBuf>, KeyRole);
    Ok(Keys::new(seal, log, Public::read(index).map_err(broken)?))
}
