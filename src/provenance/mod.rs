//! What the kernel says of the process that writes.
//!
//! Layer 2.

mod process;

pub use process::{Exit, exit_of, name_of, self_test, thread_group};
