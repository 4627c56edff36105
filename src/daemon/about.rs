//! What `status` tells of the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

use super::link::{Link, Message};
use crate::control::About;
use crate::control::protocol::StatusView;
use crate::ledger::{LedgerError, Summary, Totals};
use crate::metrics::COUNTERS;
use crate::model::{RelPath, Timestamp};
use crate::sched::Seldom;
use crate::seal::Counts;
use crate::vfs::Vfs;

/// By then an answer is sent.
const ANSWERED: std::time::Duration = std::time::Duration::from_millis(50);

/// Nothing but a clock that was set makes sealfs time run so far ahead of the wall clock.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What is known of the daemon.
pub struct Daemon {
    pub vfs: Arc<Vfs>,
    pub store: PathBuf,
    pub mountpoint: PathBuf,
    pub started: Instant,
    pub fallbacks: Vec<String>,
    pub policy_error: Arc<Mutex<Option<String>>>,
    /// Whether the clock's row in the index was not believed at the start.
    pub clock_edited: bool,
    /// Why the log was not exported.
    pub export_error: super::exporting::ExportError,
    pub device: Mutex<Option<(u32, u32)>>,
    /// The parent, where there is one.
    pub link: Option<Arc<Link>>,
    /// Expired seals and files that are not sealed, as they were last counted.
    pub expired: Seldom<u64>,
    pub unsealed: Seldom<Counts>,
    /// How often a worker was replaced.
    pub restarts: u64,
    /// Why the last one was.
    pub why: String,
}

impl Daemon {
    /// Counts over the whole index, without a look at each row of it.
    fn summary(&self, now: Timestamp) -> Result<Summary, LedgerError> {
        let index = &self.vfs.parts().index;
        let expired = self.expired.get(|| index.read().expired(now))?;
        let Totals { seals, held, bytes } = index.totals()?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        // They may have been counted before some of them ended.
        let expired = expired.min(count(seals));
        Ok(Summary {
            sealed: count(seals) - expired,
            expired,
            held: count(held),
            bytes: count(bytes),
            entries: index.read().entries()?,
        })
    }
}

