//! A store and its mount for one test: real daemon, real FUSE, everything gone afterwards, also on failure.
#![allow(dead_code, reason = "each test binary uses another part")]

pub mod image;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A policy for tests: seals soon after the close.
pub const QUICK: &str = "version = 1\n[defaults]\nsettle = \"200ms\"\nretention = \"1h\"\n";

/// A policy that never seals by time: only on demand.
pub const SLOW: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1h\"\n";

/// A mounted store.
pub struct Mount {
    /// Holds store and mount point; removed at last.
    pub dir: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// The mount point.
    pub mnt: PathBuf,
    /// Where its log is: not on a file system that a test fills.
    log: PathBuf,
    daemon: Option<Child>,
    options: Vec<String>,
    program: Option<PathBuf>,
}

/// Where tests keep their stores: a real file system with leases and the immutable flag, not a tmpfs.
pub fn base() -> PathBuf {
    std::env::var_os("SEALFS_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

pub fn sealfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sealfs"))
}

pub fn sealctl() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sealctl"))
}

/// Makes an empty folder with a name of its own.
pub fn scratch(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = base().join(format!("sealfs-test-{}-{n}-{name}", std::process::id()));
    fs::create_dir_all(&dir).expect("scratch folder");
    dir
}

impl Mount {
    /// Makes a store with this policy and mounts it.
    pub fn new(name: &str, policy: &str) -> Self {
        Self::with(name, policy, &[])
    }

    /// As [`Mount::new`], with arguments for `sealfs`.
    ///
    /// `SEALFS_TEST_OPTIONS`, separated by commas, is added to them (`-o,passthrough=off`).
    pub fn with(name: &str, policy: &str, options: &[&str]) -> Self {
        Self::made(scratch(name), policy, options)
    }

    /// As [`Mount::new`], in this folder.
    pub fn at(dir: &Path, policy: &str) -> Self {
        Self::at_with(dir, policy, &[])
    }

    /// As [`Mount::with`], in this folder.
    pub fn at_with(dir: &Path, policy: &str, options: &[&str]) -> Self {
        fs::create_dir(dir).expect("folder");
        Self::made_with(dir.to_owned(), dir.join("store"), scratch("log"), policy, options)
    }

    /// As [`Mount::with`], with the store elsewhere, such as on another file system; that is not removed.
    pub fn with_store(dir: &Path, store: &Path, policy: &str, options: &[&str]) -> Self {
        fs::create_dir(dir).expect("folder");
        Self::made_with(dir.to_owned(), store.to_owned(), dir.to_owned(), policy, options)
    }

    fn made(dir: PathBuf, policy: &str, options: &[&str]) -> Self {
        Self::made_with(dir.clone(), dir.join("store"), dir, policy, options)
    }

    fn made_with(dir: PathBuf, store: PathBuf, log: PathBuf, policy: &str, options: &[&str]) -> Self {
        let mnt = dir.join("mnt");
        fs::create_dir(&mnt).expect("mount point");
        let made = sealctl().arg("init").arg(&store).args(["--origin", "test.example/store"]).output();
        let made = made.expect("sealctl init");
        assert!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(store.join("policy.toml"), policy).expect("policy");
        let more = std::env::var("SEALFS_TEST_OPTIONS").unwrap_or_default();
        let more = more.split(',').filter(|option| !option.is_empty());
        let options = options.iter().copied().chain(more).map(str::to_owned).collect();
        let mut mount = Mount { dir, store, mnt, log, daemon: None, options, program: None };
        mount.start();
        mount
    }

    /// As [`Mount::new`], with another file as the program.
    pub fn of_program(name: &str, policy: &str, program: &Path) -> Self {
        let mut mount = Self::new(name, policy);
        mount.stop();
        mount.program = Some(program.to_owned());
        mount.start();
        mount
    }

    /// Goes on with another file as the program, when stopped.
    pub fn under(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self.start();
        self
    }

