//! A store with a million files: does the seal rate hold, what does a file cost in the index and the log, how soon
//! is the mount there, how much memory stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::place::{Column, Place, Settle};
use crate::{Failure, answer, output, run};

/// Files of which the seal rate is taken, at the beginning and at the end.
const SAMPLE: usize = 10_000;
/// Times that a short thing is done.
const TIMES: usize = 5;

pub struct Fact {
    pub what: String,
    pub wanted: String,
    pub shown: String,
    pub value: f64,
    pub unit: &'static str,
    pub reached: Option<bool>,
}

fn fact(what: &str, wanted: &str, value: f64, unit: &'static str, reached: Option<bool>) -> Fact {
    let shown = format!("{value:.2} {unit}");
    eprintln!("{what}: {shown}");
    Fact { what: what.to_owned(), wanted: wanted.to_owned(), shown, value, unit, reached }
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn number(n: u64) -> f64 {
    n as f64
}

fn size_of(path: &Path) -> Result<u64, Failure> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.blocks() * 512);
    }
    let mut all = meta.blocks() * 512;
    for entry in fs::read_dir(path)? {
        all += size_of(&entry?.path())?;
    }
    Ok(all)
}

/// The process and those that it started, MiB.
fn resident(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u32 = line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let mut all = f64::from(kib) / 1024.0;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        all += resident(child.parse()?)?;
    }
    Ok(all)
}

/// The median of some times, in ms.
fn timed(command: impl Fn() -> Command) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let from = Instant::now();
        output(&mut command())?;
        times.push(from.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMES / 2])
}

fn fill(bin: &Path, place: &Place, first: usize, files: usize) -> Result<f64, Failure> {
    let mut load = Command::new(bin.join("examples/load"));
    load.arg("create").arg(place.at().join("tree")).arg("--store").arg(place.store());
    load.args(["--first", &first.to_string(), "--files", &files.to_string(), "--size", "64"]);
    let told = answer(&mut load)?;
    let seconds = told["sealed"].as_f64().ok_or("no time")?;
    Ok(number(files as u64) / seconds)
}

pub fn run_all(base: &Path, bin: &Path, files: usize) -> Result<Vec<Fact>, Failure> {
    let mut place = Place::new(base, bin, Column::Sealfs, Settle::AtOnce)?;
    let store = place.store();
    let ctl = |args: &[&str], path: Option<PathBuf>| {
        let mut command = Command::new(bin.join("sealctl"));
        command.arg("--store").arg(&store).args(args).args(path);
        command
    };
    let mut facts = Vec::new();
    let begun = Instant::now();
    let early = fill(bin, &place, 0, SAMPLE)?;
    let middle = files.saturating_sub(2 * SAMPLE);
    let step = 100_000;
    for first in (SAMPLE..SAMPLE + middle).step_by(step) {
        let rate = fill(bin, &place, first, step.min(SAMPLE + middle - first))?;
        eprintln!("{first} files, {rate:.0} files/s, {:.0} s", begun.elapsed().as_secs_f64());
    }
    run(&mut Command::new("sync"))?;
    let late = fill(bin, &place, files - SAMPLE, SAMPLE)?;
    facts.push(fact("seal rate, the first 10,000", "", early, "files/s", None));
    facts.push(fact("seal rate, the last 10,000", "", late, "files/s", None));
    let held = late / early;
    facts.push(fact("last over first", "≥ 0.9", held, "×", Some(held >= 0.9)));

    place.unmount()?;
    // The WAL is as large for ten files as for a million; it is counted as it is.
    let index: u64 = ["index.db", "index.db-wal"]
        .iter()
        .map(|name| fs::metadata(store.join(name)).map_or(0, |meta| meta.len()))
        .sum();
    let log = size_of(&store.join("log"))?;
    let each = number(index + log) / number(files as u64);
    facts.push(fact("index and log, a file", "≤ 1536 bytes", each, "bytes", Some(each <= 1536.0)));

    run(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let from = Instant::now();
    place.mount()?;
    let ready = from.elapsed().as_secs_f64();
    facts.push(fact("mount ready, cold", "≤ 1 s", ready, "s", Some(ready <= 1.0)));
    let pid = place.pid().ok_or("no daemon")?;
    facts.push(fact("resident after the mount", "", resident(pid)?, "MiB", None));
    let from = Instant::now();
    let found = output(Command::new("find").arg(place.at()).args(["-type", "f", "-size", "-1000k"]))?;
    let seconds = from.elapsed().as_secs_f64();
    let lines = found.lines().count();
    if lines != files {
        return Err(format!("find found {lines} files of {files}").into());
    }
    facts.push(fact("find with stat of all, cold", "", seconds, "s", None));
    let after = resident(pid)?;
    facts.push(fact("resident after find", "≤ 150 MiB", after, "MiB", Some(after <= 150.0)));
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    std::thread::sleep(std::time::Duration::from_secs(5));
    let back = resident(pid)?;
    facts.push(fact("resident after the kernel forgot", "≤ 100 MiB", back, "MiB", Some(back <= 100.0)));

    let folder = place.at().join("tree/0007");
    let one = folder.join("007.o");
    let digest = output(&mut ctl(&["--json", "stat"], Some(one.clone())))?;
    let digest: serde_json::Value = serde_json::from_str(&digest)?;
    let digest = digest["sha256"].as_str().ok_or("no sha256")?.to_owned();
    for (what, args, path) in [
        ("sealctl ls of a folder of 1000", vec!["ls"], Some(folder)),
        ("sealctl stat", vec!["stat"], Some(one.clone())),
        ("sealctl trace of a file", vec!["trace"], Some(one)),
        ("sealctl trace of a SHA-256", vec!["trace", &digest], None),
        ("sealctl status", vec!["status"], None),
    ] {
        let ms = timed(|| ctl(&args, path.clone()))?;
        let (wanted, reached) =
            if what.ends_with("status") { ("", None) } else { ("≤ 50 ms", Some(ms <= 50.0)) };
        facts.push(fact(what, wanted, ms, "ms", reached));
    }
    place.end()?;
    Ok(facts)
}
