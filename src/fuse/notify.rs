//! Tells the kernel's caches what changed without its doing. Its own thread: nothing waits for it.

use std::ffi::OsStr;

use crossbeam_channel::Receiver;
use fuser::{INodeNo, Notifier};

use crate::vfs::CacheEvent;

/// Runs until every sender is gone.
pub fn run(notifier: &Notifier, events: &Receiver<CacheEvent>) {
    for event in events {
        let told = match &event {
            // A negative offset: attributes only, what is cached of the content stays.
            CacheEvent::Attributes(ino) => notifier.inval_inode(INodeNo(*ino), -1, 0),
            CacheEvent::Content(ino) => notifier.inval_inode(INodeNo(*ino), 0, 0),
            CacheEvent::Name(parent, name) => notifier.inval_entry(INodeNo(*parent), OsStr::new(name)),
        };
        if let Err(error) = told {
            tracing::debug!(?event, %error, "the kernel did not take a notification");
        }
    }
}
