//! Changes of retention: each a signed line and a log entry. The seal is read, and what may become of it decided, in
//! the transaction that changes it.

use std::sync::Arc;

use super::keys::Keys;
use super::vouch::Signatures;
use crate::clock::Clock;
use crate::crypto::{self, dsse};
use crate::ledger::{Actor, Batch, Index, LedgerError, NotProven, Proven, Signature, SignedStatement};
use crate::model::{RetentionMode, SealRecord, Span, Timestamp};
use crate::policy::retention::{self, Change};
use crate::policy::{Decision, RetentionRefusal};
use crate::statement::{PAYLOAD_TYPE, RetentionChange, change_statement};

/// What changing retention needs.
pub struct Retention<'a> {
    /// The index.
    pub index: &'a Index,
    /// Sealfs time.
    pub clock: &'a Clock,
    /// The keys.
    pub keys: &'a Arc<Keys>,
    /// The store's name.
    pub origin: &'a str,
}

/// The end of retention that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// At this time.
    At(Timestamp),
    /// So long after the transaction's time.
    After(Span),
}

/// By what right it is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// As the file's owner, under the rule that decides about its path today.
    Owner(&'a Decision),
    /// As a holder of the role `governance`.
    Role {
        /// Whether a governance retention may become shorter.
        bypass: bool,
        /// Why.
        reason: Option<&'a str>,
    },
}

/// Why retention was not changed. Nothing has then changed.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// The policy, or the retention as it stands.
    #[error(transparent)]
    Refused(#[from] RetentionRefusal),
    /// Only a reason is missing.
    #[error("shortening needs a reason; add '--reason TEXT'")]
    NeedsReason,
    /// The time cannot be stated.
    #[error("that is later than the year 2262, which is the last that can be stated; give an earlier time")]
    TooFar,
    /// A compliance retention would last so long that it is likely a mistake.
    #[error(
        "it would be retained until {until} in compliance mode, which is beyond {limit}: nobody can take that back; add \
         '--yes' if it is meant"
    )]
    NeedsYes {
        /// The end that is asked for.
        until: Timestamp,
        /// The end up to which nothing is asked.
        limit: Timestamp,
    },
    /// The seal does not stand, or is not what was signed.
    #[error(transparent)]
    NotProven(#[from] NotProven),
}

impl From<LedgerError> for RetainError {
    fn from(error: LedgerError) -> Self {
        RetainError::NotProven(error.into())
    }
}

/// What becomes of the end of retention: nothing, or a new one, with the reason if it is earlier.
type Decided<'a> = Option<(Timestamp, Option<&'a str>)>;

fn decide<'a>(
    record: &SealRecord,
    now: Timestamp,
    wanted: Wanted,
    right: Right<'a>,
) -> Result<Decided<'a>, RetainError> {
    let wanted = match wanted {
        Wanted::At(time) => time,
        Wanted::After(span) => now.plus(span),
    };
    if wanted >= Timestamp::MAX {
        return Err(RetainError::TooFar);
    }
    let current = record.retain_until;
    match right {
        Right::Owner(_) if wanted == current || wanted.ceil_to_second() == current => Ok(None),
        Right::Owner(decision) => {
            let until = retention::extend_by_owner(record.sealed_at, current, wanted, decision)?;
            Ok(Some((until, None)))
        }
        Right::Role { bypass, reason } => {
            match retention::change_by_role(record.mode, current, wanted, now, bypass)? {
                Change::Unchanged => Ok(None),
                Change::Extended(until) => Ok(Some((until, None))),
                Change::Shortened(until) => {
                    let reason = reason.filter(|reason| !reason.trim().is_empty());
                    Ok(Some((until, Some(reason.ok_or(RetainError::NeedsReason)?))))
                }
            }
        }
    }
}

/// Years beyond which a compliance retention is likely a mistake, where the rule has no max of its own.
const LIMIT_YEARS: u32 = 30;

/// Whether a compliance retention ends late enough to be a mistake: the rule's max, or 30 years from now.
fn check_limit(
    record: &SealRecord,
    now: Timestamp,
    until: Timestamp,
    decision: &Decision,
) -> Result<(), RetainError> {
    let years = Span { months: 12 * LIMIT_YEARS, rest: std::time::Duration::ZERO };
    let limit =
        if decision.max > decision.retention { record.sealed_at.plus(decision.max) } else { now.plus(years) };
    if record.mode == RetentionMode::Compliance
        && until > record.retain_until
        && until > limit.ceil_to_second()
    {
        return Err(RetainError::NeedsYes { until, limit });
    }
    Ok(())
}

