//! `kill -9` of the worker and of the parent, again and again, under load: nothing that was reported sealed is lost or
//! changed; what was closed is sealed; what was open goes on where another worker takes over, and is torn where the
//! mount was lost; everything verifies.
//!
//! `SEALFS_SOAK_KILLS` asks for more kills.

mod harness;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::Mount;

/// `now-*` is sealed as soon as it is closed, the rest is settling at most kills.
const POLICY: &str = "version = 1\n[defaults]\nsettle = \"400ms\"\nretention = \"1h\"\n\
                      [[rule]]\nmatch = [\"**/now-*\"]\nsettle = \"0s\"\n";
/// Kills on one store: each kill of a parent looks at every file that is in it.
const ON_ONE_STORE: u64 = 25;

fn kills() -> u64 {
    std::env::var("SEALFS_SOAK_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40)
}

fn content_of(name: &str) -> Vec<u8> {
    let sum: usize = name.bytes().map(usize::from).sum();
    format!("{name}\n").repeat(1 + sum % 900).into_bytes()
}

/// What writers know. Names only: the content follows from the name.
#[derive(Default)]
struct Known {
    /// Their sidecar was read.
    sealed: Vec<String>,
    /// Closed, and heard of by the daemon.
    closed: Vec<String>,
    /// Closed, or half written, when the mount was lost: nobody was told anything.
    unsure: Vec<String>,
}

impl Known {
    fn add(&mut self, other: Known) {
        self.sealed.extend(other.sealed);
        self.closed.extend(other.closed);
        self.unsure.extend(other.unsure);
    }
}

/// Whether the daemon has heard of the close: `close()` returns before it does.
fn wait_closed(path: &Path) -> io::Result<()> {
    let mut value = [0; 16];
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let size = rustix::fs::getxattr(path, "user.seal.state", &mut value)?;
        if &value[..size] != b"open" {
            return Ok(());
        }
        assert!(Instant::now() < until, "{} stays open", path.display());
        std::thread::yield_now();
    }
}

/// Writes one file piece by piece, and closes it; `now-…`: until its seal can be read.
fn write_one(path: &Path, name: &str) -> io::Result<()> {
    let content = content_of(name);
    let mut file = File::options().write(true).create_new(true).open(path)?;
    for piece in content.chunks(content.len().div_ceil(3)) {
        file.write_all(piece)?;
    }
    drop(file);
    if name.starts_with("now-") {
        return fs::read(path.with_file_name(format!("{name}.seal"))).map(drop);
    }
    wait_closed(path)
}

/// Writes until told to stop, or until the mount is gone: `lost` says that it may be.
fn work(mnt: &Path, kind: &str, stop: &AtomicBool, lost: &AtomicBool, next: &AtomicU64) -> Known {
    let mut known = Known::default();
    while !stop.load(Ordering::SeqCst) {
        let name = format!("{kind}-{}", next.fetch_add(1, Ordering::SeqCst));
        match write_one(&mnt.join(&name), &name) {
            Ok(()) if kind == "now" => known.sealed.push(name),
            Ok(()) => known.closed.push(name),
            Err(error) => {
                assert!(lost.load(Ordering::SeqCst), "{name}: {error}, though a worker takes over");
                known.unsure.push(name);
                break;
            }
        }
    }
    known
}

fn kill(pid: rustix::process::Pid) {
    // It may be gone already.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Kills the worker; others write meanwhile, and hold a file open.
fn kill_worker(mount: &Mount, asked: bool, pause: u64) {
    let pid = mount.worker();
    harness::pause(pause);
    if asked {
        // It is the parent then that kills, and another worker comes without a pause, however many died before.
        mount.ctl_ok(&["restart"]);
    } else {
        kill(pid);
    }
}

/// Everything that is known is as it must be.
fn look(mount: &Mount, known: &Known) {
    for name in known.sealed.iter().chain(&known.closed) {
        mount.until(name, "sealed");
        assert!(fs::read(mount.path(name)).expect("read") == content_of(name), "{name} is not what it was");
    }
    for name in &known.unsure {
        match fs::read(mount.path(name)) {
            Ok(content) if mount.state(name) == "sealed" => {
                assert!(content == content_of(name), "{name} is sealed half written");
            }
            Ok(content) => assert!(content_of(name).starts_with(&content), "{name}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}: {error}"),
        }
    }
}

/// So many kills on one store; every fifth is one of the parent. Answers with what was written.
fn survives(kills: u64) -> Known {
    let mut mount = Mount::new("kills", POLICY);
    let (mut known, next, mut done) = (Known::default(), Arc::new(AtomicU64::new(0)), 0);
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    while done < kills {
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = ["now", "soon", "soon"]
            .into_iter()
            .map(|kind| {
                let (mnt, next) = (mount.mnt.clone(), Arc::clone(&next));
                let (stop, lost) = (Arc::clone(&stop), Arc::clone(&lost));
                std::thread::spawn(move || work(&mnt, kind, &stop, &lost, &next))
            })
            .collect();
        let held = format!("held-{}", next.fetch_add(1, Ordering::SeqCst));
        let mut holder = File::create(mount.path(&held)).expect("create");
        let content = content_of(&held);
        let (first, rest) = content.split_at(content.len() / 2);
        holder.write_all(first).expect("write");
        let mut pieces = rest.chunks(rest.len().div_ceil(4));
        for turn in 0..4.min(kills - done) {
            kill_worker(&mount, turn == 2, random(60));
            done += 1;
            holder.write_all(pieces.next().unwrap_or_default()).expect("an open file goes on");
        }
        let whole = pieces.next().is_none();
        if done < kills {
            harness::pause(random(80));
            lost.store(true, Ordering::SeqCst);
            if done % 2 == 0 {
                // Both, one right after the other.
                kill(mount.worker());
            }
            mount.kill();
            done += 1;
        } else {
            drop(holder);
            stop.store(true, Ordering::SeqCst);
            for writer in writers {
                known.add(writer.join().expect("writer"));
            }
            if whole {
                known.closed.push(held);
            }
            break;
        }
        for writer in writers {
            known.add(writer.join().expect("writer"));
        }
        mount.start();
        assert_eq!(mount.state(&held), "torn", "{held} was open when the mount was lost\n{}", mount.log());
        // Passed through, it can still be written: that is no way back.
        let _ = holder.write_all(b"late");
        drop(holder);
        look(&mount, &known);
        assert_eq!(mount.state(&held), "torn", "{held}");
        mount.ctl_ok(&["verify", "--all"]);
        mount.ctl_ok(&["log", "check"]);
    }
    mount.worker();
    look(&mount, &known);
    mount.ctl_ok(&["verify", "--all"]);
    mount.ctl_ok(&["log", "check"]);
    mount.stop();
    known
}

#[test]
fn nothing_is_lost_by_kills() {
    let (mut left, mut sealed, mut closed) = (kills(), 0, 0);
    while left > 0 {
        let some = left.min(ON_ONE_STORE);
        let known = survives(some);
        assert!(known.sealed.len() as u64 > some / 2, "hardly anything was sealed: {}", known.sealed.len());
        (sealed, closed, left) = (sealed + known.sealed.len(), closed + known.closed.len(), left - some);
    }
    eprintln!("soak: {} kills, {sealed} files reported sealed, {closed} closed, 0 lost", kills());
}
