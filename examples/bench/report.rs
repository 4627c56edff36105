//! Tables, JSON, plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::Column;
use crate::results::{Results, Row};
use crate::work::Scale;
use crate::{Failure, million, output, plot};

/// From here on a ratio to the thinnest file system counts, where FUSE forbids the target.
const OF_THIN: f64 = 0.95;

/// What a target compares with.
#[derive(Debug, Clone, Copy)]
enum Against {
    Native,
    BestPeer,
    Script,
    /// Another row of sealfs.
    Own(Row),
    /// Another row of sealfs, times the cores.
    OwnByCores(Row),
    /// At most so many milliseconds.
    Milliseconds(f64),
}

struct Target {
    row: Row,
    factor: f64,
    against: Against,
}

const fn target(row: Row, factor: f64, against: Against) -> Target {
    Target { row, factor, against }
}

const TARGETS: [Target; 20] = [
    target(Row::Write, 0.85, Against::Native),
    target(Row::Write, 3.0, Against::BestPeer),
    target(Row::Sealed, 0.95, Against::Native),
    target(Row::Sealed, 4.0, Against::Script),
    target(Row::Read, 0.95, Against::Native),
    target(Row::RandomRead, 0.9, Against::Native),
    target(Row::Create1, 1.0, Against::BestPeer),
    target(Row::Create4, 1.0, Against::BestPeer),
    target(Row::Seal1, 0.9, Against::Own(Row::Create1)),
    target(Row::Seal4, 0.9, Against::Own(Row::Create4)),
    target(Row::Seal1, 50.0, Against::Script),
    target(Row::Open, 1.5, Against::BestPeer),
    target(Row::StatWarm, 0.7, Against::Native),
    target(Row::ReaddirWarm, 0.7, Against::Native),
    target(Row::StatCold, 1.0, Against::BestPeer),
    target(Row::ReaddirCold, 1.0, Against::BestPeer),
    target(Row::Mixed16, 0.9, Against::Own(Row::Mixed1)),
    target(Row::LongestWait, 1.0, Against::Milliseconds(50.0)),
    target(Row::Verify, 0.9, Against::OwnByCores(Row::Sha)),
    target(Row::Seal4, 50.0, Against::Script),
];

/// What came of a target.
struct Verdict {
    wanted: String,
    ratio: String,
    value: Option<f64>,
    of_thin: Option<f64>,
    reached: &'static str,
}

fn judge(target: &Target, results: &Results) -> Option<Verdict> {
    let own = results.median(target.row, Column::Sealfs)?;
    let thin = results.median(target.row, Column::Thin);
    if let Against::Milliseconds(most) = target.against {
        // The worst of all rounds, not the middle one: a wait is felt once.
        let (_, worst) = results.spread(target.row, Column::Sealfs)?;
        return Some(Verdict {
            wanted: format!("≤ {most} ms, in every round"),
            ratio: format!("{worst:.1} ms"),
            value: None,
            of_thin: None,
            reached: if worst <= most { "yes" } else { "no" },
        });
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, other) = match target.against {
        Against::Native => ("native".to_owned(), results.median(target.row, Column::Native)?),
        Against::BestPeer => {
            let (peer, value) = results.best_peer(target.row)?;
            (format!("the best peer ({})", peer.name()), value)
        }
        Against::Script => {
            // With four writers, too, the script is one.
            let row = if target.row == Row::Seal4 { Row::Seal1 } else { target.row };
            ("the script".to_owned(), results.median(row, Column::Script)?)
        }
        Against::Own(row) => (format!("its own '{}'", row.key()), results.median(row, Column::Sealfs)?),
        Against::OwnByCores(row) => {
            let each = results.median(row, Column::Sealfs)?;
            (format!("{cores} cores × SHA-256"), each * f64::from(u32::try_from(cores).unwrap_or(1)))
        }
        Against::Milliseconds(_) => return None,
    };
    let ratio = own / other;
    let of_thin = thin.map(|thin| own / thin);
    // What thin comes to in the place of sealfs; a row of its own is compared with thin's.
    let thins = match target.against {
        Against::Own(row) => results.median(row, Column::Thin),
        _ => Some(other),
    };
    let forbidden = thin.zip(thins).is_some_and(|(thin, other)| thin / other < target.factor);
    let reached = if ratio >= target.factor {
        "yes"
    } else if forbidden && of_thin.is_some_and(|ratio| ratio >= OF_THIN) {
        "FUSE forbids it: ≥ 0.95 of thin"
    } else if forbidden {
        "no (nor thin)"
    } else {
        "no"
    };
    Some(Verdict {
        wanted: format!("≥ {} × {name}", target.factor),
        ratio: format!("{ratio:.2} ×"),
        value: Some(ratio),
        of_thin,
        reached,
    })
}

/// The machine, in words, and who else was on it.
pub fn machine(base: &Path) -> Result<Value, Failure> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let memory = read("/proc/meminfo");
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let fs = output(Command::new("findmnt").args(["-no", "FSTYPE,SOURCE", "-T"]).arg(base))?;
    let version = |program: &str| {
        let text = output(Command::new(program).arg("--version")).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let versions = ["bindfs", "mergerfs", "gocryptfs", "fio"].map(version);
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.unwrap_or("unknown"),
        "memory_gib": kib >> 20,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": fs.split_whitespace().collect::<Vec<_>>().join(" "),
        "load_before": read("/proc/loadavg").trim(),
        "versions": versions,
    }))
}

