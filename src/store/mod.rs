//! The backing tree: the only code that touches artifact bytes.
//!
//! Layer 2. Everything below `tree/` is reached relative to directory descriptors, one component at a time
//! or by `openat2` beneath the root, so that no path of a user can leave the store.

mod freeze;
mod handover;
mod layout;
mod lock;
mod names;
mod nodes;
mod places;
mod probe;
mod reserve;
pub mod room;
mod shards;
mod tree;
mod walk;
mod window;

pub use freeze::{Lease, LeaseError, cached_pages, drop_cached, is_immutable, set_immutable};
pub use handover::{Ghosts, Handover, Live, LiveHandle, LiveKind, LiveNode};
pub use layout::{Layout, LayoutError};
pub use lock::{LockError, StoreLock};
pub use names::SystemNames;
pub use places::{Place, Places, ROOT};
pub use probe::{Abilities, probe};
pub use reserve::Reserve;
pub use shards::Shards;
pub use tree::{
    Entry, EntryKind, Meta, SetTime, Tree, create_at, list, mkdir_at, open_at, readlink_at, remove_at,
    rename_at, reopen, set_owner, set_perm, set_times, set_times_at, stat_at, stat_fd, symlink_at,
};
pub use walk::Walk;
