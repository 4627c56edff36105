//! The workloads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sealfs::control::client::Client;
use sealfs::control::protocol::Request;
use serde_json::Value;

use crate::place::{Column, Place, Settle};
use crate::results::{Results, Row};
use crate::{Failure, answer, output, run};

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Of the large file.
    pub mib: usize,
    pub files: usize,
    /// Files that the script is given one by one: it is slow.
    pub script_files: usize,
    /// Files of the tree for open, stat and readdir.
    pub tree: usize,
    pub sets: usize,
    /// Large files that are hashed while small ones wait.
    pub large: usize,
    /// Seconds of random reads.
    pub seconds: usize,
}

impl Scale {
    /// Two large files: with a third the kernel begins to write by itself (`vm.dirty_background_ratio`), here.
    pub const FULL: Scale =
        Scale { mib: 1024, files: 20_000, script_files: 100, tree: 100_000, sets: 32, large: 2, seconds: 2 };
    pub const QUICK: Scale =
        Scale { mib: 64, files: 1000, script_files: 10, tree: 3000, sets: 3, large: 3, seconds: 1 };
}

/// Groups of rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// One large file: write, seal, read, random reads.
    Large,
    /// cp until the seal; the script.
    Sealed,
    /// Many small files, created.
    Small,
    /// Many small files until all are sealed; the script.
    SmallSealed,
    /// Open, stat and readdir of a tree of sealed files.
    Tree,
    /// Many writers.
    Mixed,
    /// Small seals beside large ones.
    Wait,
    /// verify --all.
    Verify,
}

type Counters = BTreeMap<String, u64>;

pub struct Bench {
    pub base: PathBuf,
    pub bin: PathBuf,
    pub scale: Scale,
}

#[allow(clippy::cast_precision_loss, reason = "counts of files and MiB are small")]
fn number(n: usize) -> f64 {
    n as f64
}

fn field(value: &Value, name: &str) -> Result<f64, Failure> {
    value[name].as_f64().ok_or_else(|| format!("no {name} in {value}").into())
}

