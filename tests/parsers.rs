//! The fuzz targets on their seeds and on what comes of altering them: a short run of what `cargo fuzz` does for hours.
//! SEALFS_SOAK_INPUTS makes it so many inputs of each seed, and others than the last time.

#[path = "fuzz/parsers.rs"]
mod parsers;

use parsers::{TARGETS, Target};

/// Inputs made of each seed.
const ROUNDS: u64 = 20_000;

/// As asked for, and where the numbers begin.
fn rounds() -> (u64, u64) {
    let asked = std::env::var("SEALFS_SOAK_INPUTS").ok().and_then(|inputs| inputs.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    asked.map_or((ROUNDS, 0x5ea1_f500), |asked| (asked, now.as_secs() | 1))
}

/// xorshift64*: the same inputs each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }
}

/// A few alterations of a seed: bits, cuts, repetitions, pieces of other seeds, and what parsers stumble over.
fn altered(seed: &[u8], others: &[&[u8]], numbers: &mut Numbers) -> Vec<u8> {
    const TRICKY: [&[u8]; 12] = [
        b"\0",
        b"\n",
        b"\"",
        b"\\",
        b"\xff",
        "é".as_bytes(),
        b"{}",
        b"[]",
        b"-1",
        b"99999999999999999999",
        b"..",
        b"\n\n",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(..at)),
            3 => {
                let piece = bytes[at..].to_vec();
                bytes.extend_from_slice(&piece);
            }
            4 => drop(bytes.splice(at..at, TRICKY[numbers.below(TRICKY.len())].iter().copied())),
            5 => {
                let other = others[numbers.below(others.len())];
                let from = numbers.below(other.len() + 1);
                drop(bytes.splice(at..at, other[from..].iter().copied()));
            }
            _ if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            _ => {}
        }
        bytes.truncate(64 * 1024);
    }
    bytes
}

fn short_run(target: &Target, rounds: u64, begin: u64) {
    let all: Vec<&[u8]> = TARGETS.iter().flat_map(|target| target.seeds.iter().copied()).collect();
    let mut numbers = Numbers(begin);
    (target.run)(b"");
    for seed in target.seeds {
        (target.run)(seed);
        for _ in 0..rounds {
            let input = altered(seed, &all, &mut numbers);
            (target.run)(&input);
        }
    }
}

#[test]
fn no_parser_panics_and_what_it_takes_it_gives_back() {
    let (rounds, begin) = rounds();
    let mut inputs = 0;
    for target in TARGETS {
        let ran = std::panic::catch_unwind(|| short_run(target, rounds, begin));
        assert!(ran.is_ok(), "{}, from number {begin}", target.name);
        inputs += target.seeds.len() as u64 * rounds;
    }
    eprintln!("soak: {inputs} inputs to {} parsers", TARGETS.len());
}

#[test]
fn every_seed_is_taken() {
    // A target whose seeds are refused at the door would test nothing.
    use sealfs::ledger::Entry;
    use sealfs::ledger::log::{Checkpoint, InclusionProof, Tile};
    for target in TARGETS {
        for seed in target.seeds {
            let text = String::from_utf8_lossy(seed);
            match target.name {
                "entry" => drop(Entry::parse(seed).unwrap()),
                "tile" => drop(Tile::parse(&text).unwrap().path()),
                "checkpoint" => drop(Checkpoint::parse(&text).unwrap()),
                "proof" => drop(InclusionProof::parse(seed).unwrap()),
                "envelope" => drop(sealfs::crypto::dsse::parse(seed).unwrap()),
                "allowed_signers" => {
                    assert_eq!(sealfs::crypto::signers::parse_allowed_signers(&text).unwrap().len(), 1);
                }
                "writers" => drop(sealfs::statement::ProvenanceTemplate::of(&text, "o").unwrap()),
                _ => {}
            }
        }
    }
}

#[test]
fn every_target_has_its_file() {
    for target in TARGETS {
        let path = format!("{}/tests/fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
        assert!(std::path::Path::new(&path).exists(), "{path}");
    }
}
