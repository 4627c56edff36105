//! The rooms use only what the table in `src/lib.rs` lets them use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

struct Room {
    layer: u32,
    may_use: BTreeSet<String>,
}

fn table() -> BTreeMap<String, Room> {
    let text = fs::read_to_string(root().join("lib.rs")).expect("lib.rs");
    let mut rooms = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let Ok(layer) = cells[0].parse() else { continue };
        let may_use = cells[3].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        rooms.insert(cells[1].trim_matches('`').to_owned(), Room { layer, may_use: may_use.collect() });
    }
    rooms
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its room and its text, without tests' modules at the end.
fn files() -> Vec<(String, PathBuf, String)> {
    let mut paths = Vec::new();
    sources(&root(), &mut paths);
    let room_of = |path: &Path| {
        let inside = path.strip_prefix(root()).expect("below src");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    paths
        .into_iter()
        .map(|path| (room_of(&path), path.clone(), fs::read_to_string(&path).expect("source")))
        .filter(|(room, ..)| room != "lib" && room != "bin")
        .collect()
}

/// The rooms named after `crate::` in a text.
fn used(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (1, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        rooms.insert(first_name(&name));
                        name.clear();
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                name.push(c);
            }
            rooms.insert(first_name(&name));
        } else {
            rooms.insert(first_name(rest));
        }
    }
    rooms.remove("");
    rooms
}

fn first_name(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_room_is_in_the_table_and_every_arrow_goes_down() {
    let table = table();
    let on_disk: BTreeSet<String> = files().into_iter().map(|(room, ..)| room).collect();
    assert_eq!(on_disk, table.keys().cloned().collect(), "rooms on disk and in the table of lib.rs");
    for (name, room) in &table {
        for other in &room.may_use {
            let below =
                table.get(other).unwrap_or_else(|| panic!("{name} may use {other}, which is no room"));
            assert!(
                below.layer < room.layer,
                "{name} (layer {}) may use {other} (layer {})",
                room.layer,
                below.layer
            );
        }
    }
}

#[test]
fn no_room_uses_what_its_row_does_not_name() {
    let table = table();
    let mut wrong = Vec::new();
    for (room, path, text) in files() {
        for other in used(&text) {
            if other != room && table.contains_key(&other) && !table[&room].may_use.contains(&other) {
                wrong.push(format!("{}: {room} uses {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (room, path, text) in files() {
        let shown = path.display();
        if text.contains("fuser::") && room != "fuse" && room != "daemon" {
            wrong.push(format!("{shown}: fuser:: outside fuse and daemon"));
        }
        if text.contains("rusqlite::") && !path.starts_with(root().join("ledger/index")) {
            wrong.push(format!("{shown}: rusqlite:: outside ledger/index"));
        }
        if text.contains("ed25519_dalek") && room != "crypto" {
            wrong.push(format!("{shown}: ed25519_dalek outside crypto"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_room_is_for_whatever_is_left_over() {
    let mut paths = Vec::new();
    sources(&root(), &mut paths);
    for path in paths {
        for part in path.strip_prefix(root()).expect("below src").components() {
            let name = part.as_os_str().to_string_lossy();
            let name = name.trim_end_matches(".rs");
            assert!(!["util", "utils", "common", "helpers", "misc"].contains(&name), "{}", path.display());
        }
    }
}

#[test]
fn the_reader_of_arrows_sees_them() {
    let text = "use crate::{a::b, c::{d, e}, f}; crate::g::h(); use crate::i;";
    let names: Vec<String> = used(text).into_iter().collect();
    assert_eq!(names, ["a", "c", "f", "g", "i"]);
}
