//! sealfs: a file system in which every build output is written once and then sealed.
//!
//! A library and two small binaries. The rooms stand in layers; a room may use those below it that its row
//! names, and nothing else. `tests/architecture.rs` reads this table and the `use crate::…` lines.
//!
//! | layer | room | purpose | may use |
//! | --- | --- | --- | --- |
//! | 0 | `model` | paths, digests, times, retention, records, the life of a file; no I/O | |
//! | 0 | `metrics` | counters: what the daemon was asked, and what it cost | |
//! | 0 | `mounts` | what the kernel has mounted | |
//! | 0 | `sched` | whose turn it is on the processor | |
//! | 1 | `durable` | the only fsync, rename-into-place and directory-sync code | metrics |
//! | 1 | `policy` | rules to decisions: pure functions of facts and now | model |
//! | 1 | `crypto` | hash, keys, SSHSIG, DSSE, signed notes, canonical JSON | model |
//! | 1 | `clock` | time that cannot be turned back or leapt forward | model |
//! | 2 | `store` | the backing tree: the only code that touches artifact bytes | model, durable |
//! | 2 | `ledger` | the single door to truth: index and log entries behind one commit | model, metrics, durable, policy, crypto, clock |
//! | 2 | `statement` | statements and sidecars rendered from records | model, crypto |
//! | 2 | `provenance` | what the kernel says of the writer | model, mounts, sched, crypto |
//! | 3 | `recovery` | an index made again from log and tree, or compared with it; backup and restore | model, durable, crypto, clock, store, ledger, statement |
//! | 3 | `seal` | the pipeline, from last close to committed; changes of retention | model, metrics, sched, durable, policy, crypto, clock, store, ledger, statement, provenance |
//! | 4 | `verify` | read-only: is this file, this store what it says? | model, policy, crypto, clock, store, ledger, statement, recovery, seal |
//! | 4 | `vfs` | the semantics of each operation, without FUSE types | model, durable, policy, crypto, clock, store, ledger, statement, provenance, seal |
//! | 5 | `control` | socket, protocol, who may ask what | model, metrics, policy, crypto, store, ledger, seal, vfs |
//! | 5 | `fuse` | thin adapter over `fuser` | model, metrics, policy, store, vfs |
//! | 6 | `cli` | arguments, rendering, exit codes; one file a command | model, mounts, durable, policy, crypto, clock, store, ledger, statement, provenance, recovery, seal, verify, control |
//! | 6 | `daemon` | composition root: arguments, threads, signals, wiring | model, mounts, metrics, sched, policy, crypto, clock, store, ledger, provenance, recovery, seal, vfs, control, fuse |
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo))]

pub mod cli;
pub mod clock;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod durable;
pub mod fuse;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod mounts;
pub mod policy;
pub mod provenance;
pub mod recovery;
pub mod sched;
pub mod seal;
pub mod statement;
pub mod store;
pub mod verify;
pub mod vfs;
