//! The log of a live mount: how soon it is exported, what the mount shows of it, and who may read it.

mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::{Mount, QUICK, SLOW, sh};
use sealfs::crypto::PublicKey;
use sealfs::crypto::note::verifier_key;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::tlog;

/// Opens the checkpoint that the mount shows with somebody else's code.
fn checkpoint(mount: &Mount) -> (u64, tlog::Hash) {
    let line = fs::read_to_string(mount.store.join("keys/log.pub")).expect("key");
    let key = PublicKey::from_openssh(line.trim()).expect("key");
    let verifier = StandardVerifier::new(&verifier_key("test.example/store", &key)).expect("verifier key");
    let note =
        Note::from_bytes(&fs::read(mount.path(".seal/checkpoint")).expect("checkpoint")).expect("note");
    note.verify(&VerifierList::new(vec![Box::new(verifier)])).expect("signed");
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).expect("checkpoint");
    (checkpoint.size(), *checkpoint.hash())
}

#[test]
fn a_checkpoint_follows_its_seal_within_a_second() {
    let mount = Mount::new("checkpoint", SLOW);
    for n in 0..5 {
        let name = format!("f{n}");
        mount.sealed(&name, b"content\n");
        let sealed = Instant::now();
        let index: u64 =
            harness::xattr(&mount.path(&name), "user.seal.index").expect("index").parse().expect("number");
        while checkpoint(&mount).0 <= index {
            assert!(sealed.elapsed() < Duration::from_secs(1), "no checkpoint over {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Tiles as a client of the mount reads them.
struct Tiles(std::path::PathBuf);

impl tlog_tiles::TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        Ok(tiles
            .iter()
            .map(|tile| fs::read(self.0.join(tile.path().replacen("/8/", "/", 1))).expect("tile"))
            .collect())
    }

    fn save_tiles(&self, _tiles: &[tlog_tiles::Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn the_mount_shows_the_log_to_any_client_of_the_format() {
    let mount = Mount::new("client", QUICK);
    sh(&mount.mnt, "mkdir d; for i in $(seq 400); do echo $i > d/$i; done");
    harness::eventually("all are under the checkpoint", || checkpoint(&mount).0 >= 403);
    let (size, root) = checkpoint(&mount);
    let tiles = Tiles(mount.path(".seal/log"));
    let hashes = tlog_tiles::TileHashReader::new(size, root, &tiles);
    let bundle = fs::read(mount.path(".seal/log/tile/entries/000")).expect("bundle");
    let mut rest = bundle.as_slice();
    for index in 0..256u64 {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let entry = &rest[2..2 + length];
        rest = &rest[2 + length..];
        if index % 37 == 0 {
            let proof = tlog::prove_record(size, index, &hashes).expect("proof");
            tlog::check_record(&proof, size, root, index, tlog::record_hash(entry)).expect("included");
        }
    }
    // Listed, stat-able, and nothing else: no attachments, nothing by another name, nothing to write.
    assert_eq!(
        sh(&mount.path(".seal/log"), "ls -d tile/* tile/1/*"),
        "tile/0\ntile/1\ntile/1/000.p\ntile/entries\n"
    );
    for name in ["attachments.jsonl", "tile/0/0", "tile/0/000.p/256", "tile/..", "tile/7", "x"] {
        let path = mount.mnt.join(".seal/log").join(name);
        if name != "tile/.." {
            assert!(!path.exists(), "{name}");
        }
    }
    mount.refuses(libc::EPERM, "write to a tile", || fs::write(mount.path(".seal/log/tile/0/000"), b"x"));
    mount.refuses(libc::EPERM, "make something in the log", || {
        fs::write(mount.path(".seal/log/tile/new"), b"x")
    });
    mount.refuses(libc::EPERM, "remove a tile", || fs::remove_file(mount.path(".seal/log/tile/0/000")));
}

#[test]
fn a_store_is_verified_while_it_is_written_to() {
    let mount = Mount::new("busy", QUICK);
    sh(&mount.mnt, "mkdir d; for i in $(seq 50); do echo $i > d/$i; done");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded: else each verification would have more to do than the one before.
            for n in 0..1500 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                fs::write(mount.path(format!("d/more-{n}")), b"more\n").expect("write");
                harness::pause(2);
            }
        });
        for _ in 0..8 {
            let output = mount.ctl(&["verify", "--all"]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            assert!(output.status.success(), "{error}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let copy = mount.dir.join("copy");
    let text = mount.ctl_ok(&["backup", copy.to_str().expect("UTF-8")]);
    assert!(text.contains("backed up"), "{text}");
}

#[test]
fn an_export_that_fails_is_a_warning_and_is_made_up_for() {
    let mount = Mount::new("failing", SLOW);
    mount.sealed("before", b"x\n");
    harness::eventually("exported", || checkpoint(&mount).0 == 4);
    sh(&mount.dir, "chattr +i store/log");
    mount.sealed("after", b"y\n");
    let warned = || {
        mount.ctl_ok(&["status"]).contains("warning: the log is not exported, the checkpoint stays behind")
    };
    harness::eventually("a warning", warned);
    assert!(mount.ctl_ok(&["status"]).contains("5 entries, checkpoint over 4"));
    sh(&mount.dir, "chattr -i store/log");
    // It is tried again by itself, after a few seconds at most.
    let until = Instant::now() + Duration::from_secs(10);
    while checkpoint(&mount).0 < 5 {
        assert!(Instant::now() < until, "not exported again");
        harness::pause(50);
    }
    harness::eventually("no warning", || !warned());
    mount.ctl_ok(&["verify", "--all"]);
}
