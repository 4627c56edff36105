//! The attacks on a write-once store, each on a real mount, and what is promised of each: a table, and a failure if
//! one row is not as promised. `scripts/redteam` runs it and prints the table; `SEALFS_SOAK=1` makes the floods and
//! crowds as large as they are meant.

#[path = "../harness/mod.rs"]
mod harness;

mod attributes;
mod backing;
mod calls;
mod clock;
mod content;
mod control;
mod crowds;
mod descriptors;
mod full_disk;
mod handles;
mod ledger;
mod load;
mod names;
mod pinned;
mod races;
mod scene;
mod sidecars;

use std::io::Write;

use scene::{Row, Table};

type Family = (&'static str, fn(&mut Table));

/// Each family with its function; they share nothing and run side by side.
const FAMILIES: [Family; 16] = [
    ("descriptors", descriptors::attacks),
    ("content", content::attacks),
    ("names", names::attacks),
    ("pinned", pinned::attacks),
    ("attributes", attributes::attacks),
    ("handles", handles::attacks),
    ("full-disk", full_disk::attacks),
    ("backing", backing::attacks),
    ("ledger", ledger::attacks),
    ("sidecars", sidecars::attacks),
    ("clock", clock::attacks),
    ("load", load::attacks),
    ("open", load::open),
    ("crowds", crowds::attacks),
    ("control", control::attacks),
    ("races", races::attacks),
];

fn print(rows: &[Row]) {
    let out = std::io::stdout();
    let mut out = out.lock();
    let width = |pick: fn(&Row) -> &str| rows.iter().map(|row| pick(row).chars().count()).max().unwrap_or(0);
    let (family, attack) = (width(|row| row.family), width(|row| &row.attack));
    let (who, seen) = (width(|row| &row.who), width(|row| &row.seen).min(100));
    for row in rows {
        let promised = if row.as_promised { "as promised" } else { "NOT AS PROMISED" };
        let _ = writeln!(
            out,
            "{:family$} | {:attack$} | {:who$} | {:seen$} | {promised}",
            row.family, row.attack, row.who, row.seen
        );
    }
}

#[test]
fn every_attack_ends_as_promised() {
    // Ten thousand files are opened in this process.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("setrlimit");
    let only = std::env::var("SEALFS_REDTEAM").unwrap_or_default();
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let wanted = |family: &&Family| only.is_empty() || only == family.0;
        let threads: Vec<_> = FAMILIES
            .iter()
            .filter(wanted)
            .map(|&(family, attacks)| {
                let run = move || {
                    let mut table = Table::new(family);
                    let ended =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attacks(&mut table)));
                    if ended.is_err() {
                        table.add("(the family itself)", "-", Err("it panicked, see above".to_owned()));
                    }
                    table.rows
                };
                scope.spawn(run)
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("thread")).collect()
    });
    print(&rows);
    let wrong: Vec<_> = rows.iter().filter(|row| !row.as_promised).collect();
    println!("{} attacks, {} as promised, {} not", rows.len(), rows.len() - wrong.len(), wrong.len());
    assert!(!rows.is_empty(), "no family is called {only:?}");
    for row in &wrong {
        eprintln!("NOT AS PROMISED: {} | {} | {} | {}", row.family, row.attack, row.who, row.seen);
    }
    assert!(wrong.is_empty(), "{} attacks did not end as promised", wrong.len());
}
