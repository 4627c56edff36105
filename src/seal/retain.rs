//! Changes of retention: each a signed line and a log entry, in one transaction.

use std::sync::Arc;

use super::keys::Keys;
use crate::clock::Clock;
use crate::crypto::{self, dsse};
use crate::ledger::{Actor, Batch, Index, LedgerError, Signature, SignedStatement};
use crate::model::{SealRecord, Timestamp};
use crate::statement::{PAYLOAD_TYPE, RetentionChange, change_statement};

/// What changing retention needs. Whether it may be changed, the caller has asked the policy.
pub struct Retention<'a> {
    /// The index.
    pub index: &'a Index,
    /// Sealfs time.
    pub clock: &'a Clock,
    /// The keys.
    pub keys: &'a Arc<Keys>,
    /// The store's name.
    pub origin: &'a str,
}

impl Retention<'_> {
    fn line(
        &self,
        batch: &Batch<'_>,
        record: &SealRecord,
        change: &RetentionChange<'_>,
    ) -> Result<SignedStatement, LedgerError> {
        let payload = change_statement(record, self.origin, batch.next_index(), batch.now(), change)
            .map_err(|error| LedgerError::Entry(error.to_string()))?;
        let key = self.keys.seal();
        Ok(SignedStatement {
            sha256: crypto::sha256(payload.as_bytes()),
            key: key.public().fingerprint(),
            signature: Signature(dsse::sign(&key, PAYLOAD_TYPE, payload.as_bytes())),
        })
    }

    /// Retained until then; with a reason if that is earlier than now. Durable on return.
    ///
    /// # Errors
    /// If the index fails; nothing has then changed.
    pub fn set(
        &self,
        record: &SealRecord,
        until: Timestamp,
        by: Actor,
        reason: Option<&str>,
    ) -> Result<(), LedgerError> {
        let _steady = self.keys.steady();
        let mut batch = self.index.batch(self.clock)?;
        let line = self.line(&batch, record, &RetentionChange::Until(until, reason))?;
        batch.retain(record, until, by, reason, line)?;
        batch.commit().map(drop)
    }

    /// Places or removes a hold; answers whether that changed anything. Durable on return.
    ///
    /// # Errors
    /// If the index fails; nothing has then changed.
    pub fn hold(
        &self,
        record: &SealRecord,
        name: &str,
        placed: bool,
        by: Actor,
    ) -> Result<bool, LedgerError> {
        let _steady = self.keys.steady();
        let mut batch = self.index.batch(self.clock)?;
        let line = self.line(&batch, record, &RetentionChange::Hold(name, placed))?;
        if !batch.hold(record, name, placed, by, line)? {
            return Ok(false);
        }
        batch.commit()?;
        Ok(true)
    }
}
