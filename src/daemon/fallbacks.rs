//! What this host cannot do for a store, and what that means: reported once at the start, and in `status`.

use std::sync::atomic::Ordering;

use super::args::Options;
use crate::vfs::Parts;

/// The abilities that are missing here, in words. `unguarded`: why the folder beneath the mount is not guarded.
pub fn of(parts: &Parts, options: &Options, takeover: bool, unguarded: Option<&str>) -> Vec<String> {
    let mut fallbacks = Vec::new();
    if !takeover {
        let why = if !rustix::process::geteuid().is_root() {
            "it needs root"
        } else if options.takeover {
            "the kernel has none (Linux 6.9 is needed)"
        } else {
            "it is off"
        };
        fallbacks.push(format!("no takeover: {why}; if the daemon dies, the mount must be made anew"));
    }
    if !parts.passthrough.load(Ordering::Relaxed) && !options.read_only {
        let why = if !rustix::process::geteuid().is_root() {
            "it needs root"
        } else if options.passthrough {
            "the kernel has none (Linux 6.9 is needed)"
        } else {
            "it is off"
        };
        fallbacks.push(format!("no kernel passthrough: {why}; data goes through the daemon, slower"));
    }
    if let Some(why) = unguarded {
        fallbacks.push(format!(
            "the folder beneath the mount is not guarded: {why}; what is written there while the mount is gone is not sealed"
        ));
    }
    if !parts.sees_exits {
        fallbacks.push(
            "exit statuses of writers cannot be seen (CAP_SYS_PTRACE, PID namespace): torn detection is off"
                .to_owned(),
        );
    }
    if !parts.abilities.immutable {
        fallbacks.push(
            "the backing file system has no immutable flag, or it may not be set: root can change backing files \
             unhindered, though not unnoticed"
                .to_owned(),
        );
    }
    if !parts.abilities.pages {
        fallbacks.push(
            "the kernel does not say what it has cached of a file here (cachestat): a file that was opened for reading and \
             writing is copied once before it is sealed"
                .to_owned(),
        );
    }
    if !parts.abilities.leases {
        fallbacks.push(
            "the backing file system has no leases: the daemon's own count of handles decides".to_owned(),
        );
    }
    fallbacks
}
