//! sealfs: a file system in which every build output is written once and then sealed.
pub mod model;
