//! A store and its mount for one test: real daemon, real FUSE, everything gone afterwards, also on failure.
#![allow(dead_code, reason = "each test binary uses another part")]

use std::ffi::OsStr;
use std::fs;
use std::io;
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
    daemon: Option<Child>,
    options: Vec<String>,
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
    pub fn with(name: &str, policy: &str, options: &[&str]) -> Self {
        let dir = scratch(name);
        let (store, mnt) = (dir.join("store"), dir.join("mnt"));
        fs::create_dir(&mnt).expect("mount point");
        let made = sealctl().arg("init").arg(&store).args(["--origin", "test.example/store"]).output();
        let made = made.expect("sealctl init");
        assert!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(store.join("policy.toml"), policy).expect("policy");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut mount = Mount { dir, store, mnt, daemon: None, options };
        mount.start();
        mount
    }

    /// Starts the daemon and waits until it is mounted.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "already started");
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("log");
        let mut command = sealfs();
        command.arg("-f").args(&self.options).arg(&self.store).arg(&self.mnt);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut daemon = command.spawn().expect("sealfs");
        let until = Instant::now() + Duration::from_secs(20);
        while !self.is_mounted() {
            if let Some(status) = daemon.try_wait().expect("wait") {
                panic!("sealfs ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "not mounted in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("daemon.log")
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

    /// Unmounts and waits for the daemon to end well.
    pub fn stop(&mut self) {
        let status = Command::new("umount").arg(&self.mnt).status().expect("umount");
        assert!(status.success(), "umount: {status}");
        let mut daemon = self.daemon.take().expect("running");
        let status = daemon.wait().expect("wait");
        assert!(status.success(), "sealfs ended with {status}:\n{}", self.log());
    }

    /// Kills the daemon as a crash would, and clears the dead mount.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("running");
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
        let _ = Command::new("umount").arg("-l").arg(&self.mnt).stderr(Stdio::null()).status();
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
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until && matches!(daemon.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        remove(&self.dir);
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
