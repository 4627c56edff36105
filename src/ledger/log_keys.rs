//! The keys whose checkpoints are believed.

use std::fs;
use std::path::Path;

use crate::crypto::PublicKey;

/// The public log keys in a store's folder of keys (`log*.pub`): those whose checkpoints are believed there. What is no
/// key is passed over: it vouches for nothing.
#[must_use]
pub fn log_keys(folder: &Path) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("log")
            && name.ends_with(".pub")
            && let Ok(text) = fs::read_to_string(entry.path())
            && let Ok(key) = PublicKey::from_openssh(text.trim())
        {
            keys.push(key);
        }
    }
    keys
}