    /// The daemon has ended otherwise.
    pub fn forget(&mut self) {
        let _ = self.daemon.take().expect("running").wait();
    }

    /// Starts the daemon and waits until it is mounted.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "already started");
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("log");
        let mut command = self.program.as_ref().map_or_else(sealfs, Command::new);
        command.arg("-f").args(&self.options).arg(&self.store).arg(&self.mnt);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let until = Instant::now() + Duration::from_secs(20);
        let mut daemon = loop {
            match command.spawn() {
                // A child that another test's thread is just starting has a program open that was written a moment ago.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                daemon => break daemon.expect("sealfs"),
            }
        };
        // Mounted first, served then: the first answer waits for that.
        while !self.is_mounted() || fs::metadata(&self.mnt).is_err() || !self.is_mounted() {
            if let Some(status) = daemon.try_wait().expect("wait") {
                panic!("sealfs ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "not mounted in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
    }

    fn log_path(&self) -> PathBuf {
        self.log.join("daemon.log")
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        mounts.lines().any(|line| line.split(' ').nth(4) == self.mnt.to_str())
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("running").id()
    }

    /// The process of the worker that serves, once there is one.
    #[track_caller]
    pub fn worker(&self) -> rustix::process::Pid {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            // There is a moment in which nobody listens.
            let pid = self.ctl_json(&["status"])[0]["pid"].as_i64();
            if let Some(pid) = pid {
                return i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("pid");
            }
            assert!(Instant::now() < until, "no worker:\n{}", self.log());
            pause(5);
        }
    }

    /// Unmounts and waits for the daemon to end well.
    pub fn stop(&mut self) {
        self.unmount();
        self.reap();
    }

    /// Unmounts.
    pub fn unmount(&self) {
        // A child that another test's thread is just starting has our descriptors until its exec.
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let output = Command::new("umount").arg(&self.mnt).output().expect("umount");
            if output.status.success() {
                break;
            }
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("busy") && Instant::now() < until, "umount: {} {error}", output.status);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the daemon of an unmounted store to end well.
    pub fn reap(&mut self) {
        let mut daemon = self.daemon.take().expect("running");
        let status = daemon.wait().expect("wait");
        assert!(status.success(), "sealfs ended with {status}:\n{}", self.log());
    }

    /// Kills the daemon as a crash would, and clears the dead mount.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("running");
        let workers = children(daemon.id());
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
        // They die with it, but not in the same instant.
        while workers.iter().any(|worker| Path::new(&format!("/proc/{worker}")).exists()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.mnt).stderr(Stdio::null()).status();
    }

    /// Stopped, for [`Mount::again`].
    pub fn stopped(mut self) -> Self {
        self.stop();
        self
    }

    /// Goes on with other arguments for `sealfs`, when stopped.
    pub fn again(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self.start();
        self
    }

