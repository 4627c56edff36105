//! The answering side of the control socket: checks who asks, then does it through the file system's rules.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::frame;
use super::handle::{Asked, Refused};
use super::peer::Peer;
use super::protocol::{Reply, Request};
use crate::vfs::Vfs;

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 128;
/// How long a connection may be silent between requests.
const SILENCE: Duration = Duration::from_secs(60);

/// What the server answers about beside the file system.
pub trait About: Send + Sync {
    /// The daemon and its mount.
    fn status(&self) -> super::protocol::StatusView;
    /// The device number of the mount, if it is known.
    fn device(&self) -> Option<(u32, u32)>;
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
            std::fs::create_dir_all(folder)?;
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
        let open = Arc::new(AtomicUsize::new(0));
        for stream in self.socket.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, most likely: not worth a busy loop.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (vfs, about, counted) = (Arc::clone(vfs), Arc::clone(about), Arc::clone(&open));
            let spawned = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
                if let Err(error) = converse(&stream, &vfs, &*about) {
                    tracing::debug!(%error, "control connection ended");
                }
                counted.fetch_sub(1, Ordering::AcqRel);
            });
            if spawned.is_err() {
                open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn converse(stream: &UnixStream, vfs: &Vfs, about: &dyn About) -> io::Result<()> {
    let peer = Peer::of(stream)?;
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
        let asked = Asked { vfs, about, peer: &peer, fd: fd.as_ref() };
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
