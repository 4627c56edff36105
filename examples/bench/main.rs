//! Sealfs beside the bare file system, the thinnest FUSE file system, others' FUSE file systems, and what people do
//! without any: one run, in turns, several rounds; medians, spreads and ratios as Markdown, JSON and SVG in
//! target/bench. `scripts/bench` installs what it needs, builds, and starts it.
//!
//! How it measures: all columns lie on one file system, in folders of their own; each is made anew for each
//! measurement and taken away after it; before each, what is dirty is written (`sync`), so that nobody pays
//! for another. The order rotates from round to round. Times come from examples/load.rs, which runs
//! alone. "Warm": the measured pass is the second. "Cold": unmounted, caches dropped, mounted. Writes are not synced
//! by the load: through close. Sealfs runs at its defaults; only where a seal is waited for is `settle = "0s"`.

mod million;
mod place;
mod plot;
mod report;
mod results;
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use serde_json::Value;

use results::Results;

/// Why it did not go on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares sealfs with other file systems
#[derive(Parser)]
struct Args {
    /// A minute: one round, small
    #[arg(long)]
    quick: bool,
    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these parts, such as large,small
    #[arg(long, value_delimiter = ',')]
    only: Vec<work::Part>,
    /// Instead: a store with a million files
    #[arg(long)]
    million: bool,
    /// How many "a million" are
    #[arg(long, default_value_t = 1_000_000)]
    files: usize,
    /// Where the file systems are made
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Where tables and plots go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<(), Failure> {
    output(command).map(drop)
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{error}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// One line of JSON of a command.
fn answer(command: &mut Command) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&output(command)?)?)
}

/// Takes everything away when it goes.
struct Base(PathBuf);

impl Drop for Base {
    fn drop(&mut self) {
        place::remove(&self.0);
    }
}

fn bench(args: &Args) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err("this mounts file systems and drops caches: run it as root".into());
    }
    let exe = std::env::current_exe()?;
    let bin = exe.parent().and_then(Path::parent).ok_or("where are the programs?")?.to_owned();
    std::fs::create_dir_all(&args.out)?;
    let base = args.dir.join(format!("sealfs-bench-{}", std::process::id()));
    std::fs::create_dir(&base)?;
    let base = Base(base);
    let machine = report::machine(&base.0)?;
    if args.million {
        let table = million::run_all(&base.0, &bin, args.files)?;
        return report::write_million(&args.out, &machine, &table);
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 5 });
    let scale = if args.quick { work::Scale::QUICK } else { work::Scale::FULL };
    let mut results = Results::default();
    let bench = work::Bench { base: base.0.clone(), bin, scale };
    for part in <work::Part as clap::ValueEnum>::value_variants() {
        if args.only.is_empty() || args.only.contains(part) {
            bench.run(*part, rounds, &mut results)?;
        }
    }
    report::write(&args.out, &machine, rounds, scale, &results)
}

fn main() {
    if let Err(error) = bench(&Args::parse()) {
        eprintln!("bench: {error}");
        std::process::exit(1);
    }
}
