//! Attestations that others made: DSSE envelopes around in-toto statements (Statement v1, and v0.1 of older tools).

use serde_json::Value;

use super::PAYLOAD_TYPE;
use crate::crypto::dsse;
use crate::model::Digest;

/// Longest envelope that is taken, in bytes.
pub const ATTESTATION_MAX: usize = 16 << 20;

/// Why an envelope is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestedError {
    /// It is no DSSE envelope.
    #[error("not a DSSE envelope: {0}")]
    Envelope(String),
    /// What is in it is no in-toto statement.
    #[error("the envelope holds no in-toto statement: {0}")]
    Statement(String),
    /// It is about something else.
    #[error("none of its subjects has the SHA-256 {0}")]
    OtherFile(String),
}

/// Reads an envelope and finds the file among its subjects. Answers what it attests, the predicate type. Who signed
/// it is not checked: that is for whoever relies on it, with the attester's key.
///
/// # Errors
/// [`AttestedError`].
pub fn attested_subject(envelope: &[u8], sha256: &Digest) -> Result<String, AttestedError> {
    let statement = |what: &str| AttestedError::Statement(what.to_owned());
    let envelope = dsse::parse(envelope).map_err(|error| AttestedError::Envelope(error.to_string()))?;
    if envelope.payload_type() != PAYLOAD_TYPE {
        return Err(AttestedError::Statement(format!(
            "its payload is of type {:?}",
            envelope.payload_type()
        )));
    }
    let value: Value = serde_json::from_slice(envelope.payload())
        .map_err(|error| AttestedError::Statement(error.to_string()))?;
    let kind = value["_type"].as_str().unwrap_or_default();
    if !kind.starts_with("https://in-toto.io/Statement/") {
        return Err(statement("it has no _type of in-toto"));
    }
    let predicate = value["predicateType"].as_str().ok_or_else(|| statement("it has no predicateType"))?;
    if predicate.len() > 1000 || predicate.chars().any(char::is_control) {
        return Err(statement("its predicateType is no URI"));
    }
    let hex = sha256.to_hex();
    let subjects = value["subject"].as_array().map(Vec::as_slice).unwrap_or_default();
    let about = subjects.iter().any(|subject| {
        subject["digest"]["sha256"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(&hex))
    });
    if about { Ok(predicate.to_owned()) } else { Err(AttestedError::OtherFile(hex)) }
}
