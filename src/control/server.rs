//! The answering side of the control socket: checks who asks, then does it through the file system's rules.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::frame;
use super::handle::{Asked, Refused};
use super::peer::Peer;
use super::protocol::{Reply, Request};
use crate::vfs::Vfs;

/// Connections at a time; one more is closed at once. Root is not counted: nobody can lock it out.
const CONNECTIONS: usize = 128;
/// Of these, so many for one user.
const CONNECTIONS_EACH: usize = 16;
/// How long a connection may be silent between requests.
const SILENCE: Duration = Duration::from_secs(60);

/// What the server answers about beside the file system.
pub trait About: Send + Sync {
    /// The daemon and its mount.
    fn status(&self) -> super::protocol::StatusView;
    /// The device number of the mount, if it is known.
    fn device(&self) -> Option<(u32, u32)>;
    /// Has this process replaced by another one, under the live mount; it ends at any moment.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    fn restart(&self) -> Result<(), String>;
}

/// A bound socket. The file is removed on drop.
pub struct Listener {
    socket: UnixListener,
    path: std::path::PathBuf,
}

impl Listener {
    /// Binds the socket: its folder is made (0755), the socket is open to everybody, for each request is
    /// checked by itself. A socket left by a dead daemon is replaced; the store's lock says that it is dead.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            let made = !folder.exists();
            std::fs::create_dir_all(folder)?;
            if made {
                // Whatever mask the daemon was started with.
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
            }
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Listener { socket, path: path.to_owned() })
    }

    /// Serves until the process ends, a thread a connection.
    pub fn serve(&self, vfs: &Arc<Vfs>, about: &Arc<dyn About>) {
        let open: Arc<Mutex<HashMap<u32, usize>>> = Arc::default();
        for stream in self.socket.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: not worth a busy loop.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let Ok(peer) = Peer::of(&stream) else { continue };
            if !admit(&open, &peer) {
                continue;
            }
            let place = Place { open: Arc::clone(&open), uid: peer.uid };
            let (vfs, about) = (Arc::clone(vfs), Arc::clone(about));
            let spawned = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
                let _place = place;
                if let Err(error) = converse(&stream, &peer, &vfs, &*about) {
                    tracing::debug!(%error, "control connection ended");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for a control connection");
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A connection's place in the counts; given back when it ends in any way.
struct Place {
    open: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

fn admit(open: &Mutex<HashMap<u32, usize>>, peer: &Peer) -> bool {
    let mut open = open.lock();
    let others: usize = open.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
    let own = open.entry(peer.uid).or_default();
    if !peer.is_root() && (*own >= CONNECTIONS_EACH || others >= CONNECTIONS) {
        return false;
    }
    *own += 1;
    true
}

fn converse(stream: &UnixStream, peer: &Peer, vfs: &Vfs, about: &dyn About) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    while let Some((body, mut fds)) = frame::receive(stream)? {
        let fd: Option<OwnedFd> = fds.pop();
        let send = |reply: &Reply| -> io::Result<()> {
            let body = serde_json::to_vec(reply).map_err(io::Error::other)?;
            frame::send(stream, &body, None)
        };
        let request: Request = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => {
                send(&Reply::Error { code: 2, message: format!("request not understood: {error}") })?;
                continue;
            }
        };
        let asked = Asked { vfs, about, peer, fd: fd.as_ref() };
        let mut broken = None;
        let answer = asked.answer(request, &mut |item| match send(&Reply::Item(item)) {
            Ok(()) => true,
            Err(error) => {
                broken = Some(error);
                false
            }
        });
        if let Some(error) = broken {
            return Err(error);
        }
        // Before the last word: who has it may unmount at once, and a descriptor of ours would keep the mount busy.
        drop((fd, fds));
        match answer {
            Ok(()) => send(&Reply::End)?,
            Err(Refused { code, message }) => send(&Reply::Error { code, message })?,
        }
    }
    Ok(())
}
