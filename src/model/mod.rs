//! What everything else speaks of: paths, digests, times, retention, records and the life of a file.
//!
//! Layer 0. Pure values: no I/O, no clock, no locks. Whatever is checked here (a name, a path, a
//! digest) is checked once, when the value is made, and trusted from then on by its type.

mod digest;
mod path;
mod record;
mod state;
mod time;

pub use digest::{Digest, DigestError};
pub use path::{
    NAME_MAX, NameError, PATH_MAX, RelPath, SEAL_SUFFIX, STATEMENTS_SUFFIX, SUMS_SUFFIX, Sidecar, check_name,
    is_reserved,
};
pub use record::{
    ArtifactKind, Asked, Hold, NAMESPACE_MAX, Origin, ProvenanceRef, RetentionMode, SealRecord, SealTrigger,
    is_namespace,
};
pub use state::{Event, Illegal, State};
pub use time::{FileTime, FileTimeError, Span, SpanError, Timestamp};
