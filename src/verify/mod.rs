//! Is this file, this folder, this store what it says?
//!
//! Layer 3, read-only: nothing here writes, takes a lock or asks the daemon. Of each file the first wrong
//! thing is told, in the order in which somebody would look: is it there, are the bytes the sealed ones, was
//! the hash signed, is the statement signed, does the log have it, is what came later (extensions, holds)
//! signed and logged too, are the attributes as they were sealed.

mod agree;
mod disk;
mod finding;
mod keys;
mod links;
mod log;
mod offline;
mod record;
mod require;
mod walk;

pub use agree::check_index;
pub use finding::Finding;
pub use keys::KnownKeys;
pub use log::LogView;
pub use offline::{Copied, OfflineError, Together, Vouched, copies_below, verify_copy};
pub use record::{check_attributes, check_content, check_entry, check_lines, check_seal};
pub use require::{Facts, Requirement};
pub use walk::{Checked, Progress, Unsealed, Verifier};
