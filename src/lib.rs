//! sealfs: a file system in which every build output is written once and then sealed.
//!
pub mod cli;
pub mod clock;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod durable;
pub mod fuse;
pub mod ledger;
pub mod model;
pub mod policy;
pub mod provenance;
pub mod seal;
pub mod statement;
pub mod store;
pub mod verify;
pub mod vfs;
