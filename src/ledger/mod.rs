//! The single door to truth: what is sealed, until when, and how it came to be.
//!
//! Layer 2. Every change of state is one canonical entry, in the same SQLite transaction as its effect
//! (`synchronous=FULL`): when [`Batch::commit`] returns, both are durable, and neither exists without the
//! other. Readers use their own read-only connections and never wait for the writer.

mod batch;
mod entry;
mod index;

pub use batch::{Batch, Committed, NewSeal};
pub use entry::{Actor, Ending, EntryBody, EntryRow};
pub use index::{Filter, Index, Pending, ReadIndex, Refusal, Summary};

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite said so. A failed commit has changed nothing.
    #[error("index: {0}")]
    Sqlite(#[from] index::SqliteError),
    /// The index is of another format or does not hold together.
    #[error("index: {0}")]
    Broken(String),
    /// An entry could not be written down canonically.
    #[error("entry: {0}")]
    Entry(String),
}
