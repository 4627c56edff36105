//! What was measured.

use std::collections::BTreeMap;

use crate::place::Column;

/// Rows, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Write,
    Sealed,
    Read,
    RandomRead,
    Create1,
    Create4,
    Seal1,
    Seal4,
    Batched,
    Open,
    StatWarm,
    ReaddirWarm,
    StatCold,
    ReaddirCold,
    Mixed1,
    Mixed16,
    LongestWait,
    Verify,
    Sha,
}

impl Row {
    pub const ALL: [Row; 19] = [
        Row::Write,
        Row::Sealed,
        Row::Read,
        Row::RandomRead,
        Row::Create1,
        Row::Create4,
        Row::Seal1,
        Row::Seal4,
        Row::Batched,
        Row::Open,
        Row::StatWarm,
        Row::ReaddirWarm,
        Row::StatCold,
        Row::ReaddirCold,
        Row::Mixed1,
        Row::Mixed16,
        Row::LongestWait,
        Row::Verify,
        Row::Sha,
    ];

    pub fn key(self) -> &'static str {
        match self {
            Row::Write => "write",
            Row::Sealed => "sealed",
            Row::Read => "read",
            Row::RandomRead => "random-read",
            Row::Create1 => "create-1",
            Row::Create4 => "create-4",
            Row::Seal1 => "seal-1",
            Row::Seal4 => "seal-4",
            Row::Batched => "script-together",
            Row::Open => "open",
            Row::StatWarm => "stat-warm",
            Row::ReaddirWarm => "readdir-warm",
            Row::StatCold => "stat-cold",
            Row::ReaddirCold => "readdir-cold",
            Row::Mixed1 => "mixed-1",
            Row::Mixed16 => "mixed-16",
            Row::LongestWait => "longest-wait",
            Row::Verify => "verify",
            Row::Sha => "sha",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Row::Write => "write one large file, through close",
            Row::Sealed => {
                "cp one large file until its seal is durable and read (native: cp; sync; openssl dgst -sha256)"
            }
            Row::Read => "read it, sealed, warm",
            Row::RandomRead => "random 4 KiB reads of it, warm (fio)",
            Row::Create1 => "create + write + close 4 KiB files, one writer",
            Row::Create4 => "the same, four writers",
            Row::Seal1 => "one writer, until all are durably sealed",
            Row::Seal4 => "four writers, until all are durably sealed",
            Row::Batched => "the script, each step for all files at once",
            Row::Open => "open + read + close of 4 KiB files, sealed, warm",
            Row::StatWarm => "stat of many sealed files, warm",
            Row::ReaddirWarm => "readdir of many sealed files, warm",
            Row::StatCold => "stat, cold",
            Row::ReaddirCold => "readdir, cold",
            Row::Mixed1 => "64 KiB to 16 MiB files, one writer",
            Row::Mixed16 => "the same, 16 writers",
            Row::LongestWait => {
                "longest wait of a small seal while large files are hashed (native: of its fsync while they are synced)"
            }
            Row::Verify => {
                "sealctl verify --all, warm (native: openssl dgst -sha256 of the same files, one process a core)"
            }
            Row::Sha => "SHA-256 alone, one core",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Row::Write | Row::Sealed | Row::Read | Row::Mixed1 | Row::Mixed16 | Row::Verify | Row::Sha => {
                "MiB/s"
            }
            Row::RandomRead => "reads/s",
            Row::LongestWait => "ms",
            _ => "files/s",
        }
    }
}

/// Values of one row and column, one a round.
#[derive(Debug, Default)]
pub struct Results {
    values: BTreeMap<(Row, Column), Vec<f64>>,
    /// Requests (and other counters) of sealfs by workload: counter and times a file.
    pub requests: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

impl Results {
    pub fn add(&mut self, row: Row, column: Column, value: f64) {
        eprintln!("{:>16} {:<16} {value:.1} {}", row.key(), column.name(), row.unit());
        self.values.entry((row, column)).or_default().push(value);
    }

    pub fn all(&self, row: Row, column: Column) -> &[f64] {
        self.values.get(&(row, column)).map_or(&[], Vec::as_slice)
    }

    pub fn median(&self, row: Row, column: Column) -> Option<f64> {
        let mut values = self.all(row, column).to_vec();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            n if n % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// Smallest and largest.
    pub fn spread(&self, row: Row, column: Column) -> Option<(f64, f64)> {
        let values = self.all(row, column);
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        Some((least, values.iter().copied().max_by(f64::total_cmp)?))
    }

    /// The best median of others' FUSE file systems.
    pub fn best_peer(&self, row: Row) -> Option<(Column, f64)> {
        let medians = Column::PEERS.iter().filter_map(|&peer| Some((peer, self.median(row, peer)?)));
        medians.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}
