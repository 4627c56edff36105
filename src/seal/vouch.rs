//! What is signed, checked by the store's keys: asked before anything sealed is changed or ended.

use super::keys::Keys;
use super::lines::change_payload;
use crate::crypto::{self, PublicKey, dsse};
use crate::ledger::{Entry, Vouch};
use crate::model::SealRecord;
use crate::statement::{PAYLOAD_TYPE, seal_statement};

/// The keys of a store, and its name, which stands in each statement.
pub struct Signatures<'a> {
    /// The keys.
    pub keys: &'a Keys,
    /// The store's name.
    pub origin: &'a str,
}

impl Signatures<'_> {
    fn key(&self, fingerprint: &str) -> Result<PublicKey, String> {
        self.keys.public(fingerprint).ok_or_else(|| format!("{fingerprint} is no key of this store"))
    }
}

fn signed(key: &PublicKey, statement: &str, signature: &[u8; 64]) -> Result<(), String> {
    key.verify_raw(&dsse::pae(PAYLOAD_TYPE, statement.as_bytes()), signature)
        .map_err(|_| "the signature is not of what the index says".to_owned())
}

impl Vouch for Signatures<'_> {
    fn seal(&self, record: &SealRecord) -> Result<(), String> {
        let statement = seal_statement(record, self.origin).map_err(|error| error.to_string())?;
        signed(&self.key(&record.key)?, &statement, &record.statement_signature)
    }

    fn line(&self, record: &SealRecord, entry: &Entry) -> Result<(), String> {
        let payload = change_payload(record, self.origin, entry).map_err(|error| error.to_string())?;
        let (Some(payload), Some(statement)) = (payload, entry.statement()) else {
            return Err("nothing was signed with it".to_owned());
        };
        if crypto::sha256(payload.as_bytes()) != statement.sha256 {
            return Err("the digest of its statement is another".to_owned());
        }
        signed(&self.key(&statement.key)?, &payload, &statement.signature.0)
    }
}
