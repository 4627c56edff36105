//! Tells the kernel's caches what changed without its doing. Its own thread: nothing waits for it.

use std::ffi::OsStr;

use crossbeam_channel::Receiver;
use fuser::{INodeNo, Notifier};

use crate::vfs::CacheEvent;

/// Runs until every sender is gone.
pub fn run(notifier: &Notifier, events: &Receiver<CacheEvent>) {
    for event in events {
        let told = match event {
            // A negative offset: attributes only, what is cached of the content stays.
            CacheEvent::Attributes(ino) => notifier.inval_inode(INodeNo(ino), -1, 0),
            CacheEvent::Content(ino) => notifier.inval_inode(INodeNo(ino), 0, 0),
            CacheEvent::Name(parent, name) => notifier.inval_entry(INodeNo(parent), OsStr::new(&name)),
            CacheEvent::Told(tell) => {
                let _ = tell.send(());
                Ok(())
            }
        };
        if let Err(error) = told {
            tracing::debug!(%error, "the kernel did not take a notification");
        }
    }
}

/// Tells the kernel at once that attributes of an inode changed. Attributes only, which takes no lock that a request may
/// hold: safe from any thread that serves none.
pub fn attributes_changed(notifier: &Notifier, ino: u64) {
    if let Err(error) = notifier.inval_inode(INodeNo(ino), -1, 0) {
        tracing::trace!(ino, %error, "the kernel did not take a notification");
    }
}
