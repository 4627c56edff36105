//! Power cuts: the backing file system stops in the middle of the work and forgets what was not durable.
//!
//! An image on a loop device, and the ioctl that file systems have for this (`FS_IOC_SHUTDOWN`, without flushing): from
//! then on nothing reaches the image, and what it holds is what a power cut would have left.

mod harness;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::Mount;

/// `FS_IOC_SHUTDOWN` (`_IOR('X', 125, __u32)`), and its "without flushing the log".
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// Power cuts for each file system. `scripts/soak` asks for more.
fn cuts() -> u32 {
    std::env::var("SEALFS_SOAK_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(6)
}

fn run(command: &mut Command) {
    let output = command.output().expect("a command");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file system in a file.
struct Image {
    dir: PathBuf,
}

impl Image {
    fn new(kind: &str) -> Self {
        let dir = harness::scratch(&format!("cut-{kind}"));
        fs::create_dir(dir.join("fs")).expect("folder");
        let image = Image { dir };
        let file = File::create(image.file()).expect("image");
        file.set_len(512 << 20).expect("size");
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(image.file()));
        image.mount();
        image
    }

    fn file(&self) -> PathBuf {
        self.dir.join("image")
    }

    fn root(&self) -> PathBuf {
        self.dir.join("fs")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.file()).arg(self.root()));
    }

    fn cut(&self) {
        let root = File::open(self.root()).expect("root");
        let how = NO_LOG_FLUSH;
        // SAFETY: the request reads four bytes at the pointer, which is to a number that lives through the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    fn unmount(&self) {
        // What the killed daemon held goes with its mount, a moment later.
        for _ in 0..100 {
            if Command::new("umount").arg("-q").arg(self.root()).status().is_ok_and(|done| done.success()) {
                return;
            }
            harness::pause(20);
        }
        run(Command::new("umount").arg(self.root()));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.root()).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writes files and waits for their seals, until that fails; answers with what was reported sealed.
fn work(mnt: &Path, name: &str, stop: &AtomicBool, reported: &Mutex<Vec<(String, Vec<u8>)>>) {
    for n in 0u32.. {
        let file = format!("{name}-{n}");
        let content = file.repeat(1 + (n as usize % 7) * 3000).into_bytes();
        let path = mnt.join(&file);
        let done = fs::write(&path, &content).and_then(|()| fs::read(mnt.join(format!("{file}.seal"))));
        // Whatever is answered after the cut counts for nothing.
        if stop.load(Ordering::SeqCst) || done.is_err() {
            return;
        }
        reported.lock().expect("lock").push((file, content));
    }
}

/// Cuts on one image: each looks at every file that was ever sealed on it.
const ON_ONE_IMAGE: u32 = 25;

fn survives_power_cuts(kind: &str) {
    let (mut left, mut sealed) = (cuts(), 0);
    while left > 0 {
        let some = left.min(ON_ONE_IMAGE);
        sealed += survives_some(kind, some);
        left -= some;
    }
    eprintln!("soak: {} cuts of {kind}, {sealed} files reported sealed, none lost", cuts());
}

/// Answers how many files were reported sealed.
fn survives_some(kind: &str, cuts: u32) -> usize {
    let image = Image::new(kind);
    let mut mount = Mount::at(&image.root().join("sealfs"), harness::SLOW);
    let mut sealed: Vec<(String, Vec<u8>)> = Vec::new();
    for cut in 0..cuts {
        let (stop, reported) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let workers: Vec<_> = (0..2)
            .map(|who| {
                let (mnt, stop, reported) = (mount.mnt.clone(), Arc::clone(&stop), Arc::clone(&reported));
                std::thread::spawn(move || work(&mnt, &format!("f{cut}-{who}"), &stop, &reported))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + u64::from(cut) * 37 % 200));
        // A machine with other work may need longer for the first one.
        harness::eventually("something is sealed", || !reported.lock().expect("lock").is_empty());
        stop.store(true, Ordering::SeqCst);
        image.cut();
        mount.kill();
        for worker in workers {
            worker.join().expect("worker");
        }
        let new = std::mem::take(&mut *reported.lock().expect("lock"));
        assert!(!new.is_empty(), "{kind} {cut}: nothing was sealed before the cut");
        sealed.extend(new);
        image.unmount();
        image.mount();
        // After a power cut the host has another boot; here it goes on, and what was kept for it alone is taken away.
        let _ = fs::remove_file(mount.store.join("journal"));
        mount.start();
        for (name, content) in &sealed {
            assert_eq!(mount.state(name), "sealed", "{kind} {cut}: {name}");
            assert!(
                fs::read(mount.path(name)).expect("read") == *content,
                "{kind} {cut}: {name} is not what it was"
            );
        }
        mount.ctl_ok(&["verify", "--all"]);
        mount.ctl_ok(&["log", "check"]);
    }
    mount.stop();
    drop(mount);
    sealed.len()
}

#[test]
fn ext4_survives_power_cuts() {
    survives_power_cuts("ext4");
}

#[test]
fn xfs_survives_power_cuts() {
    let there = Command::new("mkfs.xfs").arg("-V").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "mkfs.xfs is missing: install xfsprogs");
    if there {
        survives_power_cuts("xfs");
    } else {
        eprintln!("SKIPPED: no mkfs.xfs: install xfsprogs");
    }
}
