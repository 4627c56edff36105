//! The parent: holds the store's lock, the device and the mount, and does nothing else but start workers.
//!
//! A worker that dies, hangs or is to be replaced is followed by another, which finds what the kernel knows in
//! memory that is held here ([`crate::store::Handover`]), and open inodes without a name as descriptors. A worker is
//! started only after the one before it is reaped. When this process dies, its worker dies with it, and so does the
//! mount.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::args::Options;
use super::guard::{self, Guarding};
use super::link::{Link, Message};
use super::worker::{self, Inherited};
use super::{Args, StartError, background, mount, process, serve};
use crate::crypto;
use crate::sched;
use crate::store::{Layout, StoreLock};

/// How long a worker may be silent before it is taken for stuck.
const SILENCE: Duration = Duration::from_secs(20);
/// Why a worker was replaced, where that was wished.
pub const ASKED: &str = "asked for";
/// A worker that lived as long has not failed to start.
const STEADY: Duration = Duration::from_secs(60);
/// Workers in a row that could not begin, after which the mount is given up: its callers get an error instead of
/// waiting for ever. With the pauses between them, that is after some 13 seconds.
const FAILED_STARTS_MAX: u32 = 9;
/// Longest pause before another worker is tried.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> StartError {
    StartError::failed(format!("{what}: {error}"))
}

struct Keeper {
    program: PathBuf,
    /// What workers are started with: absolute paths, since this process leaves the folder that it began in.
    arguments: Vec<OsString>,
    /// This process's own program, also when a newer one stands under its name.
    original: File,
    device: OwnedFd,
    memory: OwnedFd,
    lock: StoreLock,
    /// Of this process, for the text in the lock.
    who: String,
    /// Of the folder beneath the mount.
    guarding: Guarding,
    ghosts: HashMap<u64, OwnedFd>,
    signals: Signals,
    log: PathBuf,
    told_ready: bool,
    restarts: u64,
    why: String,
    /// What the present worker has said about why it ends.
    last_words: Option<String>,
}

/// How a worker ended.
enum End {
    /// The mount is gone, or it was told to end.
    Finished,
    /// It could not begin.
    NeverReady(ExitStatus),
    /// It died or was replaced.
    Died { why: String, was_ready: bool, asked: bool },
}

/// Serves the store on the mount point until that is unmounted or the process is told to end.
pub fn run(args: &Args, options: &Options) -> Result<(), StartError> {
    process::begin()?;
    let layout = Layout::open(&args.store).map_err(|error| StartError::failed(error.to_string()))?;
    let mountpoint = super::mountpoint::check(&args.mountpoint, layout.root(), options)?;
    let who = format!("sealfs (process {}), mounted on {}", std::process::id(), mountpoint.display());
    let lock = serve::take_lock(&layout, &who)?;
    let program = std::env::current_exe().map_err(|error| failed("own executable", error))?;
    let original = File::open("/proc/self/exe").map_err(|error| failed("own executable", error))?;
    let memory = rustix::fs::memfd_create(c"sealfs-live", MemfdFlags::CLOEXEC)
        .map_err(|error| failed("memory for takeover", error))?;
    let socket = Layout::socket_of(layout.root(), rustix::process::geteuid().as_raw(), crypto::sha256);
    let signals = Signals::new().map_err(|error| failed("signals", error))?;
    let guarding = Guarding::begin(&mountpoint, options);
    let mounted = mount::mount_directly(layout.root(), &mountpoint, options);
    let device = mounted.inspect_err(|_| guarding.lift(&mountpoint))?;
    let mut keeper = Keeper {
        program,
        arguments: args.in_foreground(),
        original,
        device,
        memory,
        lock,
        who,
        guarding,
        ghosts: HashMap::new(),
        signals,
        log: socket.with_extension("log"),
        told_ready: false,
        restarts: 0,
        why: String::new(),
        last_words: None,
    };
    let done = keeper.keep();
    if !matches!(done, Ok(None)) {
        mount::unmount(&mountpoint);
    }
    keeper.guarding.lift(&mountpoint);
    match done {
        Ok(None) => Ok(()),
        // The worker has reported its error itself.
        Ok(Some(code)) => std::process::exit(code),
        Err(error) => Err(error),
    }
}

