//! Too much of it: open files, writers that never close, floods of refused calls.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::harness::{NOBODY, pause};
use super::scene::{CONTENT, Data, Scene, Seen, Table, Who, as_user, check, in_time, refused, soak};

pub fn attacks(table: &mut Table) {
    let scene = Scene::new("load", Data::Passthrough);
    let mut add = |name: &str, who: Who, seen: Seen| table.add(name, who.word(), seen);
    add("a writer that never closes", Who::Owner, never_closes(&scene));
    add("a flood of refused calls, one path", Who::Owner, flood_of_one(&scene));
    add("a flood of refused calls, many paths", Who::Owner, flood_of_many(&scene));
    add("a flood of refused calls, very long paths", Who::Owner, flood_of_long(&scene));
    add("(verify --all after them)", Who::Root, scene.verifies());
}

/// One after the other: this process has no more descriptors than the daemons.
pub fn open(table: &mut Table) {
    for data in Data::BOTH {
        let scene = Scene::new("open", data);
        table.add("ten thousand open files", &format!("root, {}", data.word()), open_files(&scene));
    }
}

fn status(scene: &Scene) -> serde_json::Value {
    scene.mount.ctl_json(&["status"]).remove(0)
}

fn entries(scene: &Scene) -> u64 {
    status(scene)["log_entries"].as_u64().expect("a number")
}

/// Bytes of memory that the worker has, and of the index on disk.
fn footprint(scene: &Scene) -> (u64, u64) {
    let pid = status(scene)["pid"].as_u64().expect("a number");
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let memory: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let disk = ["index.db", "index.db-wal"]
        .map(|name| fs::metadata(scene.mount.store.join(name)).map_or(0, |meta| meta.len()));
    (memory << 10, disk.iter().sum())
}

/// All at once, or as many as the host lets the daemon have descriptors for: the next is then told, and nobody else
/// suffers.
fn open_files(scene: &Scene) -> Seen {
    const COUNT: usize = 10_000;
    fs::create_dir(scene.at("many")).expect("mkdir");
    let (mut open, mut words) = (Vec::new(), format!("{COUNT} open at once"));
    for n in 0..COUNT {
        match File::create(scene.at(format!("many/{n:05}"))) {
            Ok(file) => open.push(file),
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                let pid = status(scene)["pid"].as_u64().expect("a number");
                let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
                let most: usize = limits
                    .lines()
                    .find_map(|line| line.strip_prefix("Max open files"))
                    .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                    .expect("a number");
                check(2 * n + 500 > most, format!("file {n}: EMFILE, although the daemon may have {most}"))?;
                words = format!(
                    "{n} open at once, EMFILE for more: the host lets the daemon have {most} descriptors"
                );
                open.truncate(n - 100);
                break;
            }
            Err(error) => return Err(format!("file {n}: {error}")),
        }
        open[n].write_all_at(b"open", 0).map_err(|error| format!("file {n}: {error}"))?;
    }
    let path = scene.at("beside");
    in_time("another can be written", || fs::write(&path, CONTENT).is_ok())?;
    in_time("another can be sealed", || scene.seal(&path).is_ok())?;
    scene.is_sealed_as(&path, CONTENT)?;
    for (n, file) in open.iter().enumerate() {
        file.write_all_at(b" for long", 4).map_err(|error| format!("file {n}: {error}"))?;
    }
    let count = open.len() as u64;
    drop(open);
    in_time("all are closed", || status(scene)["unsealed"]["settling"].as_u64() >= Some(count))?;
    let read = fs::read(scene.at("many/09000")).map_err(|error| error.to_string())?;
    check(read == b"open for long", format!("{words}; another file is sealed meanwhile"))
}

fn never_closes(scene: &Scene) -> Seen {
    let held = as_user(NOBODY, || {
        let mut file = File::create(scene.free("held")).expect("create");
        file.write_all(b"for ever").expect("write");
        file
    });
    let held = held.map_err(|_| "panicked".to_owned())?;
    let sidecar = refused(&[libc::ENOENT], File::open(scene.free("held.seal")))?;
    let waits = scene.mount.stat(scene.free("held"))["waits_for"].as_str().unwrap_or_default().to_owned();
    check(waits.contains("writable handle"), format!("stat says {waits:?}"))?;
    scene.mount.sealed("other", b"not held up");
    drop(held);
    scene.seal(&scene.free("held"))?;
    scene.is_sealed_as(&scene.free("held"), b"for ever")?;
    Ok(format!("never sealed ({sidecar}; stat: {waits}), others are"))
}

/// Runs a flood; the log must not grow, memory and index hardly.
fn flood(scene: &Scene, run: impl FnOnce() -> Seen + Send) -> Seen {
    pause(1100);
    let (before, (memory, disk)) = (entries(scene), footprint(scene));
    let seen = as_user(NOBODY, run).map_err(|_| "panicked".to_owned())??;
    let (now_memory, _) = footprint(scene);
    // They are written down once a second.
    pause(1500);
    let (after, (late_memory, now_disk)) = (entries(scene), footprint(scene));
    check(before == after, format!("{} more entries in the log", after - before))?;
    let memory = now_memory.max(late_memory).saturating_sub(memory) >> 20;
    let disk = now_disk.saturating_sub(disk) >> 20;
    check(memory <= 96 && disk <= 96, format!("{seen}; {memory} MiB more memory, {disk} MiB more index"))?;
    let rows: u64 = scene.mount.sql("select count(*) from refusal").parse().expect("a number");
    check(
        rows <= 10_000,
        format!("{seen}; no entry in the log, {rows} rows, memory +{memory} MiB, index +{disk} MiB"),
    )
}

fn flood_of_one(scene: &Scene) -> Seen {
    let times = if soak() { 1_000_000 } else { 10_000 };
    let seen = flood(scene, || {
        for _ in 0..times {
            refused(&[libc::EPERM], fs::remove_file(scene.sealed()))?;
        }
        Ok(format!("{times} calls"))
    })?;
    let counted: u64 = scene.mount.why("a/b/f").iter().filter_map(|row| row["times"].as_u64()).sum();
    check(counted >= times, format!("{seen}; counted"))
}

fn flood_of_many(scene: &Scene) -> Seen {
    let times = if soak() { 1_000_000 } else { 12_000 };
    flood(scene, || {
        for n in 0..times {
            let name = format!("{n:0200}.seal");
            refused(&[libc::EPERM], File::create(scene.free(&name)))?;
        }
        Ok(format!("{times} calls"))
    })
}

/// Names below folders so deep that their path is longer than any call takes.
fn flood_of_long(scene: &Scene) -> Seen {
    let times = if soak() { 200_000 } else { 1_500 };
    let deep = || -> io::Result<_> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(scene.free(""), flags, Mode::empty())?;
        for _ in 0..15 {
            let name = "d".repeat(250);
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755))?;
            at = rustix::fs::openat(&at, &name, flags, Mode::empty())?;
        }
        Ok(at)
    };
    flood(scene, || {
        let at = deep().map_err(|error| error.to_string())?;
        for n in 0..times {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let made =
                rustix::fs::openat(&at, Path::new(&format!("{n}.seal")), flags, Mode::from_raw_mode(0o600));
            refused(&[libc::EPERM], made.map_err(io::Error::from))?;
        }
        Ok(format!("{times} calls"))
    })
}
