//! What is likely not meant in a policy that has no mistakes.

use super::Policy;
use crate::model::{RetentionMode, SealTrigger, Span};

/// Years beyond which a compliance retention is likely a slip.
const YEARS: u32 = 30;

impl Policy {
    /// What somebody should look at, one line each; none for a policy that is likely meant so.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.decisions.is_empty() && self.default_settings.is_empty() {
            warnings.push(
                "it says nothing: every file is sealed 10 s after its last close and kept for 30 days; state what is meant"
                    .to_owned(),
            );
        }
        for (rule, by) in self.globs.covered() {
            let (label, by) = (&self.decisions[rule].label, &self.decisions[by].label);
            warnings.push(format!(
                "{label}: it never applies, since {by} comes before it and matches all that it matches; put it first"
            ));
        }
        if self.roles.has_no_governance() {
            warnings.push(
                "governance = []: nobody can shorten a retention, remove a hold, accept the clock or change keys".to_owned(),
            );
        }
        let long = Span { months: 12 * YEARS, rest: std::time::Duration::ZERO };
        for decision in std::iter::once(&self.fallback).chain(&self.decisions) {
            if decision.mode == RetentionMode::Compliance && decision.retention > long {
                warnings.push(format!(
                    "{}: a compliance retention of {} cannot be shortened by anybody",
                    decision.label, decision.retention
                ));
            }
            let settles = decision.seal == SealTrigger::Close;
            if settles && decision.settle > decision.retention {
                warnings.push(format!(
                    "{}: settle = {} is longer than the retention, {}",
                    decision.label, decision.settle, decision.retention
                ));
            }
        }
        warnings
    }
}
