//! Others' attestations, added to a seal.

use crate::clock::Clock;
use crate::crypto;
use crate::ledger::{Actor, AttachmentKind, Change, Index, LedgerError};
use crate::model::SealRecord;
use crate::statement::{AttestedError, attested_subject};

/// Why an attestation was not added.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// It is none, or about another file.
    #[error(transparent)]
    Attested(#[from] AttestedError),
    /// It is there.
    #[error("this envelope was added before")]
    Twice,
    /// The seal does not stand any more.
    #[error("this seal does not stand any more; look at the file again")]
    Gone,
    /// The index.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Adds an envelope, one line of JSON, as a further line of `F.seal.jsonl`. On return it is durable and logged.
/// Answers what it attests.
///
/// # Errors
/// [`AttestError`].
pub fn attest(
    index: &Index,
    clock: &Clock,
    record: &SealRecord,
    envelope: &str,
    by: Actor,
) -> Result<String, AttestError> {
    let predicate = attested_subject(envelope.as_bytes(), &record.sha256)?;
    let sha256 = crypto::sha256(envelope.as_bytes());
    let mut batch = index.batch(clock)?;
    // Looked at under the lock, so that two requests at once add it once.
    if index.read().find(&record.path)?.is_none_or(|found| found.log_index != record.log_index) {
        return Err(AttestError::Gone);
    }
    for position in index.read().lines(record.id)? {
        let entry = index.read().entry(position)?.map(|row| row.parse()).transpose()?;
        if matches!(entry.map(|entry| entry.change), Some(Change::Attested { sha256: known, .. }) if known == sha256)
        {
            return Err(AttestError::Twice);
        }
    }
    let attachment = batch.attach(AttachmentKind::Envelope, envelope, &[])?;
    batch.note(Change::Attested {
        path: record.path.clone(),
        seal: record.log_index,
        attachment,
        sha256,
        predicate: predicate.clone(),
        by,
    })?;
    batch.commit()?;
    Ok(predicate)
}
