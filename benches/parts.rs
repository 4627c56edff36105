//! The inner parts, alone: hash, sign, commit, lookup. `scripts/bench --parts`, or `cargo bench --bench parts`.
//!
//! Commits go to a real index on disk (in `SEALFS_BENCH_DIR` or /var/tmp), with its fsync; nothing else is stored.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sealfs::clock::{Clock, TimeSource};
use sealfs::crypto::{SigningKey, dsse, sha256, sshsig};
use sealfs::ledger::{Change, Index, NewSeal, StatementDigests};
use sealfs::model::{ArtifactKind, Digest, FileTime, RelPath, RetentionMode, SealRecord, Span, Timestamp};
use sealfs::statement::{PAYLOAD_TYPE, TEMPLATE, seal_statement};

const ORIGIN: &str = "bench.example/store";
/// Files of the folder that is looked into.
const FOLDER: u64 = 10_000;

/// Time that stands still: records can be made before the batch that they are for.
struct Still;

impl TimeSource for Still {
    fn boottime(&self) -> i64 {
        0
    }
    fn wall(&self) -> Timestamp {
        Timestamp(1_780_000_000_000_000_000)
    }
    fn boot_id(&self) -> String {
        "of a bench".to_owned()
    }
}

struct Store {
    _dir: tempfile::TempDir,
    index: Index,
    clock: Clock,
    key: SigningKey,
    fingerprint: String,
    made: u64,
}

impl Store {
    fn new() -> Self {
        let base = std::env::var_os("SEALFS_BENCH_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let dir = tempfile::tempdir_in(base).expect("a folder");
        let index = Index::create(&dir.path().join("index.db"), ORIGIN).expect("an index");
        let (clock, _) = Clock::start(Box::new(Still), None, Span::default());
        let key = SigningKey::generate().expect("a key");
        let mut batch = index.batch(&clock).expect("a batch");
        let line = key.public().to_openssh("");
        batch
            .note(Change::Store { origin: ORIGIN.to_owned(), seal_key: line.clone(), log_key: line })
            .expect("an entry");
        batch.commit().expect("committed");
        let fingerprint = key.public().fingerprint();
        Store { _dir: dir, index, clock, key, fingerprint, made: 0 }
    }

    fn record(&self, folder: &str, n: u64, log_index: u64, now: Timestamp) -> SealRecord {
        let digest = sha256(&n.to_le_bytes());
        let until = now.plus("30d".parse().expect("a span"));
        SealRecord {
            id: 0,
            path: RelPath::parse(&format!("{folder}/{n:07}.o")).expect("a path"),
            kind: ArtifactKind::File,
            sha256: digest,
            size: 4096,
            perm: 0o644,
            uid: 0,
            gid: 0,
            mtime: FileTime { seconds: 1_780_000_000, nanos: 0 },
            sealed_at: now,
            sealed_wall: now,
            retain_sealed: until,
            retain_until: until,
            mode: RetentionMode::Governance,
            policy: Digest([7; 32]),
            namespace: "sealfs".to_owned(),
            log_index,
            key: self.fingerprint.clone(),
            signature: Some(sshsig::sign_digest(&self.key, "sealfs", &digest)),
            statement_signature: [7; 64],
            provenance: None,
            template: TEMPLATE,
            ino: n + 2,
            ctime: FileTime { seconds: 1_780_000_000, nanos: 0 },
            holds: Vec::new(),
            torn_kept: false,
        }
    }

    /// Seals so many more; answers what the transaction took, from its beginning to durable.
    fn commit(&mut self, folder: &str, count: u64) -> Duration {
        let (first, now) = {
            let batch = self.index.batch(&self.clock).expect("a batch");
            (batch.next_index(), batch.now())
        };
        let digests = StatementDigests { seal: Digest([7; 32]), provenance: None };
        let seals: Vec<NewSeal> = (0..count)
            .map(|n| NewSeal { record: self.record(folder, self.made + n, first + n, now), digests })
            .collect();
        self.made += count;
        let from = Instant::now();
        let mut batch = self.index.batch(&self.clock).expect("a batch");
        for seal in seals {
            batch.seal(seal).expect("sealed");
        }
        black_box(batch.commit().expect("committed"));
        from.elapsed()
    }
}

fn hash(c: &mut Criterion) {
    let data: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut group = c.benchmark_group("hash");
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("1 MiB", |b| b.iter(|| sha256(black_box(&data))));
    group.finish();
}

fn sign(c: &mut Criterion) {
    let store = Store::new();
    let record = store.record("out", 1, 1, Timestamp(1_780_000_000_000_000_000));
    let mut group = c.benchmark_group("sign");
    group.bench_function("SSHSIG over a digest", |b| {
        b.iter(|| sshsig::sign_digest(&store.key, "sealfs", black_box(&record.sha256)));
    });
    group.bench_function("statement and DSSE", |b| {
        b.iter(|| {
            let statement = seal_statement(black_box(&record), ORIGIN).expect("a statement");
            dsse::sign(&store.key, PAYLOAD_TYPE, statement.as_bytes())
        });
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    group.sample_size(20);
    for count in [1, 64, 1000] {
        let mut store = Store::new();
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("seals", count), |b| {
            b.iter_custom(|times| {
                (0..times).map(|n| store.commit(&format!("{count}/{}", n % 16), count)).sum()
            });
        });
    }
    group.finish();
}

fn lookup(c: &mut Criterion) {
    let mut store = Store::new();
    for _ in 0..FOLDER / 1000 {
        store.commit("folder", 1000);
    }
    let (folder, file) = ("folder", "folder/0004321.o");
    let (folder, file) = (RelPath::parse(folder).expect("a path"), RelPath::parse(file).expect("a path"));
    let mut group = c.benchmark_group("lookup");
    group.bench_function("find one by its path", |b| {
        b.iter(|| store.index.read().find(black_box(&file)).expect("read").expect("there"));
    });
    group.throughput(Throughput::Elements(FOLDER));
    group.bench_function("retention in a folder of 10,000", |b| {
        b.iter(|| {
            let all = store.index.read().retention_in(black_box(&folder), u32::MAX).expect("read");
            assert_eq!(all.len() as u64, FOLDER);
        });
    });
    group.finish();
}

criterion_group!(parts, hash, sign, commit, lookup);
criterion_main!(parts);
