//! The keys of a store: the one that seals, and the public halves of all that ever did.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::crypto::{KeyError, PublicKey, SigningKey};

/// The seal key and the public keys by fingerprint.
pub struct Keys {
    seal: SigningKey,
    known: HashMap<String, PublicKey>,
}

impl Keys {
    /// Reads the private seal key, and every `*.pub` in the folder of keys.
    ///
    /// # Errors
    /// [`KeyError`], with the file and what to do.
    pub fn load(seal: &Path, folder: &Path) -> Result<Self, KeyError> {
        let seal = SigningKey::read(seal)?;
        let mut known = public_keys(folder);
        let public = seal.public();
        known.insert(public.fingerprint(), public);
        Ok(Keys { seal, known })
    }

    /// The key that seals now.
    #[must_use]
    pub fn seal(&self) -> &SigningKey {
        &self.seal
    }

    /// A public key by its fingerprint.
    #[must_use]
    pub fn public(&self, fingerprint: &str) -> Option<&PublicKey> {
        self.known.get(fingerprint)
    }

    /// Every public key, by fingerprint.
    #[must_use]
    pub fn all(&self) -> &HashMap<String, PublicKey> {
        &self.known
    }
}

/// Every public seal key (`seal*.pub`) in a folder, by fingerprint. What is no key is passed over: it vouches
/// for nothing.
#[must_use]
pub fn public_keys(folder: &Path) -> HashMap<String, PublicKey> {
    let mut known = HashMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("seal")
            && name.ends_with(".pub")
            && let Ok(text) = fs::read_to_string(entry.path())
            && let Ok(key) = PublicKey::from_openssh(text.trim())
        {
            known.insert(key.fingerprint(), key);
        }
    }
    known
}
