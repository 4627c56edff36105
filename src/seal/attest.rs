//! Others' attestations, added to a seal.

use crate::clock::Clock;
use crate::crypto;
use crate::ledger::{Actor, AttachmentKind, Change, Index, LedgerError};
use crate::model::SealRecord;
use crate::statement::{AttestedError, attested_subject};

/// Most attestations on one file, and most bytes of all of them: `F.seal.jsonl` is made whole, in memory.
pub const ATTESTATIONS_MAX: usize = 100;
/// See [`ATTESTATIONS_MAX`].
pub const ATTESTATION_BYTES_MAX: usize = 16 << 20;

/// Why an attestation was not added.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// It is none, or about another file.
    #[error(transparent)]
    Attested(#[from] AttestedError),
    /// It is there.
    #[error("this envelope was added before")]
    Twice,
    /// There are as many as a file can have.
    #[error(
        "a file can have {ATTESTATIONS_MAX} attestations, and this one has them; put several statements into one, or attest a manifest that names it"
    )]
    TooMany,
    /// They are as large as those of a file can be.
    #[error(
        "the attestations of a file can have {} MiB in all, and with this one they would have more; attest the digest of \
         what is large", ATTESTATION_BYTES_MAX >> 20
    )]
    TooLarge,
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
    let (mut count, mut bytes) = (0, envelope.len());
    for position in index.read().lines(record.id)? {
        let entry = index.read().entry(position)?.map(|row| row.parse()).transpose()?;
        if let Some(Change::Attested { sha256: known, attachment, .. }) = entry.map(|entry| entry.change) {
            if known == sha256 {
                return Err(AttestError::Twice);
            }
            count += 1;
            bytes += index.read().attachment_length(attachment)?;
        }
    }
    if count >= ATTESTATIONS_MAX {
        return Err(AttestError::TooMany);
    }
    if bytes > ATTESTATION_BYTES_MAX {
        return Err(AttestError::TooLarge);
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
