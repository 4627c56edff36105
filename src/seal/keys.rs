//! The keys of a store: those that sign now, and the public halves of all that ever did.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::crypto::{PublicKey, SigningKey};
use crate::ledger::{KeyRole, LedgerError, ReadIndex};

/// The signing keys, and the public keys by fingerprint. Both may change while the daemon runs.
pub struct Keys {
    /// Held while something is signed and committed; alone while keys change. Before the index's lock.
    signing: RwLock<()>,
    state: RwLock<State>,
}

struct State {
    seal: Arc<SigningKey>,
    log: Arc<SigningKey>,
    public: Public,
}

/// The public seal keys of a store, as its log says.
#[derive(Debug, Clone, Default)]
pub struct Public {
    /// Every key that ever sealed, by fingerprint.
    pub known: HashMap<String, PublicKey>,
    /// Those that were not retired.
    pub trusted: HashMap<String, PublicKey>,
}

impl Public {
    /// Reads them from the index.
    ///
    /// # Errors
    /// If the index cannot be read, or has something that is no key.
    pub fn read(index: &ReadIndex) -> Result<Self, LedgerError> {
        let mut public = Public::default();
        for row in index.keys()?.into_iter().filter(|row| row.role == KeyRole::Seal) {
            let key = PublicKey::from_openssh(&row.public)
                .map_err(|error| LedgerError::Broken(format!("key {}: {error}", row.fingerprint)))?;
            // By what it is, not by what it is called.
            public.known.insert(key.fingerprint(), key);
            if row.retired.is_none() {
                public.trusted.insert(key.fingerprint(), key);
            }
        }
        Ok(public)
    }
}

impl Keys {
    /// The keys that sign, and those that the index knows.
    #[must_use]
    pub fn new(seal: SigningKey, log: SigningKey, public: Public) -> Self {
        Keys {
            signing: RwLock::new(()),
            state: RwLock::new(State { seal: Arc::new(seal), log: Arc::new(log), public }),
        }
    }

    /// Until this is dropped, the keys stay as they are. Taken before a batch in which something is signed.
    pub fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.signing.read()
    }

    /// Waits until nothing is being signed; until this is dropped, nothing is.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.signing.write()
    }

    /// The key that seals now.
    #[must_use]
    pub fn seal(&self) -> Arc<SigningKey> {
        Arc::clone(&self.state.read().seal)
    }

    /// The key that signs checkpoints now.
    #[must_use]
    pub fn log(&self) -> Arc<SigningKey> {
        Arc::clone(&self.state.read().log)
    }

    /// A public seal key by its fingerprint, retired ones too.
    #[must_use]
    pub fn public(&self, fingerprint: &str) -> Option<PublicKey> {
        self.state.read().public.known.get(fingerprint).copied()
    }

    /// The seal keys that may be trusted for what they signed.
    #[must_use]
    pub fn trusted(&self) -> HashMap<String, PublicKey> {
        self.state.read().public.trusted.clone()
    }

    /// From now on this key signs, and these are known.
    pub fn change(&self, role: KeyRole, key: Option<SigningKey>, public: Public) {
        let mut state = self.state.write();
        state.public = public;
        match (role, key.map(Arc::new)) {
            (KeyRole::Seal, Some(key)) => state.seal = key,
            (KeyRole::Log, Some(key)) => state.log = key,
            (_, None) => {}
        }
    }
}
