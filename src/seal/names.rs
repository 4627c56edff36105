//! The host's names of users and groups, for the policy's roles.

use crate::policy::NameLookup;
use crate::store::SystemNames;

impl NameLookup for SystemNames {
    fn uid(&self, name: &str) -> Option<u32> {
        SystemNames::uid(self, name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        SystemNames::gid(self, name)
    }
}
