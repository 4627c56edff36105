//! The thin adapter over `fuser`: one call into `vfs`, one reply, one errno table.
//!
//! Layer 5.

mod adapter;
mod convert;
mod errno;
mod notify;
mod passthrough;

pub use adapter::{Adapter, Wishes};
pub use notify::{attributes_changed, run as run_notifier};
pub use passthrough::{Backings, works as passthrough_works};
