//! What may happen to a retention: set at the seal, extended by an owner, changed by a role, over.
//!
//! Retention ends at whole seconds, rounded up, unless it is ended at once. Every function is pure; times are sealfs time.

use super::Decision;
use crate::model::{Hold, RetentionMode, SealRecord, Span, Timestamp};

/// Why retention stands against what was asked, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionRefusal {
    /// An owner asked for what is not later.
    #[error("retained until {current}: this can only be extended, and {wanted} is not later")]
    NotLater {
        /// The end of retention as it is.
        current: Timestamp,
        /// The end that was asked for.
        wanted: Timestamp,
    },
    /// The rule's `max` is reached.
    #[error("retention may reach at most {limit} here (max = {max}), and already lasts until {current}")]
    AtMost {
        /// The end of retention as it is.
        current: Timestamp,
        /// The latest end under the rule.
        limit: Timestamp,
        /// The rule's `max`.
        max: Span,
    },
    /// Nobody may shorten a compliance retention.
    #[error("retained until {current} in compliance mode: nobody may shorten it, not root either")]
    Compliance {
        /// The end of retention as it is.
        current: Timestamp,
    },
    /// A governance retention is shortened only by a role, and saying so.
    #[error(
        "retained until {current} in governance mode: to shorten it, a holder of the role governance gives \
         --bypass-governance and --reason"
    )]
    NeedsBypass {
        /// The end of retention as it is.
        current: Timestamp,
    },
    /// Retention is not over, or a hold stands.
    #[error("{}", retained(*until, *mode, *over, holds))]
    Retained {
        /// The end of retention as it is.
        until: Timestamp,
        /// Governance or compliance.
        mode: RetentionMode,
        /// Whether that end has passed, so that only holds stand.
        over: bool,
        /// The holds that stand.
        holds: Vec<Hold>,
    },
}

/// The words of [`RetentionRefusal::Retained`].
fn retained(until: Timestamp, mode: RetentionMode, over: bool, holds: &[Hold]) -> String {
    let held: Vec<String> =
        holds.iter().map(|hold| format!("{:?} since {}", hold.name, hold.since)).collect();
    let held = held.join(", ");
    match (over, holds.is_empty()) {
        (true, _) => format!("retention ended {until}, but a legal hold stands: {held}"),
        (false, true) => format!("retained until {until} ({mode}); {}", way_back(mode)),
        (false, false) => format!("retained until {until} ({mode}), and a legal hold stands: {held}"),
    }
}

/// What can be done about a file that should not have been sealed.
fn way_back(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => {
            "if it was sealed by mistake, a holder of the role governance frees the name with 'sealctl purge \
             --bypass-governance --reason TEXT FILE'"
        }
        RetentionMode::Compliance => {
            "nobody can free the name before that, not root either: use another name"
        }
    }
}

/// The end of retention of a file sealed at `sealed_at`: the rule's, or what its writer asked for
/// (`request`), clamped to the rule's `min` and `max`.
#[must_use]
pub fn at_seal(decision: &Decision, sealed_at: Timestamp, request: Option<Timestamp>) -> Timestamp {
    let until = match request {
        None => sealed_at.plus(decision.retention),
        Some(wanted) => wanted.max(sealed_at.plus(decision.min)).min(sealed_at.plus(decision.max)),
    };
    until.ceil_to_second()
}

/// The new end of retention when the file's owner asks for `wanted` under today's rule; clamped to `max`
/// after the seal, never earlier than `current`.
///
/// # Errors
/// [`RetentionRefusal::NotLater`] or [`RetentionRefusal::AtMost`] if nothing would be extended.
pub fn extend_by_owner(
    record_sealed_at: Timestamp,
    current: Timestamp,
    wanted: Timestamp,
    decision: &Decision,
) -> Result<Timestamp, RetentionRefusal> {
    let wanted = wanted.ceil_to_second();
    if wanted <= current {
        return Err(RetentionRefusal::NotLater { current, wanted });
    }
    let limit = record_sealed_at.plus(decision.max).ceil_to_second();
    let until = wanted.min(limit);
    if until <= current {
        return Err(RetentionRefusal::AtMost { current, limit, max: decision.max });
    }
    Ok(until)
}

/// What a change of retention by a role amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The end moves later, to this time.
    Extended(Timestamp),
    /// The end moves earlier, to this time: to be logged with the reason.
    Shortened(Timestamp),
    /// The end stays.
    Unchanged,
}

/// Whether a holder of the role `governance` may set the end of retention to `wanted` at `now`. No `max` binds the
/// role. What is to end now, or should have ended, ends at once and is not rounded.
///
/// # Errors
/// Shortening is refused in compliance mode, and without `bypass` in governance mode.
pub fn change_by_role(
    mode: RetentionMode,
    current: Timestamp,
    wanted: Timestamp,
    now: Timestamp,
    bypass: bool,
) -> Result<Change, RetentionRefusal> {
    let until = if wanted <= now { wanted } else { wanted.ceil_to_second() };
    match (until.cmp(&current), mode) {
        (std::cmp::Ordering::Greater, _) => Ok(Change::Extended(until)),
        (std::cmp::Ordering::Equal, _) => Ok(Change::Unchanged),
        (std::cmp::Ordering::Less, RetentionMode::Compliance) => {
            Err(RetentionRefusal::Compliance { current })
        }
        (std::cmp::Ordering::Less, RetentionMode::Governance) if bypass => Ok(Change::Shortened(until)),
        (std::cmp::Ordering::Less, RetentionMode::Governance) => {
            Err(RetentionRefusal::NeedsBypass { current })
        }
    }
}

/// Whether a sealed file may be removed: its retention is over at `now`, and no hold stands on it. Only what the
/// ledger reads inside of a transaction becomes a permit; asked elsewhere, the answer is for show.
///
/// # Errors
/// [`RetentionRefusal::Retained`]: until when, and which holds.
pub fn check_removal(record: &SealRecord, now: Timestamp) -> Result<(), RetentionRefusal> {
    if record.is_expired(now) {
        return Ok(());
    }
    Err(RetentionRefusal::Retained {
        until: record.retain_until,
        mode: record.mode,
        over: record.retain_until <= now,
        holds: record.holds.clone(),
    })
}
