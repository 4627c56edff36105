//! Between the parent, which holds the mount, and the worker, which serves it: short messages over a socket of
//! packets, some with a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest message, in bytes.
const MOST: usize = 1024;

/// A message.
#[derive(Debug)]
pub enum Message {
    /// Worker: the mount is live.
    Ready,
    /// Worker: it is not stuck.
    Beat,
    /// Worker: it ends, and why.
    Failed(String),
    /// Worker: replace it.
    Restart,
    /// An inode without a name that is open; either way.
    Ghost(u64, OwnedFd),
    /// Worker: that inode is not needed any more.
    Gone(u64),
    /// Parent: that was all; begin. How often a worker was replaced, and why the last one was.
    Begin(u64, String),
}

/// One end.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Both ends.
    pub fn pair() -> io::Result<(Link, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Link(ours), theirs))
    }

    /// An end that was inherited.
    pub fn of(socket: OwnedFd) -> Self {
        Link(socket)
    }

    /// Sends one without waiting: a parent or worker that does not read is not worth hanging for.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        let (text, descriptor) = match message {
            Message::Ready => ("ready".to_owned(), None),
            Message::Beat => ("beat".to_owned(), None),
            Message::Failed(why) => (format!("failed {why}"), None),
            Message::Restart => ("restart".to_owned(), None),
            Message::Ghost(ino, file) => (format!("ghost {ino}"), Some(file.as_fd())),
            Message::Gone(ino) => (format!("gone {ino}"), None),
            Message::Begin(restarts, why) => (format!("begin {restarts} {why}"), None),
        };
        self.send_text(&text, descriptor, SendFlags::DONTWAIT)
    }

    /// Sends an inode that must be kept, waiting if need be.
    pub fn send_ghost(&self, ino: u64, file: BorrowedFd<'_>) -> io::Result<()> {
        self.send_text(&format!("ghost {ino}"), Some(file), SendFlags::empty())
    }

    fn send_text(&self, text: &str, file: Option<BorrowedFd<'_>>, flags: SendFlags) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&files));
        }
        let end = text.floor_char_boundary(MOST);
        let text = IoSlice::new(&text.as_bytes()[..end]);
        sendmsg(&self.0, &[text], &mut control, flags | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives the next one; `None` where the other side is gone.
    pub fn receive(&self, wait: bool) -> io::Result<Option<Message>> {
        let mut text = [0; MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let got = {
            let mut parts = [IoSliceMut::new(&mut text)];
            recvmsg(&self.0, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut file = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.last().or(file);
            }
        }
        let text = String::from_utf8_lossy(&text[..got.bytes]).into_owned();
        let mut words = text.splitn(3, ' ');
        let (word, number) =
            (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
        let message = match (word, number, file) {
            ("ready", ..) => Message::Ready,
            ("beat", ..) => Message::Beat,
            ("failed", ..) => Message::Failed(text.strip_prefix("failed ").unwrap_or_default().to_owned()),
            ("restart", ..) => Message::Restart,
            ("ghost", Some(ino), Some(file)) => Message::Ghost(ino, file),
            ("gone", Some(ino), _) => Message::Gone(ino),
            ("begin", Some(restarts), _) => {
                Message::Begin(restarts, words.next().unwrap_or_default().to_owned())
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of sealfs")),
        };
        Ok(Some(message))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