/// All is written, and what that leads to (such as discards of what was deleted) is over too.
fn sync() -> Result<(), Failure> {
    run(&mut Command::new("sync"))?;
    let (mut quiet_since, until) = (Instant::now(), Instant::now() + Duration::from_secs(30));
    let mut before = String::new();
    while quiet_since.elapsed() < Duration::from_millis(500) && Instant::now() < until {
        let now = fs::read_to_string("/proc/diskstats")?;
        if now != before {
            (before, quiet_since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Fills the page cache with a file of holes, for which the disk is not asked, and gives that up: on virtual machines
/// memory that was free for a second or two is with the host, and whoever writes first would pay for its coming back (here
/// 1.3 s for a GiB, several times what the write itself takes).
fn touch_memory(base: &Path, mib: usize) -> Result<(), Failure> {
    let path = base.join("memory");
    let mut file = fs::File::options().create_new(true).read(true).write(true).open(&path)?;
    file.set_len(u64::try_from(mib)? << 20)?;
    let mut block = vec![0; 1 << 20];
    while file.read(&mut block)? > 0 {}
    drop(file);
    Ok(fs::remove_file(path)?)
}

impl Bench {
    pub fn run(&self, part: Part, rounds: usize, results: &mut Results) -> Result<(), Failure> {
        if part == Part::Tree {
            return self.tree(rounds, results);
        }
        for round in 0..rounds {
            eprintln!("== {part:?}, round {} of {rounds}", round + 1);
            for column in turns(&Column::ALL, round) {
                match part {
                    Part::Large => self.large(column, results)?,
                    Part::Sealed => self.sealed(column, results)?,
                    Part::Small => self.small(column, results)?,
                    Part::SmallSealed => self.small_sealed(column, results)?,
                    Part::Mixed => self.mixed(column, results)?,
                    Part::Wait => self.wait(column, results)?,
                    Part::Verify => self.verify(column, results)?,
                    Part::Tree => {}
                }
            }
        }
        Ok(())
    }

    fn load(&self) -> Command {
        Command::new(self.bin.join("examples/load"))
    }

    fn place(&self, column: Column, settle: Settle) -> Result<Place, Failure> {
        let place = Place::new(&self.base, &self.bin, column, settle)?;
        sync()?;
        Ok(place)
    }

    /// What the load asked of sealfs, for each file.
    fn count(
        &self,
        place: &Place,
        workload: &'static str,
        files: usize,
        results: &mut Results,
        load: impl FnOnce(&mut Results) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if place.column != Column::Sealfs {
            return load(results);
        }
        let before = counters(place)?;
        load(results)?;
        let after = counters(place)?;
        let each = after.into_iter().filter_map(|(name, after)| {
            let more = after - before.get(&name).copied().unwrap_or(0);
            let more = usize::try_from(more).unwrap_or(usize::MAX);
            (more > 0).then(|| (name, number(more) / number(files)))
        });
        results.requests.insert(workload, each.collect());
        Ok(())
    }

    fn large(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        if column == Column::Script {
            return Ok(());
        }
        let mib = self.scale.mib;
        let place = self.place(column, Settle::Default)?;
        touch_memory(&self.base, mib * 5 / 4)?;
        let file = place.at().join("large");
        self.count(&place, "write a large file", 1, results, |results| {
            let mut load = self.load();
            load.arg("write").arg(&file).args(["--mib", &mib.to_string()]);
            if column.seals() {
                load.arg("--seal");
            }
            let told = answer(&mut load)?;
            results.add(Row::Write, column, number(mib) / field(&told, "seconds")?);
            Ok(())
        })?;
        sync()?;
        answer(self.load().arg("read").arg(&file))?;
        self.count(&place, "read a large file", 1, results, |results| {
            let told = answer(self.load().arg("read").arg(&file))?;
            results.add(Row::Read, column, number(mib) / field(&told, "seconds")?);
            Ok(())
        })?;
        let mut fio = Command::new("fio");
        fio.args(["--name=r", "--rw=randread", "--bs=4k", "--ioengine=psync", "--readonly", "--thread"]);
        fio.args(["--invalidate=0", "--time_based", "--ramp_time=0.2", "--output-format=json"]);
        fio.arg(format!("--runtime={}", self.scale.seconds)).arg(format!("--filename={}", file.display()));
        let told: Value = serde_json::from_str(&output(&mut fio)?)?;
        results.add(Row::RandomRead, column, field(&told["jobs"][0]["read"], "iops")?);
        place.end()
    }

    /// The large file that is copied, on the bare file system, in the page cache.
    fn source(&self) -> Result<PathBuf, Failure> {
        let source = self.base.join("source");
        if !source.exists() {
            let mib = self.scale.mib.to_string();
            answer(self.load().arg("write").arg(&source).args(["--mib", &mib]))?;
        }
        sync()?;
        answer(self.load().arg("read").arg(&source))?;
        Ok(source)
    }

    fn key(&self) -> Result<PathBuf, Failure> {
        let key = self.base.join("key");
        if !key.exists() {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
        }
        Ok(key)
    }

    fn sealed(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        let mut load = self.load();
        match column {
            Column::Sealfs | Column::NoPassthrough => load.arg("copy"),
            Column::Native => load.arg("copy-hash"),
            Column::Script => load.arg("script").args(["--files", "1", "--key"]).arg(self.key()?),
            _ => return Ok(()),
        };
        let source = self.source()?;
        let place = self.place(column, Settle::AtOnce)?;
        touch_memory(&self.base, self.scale.mib * 5 / 4)?;
        load.arg(&source);
        if column == Column::Script {
            load.arg(place.at())
        } else {
            load.arg(place.at().join("large"))
        };
        let told = answer(&mut load)?;
        results.add(Row::Sealed, column, number(self.scale.mib) / field(&told, "seconds")?);
        place.end()
    }

    fn create(&self, place: &Place, files: usize, threads: usize, wait: bool) -> Result<Value, Failure> {
        let mut load = self.load();
        load.arg("create").arg(place.at().join("tree"));
        load.args(["--files", &files.to_string(), "--threads", &threads.to_string()]);
        if wait {
            load.arg("--store").arg(place.store());
        }
        answer(&mut load)
    }

    fn small(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        if column == Column::Script {
            return Ok(());
        }
        let files = self.scale.files;
        for (threads, row, workload) in [
            (1, Row::Create1, "create + write + close, one writer"),
            (4, Row::Create4, "create + write + close, four writers"),
        ] {
            let place = self.place(column, Settle::Default)?;
            touch_memory(&self.base, self.scale.mib)?;
            self.count(&place, workload, files, results, |results| {
                let told = self.create(&place, files, threads, false)?;
                results.add(row, column, number(files) / field(&told, "seconds")?);
                Ok(())
            })?;
            place.leave()?;
        }
        Ok(())
    }

    fn small_sealed(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        let files = self.scale.files;
        match column {
            Column::Sealfs | Column::NoPassthrough => {
                for (threads, row, workload) in [
                    (1, Row::Seal1, "the same until sealed, one writer"),
                    (4, Row::Seal4, "the same until sealed, four writers"),
                ] {
                    let place = self.place(column, Settle::AtOnce)?;
                    touch_memory(&self.base, self.scale.mib)?;
                    self.count(&place, workload, files, results, |results| {
                        let told = self.create(&place, files, threads, true)?;
                        results.add(row, column, number(files) / field(&told, "sealed")?);
                        Ok(())
                    })?;
                    place.leave()?;
                }
            }
            Column::Script => {
                let few = self.scale.script_files;
                for (row, together, files) in
                    [(Row::Seal1, false, few), (Row::Batched, true, files.min(2000))]
                {
                    let place = self.place(column, Settle::Default)?;
                    let source = self.create(&place, files, 1, false);
                    source?;
                    sync()?;
                    let dest = place.at().join("done");
                    fs::create_dir(&dest)?;
                    let mut load = self.load();
                    load.arg("script").arg(place.at().join("tree")).arg(dest).arg("--key").arg(self.key()?);
                    load.args(["--files", &files.to_string()]);
                    if together {
                        load.arg("--together");
                    }
                    let told = answer(&mut load)?;
                    results.add(row, column, number(files) / field(&told, "seconds")?);
                    place.leave()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tree(&self, rounds: usize, results: &mut Results) -> Result<(), Failure> {
        let files = self.scale.tree;
        let count = files.to_string();
        eprintln!("== Tree, {files} files a column");
        let mut places = Vec::new();
        for column in Column::MOUNTS {
            let place = self.place(column, Settle::AtOnce)?;
            self.create(&place, files, 1, column.seals())?;
            places.push(place);
        }
        let opened = self.scale.files.min(files);
        let load = |place: &Place, what: &str, files: &str| {
            answer(self.load().arg(what).arg(place.at().join("tree")).args(["--files", files]))
        };
        for round in 0..rounds {
            eprintln!("== Tree, round {} of {rounds}", round + 1);
            for n in turns(&(0..places.len()).collect::<Vec<_>>(), round) {
                let place = &mut places[n];
                let column = place.column;
                sync()?;
                // Warm: the second time.
                for (what, row, workload, number_of) in [
                    ("open", Row::Open, "open + read + close, sealed, warm", opened),
                    ("stat", Row::StatWarm, "stat, sealed, warm", files),
                    ("readdir", Row::ReaddirWarm, "readdir, sealed, warm", files),
                ] {
                    let text = number_of.to_string();
                    load(place, what, &text)?;
                    self.count(place, workload, number_of, results, |results| {
                        let told = load(place, what, &text)?;
                        results.add(row, column, number(number_of) / field(&told, "seconds")?);
                        Ok(())
                    })?;
                }
            }
            for (what, row, workload) in [
                ("stat", Row::StatCold, "stat, sealed, cold"),
                ("readdir", Row::ReaddirCold, "readdir, sealed, cold"),
            ] {
                for n in turns(&(0..places.len()).collect::<Vec<_>>(), round) {
                    let place = &mut places[n];
                    let column = place.column;
                    place.cool()?;
                    self.count(place, workload, files, results, |results| {
                        let told = load(place, what, &count)?;
                        results.add(row, column, number(files) / field(&told, "seconds")?);
                        Ok(())
                    })?;
                }
            }
        }
        places.into_iter().try_for_each(Place::end)
    }

    fn mixed(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        // Compared with itself alone; the slow ones would take minutes.
        if column == Column::Script || Column::PEERS.contains(&column) {
            return Ok(());
        }
        for (row, writers) in [(Row::Mixed1, "1"), (Row::Mixed16, "16")] {
            let place = self.place(column, Settle::Default)?;
            touch_memory(&self.base, self.scale.mib * 5 / 4)?;
            let mut load = self.load();
            load.arg("mixed").arg(place.at().join("mixed"));
            load.args(["--writers", writers, "--sets", &self.scale.sets.to_string()]);
            let told = answer(&mut load)?;
            let mib = field(&told, "bytes")? / f64::from(1 << 20);
            results.add(row, column, mib / field(&told, "seconds")?);
            place.leave()?;
        }
        Ok(())
    }

    fn wait(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        if !column.seals() && column != Column::Native {
            return Ok(());
        }
        let place = self.place(column, Settle::AtOnce)?;
        touch_memory(&self.base, self.scale.mib * (self.scale.large + 1))?;
        let mut load = self.load();
        load.arg("starve").arg(place.at().join("mixed"));
        if column == Column::Native {
            load.arg("--sync");
        }
        load.args(["--mib", &self.scale.mib.to_string(), "--large", &self.scale.large.to_string()]);
        let told = answer(&mut load)?;
        if told["longest"].is_null() {
            eprintln!("{}: the large files were sealed before a small one could wait", column.name());
        } else {
            eprintln!("{told}");
            results.add(Row::LongestWait, column, field(&told, "longest")? * 1000.0);
        }
        place.end()
    }

    fn verify(&self, column: Column, results: &mut Results) -> Result<(), Failure> {
        if column != Column::Sealfs {
            return Ok(());
        }
        let told = answer(self.load().arg("sha"))?;
        let sha = field(&told, "bytes")? / f64::from(1 << 20) / field(&told, "seconds")?;
        results.add(Row::Sha, column, sha);
        let place = self.place(column, Settle::AtOnce)?;
        let (count, mib) = (8, self.scale.mib / 4);
        for n in 0..count {
            let mut load = self.load();
            load.arg("write").arg(place.at().join(format!("{n}"))).arg("--seal");
            answer(load.args(["--mib", &mib.to_string()]))?;
        }
        sync()?;
        let mut seconds = 0.0;
        for _ in 0..2 {
            let from = Instant::now();
            run(Command::new(self.bin.join("sealctl"))
                .arg("--store")
                .arg(place.store())
                .args(["verify", "--all"]))?;
            seconds = from.elapsed().as_secs_f64();
        }
        results.add(Row::Verify, column, number(count * mib) / seconds);
        // What reads and hashes the same files without looking for anything else, as many at a time.
        let cores = std::thread::available_parallelism()?.get();
        let files: Vec<PathBuf> = (0..count).map(|n| place.at().join(format!("{n}"))).collect();
        let from = Instant::now();
        let hashing: Vec<_> = files
            .chunks(count.div_ceil(cores))
            .map(|files| {
                let mut openssl = Command::new("openssl");
                openssl.args(["dgst", "-sha256"]).args(files).stdout(Stdio::null()).spawn()
            })
            .collect::<Result<_, _>>()?;
        for mut openssl in hashing {
            if !openssl.wait()?.success() {
                return Err("openssl failed".into());
            }
        }
        results.add(Row::Verify, Column::Native, number(count * mib) / from.elapsed().as_secs_f64());
        place.end()
    }
}

/// The order rotates, so that no column always comes after the same other one.
fn turns<T: Copy>(all: &[T], round: usize) -> Vec<T> {
    let mut order = all.to_vec();
    order.rotate_left(round % all.len());
    order
}

/// The counters of a mounted store.
pub fn counters(place: &Place) -> Result<Counters, Failure> {
    counters_of(&place.store())
}

fn counters_of(store: &Path) -> Result<Counters, Failure> {
    let mut client = Client::connect(store, rustix::process::geteuid().as_raw())?;
    let item = client.ask(&Request::Counters, None)?.into_iter().next().ok_or("no counters")?;
    Ok(serde_json::from_value(item)?)
}
