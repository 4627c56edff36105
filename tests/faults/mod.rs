//! Faults at the durable steps of a daemon: each call with which it makes something last is counted by what it is made
//! on, in all its threads, and one of them fails, fails although it was done, or is where the daemon dies.
//!
//! By ptrace(2), since the program under test is the real one, and makes its calls without a C library.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is not made, and answers EIO.
    Failed,
    /// The call is made, and answers EIO.
    FailedButPersisted,
    /// The daemon is killed before the call is made.
    DiesBefore,
    /// The daemon is killed when the call has been made.
    DiesAfter,
}

impl Fault {
    pub const ALL: [Fault; 4] =
        [Fault::Failed, Fault::FailedButPersisted, Fault::DiesBefore, Fault::DiesAfter];
}

/// Which call, on what: `fdatasync index.db-wal`. Numbers in names are left out, so that runs can be compared.
pub type Step = String;

/// Where faults are.
#[derive(Debug, Clone)]
pub struct Plan {
    pub step: Step,
    /// From which occurrence on, the first being 1.
    pub from: usize,
    /// How many in a row.
    pub times: usize,
    pub fault: Fault,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How often each step was made.
    pub steps: BTreeMap<Step, usize>,
    /// How many of them had a fault.
    pub faults: usize,
}

/// A daemon under observation. When dropped without [`Traced::kill`], it dies all the same.
pub struct Traced {
    pid: Pid,
    tracer: Option<JoinHandle<Seen>>,
}

impl Traced {
    /// Starts `command`, whose files are in `store`.
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it, with all its threads")]
    pub fn start(mut command: Command, store: &Path, plan: Option<Plan>) -> Self {
        let store = store.canonicalize().expect("the store is there");
        let (told, hear) = mpsc::channel();
        // All that concerns a traced process must be done by one thread.
        let tracer = std::thread::spawn(move || {
            // SAFETY: between fork and exec only ptrace(2) is called, which is async-signal-safe.
            unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
            let child = command.spawn().expect("the daemon starts");
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            waitpid(pid, None).expect("it stops at its exec");
            ptrace::setoptions(
                pid,
                Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL,
            )
            .expect("options");
            told.send(pid).expect("somebody listens");
            let mut tracer =
                Tracer { pid, store, plan, seen: Seen::default(), inside: HashMap::new(), dead: false };
            tracer.resume(pid, None);
            tracer.run();
            tracer.seen
        });
        Traced { pid: hear.recv().expect("started"), tracer: Some(tracer) }
    }

    /// Whether it has ended, by itself or by a fault.
    pub fn is_over(&self) -> bool {
        self.tracer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// `kill -9`, if it still lives; then what was seen.
    pub fn kill(mut self) -> Seen {
        self.end()
    }

    fn end(&mut self) -> Seen {
        let Some(tracer) = self.tracer.take() else { return Seen::default() };
        if !tracer.is_finished() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        tracer.join().expect("the tracer")
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
    }
}

struct Tracer {
    pid: Pid,
    store: PathBuf,
    plan: Option<Plan>,
    seen: Seen,
    /// Threads inside a call, and what becomes of that.
    inside: HashMap<Pid, Option<Fault>>,
    dead: bool,
}

impl Tracer {
    fn run(&mut self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    if self.inside.contains_key(&thread) {
                        self.leaves(thread);
                    } else {
                        let fault = self.enters(thread);
                        self.inside.insert(thread, fault);
                    }
                    self.resume(thread, None);
                }
                // A new thread stops first.
                Ok(WaitStatus::Stopped(thread, Signal::SIGSTOP) | WaitStatus::PtraceEvent(thread, ..)) => {
                    self.resume(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => self.resume(thread, Some(signal)),
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.inside.remove(&pid);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return,
                Err(error) => panic!("waitpid: {error}"),
            }
        }
    }

    /// A thread that has died meanwhile is met by the next `waitpid`.
    fn resume(&self, thread: Pid, signal: Option<Signal>) {
        let _ = ptrace::syscall(thread, signal);
    }