impl Keeper {
    /// Workers, one after the other. Answers the exit code of one that never began.
    fn keep(&mut self) -> Result<Option<i32>, StartError> {
        let (mut quick, mut own, mut failed_starts) = (0u32, false, 0);
        loop {
            let started = Instant::now();
            match self.one_worker(own)? {
                End::Finished => return Ok(None),
                End::NeverReady(status) => {
                    if let Some(signal) = status.signal() {
                        let _ = writeln!(
                            std::io::stderr(),
                            "sealfs: the worker ended by signal {signal} before the mount was live"
                        );
                    }
                    return Ok(Some(status.code().unwrap_or(1)));
                }
                End::Died { why, was_ready, asked } => {
                    self.restarts += 1;
                    quick = if asked || started.elapsed() > STEADY { 0 } else { quick + 1 };
                    failed_starts = if was_ready { 0 } else { failed_starts + 1 };
                    self.lock.describe(&format!("{}; its worker has ended: {why}", self.who));
                    if failed_starts >= FAILED_STARTS_MAX {
                        return Err(StartError::failed(format!(
                            "{failed_starts} workers in a row could not start, the mount is given up; the last one: {why}"
                        )));
                    }
                    // A newer program that cannot begin is not tried twice in a row.
                    own = !was_ready && !own;
                    let pause = match quick {
                        0 | 1 => Duration::ZERO,
                        many => LONGEST_PAUSE.min(Duration::from_millis(100) * 2u32.pow(many.min(10) - 2)),
                    };
                    if asked {
                        tracing::info!("another worker takes over, as asked");
                    } else {
                        tracing::error!(%why, restarts = self.restarts, ?pause, "the worker ended: another one takes over");
                    }
                    self.why = why;
                    if self.signals.ends_within(pause) {
                        return Ok(Some(0));
                    }
                }
            }
        }
    }

    fn one_worker(&mut self, own: bool) -> Result<End, StartError> {
        let (link, theirs) = Link::pair().map_err(|error| failed("socket", error))?;
        let mut worker = match self.start(&theirs, own) {
            Ok(worker) => worker,
            // A newer program may not be one that can be run.
            Err(error) if self.told_ready => {
                let why = format!("{}: cannot start: {error}", self.program.display());
                return Ok(End::Died { why, was_ready: false, asked: false });
            }
            Err(error) => return Err(failed(self.program.display(), error)),
        };
        drop(theirs);
        for (ino, ghost) in &self.ghosts {
            let _ = link.send_ghost(*ino, ghost.as_fd());
        }
        let _ = link.send(&Message::Begin(self.restarts, self.why.clone()));
        self.watch(&mut worker, &link).map_err(|error| failed("worker", error))
    }

    fn start(&self, link: &OwnedFd, own: bool) -> std::io::Result<Child> {
        let inherited = [self.device.as_fd(), self.memory.as_fd(), link.as_fd(), self.lock.as_fd()];
        let guard = self.guarding.guard.as_ref().map(guard::Guard::as_fd);
        // This process starts nothing but workers, and has no other thread: what it lets be inherited goes nowhere
        // else.
        let handed_on = |flags: FdFlags| -> std::io::Result<()> {
            for file in inherited.iter().chain([&self.original.as_fd()]).chain(&guard) {
                rustix::io::fcntl_setfd(file, flags)?;
            }
            Ok(())
        };
        handed_on(FdFlags::empty())?;
        let program = if own {
            PathBuf::from(format!("/proc/self/fd/{}", self.original.as_raw_fd()))
        } else {
            self.program.clone()
        };
        let [device, memory, link, lock] = inherited.map(|file| file.as_raw_fd());
        let mut command = Command::new(program);
        command.args(&self.arguments).env(guard::ENV, self.guarding.to_env());
        command
            .env(worker::ENV, Inherited { device, memory, link, lock, parent: std::process::id() }.to_text());
        if let Some(nice) = sched::ordinary_nice() {
            command.env(sched::ENV, nice);
        }
        command.env_remove("NOTIFY_SOCKET").env_remove(background::READY_ENV);
        let worker = command.spawn();
        handed_on(FdFlags::CLOEXEC)?;
        worker
    }

