//! The log against others' implementations, and against whoever alters it; what is made again from it.

#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealed_store::{Filling, ORIGIN, Store, bad, filled, good};
use sealfs::crypto::PublicKey;
use sealfs::crypto::note::verifier_key;
use sealfs::ledger::ReadIndex;
use sealfs::ledger::log_keys;
use sealfs::model::RetentionMode;
use sealfs::verify::LogView;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::tlog;

/// More than two full tiles, and a partial one.
fn grown() -> (Store, Filling) {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 40);
    filling.seal_many("b", 560);
    (store, filling)
}

fn log_key(store: &Store) -> PublicKey {
    let line = fs::read_to_string(store.path().join("keys/log.pub")).unwrap();
    PublicKey::from_openssh(line.trim()).unwrap()
}

/// Opens the checkpoint with somebody else's code: size and root.
fn checkpoint(store: &Store) -> (u64, tlog::Hash) {
    let vkey = verifier_key(ORIGIN, &log_key(store));
    let verifier = VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey).unwrap())]);
    let note = Note::from_bytes(&fs::read(store.path().join("log/checkpoint")).unwrap()).unwrap();
    note.verify(&verifier).unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.origin(), ORIGIN);
    (checkpoint.size(), *checkpoint.hash())
}

/// Entries out of the bundles, by the words of C2SP tlog-tiles alone.
fn entries(store: &Store, size: u64) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for bundle in 0..size.div_ceil(256) {
        let width = (size - bundle * 256).min(256);
        let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
        let path = store.path().join(format!("log/tile/entries/{bundle:03}{partial}"));
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        for _ in 0..width {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            entries.push(rest[2..2 + length].to_vec());
            rest = &rest[2 + length..];
        }
        assert!(rest.is_empty());
    }
    entries
}

/// RFC 6962, section 2.1, as it stands there.
fn root(leaves: &[tlog::Hash]) -> tlog::Hash {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let k = 1 << (leaves.len() - 1).ilog2();
            tlog::node_hash(root(&leaves[..k]), root(&leaves[k..]))
        }
    }
}

/// Tiles from disk, for the other implementation, which checks them against the root as it reads.
struct Tiles(PathBuf);

