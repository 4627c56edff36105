//! Frames on the control socket: four bytes of length (big endian), then so many bytes of JSON.
//!
//! A descriptor travels with the bytes of the length (`SCM_RIGHTS`). Both sides use this file.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::protocol::FRAME_MAX;

/// Descriptors for which there is room in one message. More than one is a mistake of the sender; what does
/// not fit is closed by the kernel, and the frame is refused.
const FDS_MAX: usize = 4;

/// Sends one frame, with a descriptor or without.
///
/// # Errors
/// If the body is longer than [`FRAME_MAX`], or the socket fails; the connection is then of no more use.
pub fn send(stream: &UnixStream, body: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_MAX);
    let header = length.ok_or_else(|| too_long(body.len()))?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for the descriptor"));
    }
    let sent = loop {
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        match sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    // What the first call did not take follows without the descriptor, which has gone with the first byte.
    let mut stream = stream;
    if sent < header.len() {
        stream.write_all(&header[sent..])?;
    }
    stream.write_all(&body[sent.saturating_sub(header.len())..])
}

/// Receives one frame, and the descriptors that came with it (close-on-exec). `None`: the other side has
/// closed the connection between two frames.
///
/// # Errors
/// If the frame is too long or cut short, too many descriptors came, or the socket fails; the connection is
/// then of no more use.
pub fn receive(stream: &UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let (mut header, mut filled, mut fds) = ([0u8; 4], 0, Vec::new());
    while filled < header.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut header[filled..])];
        let got = match recvmsg(stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > FDS_MAX {
            return Err(invalid("too many descriptors came with a frame"));
        }
        match got.bytes {
            0 if filled == 0 => return Ok(None),
            0 => return Err(cut_short()),
            bytes => filled += bytes,
        }
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > FRAME_MAX {
        return Err(too_long(length));
    }
    let mut body = vec![0; length];
    let mut stream = stream;
    match stream.read_exact(&mut body) {
        Ok(()) => Ok(Some((body, fds))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(cut_short()),
        Err(error) => Err(error),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn too_long(length: usize) -> io::Error {
    invalid(&format!("a frame of {length} bytes is longer than {FRAME_MAX}"))
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn frames_and_descriptors_arrive_whole() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(b"through the socket").unwrap();
        let large = vec![7u8; FRAME_MAX];
        let sender = std::thread::spawn(move || {
            send(&a, b"one", Some(file.as_fd())).unwrap();
            send(&a, b"", None).unwrap();
            send(&a, &large, Some(file.as_fd())).unwrap();
        });
        let (body, fds) = receive(&b).unwrap().unwrap();
        assert_eq!((body.as_slice(), fds.len()), (b"one".as_slice(), 1));
        assert!(rustix::io::fcntl_getfd(&fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = [0; 18];
        rustix::io::pread(&fds[0], &mut text, 0).unwrap();
        assert_eq!(&text, b"through the socket");
        let (body, fds) = receive(&b).unwrap().unwrap();
        assert!(body.is_empty() && fds.is_empty());
        let (body, fds) = receive(&b).unwrap().unwrap();
        assert_eq!((body.len(), fds.len()), (FRAME_MAX, 1));
        sender.join().unwrap();
        assert!(receive(&b).unwrap().is_none(), "a clean end");
    }

    #[test]
    fn frames_too_long_or_cut_short_are_errors() {
        let (a, b) = UnixStream::pair().unwrap();
        assert!(send(&a, &vec![0; FRAME_MAX + 1], None).is_err());
        (&a).write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(receive(&b).unwrap_err().kind(), io::ErrorKind::InvalidData);
        for bytes in [&[0, 0][..], &[0, 0, 0, 5, b'x'][..]] {
            let (a, b) = UnixStream::pair().unwrap();
            (&a).write_all(bytes).unwrap();
            drop(a);
            assert_eq!(receive(&b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