impl About for Daemon {
    fn status(&self, may_see: &dyn Fn(&RelPath) -> bool) -> StatusView {
        let parts = self.vfs.parts();
        let time = parts.clock.now();
        let (mut warnings, mut summary) = (Vec::new(), Summary::default());
        match self.summary(time) {
            Ok(read) => summary = read,
            Err(error) => warnings.push(error.to_string()),
        }
        let counted: Result<_, std::convert::Infallible> = self.unsealed.get(|| Ok(parts.pipeline.counts()));
        let Ok(mut unsealed) = counted;
        warnings.extend(self.policy_error.lock().clone());
        let seen = |path: &str| RelPath::parse(path).is_ok_and(|path| may_see(&path));
        let failing = unsealed.failing.len();
        unsealed.failing.retain(|(path, _)| seen(path));
        if unsealed.failing.len() < failing {
            let hidden = failing - unsealed.failing.len();
            warnings.push(format!(
                "{hidden} file(s) of others not sealed yet; root and the role 'auditor' see which"
            ));
        }
        warnings.extend(unsealed.failing.iter().map(|(path, why)| format!("{path}: not sealed yet: {why}")));
        if unsealed.torn > 0 {
            let torn = unsealed.torn;
            warnings.push(format!("{torn} torn file(s): 'sealctl ls --state torn' lists them"));
        }
        let reflagged = self.vfs.reflagged();
        if reflagged > 0 {
            warnings.push(format!(
                "{reflagged} backing file(s) were without the immutable flag, as in a store that was restored or copied, and \
                 carry it again"
            ));
        }
        let strays = self.vfs.strays();
        if strays > 0 {
            warnings.push(format!(
                "{strays} file(s) with content were neither sealed nor in a count, and are torn since they were found; the \
                 daemon's log names them"
            ));
        }
        if unsealed.old_scratch > 0 {
            let old = unsealed.old_scratch;
            warnings.push(format!("{old} scratch file(s) older than an hour, never to be sealed"));
        }
        if let Ok(altered) = parts.index.read().altered()
            && !altered.is_empty()
        {
            let (named, hidden): (Vec<_>, Vec<_>) = altered.into_iter().partition(|path| seen(path));
            if !named.is_empty() {
                warnings.push(format!("backing files found ALTERED: {}", named.join(", ")));
            }
            if !hidden.is_empty() {
                let hidden = hidden.len();
                warnings.push(format!(
                    "{hidden} backing file(s) of others found ALTERED; root and the role 'auditor' see which"
                ));
            }
        }
        warnings.extend(of_index(&parts.index));
        let (held, whole) = parts.reserve.held();
        if held < whole && !parts.read_only {
            warnings.push(format!(
                "the backing file system is full: {held} of {whole} bytes are left of the reserve from which expired \
                 files are removed; make room"
            ));
        }
        if let Some(error) = &*self.export_error.lock() {
            warnings.push(format!("the log is not exported, the checkpoint stays behind: {error}"));
        }
        if self.restarts > 0 && self.why != super::keeper::ASKED {
            let (times, why) = (self.restarts, &self.why);
            warnings.push(format!(
                "the worker was replaced {times} time(s) under the live mount, last since: {why}"
            ));
        }
        if self.clock_edited {
            warnings.push(
                "the clock's row in index.db is not signed by this store's log key: the index was rebuilt or restored, or \
                 somebody edited it; sealfs time goes on from the last entry of the log"
                    .to_owned(),
            );
        }
        if let Some(bytes) = parts.index.large_log() {
            warnings.push(format!(
                "the write-ahead log of the index has {} MiB: a program that reads index.db keeps a transaction open; end it",
                bytes >> 20
            ));
        }
        let doubted = parts.clock.acceptable().as_secs();
        if doubted > 0 {
            warnings.push(format!(
                "{doubted} s passed while the host was off and are not believed; 'sealctl clock accept' accepts them"
            ));
        }
        let wall = parts.clock.wall();
        if time.since(wall) > AHEAD {
            let seconds = time.since(wall).as_secs();
            warnings.push(format!(
                "sealfs time is {seconds} s ahead of the wall clock: the host's clock was set back, or the one in index.db \
                 forward; 'sealctl log show' has the time of each entry"
            ));
        }
        StatusView {
            origin: parts.origin.to_string(),
            store: self.store.display().to_string(),
            mountpoint: self.mountpoint.display().to_string(),
            pid: std::process::id(),
            restarts: self.restarts,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            read_only: parts.read_only,
            passthrough: parts.passthrough.load(Ordering::Relaxed),
            sealed: summary.sealed,
            expired: summary.expired,
            held: summary.held,
            bytes: summary.bytes,
            log_entries: summary.entries,
            checkpoint: parts.index.read().log().covered(),
            unsealed,
            time,
            wall,
            clock_doubted_seconds: doubted,
            policy: parts.policy.get().digest().to_hex(),
            key: parts.keys.seal().public().fingerprint(),
            fallbacks: self.fallbacks.clone(),
            warnings,
            counters: COUNTERS.snapshot(),
        }
    }

    fn restart(&self) -> Result<(), String> {
        let link =
            self.link.as_ref().ok_or("no takeover here (see 'sealctl status'): unmount and mount it anew")?;
        let link = Arc::clone(link);
        // After the answer to who asked has gone.
        let tell = move || {
            std::thread::sleep(ANSWERED);
            if let Err(error) = link.send(&Message::Restart) {
                tracing::error!(%error, "the parent process does not hear: not replaced");
            }
        };
        let begun = std::thread::Builder::new().name("restart".to_owned()).spawn(tell);
        begun.map(drop).map_err(|error| format!("no thread: {error}"))
    }

    fn device(&self) -> Option<(u32, u32)> {
        let mut device = self.device.lock();
        if device.is_none() {
            *device = super::mountpoint::device_of(&self.mountpoint);
        }
        *device
    }
}

/// What is to be said of the index: that it is not what the log says, or not known yet to be.
fn of_index(index: &crate::ledger::Index) -> Vec<String> {
    let found = index.belief().found();
    let mut warnings = Vec::new();
    if let Some((seen, of)) = index.belief().under_way() {
        warnings.push(format!(
            "index.db is being compared with the log ({seen} of {of} entries): until then nothing sealed can be removed, \
             and no retention changed"
        ));
    }
    let mend = "'sealctl verify --all' lists what differs; stop sealfs and run 'sealctl rebuild'";
    if let Some(whole) = &found.whole {
        warnings.push(format!("index.db was EDITED, nothing sealed is removed: {whole}; {mend}"));
    } else if !found.paths.is_empty() {
        let count = found.paths.len();
        warnings.push(format!(
            "index.db was EDITED at {count} path(s), which are neither read nor removed; {mend}"
        ));
    }
    warnings
}
