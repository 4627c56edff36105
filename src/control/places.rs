//! Who may have how many connections: nobody can keep others from asking.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::peer::Peer;

/// Connections at a time. Root is not counted: nobody can lock it out.
const CONNECTIONS: usize = 128;
/// Of these, so many for one user; one more is closed at once.
const CONNECTIONS_EACH: usize = 16;

/// All open connections.
#[derive(Default)]
pub(super) struct Places(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    uid: u32,
    stream: Arc<UnixStream>,
    /// Since when it has asked nothing; none while it is answered.
    idle: Option<Instant>,
}

/// A connection's place; given back when it ends in any way.
pub(super) struct Place {
    open: Arc<Mutex<Open>>,
    number: u64,
}

impl Places {
    /// A place for one more connection. Where all are taken, the one that has been idle for longest is closed for it.
    pub fn admit(&self, peer: &Peer, stream: &Arc<UnixStream>) -> Option<Place> {
        let mut open = self.0.lock();
        if !peer.is_root() {
            let own = open.connections.values().filter(|known| known.uid == peer.uid).count();
            if own >= CONNECTIONS_EACH || !open.make_room() {
                return None;
            }
        }
        let number = open.next;
        open.next += 1;
        let connection = Connection { uid: peer.uid, stream: Arc::clone(stream), idle: Some(Instant::now()) };
        open.connections.insert(number, connection);
        Some(Place { open: Arc::clone(&self.0), number })
    }
}

impl Open {
    fn make_room(&mut self) -> bool {
        let me = rustix::process::geteuid().as_raw();
        let counted = |known: &Connection| known.uid != 0 && known.uid != me;
        if self.connections.values().filter(|known| counted(known)).count() < CONNECTIONS {
            return true;
        }
        let idle = self.connections.iter().filter(|(_, known)| counted(known));
        let longest = idle.filter_map(|(number, known)| Some((known.idle?, *number))).min();
        let Some((_, number)) = longest else { return false };
        if let Some(closed) = self.connections.remove(&number) {
            let _ = closed.stream.shutdown(Shutdown::Both);
        }
        true
    }
}

impl Place {
    /// Whether a request is being answered.
    pub fn is_busy(&self, busy: bool) {
        if let Some(connection) = self.open.lock().connections.get_mut(&self.number) {
            connection.idle = (!busy).then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().connections.remove(&self.number);
    }
}
