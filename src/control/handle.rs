//! One request: who may ask it, and what is done.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags};
use serde_json::Value;

use super::peer::Peer;
use super::protocol::{FileView, Request};
use super::server::About;
use super::view;
use crate::ledger::{Actor, Ending, Filter, NotProven};
use crate::metrics::COUNTERS;
use crate::model::{RelPath, SealRecord, Span, State, Timestamp};
use crate::policy::{Role, retention};
use crate::seal::{Demand, Life, NotSealed, RetainError, Right, Waiter, Wanted};
use crate::store::{EntryKind, Meta};
use crate::vfs::{Fault, NotPurged, Standing, Vfs};

/// Not done: exit code and one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: u8,
    pub message: String,
}

pub(super) const FAILED: u8 = 1;
const USAGE: u8 = 2;
pub(super) const REFUSED: u8 = 4;
pub(super) const NOT_SEALED: u8 = 5;

/// What is said of what has no seal and will have none.
const NEVER_SEALED: &str = "folders and free symbolic links are not sealed";

pub(super) fn refused(code: u8, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Comparing(_) => NotProven::Comparing.into(),
            Fault::Stale | Fault::NotFound => refused(NOT_SEALED, "no such file in the mount"),
            other => refused(FAILED, other.to_string()),
        }
    }
}

impl From<crate::ledger::LedgerError> for Refused {
    fn from(error: crate::ledger::LedgerError) -> Self {
        refused(FAILED, error.to_string())
    }
}

impl From<NotProven> for Refused {
    fn from(why: NotProven) -> Self {
        match why {
            NotProven::Gone => refused(NOT_SEALED, why.to_string()),
            NotProven::Ledger(error) => error.into(),
            NotProven::Differs(_) | NotProven::Comparing => refused(REFUSED, why.to_string()),
        }
    }
}

fn not_sealed(why: &NotSealed) -> Refused {
    let code = match why {
        NotSealed::StillOpen | NotSealed::Torn | NotSealed::Rule(_) => REFUSED,
        NotSealed::Gone => NOT_SEALED,
        NotSealed::Failed(_) | NotSealed::Late => FAILED,
    };
    refused(code, why.to_string())
}

/// A request with everything that decides about it.
pub struct Asked<'a> {
    pub vfs: &'a Vfs,
    pub about: &'a dyn About,
    pub peer: &'a Peer,
    pub fd: Option<&'a OwnedFd>,
    /// Whether who asks has gone.
    pub gone: &'a dyn Fn() -> bool,
}

/// How long a change waits for the comparison of the index with the log.
const COMPARED: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody who waits is still there.
const LOOK: Duration = Duration::from_millis(500);

/// What a request's descriptor is of.
pub(super) struct Target {
    pub(super) path: RelPath,
    pub(super) meta: Meta,
    pub(super) standing: Standing,
}

pub(super) type Items<'a> = &'a mut dyn FnMut(Value) -> bool;

pub(super) fn item(send: Items<'_>, value: &impl serde::Serialize) -> Result<(), Refused> {
    let value = serde_json::to_value(value).map_err(|error| refused(FAILED, error.to_string()))?;
    if send(value) { Ok(()) } else { Err(refused(FAILED, "the other end is gone")) }
}