fn intro(machine: &Value) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or_default().to_owned();
    let versions: Vec<&str> =
        machine["versions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{} cores ({}), {} GiB, Linux {}, {}; load before the run: {}. Peers: {} (bindfs --multithreaded, mergerfs -o \
         cache.files=auto-full, gocryptfs as it is).\n",
        machine["cores"],
        text("cpu"),
        machine["memory_gib"],
        text("kernel"),
        text("file_system"),
        text("load_before"),
        versions.join(", "),
    )
}

fn short(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.0} k", v / 1000.0),
        v if v >= 1000.0 => format!("{:.1} k", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn values(results: &Results) -> String {
    let mut table = "| work |".to_owned();
    for column in Column::ALL {
        let _ = write!(table, " {} |", column.name());
    }
    table += "\n| --- |";
    table += &" --- |".repeat(Column::ALL.len());
    table.push('\n');
    for row in Row::ALL {
        if Column::ALL.iter().all(|&column| results.all(row, column).is_empty()) {
            continue;
        }
        let _ = write!(table, "| {} ({}) |", row.title(), row.unit());
        for column in Column::ALL {
            match (results.median(row, column), results.spread(row, column)) {
                (Some(median), Some((least, most))) => {
                    let _ = write!(table, " {} ({}–{}) |", short(median), short(least), short(most));
                }
                _ => table += " |",
            }
        }
        table.push('\n');
    }
    table
}

fn targets(results: &Results) -> (String, Vec<Value>) {
    let mut table =
        "| work | target | sealfs | ratio to thin | reached |\n| --- | --- | --- | --- | --- |\n".to_owned();
    let mut list = Vec::new();
    for target in &TARGETS {
        let Some(verdict) = judge(target, results) else { continue };
        let thin = verdict.of_thin.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (title, wanted) = (target.row.title(), &verdict.wanted);
        let _ = writeln!(table, "| {title} | {wanted} | {} | {thin} | {} |", verdict.ratio, verdict.reached);
        list.push(json!({
            "row": target.row.key(),
            "target": wanted,
            "ratio": verdict.value,
            "shown": verdict.ratio,
            "of_thin": verdict.of_thin,
            "reached": verdict.reached,
        }));
    }
    (table, list)
}

fn requests(results: &Results) -> String {
    let mut table = "| work | each file |\n| --- | --- |\n".to_owned();
    for (workload, counters) in &results.requests {
        let mut all: Vec<_> = counters.iter().collect();
        all.sort_by(|a, b| b.1.total_cmp(a.1));
        let told: Vec<String> = all
            .into_iter()
            .filter(|(_, each)| **each >= 0.0005)
            .map(|(name, each)| {
                let name = name.strip_prefix("fuse_").unwrap_or(name);
                let each = format!("{each:.3}");
                format!("{name} {}", each.trim_end_matches('0').trim_end_matches('.'))
            })
            .collect();
        let _ = writeln!(table, "| {workload} | {} |", told.join(", "));
    }
    table
}

/// Everything, to standard output and into `out`.
pub fn write(
    out: &Path,
    machine: &Value,
    rounds: usize,
    scale: Scale,
    results: &Results,
) -> Result<(), Failure> {
    let (verdicts, list) = targets(results);
    let mut text = intro(machine);
    let _ = writeln!(
        text,
        "Medians of {rounds} round(s), smallest and largest in brackets. Large: {} MiB; small: {} files; tree: {} files \
         in folders of 1000.\n",
        scale.mib, scale.files, scale.tree
    );
    text += &values(results);
    text.push('\n');
    text += &verdicts;
    text += "\nWhat the kernel asked sealfs, and what else that cost, for each file:\n\n";
    text += &requests(results);
    let rows: Vec<Value> = Row::ALL
        .iter()
        .flat_map(|&row| Column::ALL.map(|column| (row, column)))
        .filter_map(|(row, column)| {
            let median = results.median(row, column)?;
            Some(json!({
                "row": row.key(),
                "column": column.name(),
                "unit": row.unit(),
                "median": median,
                "rounds": results.all(row, column),
            }))
        })
        .collect();
    let document = json!({
        "machine": machine,
        "load_after": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "rounds": rounds,
        "results": rows,
        "targets": list,
        "requests_each_file": results.requests,
    });
    fs::write(out.join("bench.json"), serde_json::to_string_pretty(&document)? + "\n")?;
    fs::write(out.join("bench.md"), &text)?;
    plot::rows(out, results)?;
    print!("{text}");
    eprintln!("bench: bench.md, bench.json and plots are in {}", out.display());
    Ok(())
}

/// The million.
pub fn write_million(out: &Path, machine: &Value, found: &[million::Fact]) -> Result<(), Failure> {
    let mut text = intro(machine) + "\n| work | target | found | reached |\n| --- | --- | --- | --- |\n";
    for fact in found {
        let reached = match fact.reached {
            None => "",
            Some(true) => "yes",
            Some(false) => "no",
        };
        let _ = writeln!(text, "| {} | {} | {} | {reached} |", fact.what, fact.wanted, fact.shown);
    }
    let facts: Vec<Value> = found
        .iter()
        .map(|fact| {
            json!({ "what": fact.what, "target": fact.wanted, "value": fact.value, "unit": fact.unit,
                    "reached": fact.reached })
        })
        .collect();
    let document = json!({ "machine": machine, "million": facts });
    fs::write(out.join("million.json"), serde_json::to_string_pretty(&document)? + "\n")?;
    fs::write(out.join("million.md"), &text)?;
    print!("{text}");
    Ok(())
}
