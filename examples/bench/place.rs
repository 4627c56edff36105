//! Where a load goes: a folder of the bare file system, or a file system mounted over one. All lie on the same
//! backing file system, and each is made anew for each measurement, so that none inherits what another left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::{Failure, run};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// At default settings.
    Sealfs,
    /// As on Linux before 6.9.
    NoPassthrough,
    /// The bare file system.
    Native,
    /// The thinnest file system that can be written with `fuser` (examples/thin.rs).
    Thin,
    Bindfs,
    Mergerfs,
    Gocryptfs,
    /// cp, sync, sha256sum, ssh-keygen and chattr on the bare file system.
    Script,
}

impl Column {
    pub const MOUNTS: [Column; 7] = [
        Column::Sealfs,
        Column::NoPassthrough,
        Column::Native,
        Column::Thin,
        Column::Bindfs,
        Column::Mergerfs,
        Column::Gocryptfs,
    ];
    pub const ALL: [Column; 8] = [
        Column::Sealfs,
        Column::NoPassthrough,
        Column::Native,
        Column::Thin,
        Column::Bindfs,
        Column::Mergerfs,
        Column::Gocryptfs,
        Column::Script,
    ];
    pub const PEERS: [Column; 3] = [Column::Bindfs, Column::Mergerfs, Column::Gocryptfs];

    pub fn name(self) -> &'static str {
        match self {
            Column::Sealfs => "sealfs",
            Column::NoPassthrough => "passthrough=off",
            Column::Native => "native",
            Column::Thin => "thin",
            Column::Bindfs => "bindfs",
            Column::Mergerfs => "mergerfs",
            Column::Gocryptfs => "gocryptfs",
            Column::Script => "script",
        }
    }

    pub fn seals(self) -> bool {
        matches!(self, Column::Sealfs | Column::NoPassthrough)
    }
}

/// A policy: the defaults, or sealing at once, where it is timed until the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    Default,
    AtOnce,
}

/// One mounted column.
pub struct Place {
    pub column: Column,
    dir: PathBuf,
    bin: PathBuf,
    daemon: Option<Child>,
    left: bool,
}

impl Place {
    /// Makes it in a new folder below `base`, and mounts it.
    pub fn new(base: &Path, bin: &Path, column: Column, settle: Settle) -> Result<Self, Failure> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let dir = base.join(format!("{}-{}", column.name(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let mut place = Place { column, dir, bin: bin.to_owned(), daemon: None, left: false };
        fs::create_dir(&place.dir)?;
        fs::create_dir(place.dir.join("back"))?;
        fs::create_dir(place.dir.join("mnt"))?;
        match column {
            Column::Sealfs | Column::NoPassthrough => {
                let mut init = Command::new(place.bin.join("sealctl"));
                run(init.arg("init").arg(place.store()).args(["--origin", "bench.example/store"]))?;
                if settle == Settle::AtOnce {
                    let policy = place.store().join("policy.toml");
                    let text = fs::read_to_string(&policy)?;
                    let quick = text.replacen("settle = \"10s\"", "settle = \"0s\"", 1);
                    if quick == text {
                        return Err("the policy that init writes has no settle = \"10s\"".into());
                    }
                    fs::write(&policy, quick)?;
                }
            }
            Column::Gocryptfs => {
                let mut init = Command::new("gocryptfs");
                init.args(["-q", "-init", "-scryptn", "10", "-extpass", "echo bench"]);
                run(init.arg(place.dir.join("back")))?;
            }
            _ => {}
        }
        place.mount()?;
        Ok(place)
    }

    /// The store of sealfs.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The folder that a load goes to.
    pub fn at(&self) -> PathBuf {
        match self.column {
            Column::Native | Column::Script => self.dir.join("back"),
            _ => self.dir.join("mnt"),
        }
    }

    pub fn mount(&mut self) -> Result<(), Failure> {
        let (back, mnt) = (self.dir.join("back"), self.dir.join("mnt"));
        let mut command = match self.column {
            Column::Native | Column::Script => return Ok(()),
            Column::Sealfs | Column::NoPassthrough => {
                let mut command = Command::new(self.bin.join("sealfs"));
                command.arg("-f");
                if self.column == Column::NoPassthrough {
                    command.args(["-o", "passthrough=off"]);
                }
                command.arg(self.store()).arg(&mnt);
                return self.start(command);
            }
            Column::Thin => {
                let mut command = Command::new(self.bin.join("examples/thin"));
                command.arg(&back).arg(&mnt);
                return self.start(command);
            }
            Column::Bindfs => {
                let mut command = Command::new("bindfs");
                command.arg("--multithreaded").arg(&back).arg(&mnt);
                command
            }
            Column::Mergerfs => {
                let mut command = Command::new("mergerfs");
                command.args(["-o", "cache.files=auto-full"]).arg(&back).arg(&mnt);
                command
            }
            Column::Gocryptfs => {
                let mut command = Command::new("gocryptfs");
                command.args(["-q", "-extpass", "echo bench"]).arg(&back).arg(&mnt);
                command
            }
        };
        run(&mut command)
    }

    fn start(&mut self, mut command: Command) -> Result<(), Failure> {
        let mnt = self.dir.join("mnt");
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut daemon = command.spawn()?;
        let until = Instant::now() + Duration::from_secs(60);
        while !is_mounted(&mnt) || fs::metadata(&mnt).is_err() {
            if let Some(status) = daemon.try_wait()? {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("{}: {status}\n{log}", self.column.name()).into());
            }
            if Instant::now() > until {
                let _ = daemon.kill();
                return Err(format!("{}: not mounted in time", self.column.name()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The process that was started for it, where it stays in the foreground.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    pub fn unmount(&mut self) -> Result<(), Failure> {
        if matches!(self.column, Column::Native | Column::Script) {
            return Ok(());
        }
        let mnt = self.dir.join("mnt");
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = run(Command::new("umount").arg(&mnt)) {
            if Instant::now() > until {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait()?;
        }
        Ok(())
    }

    /// Nothing of it is cached any more.
    pub fn cool(&mut self) -> Result<(), Failure> {
        self.unmount()?;
        run(&mut Command::new("sync"))?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        self.mount()
    }

    /// Takes it all away.
    pub fn end(mut self) -> Result<(), Failure> {
        self.unmount()?;
        Ok(())
    }
}

impl Place {
    /// As [`Place::end`], but its files stay until the run is over: whoever makes files where many were deleted a moment
    /// ago pays for that (ext4 passes over inodes that were freed within the last minutes).
    pub fn leave(mut self) -> Result<(), Failure> {
        self.left = true;
        self.unmount()?;
        run(&mut Command::new("sync"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if is_mounted(&self.dir.join("mnt")) {
            let _ = Command::new("umount").arg("-l").arg(self.dir.join("mnt")).status();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if !self.left {
            remove(&self.dir);
        }
    }
}

/// Removes a folder with immutable files in it.
pub fn remove(dir: &Path) {
    let mut chattr = Command::new("chattr");
    let _ = chattr.args(["-R", "-f", "-i"]).arg(dir).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("bench: {} is left: {error}", dir.display());
    }
}

fn is_mounted(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == at.to_str())
}
