//! Two ways to a store: its files, for its owner; the daemon, for everybody.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::locate::Target;
use crate::clock::{self, SystemTime};
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Request;
use crate::crypto;
use crate::ledger::ReadIndex;
use crate::model::Timestamp;
use crate::policy::Policy;
use crate::store::{Layout, StoreLock, SystemNames, Tree};

/// The store's own files, opened for reading.
pub struct Reading {
    /// Where they lie.
    pub layout: Layout,
    /// The index.
    pub index: ReadIndex,
    /// The store's name.
    pub origin: String,
    /// Sealfs time.
    pub now: Timestamp,
}

impl Reading {
    /// Opens a store that is ours.
    pub fn open(store: &Path) -> Result<Self, Failure> {
        let layout = Layout::open(store)?;
        let index = ReadIndex::open(&layout.index())?;
        let origin = index.origin()?;
        let now = match index.anchor()? {
            Some(anchor) => clock::reading(&anchor, &SystemTime),
            None => Timestamp(0),
        };
        Ok(Reading { layout, index, origin, now })
    }

    /// The backing tree.
    pub fn tree(&self) -> Result<Tree, Failure> {
        let path = self.layout.tree();
        Tree::open(&path).map_err(|error| Failure::about(path.display(), Exit::Failed, error))
    }

    /// The policy, if it can be read and understood.
    pub fn policy(&self) -> Result<Policy, Failure> {
        policy(&self.layout.policy())
    }
}

/// Reads a policy.
pub fn policy(path: &Path) -> Result<Policy, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NoFile } else { Exit::Failed };
        Failure::about(path.display(), exit, format_args!("{error}; 'sealctl init' writes such a file"))
    })?;
    Ok(Policy::parse(&text, &path.display().to_string(), &SystemNames::default())?)
}

/// Whether the store's files are ours to read. A store that is not there, or not a store, is an error.
pub fn is_ours(store: &Path) -> Result<bool, Failure> {
    match std::fs::metadata(store) {
        Ok(meta) => Ok(meta.uid() == rustix::process::geteuid().as_raw()),
        // Something above it is closed to us: then it is not ours.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(_) => Layout::open(store).map(|_| true).map_err(Failure::from),
    }
}

/// How long a worker may take to begin to listen, while another process holds its store: one that takes over needs some
/// 20 ms.
const WORKER_BEGINS: Duration = Duration::from_secs(2);

/// Connects to the daemon of a store. Where the store is in use and nobody listens, a worker may be about to.
pub fn connect(store: &Path) -> Result<Client, ClientError> {
    let owner = std::fs::metadata(store).map_or(0, |meta| meta.uid());
    let asked = Instant::now();
    loop {
        match Client::connect(store, owner) {
            Err(ClientError::NoDaemon(store)) => {
                // Only its owner can look at the lock.
                let layout = Layout::open_damaged(&store).ok();
                let can_look = layout.is_some();
                let Some(holder) = layout.and_then(|layout| StoreLock::holder(&layout).ok().flatten()) else {
                    let mounts = crate::mounts::read().unwrap_or_default();
                    if !can_look && mounts.iter().any(|mount| mount.store.as_deref() == Some(&*store)) {
                        let socket = Layout::socket_of(&store, owner, crypto::sha256);
                        return Err(ClientError::OutOfReach { store, socket });
                    }
                    return Err(ClientError::NoDaemon(store));
                };
                if asked.elapsed() > WORKER_BEGINS {
                    let socket = Layout::socket_of(&store, owner, crypto::sha256);
                    // A worker that died has left its socket.
                    let mounts = crate::mounts::read().unwrap_or_default();
                    let is_mounted = mounts.iter().any(|mount| mount.store.as_deref() == Some(&*store));
                    if is_mounted && !socket.exists() && !holder.contains("its worker has ended") {
                        return Err(ClientError::OutOfReach { store, socket });
                    }
                    return Err(ClientError::NoWorker { store, holder });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Asks how the daemon is; `longest`: how long an answer may take. A worker that ends before it has replied is followed by
/// another one, which is asked again.
pub fn ask_status(store: &Path, longest: Option<Duration>) -> Result<Vec<Value>, ClientError> {
    let asked = Instant::now();
    loop {
        let mut client = connect(store)?;
        if let Some(longest) = longest {
            client.set_patience(longest)?;
        }
        match client.ask(&Request::Status, None) {
            Err(error) if is_cut_off(&error) && asked.elapsed() < WORKER_BEGINS => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Whether the process that was asked ended before it had replied.
pub fn is_cut_off(error: &ClientError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error, ClientError::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

/// A descriptor of the target that says which file is meant, and can do nothing else with it.
pub fn descriptor(target: &Target) -> Result<OwnedFd, Failure> {
    let Some(full) = &target.full else {
        return Err(Failure::about(
            &target.shown,
            Exit::NoDaemon,
            format_args!(
                "{} is not mounted where this command can see it; give a path in its mount",
                target.store.display()
            ),
        ));
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(full, flags, Mode::empty()).map_err(|error| unreachable(target, error.into()))
}

/// The failure that a file in the mount cannot be reached.
pub fn unreachable(target: &Target, error: io::Error) -> Failure {
    let store = target.store.display();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => no_such_file(&target.shown),
        Some(libc::ENOTCONN | libc::ECONNABORTED) => Failure::about(
            &target.shown,
            Exit::NoDaemon,
            format_args!(
                "its mount is dead; unmount it with 'fusermount3 -u' or 'umount', then 'sealfs {store} MOUNTPOINT'"
            ),
        ),
        Some(libc::EACCES | libc::EPERM) => Failure::about(
            &target.shown,
            Exit::Refused,
            format_args!("{error}; run as somebody who may reach it"),
        ),
        _ => Failure::about(&target.shown, Exit::Failed, error),
    }
}

/// The failure that there is no such file.
pub fn no_such_file(shown: &str) -> Failure {
    Failure::about(shown, Exit::NoFile, "no such file; 'sealctl ls' lists what is sealed")
}

/// Asks the daemon about a target.
pub fn ask(target: &Target, request: &Request) -> Result<Vec<Value>, Failure> {
    let mut client = connect(&target.store).map_err(|error| Failure::from(error).with_path(&target.shown))?;
    let fd = descriptor(target)?;
    client.ask(request, Some(fd.as_fd())).map_err(|error| Failure::from(error).with_path(&target.shown))
}

/// Asks the daemon about a target for exactly one thing.
pub fn ask_one<T: DeserializeOwned>(target: &Target, request: &Request) -> Result<T, Failure> {
    let item = ask(target, request)?.into_iter().next();
    let item = item.ok_or_else(|| ClientError::Protocol("nothing came".to_owned()));
    item.and_then(|item| parse(item)).map_err(|error| Failure::from(error).with_path(&target.shown))
}

/// An item of an answer.
pub fn parse<T: DeserializeOwned>(item: Value) -> Result<T, ClientError> {
    serde_json::from_value(item).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// What the wall clock says: for relative times in what the daemon answers.
pub fn wall() -> Timestamp {
    clock::TimeSource::wall(&SystemTime)
}