impl tlog_tiles::TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        // It puts the height into paths.
        Ok(tiles
            .iter()
            .map(|tile| fs::read(self.0.join(tile.path().replacen("/8/", "/", 1))).unwrap())
            .collect())
    }

    fn save_tiles(&self, _tiles: &[tlog_tiles::Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn others_read_the_exported_log() {
    let (store, filling) = grown();
    let (size, expected) = checkpoint(&store);
    assert_eq!(size, 601);
    let entries = entries(&store, size);
    let leaves: Vec<_> = entries.iter().map(|entry| tlog::record_hash(entry)).collect();
    assert_eq!(root(&leaves).0, expected.0, "the root computed anew from the bundles");
    for (index, entry) in entries.iter().enumerate() {
        let value: serde_json::Value = serde_json::from_slice(entry).unwrap();
        assert_eq!(value["index"], index);
    }
    let tiles = Tiles(store.path().join("log"));
    let hashes = tlog_tiles::TileHashReader::new(size, expected, &tiles);
    for index in [0u64, 1, 39, 255, 256, 511, 512, 600] {
        let proof = tlog::prove_record(size, index, &hashes).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        tlog::check_record(&proof, size, expected, index, leaf).unwrap();
        // Ours is the same, and in the form that the specification gives it.
        let text = good(&store.run(&["log", "prove", "--index", &index.to_string()]));
        let (head, note) = text.split_once("\n\n").unwrap();
        assert_eq!(note, fs::read_to_string(store.path().join("log/checkpoint")).unwrap());
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
        assert!(lines.next().unwrap().starts_with("extra "));
        assert_eq!(lines.next(), Some(format!("index {index}").as_str()));
        let ours: Vec<_> = lines.map(|line| tlog::Hash::parse_hash(line).unwrap()).collect();
        assert_eq!(ours, proof);
    }
    // It grows: what was kept elsewhere is still a part of it.
    let kept = store.beside("kept");
    fs::copy(store.path().join("log/checkpoint"), &kept).unwrap();
    filling.seal_many("c", 200);
    let kept = kept.to_str().unwrap();
    assert!(good(&store.run(&["log", "check", "--against", kept])).contains("801 entries hold together"));
    let (new_size, new_root) = checkpoint(&store);
    let growth = good(&store.run(&["log", "prove", "--since", kept]));
    let proof: Vec<_> = growth
        .lines()
        .skip(2)
        .take_while(|line| !line.is_empty())
        .map(|line| tlog::Hash::parse_hash(line).unwrap())
        .collect();
    tlog::check_tree(&proof, new_size, new_root, size, expected).unwrap();
}

#[test]
fn entries_leave_the_index_when_their_bundle_is_durable() {
    let store = Store::made();
    let filling = Filling::of(&store);
    let first = filling.seal("first", "1\n", "30d", RetentionMode::Governance);
    filling.seal_many("a", 2500);
    let index = ReadIndex::open(&store.path().join("index.db")).unwrap();
    assert!(index.kept_entry(first.log_index).unwrap().is_none(), "it has left");
    assert_eq!(index.entry(first.log_index).unwrap().unwrap().parse().unwrap().path(), Some(&first.path));
    assert!(index.kept_entry(2501).unwrap().is_some(), "the last never leaves");
    assert!(good(&store.run(&["history", "first"])).contains("sealed: 2 B"));
    good(&store.run(&["verify", "--all"]));
    // And the log goes on over a restart.
    drop(filling);
    let index = std::sync::Arc::new(sealfs::ledger::Index::open(&store.path().join("index.db")).unwrap());
    assert_eq!(index.read().entries().unwrap(), 2502);
    sealfs::ledger::Exporter::open(index, ORIGIN, &[log_key(&store)]).unwrap();
}

fn whole(store: &Store) -> Result<(), String> {
    let index = ReadIndex::open(&store.path().join("index.db")).map_err(|error| error.to_string())?;
    let keys = log_keys(&store.path().join("keys"));
    let log = LogView::open(&index, ORIGIN, &keys).map_err(|error| error.to_string())?;
    log.check_whole(&|_| {}).map_err(|error| error.to_string())
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// The files that a log of its size is made of: older partial tiles are for readers of older checkpoints.
fn log_files(store: &Store) -> Vec<PathBuf> {
    let log = store.path().join("log");
    let (size, _) = checkpoint(store);
    let mut files: Vec<PathBuf> =
        sealfs::ledger::log::tiles_between(0, size).iter().map(|tile| log.join(tile.path())).collect();
    files.push(log.join("checkpoint"));
    files
}

#[test]
fn every_altered_byte_of_the_log_is_found() {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 3);
    whole(&store).unwrap();
    for path in log_files(&store) {
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(store.path()).unwrap().display().to_string();
        let broken = |bad: &[u8], how: &str| {
            fs::write(&path, bad).unwrap();
            let error = whole(&store).expect_err(&format!("{name}: {how}"));
            assert!(!error.is_empty());
        };
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            broken(&bad, &format!("bit {} of byte {at} flipped", at % 8));
        }
        for at in (0..bytes.len()).step_by(7) {
            broken(&bytes[..at], &format!("cut at {at}"));
        }
        broken(&[bytes.as_slice(), b"\n"].concat(), "longer");
        fs::remove_file(&path).unwrap();
        let error = whole(&store).expect_err(&format!("{name}: removed"));
        assert!(error.contains("missing"), "{name}: {error}");
        fs::write(&path, &bytes).unwrap();
        whole(&store).unwrap();
    }
}

#[test]
fn tiles_of_a_large_log_cannot_be_exchanged() {
    let (store, _) = grown();
    whole(&store).unwrap();
    let log = store.path().join("log");
    for (one, other) in [("tile/0/000", "tile/0/001"), ("tile/entries/000", "tile/entries/001")] {
        let (a, b) = (fs::read(log.join(one)).unwrap(), fs::read(log.join(other)).unwrap());
        fs::write(log.join(one), &b).unwrap();
        fs::write(log.join(other), &a).unwrap();
        let error = bad(&store.run(&["log", "check"]), 3);
        assert!(error.contains("entry") || error.contains(one), "{error}");
        fs::write(log.join(one), &a).unwrap();
        fs::write(log.join(other), &b).unwrap();
    }
    let level1 = log.join("tile/1/000.p/2");
    let bytes = fs::read(&level1).unwrap();
    fs::write(&level1, [&bytes[32..], &bytes[..32]].concat()).unwrap();
    assert!(bad(&store.run(&["log", "check"]), 3).contains("tile/1/000.p/2"));
    fs::write(&level1, bytes).unwrap();
    good(&store.run(&["log", "check"]));
}

#[test]
fn an_altered_index_never_passes_and_never_panics() {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 3);
    drop(filling);
    let db = store.path().join("index.db");
    // All in one file.
    let done = Command::new("sqlite3").arg(&db).arg("PRAGMA wal_checkpoint(TRUNCATE)").output().unwrap();
    assert!(done.status.success());
    let bytes = fs::read(&db).unwrap();
    let dump = || rows(&store) + &entry_rows(&store);
    let (expected, mut found) = (dump(), 0);
    let step = bytes.len() / 150;
    for at in (0..bytes.len()).step_by(step) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x11;
        fs::write(&db, &bad).unwrap();
        let output = store.run(&["verify", "--all"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("panicked"), "byte {at}: {error}");
        match output.status.code() {
            Some(0) => assert_same(&dump(), &expected),
            Some(1 | 3) => found += 1,
            other => panic!("byte {at}: {other:?} {error}"),
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(store.path().join(format!("index.db{suffix}")));
        }
    }
    assert!(found > 5, "{found} of 150");
    for length in [0, 1, 100, 4096, bytes.len() / 2] {
        fs::write(&db, &bytes[..length]).unwrap();
        let output = store.run(&["verify", "--all"]);
        assert!(matches!(output.status.code(), Some(1 | 3)), "cut at {length}: {output:?}");
    }
}

