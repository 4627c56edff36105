//! The answering side of the control socket: checks who asks, then does it through the file system's rules.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frame;
use super::handle::{Asked, Refused};
use super::peer::Peer;
use super::places::{Place, Places};
use super::protocol::{Reply, Request};
use crate::model::RelPath;
use crate::vfs::Vfs;

/// How long a connection may be silent between requests.
const SILENCE: Duration = Duration::from_secs(60);

/// What the server answers about beside the file system.
pub trait About: Send + Sync {
    /// Describes the daemon and its mount. A path is named only if `may_see` returns true for it; the others are counted.
    fn status(&self, may_see: &dyn Fn(&RelPath) -> bool) -> super::protocol::StatusView;
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
        let places = Places::default();
        for stream in self.socket.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: not worth a busy loop.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let Ok(peer) = Peer::of(&stream) else { continue };
            let stream = Arc::new(stream);
            let Some(place) = places.admit(&peer, &stream) else { continue };
            let (vfs, about) = (Arc::clone(vfs), Arc::clone(about));
            let spawned = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
                if let Err(error) = converse(&stream, &peer, &place, &vfs, &*about) {
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

fn converse(stream: &UnixStream, peer: &Peer, place: &Place, vfs: &Vfs, about: &dyn About) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    while let Some((body, mut fds)) = frame::receive(stream)? {
        place.is_busy(true);
        let fd: Option<OwnedFd> = fds.pop();
        let send = |reply: &Reply| -> io::Result<()> {
            let body = serde_json::to_vec(reply).map_err(io::Error::other)?;
            frame::send(stream, &body, None)
        };
        let request: Request = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => {
                send(&Reply::Error { code: 2, message: format!("request not understood: {error}") })?;
                place.is_busy(false);
                continue;
            }
        };
        let asked = Asked { vfs, about, peer, fd: fd.as_ref(), gone: &|| is_gone(stream) };
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
        place.is_busy(false);
    }
    Ok(())
}

/// Whether the other end is closed.
fn is_gone(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now))
        .is_ok_and(|_| polled[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP))
}
