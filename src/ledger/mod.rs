//! The single door to truth: what is sealed, until when, and how it came to be.
//!
//! Layer 2. Every change of state is one canonical entry, in the same SQLite transaction as its hashes in the
//! Merkle tree and its effect on the index (`synchronous=FULL`): when [`Batch::commit`] returns, all are durable,
//! and none exists without the others. The log is exported after that ([`Exporter`]), as C2SP tlog-tiles with a
//! signed checkpoint. Entries in full, durable bundles may leave the index; [`ReadIndex::entry`] finds them in
//! both. The index can be made again from the log ([`Replay`]): new entries and old ones go the same way
//! (`apply`). Readers use their own read-only connections and never wait for the writer.

pub mod anchor;
mod apply;
mod batch;
mod belief;
mod entry;
mod export;
mod files;
mod index;
pub mod log;
mod log_keys;
mod proven;
mod replay;
pub mod rules;
mod sealed;
mod signature;
mod tree;

pub use apply::Backing;
pub use batch::{Batch, Committed, NewSeal};
pub use belief::{Belief, Differences};
pub use entry::{
    Actor, Change, ENTRY_MAX, Ending, Entry, EntryRow, KeyRole, ROTATION_TYPE, SignedStatement,
    rotation_payload,
};
pub use export::{Exporter, check_rollback};
pub use files::{LogFiles, TileHashes};
pub use index::{
    Attachment, AttachmentKind, Filter, Index, KeyRow, Pending, ReadIndex, Refusal, Summary, Totals, Traced,
};
pub use log_keys::log_keys;
pub use proven::{NotProven, Proven, RemovalPermit, Vouch};
pub use replay::Replay;
pub use sealed::{Perm, ProvenanceEntry, Sealed, StatementDigests, StatementRef};
pub use signature::Signature;

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite said so. A failed commit has changed nothing.
    #[error("index: {0}")]
    Sqlite(#[from] index::SqliteError),
    /// A commit failed, and so did the attempt to write over what it may have left on the disk: after a crash now it
    /// may turn out to have happened. [`Index::rule_out_doubt`] ends that.
    #[error(
        "index: {0}; whether a crash would bring this change back is not known until the disk takes writes again"
    )]
    InDoubt(#[source] index::SqliteError),
    /// The index is of another format or does not hold together.
    #[error("index: {0}")]
    Broken(String),
    /// An entry could not be written down canonically, or what was read is none.
    #[error("entry: {0}")]
    Entry(String),
    /// The exported log cannot be read or written, or does not hold together.
    #[error("log: {0}")]
    Log(String),
    /// Index and exported log contradict each other: one of them was put back or exchanged.
    #[error("{0}")]
    Rollback(String),
}

impl LedgerError {
    /// Whether room is missing on the backing file system: nothing has changed, and it may work once there is some.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, LedgerError::Sqlite(error) | LedgerError::InDoubt(error) if index::is_full(error))
    }

    /// Whether what failed may still turn out to have happened.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, LedgerError::InDoubt(_))
    }
}
