//! Requests about evidence: attestations, traces, keys, the clock.

use super::handle::{Asked, FAILED, Items, NOT_SEALED, REFUSED, Refused, item, refused};
use super::protocol::{AttestView, ClockView, KeyView};
use crate::ledger::{Actor, Change, KeyRole};
use crate::model::Timestamp;
use crate::policy::Role;
use crate::seal::{AttestError, Query, RotateError, Rotation, attest, trace};

impl Asked<'_> {
    pub(super) fn attest(&self, envelope: &str, send: Items<'_>) -> Result<(), Refused> {
        let target = self.target()?;
        self.need_owner_or(&target, Role::Governance)?;
        let record = self.record(&target)?;
        let parts = self.vfs.parts();
        let by = Actor::Uid(self.peer.uid);
        let predicate =
            attest(&parts.index, &parts.clock, record, envelope, by).map_err(|error| match error {
                AttestError::Attested(_)
                | AttestError::Twice
                | AttestError::TooMany
                | AttestError::TooLarge => refused(REFUSED, error.to_string()),
                AttestError::Gone => refused(NOT_SEALED, error.to_string()),
                AttestError::Ledger(_) => refused(FAILED, error.to_string()),
            })?;
        self.vfs.retention_changed(record);
        item(send, &AttestView { path: record.path.to_string(), predicate })
    }

    pub(super) fn trace(&self, hex: Option<String>, send: Items<'_>) -> Result<(), Refused> {
        if !self.peer.is_root() && !self.has(Role::Auditor) {
            return Err(refused(REFUSED, "tracing needs the role 'auditor' ([roles] in policy.toml)"));
        }
        let query = match hex {
            Some(hex) => Query::Hex(hex),
            None => Query::Path(self.target()?.path),
        };
        let parts = self.vfs.parts();
        let found = trace(parts.index.read(), parts.origin.as_str(), &query)
            .map_err(|error| refused(FAILED, error.to_string()))?;
        found.iter().try_for_each(|view| item(send, view))
    }

    fn rotation(&self) -> Rotation<'_> {
        let parts = self.vfs.parts();
        Rotation {
            index: &parts.index,
            clock: &parts.clock,
            keys: &parts.keys,
            files: &parts.key_files,
            origin: parts.origin.as_str(),
        }
    }

    pub(super) fn rotate(&self, role: KeyRole, send: Items<'_>) -> Result<(), Refused> {
        self.need_governance("changing keys")?;
        let key =
            self.rotation().rotate(role, Actor::Uid(self.peer.uid)).map_err(|error| of_rotation(&error))?;
        item(send, &KeyView { role, fingerprint: key.fingerprint() })
    }

    pub(super) fn retire(&self, fingerprint: &str, since: Timestamp, send: Items<'_>) -> Result<(), Refused> {
        self.need_governance("retiring keys")?;
        let parts = self.vfs.parts();
        let row = parts.index.read().keys()?.into_iter().find(|row| row.fingerprint == fingerprint);
        self.rotation()
            .retire(fingerprint, since, Actor::Uid(self.peer.uid))
            .map_err(|error| of_rotation(&error))?;
        let role = row.map_or(KeyRole::Seal, |row| row.role);
        let now = match role {
            KeyRole::Seal => parts.keys.seal(),
            KeyRole::Log => parts.keys.log(),
        };
        item(send, &KeyView { role, fingerprint: now.public().fingerprint() })
    }

    pub(super) fn accept_clock(&self, send: Items<'_>) -> Result<(), Refused> {
        self.need_governance("accepting the clock")?;
        let parts = self.vfs.parts();
        let accepted = parts.clock.accept();
        let seconds = accepted.span.longest().as_secs();
        if !accepted.span.longest().is_zero() {
            let by = Actor::Uid(self.peer.uid);
            let logged = parts.index.batch(&parts.clock).and_then(|mut batch| {
                batch.note(Change::ClockAccepted { seconds, by })?;
                batch.commit().map(drop)
            });
            if let Err(error) = logged {
                parts.clock.unaccept(accepted);
                return Err(error.into());
            }
        }
        let anchor = parts.clock.anchor();
        item(
            send,
            &ClockView {
                time: anchor.sealfs,
                wall: anchor.wall,
                believed_seconds: anchor.believed.as_secs(),
                doubted_seconds: parts.clock.acceptable().as_secs(),
                accepted_seconds: seconds,
            },
        )
    }
}

fn of_rotation(error: &RotateError) -> Refused {
    let code = match error {
        RotateError::External(_) | RotateError::Retired(_) => REFUSED,
        RotateError::Unknown(_) => NOT_SEALED,
        RotateError::Key(..) | RotateError::Io(..) | RotateError::Ledger(_) => FAILED,
    };
    refused(code, error.to_string())
}
