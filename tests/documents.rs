//! What FORMATS.md lists is what the code has: entries, tables, journal lines, requests, exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of a section of a Markdown document, without its heading.
fn section(document: &str, heading: &str) -> String {
    let mut lines = document.lines().skip_while(|line| *line != heading).skip(1);
    let text: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("## ")).collect();
    assert!(!text.is_empty(), "no section '{heading}'");
    text.join("\n")
}

/// The words in code quotes in a text.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The words in code quotes in the first column of the tables in a text.
fn first_column(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| quoted(&format!("`{}", row.split(" | ").next().unwrap_or_default()))).collect()
}

/// The names of an enum's variants, in kebab case.
fn variants(source: &str, head: &str) -> BTreeSet<String> {
    let (_, body) = source.split_once(head).unwrap_or_else(|| panic!("no '{head}'"));
    let body = body.split("\n}").next().expect("a body");
    let names = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase));
    names
        .map(|line| {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
            let mut kebab = String::new();
            for c in name.chars() {
                if c.is_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.extend(c.to_lowercase());
            }
            kebab
        })
        .collect()
}

#[test]
fn every_type_of_entry_is_listed() {
    let listed = first_column(&section(&read("FORMATS.md"), "## The log"));
    assert_eq!(listed, variants(&read("src/ledger/entry.rs"), "pub enum Change {"));
}

#[test]
fn every_table_of_the_index_is_listed() {
    let listed = first_column(&section(&read("FORMATS.md"), "## The index"));
    let schema = read("src/ledger/index/schema.sql");
    let made = schema.lines().filter_map(|line| {
        let name = line.strip_prefix("CREATE TABLE ").or_else(|| line.strip_prefix("CREATE VIEW "))?;
        name.split([' ', '(']).next().map(str::to_owned)
    });
    assert_eq!(listed, made.collect());
}

#[test]
fn every_line_of_the_journal_is_listed() {
    let listed = first_column(&section(&read("FORMATS.md"), "## The journal"));
    let listed: BTreeSet<String> =
        listed.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let source = read("src/seal/journal.rs");
    let replay = source.split("fn line(").nth(1).expect("fn line").split("\n    }").next().expect("its body");
    let letters = replay.split('"').skip(1).step_by(2).filter(|word| word.len() == 1);
    assert_eq!(listed, letters.map(str::to_owned).collect());
}

#[test]
fn every_request_is_listed() {
    let text = section(&read("FORMATS.md"), "## The control socket");
    let (_, list) = text.split_once("is one of:").expect("the list of requests");
    assert_eq!(quoted(list), variants(&read("src/control/protocol.rs"), "pub enum Request {"));
}

#[test]
fn every_exit_code_is_listed() {
    let listed = section(&read("FORMATS.md"), "## Exit codes");
    let listed =
        listed.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    let source = read("src/cli/exit.rs");
    let body =
        source.split("pub enum Exit {").nth(1).expect("enum Exit").split("\n}").next().expect("its body");
    let codes =
        body.lines().filter_map(|line| line.split_once(" = ")?.1.trim_end_matches(',').parse::<u8>().ok());
    assert_eq!(listed.collect::<BTreeSet<_>>(), codes.collect());
}
