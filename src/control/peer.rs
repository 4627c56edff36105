//! Who is at the other end, as the kernel says.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crate::policy::{Policy, Role};

/// The process that connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its groups when it connected, the effective one first.
    pub gids: Vec<u32>,
}

impl Peer {
    /// Asks the kernel (`SO_PEERCRED`, `SO_PEERGROUPS`; unix(7)).
    ///
    /// # Errors
    /// What `getsockopt(2)` reports.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(stream)?;
        let mut gids = vec![credentials.gid.as_raw()];
        gids.extend(groups(stream)?);
        Ok(Peer { uid: credentials.uid.as_raw(), gids })
    }

    /// Whether it has a role. Who runs the daemon is to this store what root is to the host.
    #[must_use]
    pub fn has(&self, policy: &Policy, role: Role) -> bool {
        policy.roles.has(role, self.uid, &self.gids) || (self.is_root() && policy.roles.has(role, 0, &[]))
    }

    /// Whether it is root, or the user that the daemon runs as.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}

fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the buffer is valid for `length` bytes, which the kernel does not exceed; it tells in
        // `length` how many it wrote, or needs (ERANGE).
        let done = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}
