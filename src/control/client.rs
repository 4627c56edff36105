//! The asking side of the control socket.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::frame;
use super::protocol::{Reply, Request};
use crate::crypto;
use crate::store::Layout;

/// Why the daemon did not answer, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon is running for {store}; start it with 'sealfs {store} MOUNTPOINT'", store = .0.display())]
    NoDaemon(PathBuf),
    /// Nobody listens, but the store is in use.
    #[error("{store} is in use by {holder}, and nothing there responds; see its log, and try again", store = .store.display())]
    NoWorker {
        /// The store.
        store: PathBuf,
        /// What the process that holds its lock has written about itself.
        holder: String,
    },
    /// The mount is here, the daemon's socket is not: in a container, or another mount namespace.
    #[error(
        "{store} is mounted here, but its daemon is out of reach: there is no {socket} (a container, or another mount \
         namespace?); run sealctl where the daemon runs, or give this place that folder",
        store = .store.display(), socket = .socket.display()
    )]
    OutOfReach {
        /// The store.
        store: PathBuf,
        /// Where the socket should be.
        socket: PathBuf,
    },
    /// The socket is not ours to use.
    #[error("may not talk to the daemon of {store}: {error}; run as its user or as root", store = .0.display(), error = .1)]
    Denied(PathBuf, #[source] io::Error),
    /// The connection failed.
    #[error("the daemon does not answer: {0}; see its log, and 'sealctl status'")]
    Io(#[from] io::Error),
    /// The answer is no answer.
    #[error("the daemon's answer makes no sense ({0}); is it of the same version as sealctl?")]
    Protocol(String),
    /// The daemon says no.
    #[error("{message}")]
    Refused {
        /// The exit code it asks for.
        code: u8,
        /// What happened; what to do.
        message: String,
    },
}

impl ClientError {
    /// The exit code that `sealctl` ends with (contract, section 7).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::NoDaemon(_) | ClientError::NoWorker { .. } | ClientError::OutOfReach { .. } => 6,
            ClientError::Denied(..) => 4,
            ClientError::Io(_) | ClientError::Protocol(_) => 1,
            ClientError::Refused { code, .. } => *code,
        }
    }
}

/// A connection to the daemon of one store.
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon of the store at the absolute path `store`, which belongs to `owner`.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] if none listens.
    pub fn connect(store: &Path, owner: u32) -> Result<Self, ClientError> {
        let socket = Layout::socket_of(store, owner, crypto::sha256);
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Client { stream }),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Err(ClientError::NoDaemon(store.to_owned()))
                }
                io::ErrorKind::PermissionDenied => Err(ClientError::Denied(store.to_owned(), error)),
                _ => Err(error.into()),
            },
        }
    }

    /// Has every answer awaited for so long at most.
    ///
    /// # Errors
    /// If the socket cannot be set so.
    pub fn set_patience(&self, longest: Duration) -> Result<(), ClientError> {
        Ok(self.stream.set_read_timeout(Some(longest))?)
    }

    /// Asks, and collects what comes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(&mut self, request: &Request, fd: Option<BorrowedFd<'_>>) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        self.ask_each(request, fd, &mut |item| {
            items.push(item);
            Ok::<(), ClientError>(())
        })?;
        Ok(items)
    }

    /// Asks, and hands over each item as it comes. If `each` fails, so does this, and the connection must
    /// not be used again.
    ///
    /// # Errors
    /// [`ClientError`], or what `each` says.
    pub fn ask_each<E: From<ClientError>>(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        each: &mut dyn FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let body = serde_json::to_vec(request).map_err(|error| ClientError::Protocol(error.to_string()))?;
        frame::send(&self.stream, &body, fd).map_err(ClientError::Io)?;
        loop {
            match self.reply()? {
                Reply::Item(item) => each(item)?,
                Reply::End => return Ok(()),
                Reply::Error { code, message } => return Err(ClientError::Refused { code, message }.into()),
            }
        }
    }

    fn reply(&self) -> Result<Reply, ClientError> {
        let Some((body, _)) = frame::receive(&self.stream)? else {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
            return Err(ClientError::Io(ended));
        };
        serde_json::from_slice(&body).map_err(|error| ClientError::Protocol(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answering(replies: Vec<Reply>) -> (Client, std::thread::JoinHandle<Request>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let (body, _) = frame::receive(&theirs).unwrap().unwrap();
            for reply in replies {
                frame::send(&theirs, &serde_json::to_vec(&reply).unwrap(), None).unwrap();
            }
            serde_json::from_slice(&body).unwrap()
        });
        (Client { stream: ours }, server)
    }

    #[test]
    fn items_come_before_the_end() {
        let (mut client, server) =
            answering(vec![Reply::Item(json!(1)), Reply::Item(json!({"a": 2})), Reply::End]);
        assert_eq!(client.ask(&Request::Status, None).unwrap(), [json!(1), json!({"a": 2})]);
        assert_eq!(server.join().unwrap(), Request::Status);
    }

    #[test]
    fn refusals_carry_their_exit_code_and_a_lost_daemon_is_told() {
        let (mut client, server) = answering(vec![Reply::Error { code: 4, message: "no; ask".to_owned() }]);
        let error =
            client.ask(&Request::Purge { dry_run: true, bypass: false, reason: None }, None).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (4, "no; ask"));
        server.join().unwrap();
        let (mut client, _) = answering(vec![Reply::Item(json!(1))]);
        assert_eq!(client.ask(&Request::Status, None).unwrap_err().exit_code(), 1);
        let Err(error) = Client::connect(Path::new("/nowhere/at/all"), 0) else {
            panic!("a daemon of nothing")
        };
        assert_eq!(error.exit_code(), 6);
        assert!(error.to_string().ends_with("start it with 'sealfs /nowhere/at/all MOUNTPOINT'"));
    }
}