#[test]
fn an_older_index_is_noticed_and_mended() {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 5);
    let aside = store.beside("old.db");
    let sqlite = |statement: &str| {
        assert!(
            Command::new("sqlite3")
                .arg(store.path().join("index.db"))
                .arg(statement)
                .status()
                .unwrap()
                .success()
        );
    };
    sqlite(&format!("vacuum into '{}'", aside.display()));
    filling.seal_many("b", 5);
    drop(filling);
    let back = |from: &Path| {
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(store.path().join(format!("index.db{suffix}")));
        }
        fs::copy(from, store.path().join("index.db")).unwrap();
    };
    let newer = store.beside("new.db");
    sqlite(&format!("vacuum into '{}'", newer.display()));
    let before = rows(&store);
    back(&aside);
    let error = bad(&store.run(&["verify", "--all"]), 3);
    assert!(error.contains("index.db is older than the log: it has 6 entries, log/checkpoint 11"), "{error}");
    let mnt = store.beside("mnt");
    fs::create_dir(&mnt).unwrap();
    let started =
        Command::new(env!("CARGO_BIN_EXE_sealfs")).arg("-f").arg(store.path()).arg(&mnt).output().unwrap();
    let error = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(1), "{error}");
    assert!(error.contains("'sealctl rebuild' makes it anew"), "{error}");
    assert!(good(&store.run(&["rebuild"])).starts_with("index made anew from 11 entries; 10 seals stand\n"));
    assert_same(&rows(&store), &before);
    good(&store.run(&["verify", "--all"]));
    // An index of the same size, of another log.
    let other = Store::made();
    let filling = Filling::of(&other);
    filling.seal_many("z", 10);
    drop(filling);
    let done = Command::new("sqlite3")
        .arg(other.path().join("index.db"))
        .arg(format!("vacuum into '{}'", store.beside("other.db").display()))
        .status();
    assert!(done.unwrap().success());
    back(&store.beside("other.db"));
    let error = bad(&store.run(&["verify", "--all"]), 3);
    assert!(error.contains("are of different logs"), "{error}");
    // An older log beside a newer index.
    back(&newer);
    good(&store.run(&["verify", "--all"]));
}

/// The entries that the index still has.
fn entry_rows(store: &Store) -> String {
    let index = ReadIndex::open(&store.path().join("index.db")).unwrap();
    index
        .kept_entries(0, 1000)
        .unwrap()
        .into_iter()
        .map(|row| format!("\n{} {}", row.index, row.body))
        .collect()
}

