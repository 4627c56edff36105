//! An index made again from log and tree; metadata taken out of a store and brought back.
//!
//! Layer 3. An index that is in use is compared with its log by the same words. The log is the truth, as far as its checkpoint holds; the index follows from it entry by entry, by the
//! code that wrote it. What only the disk knows (inode numbers) is asked of the tree; whether the bytes are still the
//! sealed ones is for `verify` to say.

mod backup;
mod compare;
mod rebuild;
mod replay;

pub use backup::{BackupError, Restored, backup, restore};
pub use compare::{compare, compare_in};
pub use rebuild::{RebuildError, Rebuilt, rebuild};
pub use replay::{Replayed, Source, replay};
