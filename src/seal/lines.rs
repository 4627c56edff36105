//! The lines of `F.seal.jsonl`, rendered from record, attachments and log.

use crate::crypto::{dsse, jcs};
use crate::ledger::{Change, Entry, LedgerError, ReadIndex};
use crate::model::SealRecord;
use crate::statement::{
    PAYLOAD_TYPE, ProvenanceError, RetentionChange, change_statement, provenance_statement, seal_statement,
};

/// Why the lines cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// Index or log say no.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Something cannot be stated.
    #[error(transparent)]
    Statement(#[from] jcs::JcsError),
    /// The provenance cannot be.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The index refers to what is not there.
    #[error("{0}")]
    Missing(String),
}

/// The whole content of `F.seal.jsonl`: the seal, the provenance, then what came later, oldest first.
///
/// # Errors
/// [`LinesError`].
pub fn render_lines(record: &SealRecord, origin: &str, index: &ReadIndex) -> Result<String, LinesError> {
    let seal = seal_statement(record, origin)?;
    let mut text = dsse::envelope(PAYLOAD_TYPE, seal.as_bytes(), &record.key, &record.statement_signature);
    text.push('\n');
    if let Some(provenance) = provenance_payload(record, origin, index)?
        && let Some(made) = &record.provenance
    {
        text.push_str(&dsse::envelope(PAYLOAD_TYPE, provenance.as_bytes(), &record.key, &made.signature));
        text.push('\n');
    }
    for position in index.lines(record.id)? {
        let row = index
            .entry(position)?
            .ok_or_else(|| LinesError::Missing(format!("entry {position} of the log is missing")))?;
        if let Some(line) = render_line(record, origin, &row.parse()?, index)? {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The provenance statement of a record (a DSSE payload); none if it has none.
///
/// # Errors
/// [`LinesError`].
pub fn provenance_payload(
    record: &SealRecord,
    origin: &str,
    index: &ReadIndex,
) -> Result<Option<String>, LinesError> {
    let Some(made) = &record.provenance else { return Ok(None) };
    let attachment = index
        .attachment(made.attachment)?
        .ok_or_else(|| LinesError::Missing(format!("attachment {} is missing", made.attachment)))?;
    Ok(Some(provenance_statement(record, origin, &attachment.body)?))
}

/// The statement (a DSSE payload) that was signed with a change of a seal's retention; none for other entries.
///
/// # Errors
/// If it cannot be stated.
pub fn change_payload(
    record: &SealRecord,
    origin: &str,
    entry: &Entry,
) -> Result<Option<String>, jcs::JcsError> {
    let change = match &entry.change {
        Change::Extended { retain_until, .. } => RetentionChange::Until(*retain_until, None),
        Change::Shortened { retain_until, reason, .. } => RetentionChange::Until(*retain_until, Some(reason)),
        Change::Held { hold, .. } => RetentionChange::Hold(hold, true),
        Change::Released { hold, .. } => RetentionChange::Hold(hold, false),
        _ => return Ok(None),
    };
    change_statement(record, origin, entry.index, entry.time, &change).map(Some)
}

/// The line that an entry stands for. An envelope that is lost has none; `verify` tells of it.
fn render_line(
    record: &SealRecord,
    origin: &str,
    entry: &Entry,
    index: &ReadIndex,
) -> Result<Option<String>, LinesError> {
    if let Change::Attested { attachment, .. } = &entry.change {
        return Ok(index.attachment(*attachment)?.map(|attached| attached.body));
    }
    match (change_payload(record, origin, entry)?, entry.statement()) {
        (Some(payload), Some(signed)) => {
            Ok(Some(dsse::envelope(PAYLOAD_TYPE, payload.as_bytes(), &signed.key, &signed.signature.0)))
        }
        _ => Err(LinesError::Missing(format!("entry {} stands for no line", entry.index))),
    }
}
