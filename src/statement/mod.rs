//! Statements and sidecars, rendered from records by versioned templates.
//!
//! Layer 2. Nothing here is stored but the signatures: a record and the version of its template give the
//! same bytes for ever, so a template once released never changes; a better one gets the next number.

mod attested;
mod provenance;
mod render;

pub use attested::{ATTESTATION_MAX, AttestedError, attested_subject};
pub use provenance::{
    PROVENANCE_TYPE, ProvenanceError, ProvenanceTemplate, claimed_commits, provenance_body,
    provenance_statement, unknown_writer,
};
pub use render::{
    HOLD_TYPE, PAYLOAD_TYPE, RETENTION_TYPE, RetentionChange, SEAL_TYPE, TEMPLATE, change_statement,
    render_signature, seal_statement,
};
