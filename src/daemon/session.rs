//! The session with the kernel, from the moment in which the mount is live until it is unmounted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::Session;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::guard::{self, Guarding};
use super::serve::{failed, spawn};
use super::{StartError, mount};
use crate::fuse::Adapter;
use crate::sched;

/// How long a start waits until the mount is watched.
const WATCH_BEGINS: std::time::Duration = std::time::Duration::from_secs(1);

/// Serves the kernel; SIGTERM and SIGINT unmount, SIGHUP reads the policy again.
pub fn serve_until_unmounted(
    session: Session<Adapter>,
    mountpoint: &Path,
    reload: Arc<AtomicBool>,
    guarding: &Arc<Guarding>,
    ready: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), StartError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| failed("signals", error))?;
    let (ended, end) = crossbeam_channel::bounded::<End>(2);
    let (by_session, at, lifting) = (ended.clone(), mountpoint.to_owned(), Arc::clone(guarding));
    spawn("session", move || {
        // And all that it starts to serve.
        sched::ordinary();
        let result = session.run();
        // Before all else: whoever has unmounted may remove the folder next.
        lifting.lift(&at);
        let _ = by_session.send(End::Unmounted(result.err().map(|error| error.to_string())));
    })?;
    let handle = signals.handle();
    spawn("signals", move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload.store(true, Ordering::Release);
            } else {
                let _ = ended.send(End::Told);
                return;
            }
        }
    })?;
    watch_for_unmount(mountpoint, guarding)?;
    ready().map_err(|error| failed("background", error))?;
    tracing::info!(mountpoint = %mountpoint.display(), "mounted");
    let why = end.recv().map_err(|error| failed("session", error))?;
    handle.close();
    match why {
        End::Unmounted(None) => Ok(()),
        End::Unmounted(Some(error)) => Err(failed("session", error)),
        End::Told => {
            tracing::info!("told to end: unmounting");
            mount::unmount(mountpoint);
            // The kernel has let go of everything when the session ends; a busy mount is detached, and who
            // still has files open in it gets an error from then on.
            let _ = end.recv_timeout(std::time::Duration::from_secs(5));
            Ok(())
        }
    }
}

/// Starts the thread that lifts the guard as soon as the file system is unmounted. It must run before the mount is
/// reported as live: to watch the root, the thread looks it up, and during that an `umount` would fail with EBUSY.
fn watch_for_unmount(mountpoint: &Path, guarding: &Arc<Guarding>) -> Result<(), StartError> {
    if guarding.guard.is_none() {
        return Ok(());
    }
    let (watched, guarding) = (mountpoint.to_owned(), Arc::clone(guarding));
    let (set, watching) = crossbeam_channel::bounded::<()>(1);
    spawn("guard", move || {
        if let Err(error) = guard::lift_at_unmount(&watched, &guarding, || drop(set)) {
            tracing::debug!(%error, "the mount is not watched; its guard is lifted when the session ends");
        }
    })?;
    let _ = watching.recv_timeout(WATCH_BEGINS);
    Ok(())
}

enum End {
    Unmounted(Option<String>),
    Told,
}
