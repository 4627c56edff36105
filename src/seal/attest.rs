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
    for position in index.read().lines(record.id)? {
        let entry = index.read().entry(position)?.map(|row| row.parse()).transpose()?;
        if matches!(entry.map(|entry| entry.change), Some(Change::Attested { sha256: known, .. }) if known == sha256)
        {
            return Err(AttestError::Twice);
        }
    }
    let mut batch = index.batch(clock)?;
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
