//! The first words with the kernel, or, where a worker takes a live mount over, the same words said again
//! between us alone.
//!
//! `fuser` reads the kernel's first request (`FUSE_INIT`) and answers it. We stand between them with a socket
//! pair: what the kernel said is kept, and a later worker's `fuser` is given the same, while the kernel hears
//! nothing of its answer. Then the device takes the socket's place under `fuser`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use fuser::{Config, Session};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::fuse::Adapter;

/// At least this much must be offered to read a request (`FUSE_MIN_READ_BUFFER`, linux/fuse.h); more than the
/// first one ever has.
const BUFFER: usize = 64 << 10;
/// Where the second word of flags lies in it: after its header (40 bytes), version, read-ahead and flags.
const FLAGS2: usize = 40 + 16;
/// `FUSE_HAS_RESEND` (bit 39) in that word.
const HAS_RESEND: u32 = 1 << 7;
/// `FUSE_NOTIFY_RESEND`.
const NOTIFY_RESEND: i32 = 7;

/// Reads the kernel's first request.
pub fn first_request(device: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut request = vec![0; BUFFER];
    loop {
        match rustix::io::read(device, &mut request[..]) {
            Ok(length) => {
                request.truncate(length);
                return Ok(request);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the kernel can send again what a dead worker had read (Linux 6.9).
pub fn can_resend(init: &[u8]) -> bool {
    let word = init.get(FLAGS2..FLAGS2 + 4).and_then(|word| word.try_into().ok());
    word.is_some_and(|word| u32::from_ne_bytes(word) & HAS_RESEND != 0)
}

/// Begins a session over `device`, to whose first request `init` the kernel gets an answer only if `answer`.
pub fn begin(
    adapter: Adapter,
    device: &OwnedFd,
    init: &[u8],
    answer: bool,
    config: Config,
) -> io::Result<Session<Adapter>> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    send(&ours, init, SendFlags::NOSIGNAL)?;
    let acl = config.acl;
    let session = Session::from_fd(adapter, theirs, acl, config)?;
    let mut reply = vec![0; BUFFER];
    let (length, _) = recv(&ours, &mut reply[..], RecvFlags::DONTWAIT)?;
    if answer {
        rustix::io::write(device, &reply[..length])?;
    }
    replace(&session, device)?;
    Ok(session)
}

/// Puts the device under the session's descriptor.
fn replace(session: &Session<Adapter>, device: &OwnedFd) -> io::Result<()> {
    // SAFETY: both numbers are of open descriptors, borrowed for the call. The session owns its number, and goes on
    // owning it: only what is open there changes, from a socket that nobody reads yet to the device.
    let done = unsafe { libc::dup3(device.as_raw_fd(), session.as_fd().as_raw_fd(), libc::O_CLOEXEC) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel to send again what was read and not answered.
pub fn ask_again(device: &OwnedFd) -> io::Result<()> {
    // struct fuse_out_header: length, code in the place of an error, no request.
    let mut notice = Vec::with_capacity(16);
    notice.extend_from_slice(&16u32.to_ne_bytes());
    notice.extend_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    notice.extend_from_slice(&0u64.to_ne_bytes());
    rustix::io::write(device, &notice)?;
    Ok(())
}
