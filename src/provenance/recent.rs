//! Writers that were looked at a moment ago: whether a thread is still of the same process, running the same program,
//! is a single read.
//!
//! This read is made by the threads that serve the kernel, and may not wait. `/proc/TID/stat` can: for a process that is
//! in execve(2), past the point where its other threads have ended. But who asks is blocked in a call of ours (open,
//! create, link), so its process is not there. Whatever else in `/proc` may wait is left to the observer's threads.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::chain::{self, Identity};
use super::writer::Writer;

/// Threads remembered. Each holds a descriptor.
const KEPT: usize = 128;

struct Seen {
    /// `/proc/TID/stat`, opened once: it stays that thread's, and fails when that has ended.
    stat: File,
    /// `/proc/TID/statm`, likewise.
    statm: File,
    identity: Identity,
    process: u32,
    writer: Arc<Writer>,
}

/// Threads whose process is known.
#[derive(Default)]
pub struct Recent {
    threads: Mutex<HashMap<u32, Arc<Seen>>>,
}

impl Recent {
    /// The writer that this thread was of when it was last looked at, if it still is, and the number of its process.
    pub fn find(&self, tid: u32) -> Option<(Arc<Writer>, u32)> {
        let seen = self.get(tid)?;
        let mut buffer = [0; 1024];
        let same = seen.stat.read_at(&mut buffer, 0).is_ok_and(|length| {
            chain::parse(&buffer[..length]).is_some_and(|stat| stat.identity == seen.identity)
        });
        if same {
            return Some((Arc::clone(&seen.writer), seen.process));
        }
        self.threads.lock().remove(&tid);
        None
    }

    /// What is read is read without the lock.
    fn get(&self, tid: u32) -> Option<Arc<Seen>> {
        self.threads.lock().get(&tid).cloned()
    }

    /// This thread is of this process and writer, which were just looked at. Only for the observer's threads.
    pub fn remember(&self, tid: u32, process: u32, writer: &Arc<Writer>) {
        let (stat, statm) =
            (File::open(format!("/proc/{tid}/stat")), File::open(format!("/proc/{tid}/statm")));
        let (Ok(stat), Ok(statm)) = (stat, statm) else { return };
        let mut buffer = [0; 1024];
        let Ok(length) = stat.read_at(&mut buffer, 0) else { return };
        let Some(now) = chain::parse(&buffer[..length]) else { return };
        // Another program by now.
        if now.identity.layout != writer.layout() {
            return;
        }
        let mut threads = self.threads.lock();
        if threads.len() >= KEPT {
            threads.clear();
        }
        let writer = Arc::clone(writer);
        threads.insert(tid, Arc::new(Seen { stat, statm, identity: now.identity, process, writer }));
    }

    /// Whether this thread, if it is one that is known, has memory: a dying one has not. Does not wait (see
    /// [`super::exit_of`]).
    pub fn lives(&self, tid: u32) -> bool {
        let mut first = [0; 2];
        self.get(tid)
            .is_some_and(|seen| matches!(seen.statm.read_at(&mut first, 0), Ok(2)) && &first != b"0 ")
    }

    /// Nothing is known any more.
    pub fn clear(&self) {
        self.threads.lock().clear();
    }
}
