//! What a store's `policy.toml` says, as pure functions of text, path, facts and now.
//!
//! Layer 1: no I/O, no clock, no logging. A [`Policy`] is parsed once, every rule resolved against the
//! defaults, and asked for each file: the first matching rule wins. What may happen to a retention is
//! decided in [`retention`].

mod current;
mod decision;
mod error;
mod explain;
mod globs;
mod init;
mod parse;
mod read;
pub mod retention;
mod roles;
#[cfg(test)]
mod tests;
mod warnings;

pub use current::Current;
pub use decision::{Decision, Expired, Hardlink, RefusalErrno, Symlinks};
pub use error::PolicyError;
pub use explain::{Explanation, Setting};
pub use init::{Purpose, init_text};
pub use retention::RetentionRefusal;
pub use roles::{NameLookup, Role, Roles};

use crate::model::{Digest, RelPath, Span};
use decision::Settings;
use globs::RuleGlobs;

/// What `[provenance]` says of the writer's surroundings that go into a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Names of environment variables to record, beside those of the known CI systems.
    pub env: Vec<String>,
    /// Whether command lines are recorded, with what looks like a secret masked; `arguments = "off"` switches it off.
    pub arguments: bool,
}

/// A whole policy: text, digest, and one resolved [`Decision`] for each rule and for the defaults.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The text as read; what [`Policy::digest`] is of.
    text: String,
    digest: Digest,
    /// The defaults' decision.
    fallback: Decision,
    /// One for each rule, in order.
    decisions: Vec<Decision>,
    /// What each table stated itself, for [`Policy::explain`].
    default_settings: Settings,
    rule_settings: Vec<Settings>,
    globs: RuleGlobs,
    /// Whether directories list sidecars.
    pub sidecars_listed: bool,
    /// How much time with the host off is believed from the wall clock, in all, between acceptances.
    pub max_gap: Span,
    /// Who may ask for what.
    pub roles: Roles,
    /// What is recorded of a writer.
    pub provenance: Provenance,
}

impl Policy {
    /// Parses the text of a `policy.toml`; `file` is its name in errors. Names of users and groups are
    /// looked up once, here.
    ///
    /// # Errors
    /// The first mistake, with line, column and what was expected.
    pub fn parse(text: &str, file: &str, names: &dyn NameLookup) -> Result<Self, PolicyError> {
        parse::policy(text, file, names)
    }

    /// What holds for `path`: the first rule with a glob that matches it, else the defaults.
    #[must_use]
    pub fn decide(&self, path: &RelPath) -> &Decision {
        self.globs.first_rule(path).and_then(|rule| self.decisions.get(rule)).unwrap_or(&self.fallback)
    }

    /// What holds for a path that no rule matches.
    #[must_use]
    pub fn defaults(&self) -> &Decision {
        &self.fallback
    }

    /// The rules' decisions, in order.
    #[must_use]
    pub fn rules(&self) -> &[Decision] {
        &self.decisions
    }

    /// The errno with which changes at `path` are refused.
    #[must_use]
    pub fn errno_for(&self, path: &RelPath) -> RefusalErrno {
        self.decide(path).errno
    }

    /// SHA-256 of the text, as it stands in each seal.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The text as it was parsed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