/// Everything of the index that is evidence.
fn rows(store: &Store) -> String {
    let tables =
        ["artifact", "hold", "line", "attachment", "claim", "key", "about", "dir", "term", "altered"];
    let query: String = tables.iter().map(|table| format!("select '{table}', * from {table};")).collect();
    let output = Command::new("sqlite3")
        .args(["-readonly", "-quote"])
        .arg(store.path().join("index.db"))
        .arg(query)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Fails with the rows that differ, not with all of them.
fn assert_same(found: &str, expected: &str) {
    let only = |a: &str, b: &str| -> Vec<String> {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    let (more, less) = (only(found, expected), only(expected, found));
    assert!(more.is_empty() && less.is_empty(), "found only: {more:#?}\nexpected only: {less:#?}");
}

#[test]
fn a_lost_index_is_made_again_row_for_row() {
    let (store, filling) = filled();
    let record = filling.seal("again", "1\n", "1s", RetentionMode::Governance);
    filling.pass("1h");
    filling.compare();
    let mut batch = filling.index.batch(&filling.clock).unwrap();
    let proven = batch.prove(&record.path, record.log_index, &sealed_store::Trusting).unwrap();
    let permit = proven.permit_removal().unwrap();
    permit.end(&sealfs::ledger::Ending::Removed, sealfs::ledger::Actor::Uid(7)).unwrap();
    batch.commit().unwrap();
    filling.seal("again", "2\n", "1h", RetentionMode::Governance);
    // Committed, and killed before it was exported.
    filling.seal_without_export("last", "3\n", "1h", RetentionMode::Compliance);
    drop(filling);
    let before = rows(&store);
    let text = good(&store.run(&["rebuild"]));
    assert!(text.contains("1 of these was not exported yet, and taken from the old index"), "{text}");
    assert_same(&rows(&store), &before);
    // Without any index: what was not exported is lost with it, all else is there.
    for name in ["index.db", "index.db-wal", "index.db-shm", "index.db.old"] {
        let _ = fs::remove_file(store.path().join(name));
    }
    let text = good(&store.run(&["rebuild"]));
    assert!(text.contains("5 seals stand"), "{text}");
    let expected: Vec<&str> = before.lines().filter(|line| !line.contains("'last'")).collect();
    assert_same(&rows(&store), &expected.join("\n"));
    // A missing file is told by name.
    fs::remove_file(store.tree("evidence.bin")).unwrap();
    let output = store.run(&["rebuild"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("evidence.bin: is not in the tree"));
    // A log that does not hold together gives no index, and the old one stays.
    let bundle = store.path().join("log/tile/entries/000.p");
    let widest = fs::read_dir(&bundle)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse::<u64>().unwrap())
        .max()
        .unwrap();
    let bundle = bundle.join(widest.to_string());
    let mut bytes = fs::read(&bundle).unwrap();
    let at = bytes.windows(4).position(|window| window == b"case").unwrap();
    bytes[at] = b'C';
    fs::write(&bundle, bytes).unwrap();
    let before = rows(&store);
    bad(&store.run(&["rebuild"]), 3);
    assert_same(&rows(&store), &before);
}

#[test]
fn metadata_go_out_and_come_back() {
    let (store, filling) = filled();
    let copy = store.beside("copy");
    let copy_text = copy.to_str().unwrap();
    let text = good(&store.run(&["backup", copy_text]));
    assert!(text.starts_with("7 entries backed up, checkpoint over 7\n"), "{text}");
    assert!(bad(&store.run(&["backup", copy_text]), 1).contains("is not empty"));
    let mut files = Vec::new();
    files_below(&copy, &mut files);
    for path in &files {
        let text = fs::read(path).unwrap();
        assert!(!text.windows(11).any(|window| window == b"PRIVATE KEY"), "{}", path.display());
    }
    let before = rows(&store);
    // The store loses everything but its artifacts and private keys.
    drop(filling);
    for name in ["index.db", "index.db-wal", "index.db-shm", "policy.toml"] {
        let _ = fs::remove_file(store.path().join(name));
    }
    fs::remove_dir_all(store.path().join("log")).unwrap();
    let restore = || sealed_store::sealctl(&["restore", copy_text, store.text()]);
    assert!(good(&restore()).starts_with("7 entries restored, checkpoint over 7\n"));
    assert_same(&rows(&store), &before);
    good(&store.run(&["verify", "--all"]));
    assert!(bad(&restore(), 1).contains("is there"));
    // Into a new place the artifacts are missing, which is told.
    let fresh = store.beside("fresh");
    let output = sealed_store::sealctl(&["restore", copy_text, fresh.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.matches("is not in the tree").count(), 4, "{error}");
    // A copy that was altered is not brought back.
    let checkpoint = copy.join("log/checkpoint");
    let text = fs::read_to_string(&checkpoint).unwrap().replacen("\n7\n", "\n8\n", 1);
    fs::write(&checkpoint, text).unwrap();
    let elsewhere = store.beside("elsewhere");
    let error = bad(&sealed_store::sealctl(&["restore", copy_text, elsewhere.to_str().unwrap()]), 3);
    assert!(error.contains("does not match"), "{error}");
    assert!(!elsewhere.exists());
}
