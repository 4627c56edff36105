//! Why a path is treated as it is, for `sealctl policy explain PATH`.

use super::Policy;
use super::decision::{KEYS, trigger_word};
use crate::model::RelPath;

/// What holds for a path, and where each part of it comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// The path that was asked for.
    pub path: String,
    /// `defaults`, or `rule 2 (releases/**)`.
    pub label: String,
    /// The rule's number, from 1; `None` for the defaults.
    pub rule: Option<usize>,
    /// The glob of that rule that matched.
    pub glob: Option<String>,
    /// Every effective setting, in the order of the contract's `[defaults]`.
    pub settings: Vec<Setting>,
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The key in the policy.
    pub name: &'static str,
    /// The value, as the policy would state it.
    pub value: String,
    /// The rule's label, `[defaults]`, `built in`, or how `min` and `max` follow from the retention.
    pub from: String,
}

impl Policy {
    /// What holds for `path`, and where it comes from.
    #[must_use]
    pub fn explain(&self, path: &RelPath) -> Explanation {
        let decision = self.decide(path);
        let own = decision.rule.and_then(|rule| self.rule_settings.get(rule));
        let defaults = &self.default_settings;
        let settings = KEYS
            .into_iter()
            .map(|name| {
                let from = if own.is_some_and(|own| own.states(name)) {
                    decision.label.clone()
                } else if defaults.states(name) {
                    let limit = match name {
                        "min" => defaults.min.as_ref().map(|at| at.value != decision.min),
                        "max" => defaults.max.as_ref().map(|at| at.value != decision.max),
                        _ => None,
                    };
                    let widened = if limit == Some(true) { ", widened to the rule's retention" } else { "" };
                    format!("[defaults]{widened}")
                } else if matches!(name, "min" | "max") {
                    "the retention".to_owned()
                } else {
                    "built in".to_owned()
                };
                Setting { name, value: decision.value(name), from }
            })
            .collect();
        Explanation {
            path: path.to_string(),
            label: decision.label.clone(),
            rule: decision.rule.map(|rule| rule + 1),
            glob: self.globs.first_glob(path).map(str::to_owned),
            settings,
        }
    }
}

impl super::decision::Settings {
    /// Whether this table states the key itself.
    fn states(&self, key: &str) -> bool {
        match key {
            "retention" => self.retention.is_some(),
            "min" => self.min.is_some(),
            "max" => self.max.is_some(),
            "mode" => self.mode.is_some(),
            "seal" => self.seal.is_some(),
            "settle" => self.settle.is_some(),
            "settle_empty" => self.settle_empty.is_some(),
            "namespace" => self.namespace.is_some(),
            "hardlink" => self.hardlink.is_some(),
            "symlinks" => self.symlinks.is_some(),
            "errno" => self.errno.is_some(),
            "expired" => self.expired.is_some(),
            "unfinished" => self.unfinished.is_some(),
            _ => false,
        }
    }
}

impl super::Decision {
    /// The value of a key, as the policy would state it; empty for an unknown key.
    fn value(&self, key: &str) -> String {
        match key {
            "retention" => self.retention.to_string(),
            "min" => self.min.to_string(),
            "max" => self.max.to_string(),
            "mode" => self.mode.to_string(),
            "seal" => trigger_word(self.seal).to_owned(),
            "settle" => self.settle.to_string(),
            "settle_empty" => self.settle_empty.to_string(),
            "namespace" => self.namespace.clone(),
            "hardlink" => self.hardlink.to_string(),
            "symlinks" => self.symlinks.to_string(),
            "errno" => self.errno.to_string(),
            "expired" => self.expired.to_string(),
            "unfinished" => self.unfinished.join(", "),
            _ => String::new(),
        }
    }
}
