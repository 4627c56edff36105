//! The pipeline, from the last close to the commit.
//!
//! Layer 3. `settle → prove → hash → make durable → freeze the name → sign → commit → tell`. Each file that
//! is not sealed has one [`Life`]; a step looks at it under its lock and lets go. Nothing here waits for a
//! user, and no user's call waits for anything here but those that ask for a seal.

mod attest;
mod before;
mod commit;
mod digest;
mod durability;
mod early;
mod gather;
mod journal;
mod keys;
mod life;
mod lines;
mod lives;
mod marks;
mod names;
mod observed;
mod pieces;
mod pipeline;
mod progress;
mod queue;
mod renew;
mod retain;
mod rotate;
mod settle;
mod timer;
mod trace;
pub mod trust;
mod vouch;
mod work;
mod writing;

pub use attest::{AttestError, attest};
pub use before::Before;
pub use digest::{Content, Stream, hash_file};
pub use journal::{Found, Journal};
pub use keys::{Keys, Public};
pub use life::{Life, LifeState, NotSealed, Outcome, Phase, Waiter, Writer};
pub use lines::{LinesError, change_payload, provenance_payload, render_lines};
pub use lives::Lives;
pub use observed::Observed;
pub use pipeline::{Counts, Demand, Pipeline, Setup};
pub use retain::{RetainError, Retention, Right, Wanted};
pub use rotate::{KeyFiles, RotateError, Rotation, current as current_key};
pub use trace::{COMMIT_MIN, Query, TraceView, trace};
pub use vouch::Signatures;
pub use writing::{Flusher, Looks};