    /// Watches a worker until it has ended.
    fn watch(&mut self, worker: &mut Child, link: &Link) -> std::io::Result<End> {
        let (mut ready, mut asked, mut ending) = (false, false, false);
        self.last_words = None;
        let mut why = None;
        let mut heard = Instant::now();
        loop {
            self.hear(link, worker, &mut ready, &mut asked, &mut heard);
            if let Some(status) = worker.try_wait()? {
                self.hear(link, worker, &mut ready, &mut asked, &mut heard);
                return Ok(if ending || (ready && status.success()) {
                    End::Finished
                } else if !self.told_ready {
                    End::NeverReady(status)
                } else {
                    let last_words = self.last_words.take();
                    let why = why
                        .or(last_words)
                        .unwrap_or_else(|| if asked { ASKED.to_owned() } else { status.to_string() });
                    End::Died { why, was_ready: ready, asked }
                });
            }
            for signal in self.signals.arrived() {
                if signal == SIGHUP {
                    kill(worker, rustix::process::Signal::HUP);
                } else if signal != SIGCHLD {
                    ending = true;
                    background::notify_systemd("STOPPING=1");
                    kill(worker, rustix::process::Signal::TERM);
                }
            }
            if ready && !ending && heard.elapsed() > SILENCE && why.is_none() {
                why = Some(format!("it was silent for {} s", SILENCE.as_secs()));
                kill(worker, rustix::process::Signal::KILL);
            }
            background::feed_watchdog();
            self.signals.wait(Some(link), Duration::from_secs(1));
        }
    }

    fn hear(&mut self, link: &Link, worker: &Child, ready: &mut bool, asked: &mut bool, heard: &mut Instant) {
        while let Ok(Some(message)) = link.receive(false) {
            *heard = Instant::now();
            match message {
                Message::Ready => {
                    *ready = true;
                    self.lock.describe(&self.who);
                    if !self.told_ready {
                        self.told_ready = true;
                        background::notify_systemd("READY=1");
                        if let Err(error) = background::tell_ready(&self.log) {
                            tracing::warn!(%error, "not in the background");
                        }
                    }
                }
                Message::Beat | Message::Begin(..) => {}
                Message::Failed(why) => self.last_words = Some(why),
                Message::Restart => {
                    *asked = true;
                    kill(worker, rustix::process::Signal::KILL);
                }
                Message::Ghost(ino, file) => drop(self.ghosts.insert(ino, file)),
                Message::Gone(ino) => drop(self.ghosts.remove(&ino)),
            }
        }
    }
}

fn kill(worker: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(worker.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::debug!(%error, "worker not signalled");
    }
}

/// Signals, as bytes to be waited for beside messages.
struct Signals {
    seen: Vec<(i32, UnixStream)>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let mut seen = Vec::new();
        for signal in [SIGCHLD, SIGHUP, SIGINT, SIGTERM] {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal, theirs)?;
            seen.push((signal, ours));
        }
        Ok(Signals { seen })
    }

    fn arrived(&mut self) -> Vec<i32> {
        let mut bytes = [0; 64];
        self.seen
            .iter_mut()
            .filter_map(|(signal, pipe)| {
                pipe.read(&mut bytes).is_ok_and(|count| count > 0).then_some(*signal)
            })
            .collect()
    }

    fn wait(&self, link: Option<&Link>, longest: Duration) {
        let mut polled: Vec<PollFd<'_>> =
            self.seen.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        polled.extend(link.map(|link| PollFd::new(link, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        let _ = poll(&mut polled, Some(&timeout));
        // The other side has closed its end: its process is about to end, which SIGCHLD tells.
        if polled.last().is_some_and(|last| last.revents().contains(PollFlags::HUP)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits that long; answers whether the process was told to end meanwhile.
    fn ends_within(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            if self.arrived().iter().any(|signal| [SIGTERM, SIGINT].contains(signal)) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            background::feed_watchdog();
            self.wait(None, left.min(Duration::from_secs(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_with_their_descriptors() {
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = Link::of(theirs);
        theirs.send(&Message::Ready).unwrap();
        theirs.send_ghost(7, File::open("/dev/null").unwrap().as_fd()).unwrap();
        theirs.send(&Message::Gone(7)).unwrap();
        assert!(matches!(ours.receive(false).unwrap(), Some(Message::Ready)));
        assert!(matches!(ours.receive(false).unwrap(), Some(Message::Ghost(7, _))));
        assert!(matches!(ours.receive(false).unwrap(), Some(Message::Gone(7))));
        ours.send(&Message::Begin(3, "signal: 9 (SIGKILL)".to_owned())).unwrap();
        let Some(Message::Begin(3, why)) = theirs.receive(true).unwrap() else { panic!("begin") };
        assert_eq!(why, "signal: 9 (SIGKILL)");
        drop(ours);
        assert!(!matches!(theirs.receive(true), Ok(Some(_))));
    }
}
