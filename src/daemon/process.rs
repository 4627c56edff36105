//! What every process of sealfs that serves does first: logging, scheduling, signals, descriptors, privileges.

use tracing_subscriber::EnvFilter;

use super::serve::failed;
use super::{StartError, privileges};
use crate::{clock, sched};

/// `CLOSE_RANGE_CLOEXEC` of linux/close_range.h.
const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;

/// What every process of sealfs that serves does first.
pub fn begin() -> Result<(), StartError> {
    clock::check_namespace().map_err(StartError::failed)?;
    let filter = EnvFilter::try_from_env("SEALFS_LOG").unwrap_or_else(|_| EnvFilter::new("info,fuser=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would write that to standard error, which is what cannot be written to.
        .log_internal_errors(false)
        .with_ansi(false)
        .init();
    sched::begin();
    ignore_lease_breaks();
    raise_descriptors();
    keep_descriptors();
    privileges::drop_most().map_err(|error| failed("dropping privileges", error))
}

/// A lease that is broken sends SIGIO, which would end us.
fn ignore_lease_breaks() {
    // SAFETY: SIG_IGN for SIGIO installs no handler of ours.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Whatever was open when this process began (a shell's files, what a worker inherits from its parent) is not handed
/// on to programs that it starts.
fn keep_descriptors() {
    // SAFETY: closes nothing and takes no pointer: sets the flag on whatever is open.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if done < 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "inherited descriptors not marked");
    }
}

/// Descriptors are what open and remembered files cost, one or two each: as many as the system gives, and root, as
/// long as it has all its power, as many as a process can have.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| most > Some(maximum))
        && setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).is_ok()
    {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "limit of descriptors not raised");
    }
}