impl Asked<'_> {
    /// Does it, and hands over the items of the answer. What it changed can be seen in the mount by then.
    pub fn answer(&self, request: Request, send: Items<'_>) -> Result<(), Refused> {
        let changes = matches!(
            request,
            Request::Retain { .. } | Request::Hold { .. } | Request::Purge { dry_run: false, .. }
        );
        if changes {
            // After a start; who asks here holds nobody up.
            let _ = self.vfs.parts().index.belief().wait(COMPARED);
        }
        let done = self.done(request, send);
        if changes {
            self.vfs.wait_for_caches();
        }
        done
    }

    /// A read-only mount changes nothing: whatever writes is refused here, in one place, before anything is looked at.
    fn may_change(&self, request: &Request) -> Result<(), Refused> {
        let changes = match request {
            Request::Seal { .. }
            | Request::Retain { .. }
            | Request::Hold { .. }
            | Request::Purge { dry_run: false, .. }
            | Request::Attest { .. }
            | Request::KeyRotate { .. }
            | Request::KeyRetire { .. }
            | Request::ClockAccept => true,
            Request::Status
            | Request::Counters
            | Request::Flush
            | Request::Restart
            | Request::Stat
            | Request::Why
            | Request::History
            | Request::Ls { .. }
            | Request::Wait { .. }
            | Request::Purge { dry_run: true, .. }
            | Request::Trace { .. } => false,
        };
        if changes && self.vfs.parts().read_only {
            return Err(refused(REFUSED, "the mount is read-only; mount it without '-r' to change anything"));
        }
        Ok(())
    }

    fn done(&self, request: Request, send: Items<'_>) -> Result<(), Refused> {
        self.may_change(&request)?;
        match request {
            Request::Status => item(send, &self.about.status(&|path| self.may_see(path))),
            Request::Counters => item(send, &COUNTERS.snapshot()),
            Request::Flush => self.flush(),
            Request::Restart => self.restart(),
            Request::Stat => item(send, &self.view()?),
            Request::Why => self.why(send),
            Request::History => self.history(send),
            Request::Ls { state, expiring_within } => self.list(state, expiring_within, send),
            Request::Seal { torn } => self.seal(torn, send),
            Request::Wait { timeout_ms } => self.wait(timeout_ms, send),
            Request::Retain { until, seconds, months, yes, bypass, reason } => {
                let after = (seconds.is_some() || months > 0)
                    .then(|| Span { months, rest: Duration::from_secs(seconds.unwrap_or(0)) });
                self.retain(until, after, yes, bypass, reason.as_deref(), send)
            }
            Request::Hold { add, name } => self.hold(add, &name, send),
            Request::Purge { bypass: true, reason, dry_run } => {
                self.purge_retained(dry_run, reason.as_deref(), send)
            }
            Request::Purge { dry_run, .. } => self.purge(dry_run, send),
            Request::Attest { envelope } => self.attest(&envelope, send),
            Request::Trace { hex } => self.trace(hex, send),
            Request::KeyRotate { role } => self.rotate(role, send),
            Request::KeyRetire { fingerprint, compromised_since } => {
                self.retire(&fingerprint, compromised_since, send)
            }
            Request::ClockAccept => self.accept_clock(send),
        }
    }

    /// Resolves the descriptor: it must be of this mount. Asks for no attributes, so that the question does
    /// not come back to us as a request.
    pub(super) fn target(&self) -> Result<Target, Refused> {
        let fd = self.fd.ok_or_else(|| refused(USAGE, "the request needs an open descriptor of the file"))?;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS)
            .map_err(|error| refused(FAILED, error.to_string()))?;
        if self.about.device() != Some((stat.stx_dev_major, stat.stx_dev_minor)) {
            return Err(refused(USAGE, "the file is not in this daemon's mount"));
        }
        let (path, meta, standing) = self.vfs.standing_for(stat.stx_ino)?;
        Ok(Target { path, meta, standing })
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.peer.has(&self.vfs.parts().policy.get(), role)
    }

    pub(super) fn need_governance(&self, what: &str) -> Result<(), Refused> {
        if self.has(Role::Governance) {
            return Ok(());
        }
        Err(refused(REFUSED, format!("{what} needs the role 'governance' ([roles] in policy.toml)")))
    }

    pub(super) fn need_owner_or(&self, target: &Target, role: Role) -> Result<(), Refused> {
        if self.peer.uid == target.meta.uid || self.peer.is_root() || self.has(role) {
            return Ok(());
        }
        Err(refused(REFUSED, format!("only its owner, root and the role '{role}' may ask for this")))
    }

    pub(super) fn record<'t>(&self, target: &'t Target) -> Result<&'t SealRecord, Refused> {
        match &target.standing {
            Standing::Sealed(record) => Ok(record),
            Standing::Unsealed(_) => {
                Err(refused(NOT_SEALED, "it is not sealed; seal it first ('sealctl seal')"))
            }
            Standing::Free => Err(refused(NOT_SEALED, NEVER_SEALED)),
        }
    }

    fn flush(&self) -> Result<(), Refused> {
        if !self.peer.is_root() && !self.has(Role::Auditor) {
            return Err(refused(REFUSED, "this needs the role 'auditor'"));
        }
        Ok(self.vfs.write_refusals()?)
    }

    fn restart(&self) -> Result<(), Refused> {
        if !self.peer.is_root() {
            return Err(refused(REFUSED, "only root may replace the daemon's worker"));
        }
        tracing::info!("a new worker was asked for");
        self.about.restart().map_err(|error| refused(FAILED, error))
    }

    fn view(&self) -> Result<FileView, Refused> {
        let target = self.target()?;
        let view = view::of_standing(self.vfs, &target.path, &target.meta, &target.standing);
        // A hash can tell a short secret; the descriptor may be one that cannot read.
        let sha256 = view.sha256.filter(|_| self.may_read(&target.meta));
        Ok(FileView { sha256, ..view })
    }

    /// Whether a path may be named to who asks, who may not be able to reach it: its owner, auditors and root.
    fn may_see(&self, path: &RelPath) -> bool {
        let owns = || self.vfs.parts().tree.stat_path(path).is_ok_and(|meta| meta.uid == self.peer.uid);
        self.peer.is_root() || self.has(Role::Auditor) || owns()
    }

    fn may_read(&self, meta: &Meta) -> bool {
        let bits = if self.peer.uid == meta.uid {
            0o400
        } else if self.peer.gids.contains(&meta.gid) {
            0o040
        } else {
            0o004
        };
        self.peer.is_root() || meta.perm & bits != 0 || self.has(Role::Auditor)
    }

    fn why(&self, send: Items<'_>) -> Result<(), Refused> {
        let target = self.target()?;
        self.need_owner_or(&target, Role::Auditor)?;
        let parts = self.vfs.parts();
        let mut refusals = parts.refusals.at(target.path.as_str());
        for known in parts.index.read().refusals(target.path.as_str())? {
            let same = |fresh: &&mut crate::ledger::Refusal| {
                fresh.operation == known.operation && fresh.reason == known.reason && fresh.uid == known.uid
            };
            match refusals.iter_mut().find(same) {
                Some(fresh) => fresh.times += known.times,
                None => refusals.push(known),
            }
        }
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
        refusals.iter().try_for_each(|refusal| item(send, refusal))
    }

    fn history(&self, send: Items<'_>) -> Result<(), Refused> {
        let target = self.target()?;
        self.need_owner_or(&target, Role::Auditor)?;
        for entry in self.vfs.parts().index.read().history(&target.path)? {
            let value: Value =
                serde_json::from_str(&entry.body).map_err(|error| refused(FAILED, error.to_string()))?;
            item(send, &value)?;
        }
        Ok(())
    }

    fn list(&self, state: Option<State>, within: Option<u64>, send: Items<'_>) -> Result<(), Refused> {
        if !self.peer.is_root() && !self.has(Role::Auditor) {
            return Err(refused(
                REFUSED,
                "listing the index needs the role 'auditor' ([roles] in policy.toml)",
            ));
        }
        let target = self.target()?;
        let parts = self.vfs.parts();
        let now = parts.clock.now();
        let sealed = matches!(state, None | Some(State::Sealed | State::Expired));
        let mut result = Ok(());
        if sealed {
            let filter = Filter {
                expired: state.map(|state| state == State::Expired),
                ending_before: within.map(|seconds| now.plus(Span::of(Duration::from_secs(seconds)))),
                now: Some(now),
            };
            parts.index.read().below(&target.path, filter, &mut |record| {
                result = item(send, &FileView::of_record(&record, now));
                result.is_ok()
            })?;
        }
        result?;
        if sealed { Ok(()) } else { self.list_unsealed(&target.path, state, send) }
    }

    fn list_unsealed(&self, below: &RelPath, state: Option<State>, send: Items<'_>) -> Result<(), Refused> {
        let mut paths: Vec<_> = Vec::new();
        for life in self.vfs.parts().pipeline.lives().all() {
            let known = life.lock();
            if !known.over && known.path.is_within(below) && state.is_none_or(|state| known.state == state) {
                paths.push((known.path.clone(), std::sync::Arc::clone(&life)));
            }
        }
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, life) in paths {
            let Ok(meta) = self.vfs.parts().tree.stat_path(&path) else { continue };
            item(send, &view::of_standing(self.vfs, &path, &meta, &Standing::Unsealed(life)))?;
        }
        Ok(())
    }

    fn seal(&self, torn: bool, send: Items<'_>) -> Result<(), Refused> {
        let target = self.target()?;
        self.need_owner_or(&target, Role::Governance)?;
        if torn && self.peer.uid != target.meta.uid {
            self.need_governance("keeping somebody else's torn file")?;
        }
        match &target.standing {
            Standing::Sealed(_) => {}
            Standing::Free => {
                return Err(refused(NOT_SEALED, NEVER_SEALED));
            }
            Standing::Unsealed(life) => {
                let (tell, told) = crossbeam_channel::bounded(1);
                let waiter = Waiter {
                    // Only what is refused at once is of interest here; 'wait' asks for the rest.
                    deadline: Some(Instant::now()),
                    until_released: false,
                    tell: Box::new(move |outcome| drop(tell.send(outcome))),
                };
                let demand = Demand::Explicit { torn };
                self.vfs.parts().pipeline.demand(life, demand, target.meta.size, Some(waiter));
                match told.recv() {
                    Ok(Ok(_) | Err(NotSealed::Late | NotSealed::Gone)) | Err(_) => {}
                    Ok(Err(why)) => return Err(not_sealed(&why)),
                }
            }
        }
        item(send, &self.view()?)
    }

    fn wait(&self, timeout_ms: Option<u64>, send: Items<'_>) -> Result<(), Refused> {
        let until = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let mut waited: Option<Arc<Life>> = None;
        loop {
            match self.target()?.standing {
                Standing::Sealed(_) => return item(send, &self.view()?),
                Standing::Free => {
                    return Err(refused(NOT_SEALED, NEVER_SEALED));
                }
                Standing::Unsealed(life)
                    if waited.as_ref().is_some_and(|waited| Arc::ptr_eq(waited, &life)) =>
                {
                    return Err(refused(NOT_SEALED, "it was written again or removed meanwhile"));
                }
                // Another life is of the same file, which had to be copied to be sealed.
                Standing::Unsealed(life) => {
                    self.wait_for(&life, until)?;
                    waited = Some(life);
                }
            }
        }
    }

    /// Until the seal is there, or the life over. In short steps: who has gone leaves nothing behind.
    fn wait_for(&self, life: &Arc<Life>, until: Option<Instant>) -> Result<(), Refused> {
        loop {
            let torn = {
                let state = life.lock();
                state.state == State::Torn && !state.keep_torn
            };
            if torn {
                return Err(not_sealed(&NotSealed::Torn));
            }
            let step = Instant::now() + LOOK;
            let (tell, told) = crossbeam_channel::bounded(1);
            let waiter = Waiter {
                deadline: Some(until.map_or(step, |until| until.min(step))),
                until_released: false,
                tell: Box::new(move |outcome| drop(tell.send(outcome))),
            };
            self.vfs.parts().pipeline.wait(life, waiter);
            match told.recv() {
                Ok(Err(NotSealed::Late)) if until.is_none_or(|until| Instant::now() < until) => {
                    if (self.gone)() {
                        return Err(refused(FAILED, "the other end is gone"));
                    }
                }
                // Gone may mean sealed in between: a view will tell.
                Ok(Ok(_) | Err(NotSealed::Gone)) | Err(_) => return Ok(()),
                Ok(Err(why)) => return Err(not_sealed(&why)),
            }
        }
    }

    fn retain(
        &self,
        until: Option<Timestamp>,
        after: Option<Span>,
        yes: bool,
        bypass: bool,
        reason: Option<&str>,
        send: Items<'_>,
    ) -> Result<(), Refused> {
        let target = self.target()?;
        let record = self.record(&target)?;
        let parts = self.vfs.parts();
        let wanted = match (until, after) {
            (Some(until), None) => Wanted::At(until),
            (None, Some(after)) => Wanted::After(after),
            _ => return Err(refused(USAGE, "either 'until' or 'seconds' must be given")),
        };
        check_reason(reason)?;
        let policy = parts.policy.get();
        let right = if self.has(Role::Governance) {
            Right::Role { bypass, reason }
        } else {
            self.need_owner_or(&target, Role::Governance)?;
            Right::Owner(policy.decide(&target.path))
        };
        let limit = (!yes).then(|| policy.decide(&target.path));
        let by = Actor::Uid(self.peer.uid);
        self.vfs.retention().set(record, wanted, right, limit, by).map_err(|error| match error {
            RetainError::Refused(refusal) => refused(REFUSED, refusal.to_string()),
            RetainError::NeedsReason | RetainError::TooFar => refused(USAGE, error.to_string()),
            RetainError::NeedsYes { .. } => refused(REFUSED, error.to_string()),
            RetainError::NotProven(why) => why.into(),
        })?;
        self.vfs.retention_changed(record);
        item(send, &self.view()?)
    }

    fn hold(&self, add: bool, name: &str, send: Items<'_>) -> Result<(), Refused> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(refused(USAGE, "a hold's name is 1 to 64 of letters, digits, '.', '_' and '-'"));
        }
        self.need_governance(if add { "placing a hold" } else { "removing a hold" })?;
        let target = self.target()?;
        let record = self.record(&target)?;
        let changed = self.vfs.retention().hold(record, name, add, Actor::Uid(self.peer.uid))?;
        if !changed && !add {
            return Err(refused(NOT_SEALED, format!("no hold '{name}' stands on it")));
        }
        self.vfs.retention_changed(record);
        item(send, &self.view()?)
    }

    fn purge_retained(&self, dry_run: bool, reason: Option<&str>, send: Items<'_>) -> Result<(), Refused> {
        self.need_governance("removing what is retained")?;
        let target = self.target()?;
        if target.meta.kind == EntryKind::Dir {
            return Err(refused(USAGE, "with --bypass-governance each file must be named"));
        }
        check_reason(reason)?;
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        let reason = reason
            .ok_or_else(|| refused(USAGE, "removing what is retained needs a reason; add '--reason TEXT'"))?;
        let record = self.record(&target)?;
        let now = self.vfs.parts().clock.now();
        if !dry_run {
            let by = Actor::Uid(self.peer.uid);
            self.vfs.purge_retained(record, by, reason).map_err(|why| match why {
                NotPurged::Refused(why) => refused(REFUSED, why),
                NotPurged::Fault(fault) => fault.into(),
            })?;
        }
        item(send, &FileView::of_record(record, now))
    }

    fn purge(&self, dry_run: bool, send: Items<'_>) -> Result<(), Refused> {
        if dry_run && !self.peer.is_root() && !self.has(Role::Auditor) {
            return Err(refused(REFUSED, "listing what has expired needs the role 'auditor'"));
        }
        if !dry_run {
            self.need_governance("purging")?;
        }
        let mut path = RelPath::root();
        let now = self.vfs.parts().clock.now();
        let named = if self.fd.is_some() {
            let target = self.target()?;
            path = target.path.clone();
            (target.meta.kind != EntryKind::Dir).then_some(target)
        } else {
            None
        };
        // Of a folder, what is retained in it is passed over; of a file that was named, that is the answer.
        if let Some(target) = &named {
            let record = self.record(target)?;
            retention::check_removal(record, now).map_err(|refusal| refused(REFUSED, refusal.to_string()))?;
        }
        let by = Actor::Uid(self.peer.uid);
        let gone = self.vfs.purge(&path, dry_run, &Ending::Purged, by, &|_| true)?;
        if named.is_some() && gone.is_empty() {
            return Err(refused(
                REFUSED,
                "it was not removed: it was extended, held or written anew meanwhile",
            ));
        }
        gone.iter().try_for_each(|record| item(send, &FileView::of_record(record, now)))
    }
}

fn check_reason(reason: Option<&str>) -> Result<(), Refused> {
    if reason.is_some_and(|reason| reason.len() > 1000 || reason.chars().any(char::is_control)) {
        return Err(refused(USAGE, "the reason must be one line of at most 1000 bytes"));
    }
    Ok(())
}