    /// Stop, and start again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mnt.join(name)
    }

    /// Runs `sealctl` on this store.
    pub fn ctl<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        sealctl().arg("--store").arg(&self.store).args(args).current_dir(&self.mnt).output().expect("sealctl")
    }

    /// Runs `sealctl`, which must succeed, and answers with what it printed.
    pub fn ctl_ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let output = self.ctl(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "sealctl: {:?} {error}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The state of a file, by its virtual attribute.
    pub fn state(&self, name: impl AsRef<Path>) -> String {
        xattr(&self.path(name), "user.seal.state").unwrap_or_default()
    }

    /// Waits until a file is in a state.
    pub fn until(&self, name: impl AsRef<Path>, state: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.state(&name);
            if now == state {
                return;
            }
            let name = name.as_ref().display();
            assert!(Instant::now() < until, "{name} is {now:?}, not {state}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes a file and waits until it is sealed.
    pub fn sealed(&self, name: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.path(&name);
        fs::write(&path, content).expect("write");
        self.ctl_ok(&[OsStr::new("seal"), path.as_os_str()]);
        self.until(name, "sealed");
        path
    }

    /// Runs `sealctl`, which must end with this code; answers with what it said on standard error.
    #[track_caller]
    pub fn ctl_exit<S: AsRef<OsStr>>(&self, args: &[S], code: i32) -> String {
        let output = self.ctl(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{error}{out}\n{}", self.log());
        error
    }

    /// What `sealctl --json` answers, line by line.
    #[track_caller]
    pub fn ctl_json<S: AsRef<OsStr>>(&self, args: &[S]) -> Vec<serde_json::Value> {
        let mut all = vec![OsStr::new("--json")];
        all.extend(args.iter().map(AsRef::as_ref));
        let text = self.ctl_ok(&all);
        let values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        values.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs `sealctl` as another user.
    pub fn ctl_as<S: AsRef<OsStr>>(&self, uid: u32, args: &[S]) -> Output {
        // The checkout may lie where other users cannot go; this folder does not.
        let program = self.dir.join("sealctl");
        if !program.exists() {
            // By another process: a writable descriptor here would be inherited by whatever other tests start meanwhile,
            // and the copy be "busy".
            run(Command::new("cp").arg(env!("CARGO_BIN_EXE_sealctl")).arg(&program));
        }
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.mnt).uid(uid).gid(uid);
        command.output().expect("sealctl")
    }

    /// Everything that can be seen of the files, in the mount and on the backing file system.
    pub fn picture(&self) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        paint(&self.mnt, "mount", &mut picture);
        paint(&self.store.join("tree"), "backing", &mut picture);
        picture
    }

    /// A call must fail with this errno, and change nothing that can be seen.
    #[track_caller]
    pub fn refuses<T>(&self, wanted: i32, what: &str, call: impl FnOnce() -> io::Result<T>) {
        let before = self.picture();
        match call() {
            Ok(_) => panic!("{what}: it succeeded"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(wanted), "{what}: {error}"),
        }
        let after = self.picture();
        for (name, was) in &before {
            assert_eq!(Some(was), after.get(name), "{what} changed {name}");
        }
        assert_eq!(before.len(), after.len(), "{what} made something: {:?}", after.keys());
    }

    /// The refusals of a path, as `sealctl why` tells them.
    #[track_caller]
    pub fn why(&self, name: impl AsRef<Path>) -> Vec<serde_json::Value> {
        self.ctl_json(&[OsStr::new("why"), self.path(name).as_os_str()])
    }

    /// `sealctl stat` of a path.
    #[track_caller]
    pub fn stat(&self, name: impl AsRef<Path>) -> serde_json::Value {
        self.ctl_json(&[OsStr::new("stat"), self.path(name).as_os_str()]).remove(0)
    }

    /// A file must keep a state for so long.
    #[track_caller]
    pub fn stays(&self, name: impl AsRef<Path>, state: &str, millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until {
            assert_eq!(self.state(&name), state, "{}\n{}", name.as_ref().display(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Backing path of a name.
    pub fn backing(&self, name: impl AsRef<Path>) -> PathBuf {
        self.store.join("tree").join(name)
    }

    /// One answer of SQLite about the index.
    pub fn sql(&self, query: &str) -> String {
        let output =
            Command::new("sqlite3").arg("-readonly").arg(self.store.join("index.db")).arg(query).output();
        let output = output.expect("sqlite3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mnt).stderr(Stdio::null()).status();
        if let Some(mut daemon) = self.daemon.take() {
            let workers = children(daemon.id());
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until && matches!(daemon.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
            // They die with it, but not in the same instant, and may still set a flag.
            while Instant::now() < until + Duration::from_secs(5)
                && workers.iter().any(|worker| Path::new(&format!("/proc/{worker}")).exists())
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        remove(&self.dir);
        remove(&self.log);
    }
}

/// Removes a folder with immutable files in it.
pub fn remove(dir: &Path) {
    let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(dir).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(dir);
}

/// Reads an extended attribute as text.
pub fn xattr(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0u8; 64 * 1024];
    let size = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(size);
    String::from_utf8(value).ok()
}

/// The errno of a call that must fail.
#[track_caller]
pub fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.raw_os_error().unwrap_or_else(|| panic!("no errno: {error}")),
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{error}", output.status);
    text
}

/// Runs a shell script in a folder; it must succeed.
#[track_caller]
pub fn sh(dir: &Path, script: &str) -> String {
    run(Command::new("bash").arg("-euo").arg("pipefail").arg("-c").arg(script).current_dir(dir))
}

/// Notes down everything below a folder: names, kinds, attributes, times, extended attributes, bytes.
fn paint(at: &Path, name: &str, picture: &mut BTreeMap<String, String>) {
    let meta = match fs::symlink_metadata(at) {
        Ok(meta) => meta,
        Err(error) => {
            picture.insert(name.to_owned(), error.to_string());
            return;
        }
    };
    let sealed = xattr(at, "user.seal.state").is_some_and(|state| state == "sealed");
    let atime = if sealed { (meta.atime(), meta.atime_nsec()) } else { (0, 0) };
    let mut all = format!(
        "ino {} mode {:o} owner {}:{} links {} size {} mtime {}.{} ctime {}.{} atime {atime:?}",
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    );
    let mut names = vec![0u8; 64 * 1024];
    let length = rustix::fs::llistxattr(at, &mut names).unwrap_or(0);
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).expect("UTF-8");
        all += &format!(" {name}={:?}", xattr(at, name));
    }
    if meta.is_symlink() {
        all += &format!(" -> {:?}", fs::read_link(at));
    } else if meta.is_file() {
        all += &format!(" content {:?}", fs::read(at).map_err(|error| error.to_string()));
    }
    picture.insert(name.to_owned(), all);
    if meta.is_dir() {
        for entry in fs::read_dir(at).expect("read_dir") {
            let entry = entry.expect("entry");
            paint(&entry.path(), &format!("{name}/{}", entry.file_name().display()), picture);
        }
    }
}

/// An answer of `rustix` as one of the standard library.
pub fn os<T>(result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}

/// A user with no rights at all, on every Linux.
pub const NOBODY: u32 = 65534;

/// A shell script of another user in a folder; answers with its exit code and what it said on both outputs.
pub fn sh_as(uid: u32, dir: &Path, script: &str) -> (i32, String) {
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(dir).uid(uid).gid(uid).env("LC_ALL", "C");
    let output = command.output().expect("bash");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pauses.
pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// The processes that one has started.
fn children(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A process that works in a mount until it is told to end: a shell script that says `ready` and then waits
/// for the end of its standard input.
pub struct Writer(Child);

impl Writer {
    /// Starts it, and returns when it is ready.
    #[track_caller]
    pub fn start(dir: &Path, script: &str) -> Self {
        let mut command = Command::new("bash");
        command.arg("-euc").arg(script).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bash");
        let mut line = String::new();
        let mut out = io::BufReader::new(child.stdout.as_mut().expect("piped"));
        io::BufRead::read_line(&mut out, &mut line).expect("read");
        assert_eq!(line.trim(), "ready", "{script}");
        Writer(child)
    }

    /// Kills it with a signal, and waits for its end.
    pub fn kill(mut self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("kill");
        let status = self.0.wait().expect("wait");
        assert!(status.code().is_none(), "not killed: {status}");
    }

    /// Lets it go on to its end; answers with its exit code.
    pub fn end(mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().expect("wait").code()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SHA-256 of a file, by another implementation than ours.
pub fn sha256sum(path: &Path) -> String {
    run(Command::new("sha256sum").arg(path))[..64].trim_start_matches('\\').to_owned()
}

/// Sets the size of a file by its name, without opening it.
pub fn truncate(path: &Path, size: u64) -> io::Result<()> {
    let path =
        std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).expect("no NUL");
    // SAFETY: the string lives through the call.
    let result = unsafe { libc::truncate(path.as_ptr(), i64::try_from(size).expect("small")) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
