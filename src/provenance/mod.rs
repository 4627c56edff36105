//! What the kernel says of the process that writes.
//!
//! Layer 2. The serving threads only say which process it is ([`Observer::observe`]); everything in `/proc` that may
//! make one wait is read on the observer's own threads, with a deadline. What is late is unknown, and is told as that.

mod chain;
mod claims;
mod executable;
mod mask;
mod observer;
mod process;
mod recent;
mod room;
mod writer;

pub use claims::{ALLOWED, Claims, claims, pick};
pub use mask::{mask, mask_value};
pub use observer::{Observation, Observer, Outcome};
pub use process::{Exit, exit_of, may_have_written, name_of, self_test, thread_group};
pub use writer::{Settings, Writer};
