//! The policy in force, and how it is replaced.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Policy;

/// The policy in force. Whoever decides takes it once and stays with it for that decision.
#[derive(Debug)]
pub struct Current(RwLock<Arc<Policy>>);

impl Current {
    /// Begins with this one.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Current(RwLock::new(Arc::new(policy)))
    }

    /// The one in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read())
    }

    /// Puts another one in force. What is sealed keeps what it was sealed with.
    pub fn set(&self, policy: Policy) {
        *self.0.write() = Arc::new(policy);
    }
}
