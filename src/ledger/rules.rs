//! Which change may follow on a seal: asked for new entries, and for those read back from the log.

use crate::model::{RetentionMode, Timestamp};

/// Retention only ever ends later by an extension.
///
/// # Errors
/// What is wrong, in words.
pub fn extended(current: Timestamp, until: Timestamp) -> Result<(), String> {
    if until > current {
        return Ok(());
    }
    Err(format!("an extension until {until} is not later than {current}"))
}

/// Retention ends earlier only under governance, and with a reason.
///
/// # Errors
/// What is wrong, in words.
pub fn shortened(
    mode: RetentionMode,
    current: Timestamp,
    until: Timestamp,
    reason: &str,
) -> Result<(), String> {
    if mode == RetentionMode::Compliance {
        return Err(format!("a compliance retention until {current} cannot be shortened"));
    }
    if until >= current {
        return Err(format!("a shortening until {until} is not earlier than {current}"));
    }
    if reason.trim().is_empty() {
        return Err("a shortening needs a reason".to_owned());
    }
    Ok(())
}

/// A hold is placed where it does not stand.
///
/// # Errors
/// What is wrong, in words.
pub fn held(stands: bool, name: &str) -> Result<(), String> {
    if stands { Err(format!("the hold {name:?} stands already")) } else { Ok(()) }
}

/// A hold is removed where it stands.
///
/// # Errors
/// What is wrong, in words.
pub fn released(stands: bool, name: &str) -> Result<(), String> {
    if stands { Ok(()) } else { Err(format!("no hold {name:?} stands")) }
}

/// A seal ends only after its retention, and without holds.
///
/// # Errors
/// What is wrong, in words.
pub fn ended(until: Timestamp, holds: usize, at: Timestamp) -> Result<(), String> {
    if until > at {
        return Err(format!("a seal that is retained until {until} cannot end at {at}"));
    }
    if holds > 0 {
        return Err(format!("a seal with {holds} hold(s) cannot end"));
    }
    Ok(())
}
