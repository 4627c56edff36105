//! One thread for all that nobody waits for: log notes, refusals, marks, the clock's anchor, the sweep, and
//! the policy file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::background;
use super::memory::Memory;
use crate::ledger::{Actor, Change, Ending, LedgerError};
use crate::model::RelPath;
use crate::policy::{Expired, Policy};
use crate::seal::Life;
use crate::store::SystemNames;
use crate::vfs::{NotesInbox, Vfs};

const TICK: Duration = Duration::from_millis(100);
/// Ticks after which what the kernel says again has long been said.
const CLAIMED_BY: u64 = 20;
const ANCHOR_EVERY: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
const RESERVE_EVERY: Duration = Duration::from_secs(5);

/// The housekeeper.
pub struct Housekeeper {
    pub vfs: Arc<Vfs>,
    pub notes: NotesInbox,
    pub policy_file: PathBuf,
    /// Why the policy file of today is not in force, for `status`.
    pub policy_error: Arc<Mutex<Option<String>>>,
    pub stopped: Arc<AtomicBool>,
    pub reload: Arc<AtomicBool>,
    /// Files that were open when the last worker died, with no writer that is known.
    pub unclaimed: Mutex<Vec<Arc<Life>>>,
}

impl Housekeeper {
    /// Runs until stopped; then writes down what is left.
    pub fn run(&self) {
        let (mut ticks, mut anchored, mut swept) = (0u64, Instant::now(), Instant::now());
        let mut memory = Memory::default();
        let mut reserved = Instant::now();
        self.keep_reserve();
        // Nothing seen yet: it may have changed since it was read, before this thread ran.
        let mut seen = None;
        while !self.stopped.load(Ordering::Acquire) {
            std::thread::sleep(TICK);
            ticks += 1;
            self.vfs.relieve();
            if !ticks.is_multiple_of(10) {
                continue;
            }
            self.each_second();
            if let Err(error) = background::bound_log() {
                tracing::debug!(%error, "the log is not put aside");
            }
            memory.known(self.vfs.parts().places.len());
            if ticks >= CLAIMED_BY {
                self.settle_unclaimed();
            }
            let now = modified(&self.policy_file);
            if seen != Some(now) || self.reload.swap(false, Ordering::AcqRel) {
                seen = Some(now);
                self.reload_policy();
            }
            if anchored.elapsed() >= ANCHOR_EVERY {
                anchored = Instant::now();
                self.keep_anchor();
            }
            if reserved.elapsed() >= RESERVE_EVERY {
                reserved = Instant::now();
                self.keep_reserve();
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.sweep();
            }
        }
        self.each_second();
        self.vfs.relieve();
    }

    fn settle_unclaimed(&self) {
        let parts = self.vfs.parts();
        for life in std::mem::take(&mut *self.unclaimed.lock()) {
            let path = life.lock().path.clone();
            let size = parts.tree.stat_path(&path).map_or(0, |meta| meta.size);
            parts.pipeline.unclaimed(&life, size);
        }
    }

    fn each_second(&self) {
        let parts = self.vfs.parts();
        if parts.read_only {
            return;
        }
        if let Err(error) = self.notes.write_down(&parts.index, &parts.clock) {
            tracing::error!(%error, "changes of symbolic links are not in the log yet");
        }
        if let Err(error) = self.vfs.write_refusals() {
            tracing::warn!(%error, "refusals not kept");
        }
        parts.pipeline.mark_closed(false);
        let journal = parts.pipeline.journal();
        journal.keep_room();
        let _ = journal.catch_up();
        if journal.is_large()
            && let Err(error) = journal.compact()
        {
            tracing::warn!(%error, "journal not compacted");
        }
    }

    /// Keeps clock and boot seen together, so that little is left to belief after a crash.
    pub fn keep_anchor(&self) {
        let parts = self.vfs.parts();
        if parts.read_only {
            return;
        }
        if let Err(error) = parts.index.batch(&parts.clock).and_then(|batch| batch.commit().map(drop)) {
            tracing::error!(%error, "the clock's anchor was not kept");
        }
    }

    fn keep_reserve(&self) {
        let parts = self.vfs.parts();
        if !parts.read_only
            && let Err(error) = parts.reserve.keep()
        {
            tracing::debug!(%error, "the reserve is not whole");
        }
    }

    fn sweep(&self) {
        let parts = self.vfs.parts();
        let policy = parts.policy.get();
        let deletes =
            policy.rules().iter().chain([policy.defaults()]).any(|rule| rule.expired == Expired::Delete);
        if parts.read_only || !deletes {
            return;
        }
        let wanted =
            |record: &crate::model::SealRecord| policy.decide(&record.path).expired == Expired::Delete;
        match self.vfs.purge(&RelPath::root(), false, &Ending::Swept, Actor::Daemon, &wanted) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!(files = gone.len(), "expired files swept"),
            Err(error) => tracing::warn!(%error, "sweep of expired files failed"),
        }
    }

    fn reload_policy(&self) {
        let parts = self.vfs.parts();
        let file = self.policy_file.display().to_string();
        let read = std::fs::read_to_string(&self.policy_file).map_err(|error| format!("{file}: {error}"));
        let parsed = read.and_then(|text| {
            Policy::parse(&text, &file, &SystemNames::default()).map_err(|error| error.to_string())
        });
        let policy = match parsed {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!("{error}; the policy in force stays");
                *self.policy_error.lock() = Some(format!("{error}; the policy in force is an older one"));
                return;
            }
        };
        if policy.digest() == parts.policy.get().digest() {
            *self.policy_error.lock() = None;
            return;
        }
        let logged = note_policy(&self.vfs, policy.digest());
        if let Err(error) = logged {
            tracing::error!(%error, "new policy not logged, so it is not put in force");
            *self.policy_error.lock() = Some(format!("the new policy could not be logged: {error}"));
            return;
        }
        tracing::info!(sha256 = %policy.digest(), "new policy in force");
        parts.observer.set(policy.provenance.env.clone(), policy.provenance.arguments);
        parts.policy.set(policy);
        *self.policy_error.lock() = None;
    }
}

fn note_policy(vfs: &Vfs, digest: crate::model::Digest) -> Result<(), LedgerError> {
    let mut batch = vfs.parts().index.batch(&vfs.parts().clock)?;
    batch.note(Change::Policy { sha256: digest })?;
    batch.commit().map(drop)
}

fn modified(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
