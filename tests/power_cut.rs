//! Power cuts: the backing file system stops in the middle of the work and forgets what was not durable.
//!
//! An image on a loop device, and the ioctl that file systems have for this (`FS_IOC_SHUTDOWN`, without flushing): from
//! then on nothing reaches the image, and what it holds is what a power cut would have left.

mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::Mount;
use harness::image::Image;

/// Power cuts for each file system. `scripts/soak` asks for more.
fn cuts() -> u32 {
    std::env::var("SEALFS_SOAK_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(6)
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
    let image = Image::new(kind, 512, &[]);
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
