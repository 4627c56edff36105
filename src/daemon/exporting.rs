//! The thread that exports the log after commits: a checkpoint follows its seal within a second.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::StartError;
use crate::ledger::Exporter;
use crate::sched;
use crate::seal::Keys;
use crate::vfs::Vfs;

/// Commits of this time share a checkpoint.
const GATHER: Duration = Duration::from_millis(400);
/// How soon a failed export is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Why the last export failed, for `status`.
pub type ExportError = Arc<Mutex<Option<String>>>;

/// The running thread.
pub struct Exporting {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts it; what a crash left to be exported is exported at once.
pub fn start(exporter: Arc<Exporter>, vfs: &Arc<Vfs>, error: ExportError) -> Result<Exporting, StartError> {
    let parts = vfs.parts();
    let (told, commits) = bounded(1);
    let (stop, stopped) = bounded(1);
    let _ = told.try_send(());
    parts.index.tell_commits(told);
    let keys = Arc::clone(&parts.keys);
    let thread = std::thread::Builder::new()
        .name("log-export".to_owned())
        .spawn(move || {
            sched::ordinary();
            run(&exporter, &keys, &commits, &stopped, &error);
        })
        .map_err(|error| StartError::failed(format!("thread: {error}")))?;
    Ok(Exporting { stop, thread })
}

impl Exporting {
    /// Exports what is left, and ends the thread.
    pub fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn run(exporter: &Exporter, keys: &Keys, commits: &Receiver<()>, stopped: &Receiver<()>, last: &ExportError) {
    let mut failed = false;
    loop {
        let wait = if failed { AGAIN } else { Duration::MAX };
        let end = crossbeam_channel::select! {
            recv(stopped) -> _ => true,
            recv(commits) -> _ => matches!(stopped.recv_timeout(GATHER), Ok(()) | Err(RecvTimeoutError::Disconnected)),
            default(wait.min(Duration::from_secs(3600))) => false,
        };
        failed = match exporter.export(&keys.log()) {
            Ok(_) => {
                *last.lock() = None;
                false
            }
            Err(error) => {
                tracing::error!(%error, "the log was not exported; the last checkpoint stands");
                *last.lock() = Some(error.to_string());
                true
            }
        };
        if end {
            return;
        }
    }
}