    fn die(&mut self) {
        self.dead = true;
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    fn enters(&mut self, thread: Pid) -> Option<Fault> {
        let regs = ptrace::getregs(thread).ok()?;
        let step = self.step(&regs)?;
        let count = self.seen.steps.entry(step.clone()).or_default();
        *count += 1;
        let plan = self.plan.as_ref()?;
        if plan.step != step
            || !(plan.from..plan.from.saturating_add(plan.times)).contains(count)
            || self.dead
        {
            return None;
        }
        self.seen.faults += 1;
        let fault = plan.fault;
        match fault {
            Fault::DiesBefore => self.die(),
            Fault::Failed => {
                // No such call: the kernel does nothing.
                let _ = ptrace::setregs(thread, libc::user_regs_struct { orig_rax: u64::MAX, ..regs });
            }
            Fault::FailedButPersisted | Fault::DiesAfter => {}
        }
        Some(fault)
    }

    fn leaves(&mut self, thread: Pid) {
        match self.inside.remove(&thread).flatten() {
            Some(Fault::Failed | Fault::FailedButPersisted) => {
                if let Ok(mut regs) = ptrace::getregs(thread) {
                    regs.rax = (-i64::from(libc::EIO)).cast_unsigned();
                    let _ = ptrace::setregs(thread, regs);
                }
            }
            Some(Fault::DiesAfter) => self.die(),
            Some(Fault::DiesBefore) | None => {}
        }
    }

    /// The durable step that a call is, if it is one.
    fn step(&self, regs: &libc::user_regs_struct) -> Option<Step> {
        let on_descriptor = |name: &str| {
            let path = std::fs::read_link(format!("/proc/{}/fd/{}", self.pid, regs.rdi)).ok()?;
            let below = path.strip_prefix(&self.store).ok()?;
            Some(format!("{name} {}", class(below)))
        };
        let on_name = |name: &str, at: u64| Some(format!("{name} {}", class(&self.text(at)?)));
        match i64::try_from(regs.orig_rax).ok()? {
            libc::SYS_fsync => on_descriptor("fsync"),
            libc::SYS_fdatasync => on_descriptor("fdatasync"),
            libc::SYS_syncfs => Some("syncfs".to_owned()),
            libc::SYS_sync_file_range => on_descriptor("sync_file_range"),
            libc::SYS_pwrite64 => on_descriptor("pwrite"),
            libc::SYS_write => on_descriptor("write"),
            libc::SYS_ftruncate => on_descriptor("ftruncate"),
            libc::SYS_fallocate => on_descriptor("fallocate"),
            libc::SYS_ioctl if regs.rsi == FS_IOC_SETFLAGS => on_descriptor("setflags"),
            libc::SYS_rename => on_name("rename", regs.rsi),
            libc::SYS_renameat | libc::SYS_renameat2 => on_name("rename", regs.r10),
            libc::SYS_unlink => on_name("unlink", regs.rdi),
            libc::SYS_unlinkat => on_name("unlink", regs.rsi),
            libc::SYS_mkdir => on_name("mkdir", regs.rdi),
            _ => None,
        }
    }

    /// A path that the daemon named, below the store.
    fn text(&self, at: u64) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        use std::os::unix::fs::FileExt;
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        let mut bytes = vec![0; 4096];
        // A path near the end of a mapping is shorter than that.
        let mut size = memory.read_at(&mut bytes, at).unwrap_or(0);
        if size == 0 {
            let page = usize::try_from(4096 - at % 4096).ok()?;
            size = memory.read_at(&mut bytes[..page], at).ok()?;
        }
        let end = bytes[..size].iter().position(|&byte| byte == 0)?;
        bytes.truncate(end);
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        Some(path.strip_prefix(&self.store).map_or(path.clone(), Path::to_owned))
    }
}

/// `FS_IOC_SETFLAGS` (`_IOW('f', 2, long)`).
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;

/// A path without what differs from run to run: `log/tile/#/#`, `tree/#`.
fn class(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.starts_with("tree/") {
        return "tree/#".to_owned();
    }
    let part = |part: &str| {
        if part.bytes().any(|byte| byte.is_ascii_digit()) { "#".to_owned() } else { part.to_owned() }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Waits for something, not longer than `limit`; answers whether it came.
pub fn within(limit: Duration, mut came: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if came() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
