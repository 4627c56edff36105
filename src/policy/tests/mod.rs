//! Tests of the room as a whole; small pure helpers are tested beside their code.

mod broken;
mod decide;
mod init;
mod retain;

use super::{NameLookup, Policy};
use crate::model::RelPath;

/// A host with the user alice (1000) and the group release (2000).
pub(super) struct FakeHost;

impl NameLookup for FakeHost {
    fn uid(&self, name: &str) -> Option<u32> {
        (name == "alice").then_some(1000)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        (name == "release").then_some(2000)
    }
}

pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(text, "policy.toml", &FakeHost).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}