impl Retention<'_> {
    /// Signs a change of a seal that stands.
    fn line(
        &self,
        proven: &Proven<'_, '_>,
        change: &RetentionChange<'_>,
    ) -> Result<SignedStatement, LedgerError> {
        let payload =
            change_statement(proven.record(), self.origin, proven.next_index(), proven.now(), change)
                .map_err(|error| LedgerError::Entry(error.to_string()))?;
        let key = self.keys.seal();
        Ok(SignedStatement {
            sha256: crypto::sha256(payload.as_bytes()),
            key: key.public().fingerprint(),
            signature: Signature(dsse::sign(&key, PAYLOAD_TYPE, payload.as_bytes())),
        })
    }

    /// Changes the end of retention of the seal that `seal` was read from; with a `limit`, a compliance retention ends no
    /// later than that rule's max, or than in 30 years. Returns the end that stands then. Durable on
    /// return.
    ///
    /// # Errors
    /// [`RetainError`]; nothing has then changed.
    pub fn set(
        &self,
        seal: &SealRecord,
        wanted: Wanted,
        right: Right<'_>,
        limit: Option<&Decision>,
        by: Actor,
    ) -> Result<Timestamp, RetainError> {
        let _steady = self.keys.steady();
        let mut batch = self.index.batch(self.clock)?;
        let vouch = Signatures { keys: self.keys, origin: self.origin };
        let proven = batch.prove(&seal.path, seal.log_index, &vouch)?;
        let Some((until, reason)) = decide(proven.record(), proven.now(), wanted, right)? else {
            return Ok(proven.record().retain_until);
        };
        if let Some(decision) = limit {
            check_limit(proven.record(), proven.now(), until, decision)?;
        }
        let line = self.line(&proven, &RetentionChange::Until(until, reason))?;
        proven.retain(until, by, reason, line)?;
        batch.commit()?;
        Ok(until)
    }

    /// Ends the retention of the seal that `seal` was read from at the time of an open transaction, with the reason; if
    /// it is over already, nothing is added. The caller holds [`Keys::steady`].
    ///
    /// # Errors
    /// [`RetainError`]: a compliance retention, no reason, or the index. The transaction must then be given up.
    pub fn end_now(
        &self,
        batch: &mut Batch<'_>,
        seal: &SealRecord,
        by: Actor,
        reason: &str,
    ) -> Result<(), RetainError> {
        let vouch = Signatures { keys: self.keys, origin: self.origin };
        let proven = batch.prove(&seal.path, seal.log_index, &vouch)?;
        let now = proven.now();
        if proven.record().retain_until <= now {
            return Ok(());
        }
        let right = Right::Role { bypass: true, reason: Some(reason) };
        if let Some((until, reason)) = decide(proven.record(), now, Wanted::At(now), right)? {
            let line = self.line(&proven, &RetentionChange::Until(until, reason))?;
            proven.retain(until, by, reason, line)?;
        }
        Ok(())
    }

    /// Places or removes a hold on the seal that `seal` was read from; returns whether that changed anything. Durable
    /// on return.
    ///
    /// # Errors
    /// [`NotProven`]; nothing has then changed.
    pub fn hold(&self, seal: &SealRecord, name: &str, placed: bool, by: Actor) -> Result<bool, NotProven> {
        let _steady = self.keys.steady();
        let mut batch = self.index.batch(self.clock)?;
        let vouch = Signatures { keys: self.keys, origin: self.origin };
        let proven = batch.prove(&seal.path, seal.log_index, &vouch)?;
        if proven.record().holds.iter().any(|hold| hold.name == name) == placed {
            return Ok(false);
        }
        let line = self.line(&proven, &RetentionChange::Hold(name, placed))?;
        proven.hold(name, placed, by, line)?;
        batch.commit()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_now_is_not_rounded_and_what_ends_later_is() {
        let day = |days: i64| Timestamp::from_parts(1_767_225_600 + days * 86_400, 0);
        let record = SealRecord {
            id: 1,
            path: crate::model::RelPath::parse("f").unwrap(),
            kind: crate::model::ArtifactKind::File,
            sha256: crypto::sha256(b"x"),
            size: 1,
            perm: 0o644,
            uid: 0,
            gid: 0,
            mtime: crate::model::FileTime::default(),
            sealed_at: day(0),
            sealed_wall: day(0),
            retain_sealed: day(30),
            retain_until: day(30),
            mode: crate::model::RetentionMode::Governance,
            policy: crypto::sha256(b"p"),
            namespace: "sealfs".to_owned(),
            log_index: 1,
            key: String::new(),
            signature: None,
            statement_signature: [0; 64],
            provenance: None,
            template: 1,
            ino: 1,
            ctime: crate::model::FileTime::default(),
            holds: Vec::new(),
            torn_kept: false,
        };
        let now = Timestamp(record.sealed_at.0 + 1_234_567_890);
        let right = Right::Role { bypass: true, reason: Some("wrong build") };
        let span = |nanos| Wanted::After(Span::of(std::time::Duration::from_nanos(nanos)));
        let until = |wanted| decide(&record, now, wanted, right).unwrap().unwrap().0;
        assert_eq!(until(span(0)), now);
        assert_eq!(until(span(1)), Timestamp(record.sealed_at.0 + 2_000_000_000));
        assert_eq!(until(Wanted::At(record.sealed_at)), record.sealed_at);
    }
}
