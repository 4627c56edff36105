//! A store as `sealctl init` makes it, and files sealed in it through the ledger at stated times.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use sealfs::clock::{Clock, TimeSource};
use sealfs::crypto::{SigningKey, dsse, sha256, sshsig};
use sealfs::ledger::{
    Actor, Change, Exporter, Index, NewSeal, Refusal, Signature, SignedStatement, StatementDigests,
};
use sealfs::model::{ArtifactKind, Digest, FileTime, RelPath, RetentionMode, SealRecord, Span, Timestamp};
use sealfs::statement::{PAYLOAD_TYPE, RetentionChange, TEMPLATE, change_statement, seal_statement};
use sealfs::store::Layout;

/// The origin of every store here.
pub const ORIGIN: &str = "test.example/store";
/// When the index of a filled store begins.
pub const START: &str = "2026-06-01T12:00:00Z";

/// Runs sealctl in no mount and without a store in the environment.
pub fn sealctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealctl"))
        .args(args)
        .env_remove("SEALFS_STORE")
        .current_dir("/")
        .output()
        .expect("sealctl runs")
}

/// Standard output of what must succeed.
pub fn good(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of standard error of what must fail with this code.
pub fn bad(output: &Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(error.lines().count(), 1, "one line: {error:?}");
    assert!(error.starts_with("sealctl: "), "{error:?}");
    error
}

/// A store in a folder of its own.
pub struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    /// Made by `sealctl init`.
    pub fn made() -> Self {
        let store = Store { dir: tempfile::tempdir().unwrap() };
        good(&sealctl(&["init", store.text(), "--origin", ORIGIN]));
        store
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self) -> &str {
        // Leaked: a few bytes a test.
        Box::leak(self.path().to_str().unwrap().to_owned().into_boxed_str())
    }

    pub fn tree(&self, path: &str) -> PathBuf {
        self.path().join("tree").join(path)
    }

    /// Runs sealctl on this store.
    pub fn run(&self, args: &[&str]) -> Output {
        sealctl(&[&["--store", self.text()], args].concat())
    }
}

#[derive(Clone)]
struct FixedTime {
    boot: Arc<AtomicI64>,
    start: Timestamp,
}

impl TimeSource for FixedTime {
    fn boottime(&self) -> i64 {
        self.boot.load(Ordering::Relaxed)
    }
    fn wall(&self) -> Timestamp {
        Timestamp(self.start.0 + self.boottime())
    }
    /// No real boot has this one: readers take the last anchor as the time that is now.
    fn boot_id(&self) -> String {
        "of a test".to_owned()
    }
}

/// Takes every statement for signed.
pub struct Trusting;

impl sealfs::ledger::Vouch for Trusting {
    fn seal(&self, _: &SealRecord) -> Result<(), String> {
        Ok(())
    }

    fn line(&self, _: &SealRecord, _: &sealfs::ledger::Entry) -> Result<(), String> {
        Ok(())
    }
}

/// Fills a store. Time stands still but for [`Filling::pass`].
pub struct Filling {
    pub index: Arc<Index>,
    pub clock: Clock,
    key: SigningKey,
    log_key: SigningKey,
    exporter: Exporter,
    time: FixedTime,
    tree: PathBuf,
    policy: Digest,
}

impl Filling {
    /// Puts a new index into a store, at [`START`].
    pub fn of(store: &Store) -> Self {
        let layout = Layout::open(&store.path()).unwrap();
        for name in ["index.db", "index.db-wal", "index.db-shm"] {
            let _ = fs::remove_file(store.path().join(name));
        }
        let time = FixedTime { boot: Arc::default(), start: START.parse().unwrap() };
        let (clock, _) = Clock::start(Box::new(time.clone()), None, Span::default());
        fs::remove_dir_all(layout.log()).unwrap();
        fs::create_dir(layout.log()).unwrap();
        let index = Arc::new(Index::create(&layout.index(), ORIGIN).unwrap());
        let (key, log_key) =
            (SigningKey::read(&layout.seal_key()).unwrap(), SigningKey::read(&layout.log_key()).unwrap());
        let mut batch = index.batch(&clock).unwrap();
        batch
            .note(Change::Store {
                origin: ORIGIN.to_owned(),
                seal_key: key.public().to_openssh(""),
                log_key: log_key.public().to_openssh(""),
            })
            .unwrap();
        batch.commit().unwrap();
        let exporter = Exporter::open(Arc::clone(&index), ORIGIN, &[log_key.public()]).unwrap();
        exporter.export(&log_key).unwrap();
        Filling {
            index,
            clock,
            key,
            log_key,
            exporter,
            time,
            tree: layout.tree(),
            policy: sha256(&fs::read(layout.policy()).unwrap()),
        }
    }

    /// Lets time pass, and the index know of it.
    pub fn pass(&self, span: &str) {
        let span: Span = span.parse().unwrap();
        let nanos = i64::try_from(span.longest().as_nanos()).unwrap();
        self.time.boot.fetch_add(nanos, Ordering::Relaxed);
        self.index.batch(&self.clock).unwrap().commit().unwrap();
    }

    /// Writes a file into the tree, mode 0640, of the minute at which the index began.
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let full = self.tree.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, content).unwrap();
        fs::set_permissions(&full, Permissions::from_mode(0o640)).unwrap();
        let seconds = u64::try_from(self.time.start.to_parts().0).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(&full).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        full
    }

    /// Writes a file and seals it.
    pub fn seal(&self, path: &str, content: &str, retention: &str, mode: RetentionMode) -> SealRecord {
        let record = self.seal_without_export(path, content, retention, mode);
        self.export();
        record
    }

    /// Writes a file and seals it; the log is not exported.
    pub fn seal_without_export(
        &self,
        path: &str,
        content: &str,
        retention: &str,
        mode: RetentionMode,
    ) -> SealRecord {
        let full = self.write(path, content);
        let mut batch = self.index.batch(&self.clock).unwrap();
        let meta = fs::symlink_metadata(&full).unwrap();
        let digest = sha256(content.as_bytes());
        let until = batch.now().plus(retention.parse().unwrap());
        let mut record = SealRecord {
            id: 0,
            path: RelPath::parse(path).unwrap(),
            kind: ArtifactKind::File,
            sha256: digest,
            size: content.len() as u64,
            perm: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: FileTime { seconds: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap() },
            sealed_at: batch.now(),
            sealed_wall: batch.wall(),
            retain_sealed: until,
            retain_until: until,
            mode,
            policy: self.policy,
            namespace: "sealfs".to_owned(),
            log_index: batch.next_index(),
            key: self.key.public().fingerprint(),
            signature: Some(sshsig::sign_digest(&self.key, "sealfs", &digest)),
            statement_signature: [0; 64],
            provenance: None,
            template: TEMPLATE,
            ino: meta.ino(),
            ctime: FileTime { seconds: meta.ctime(), nanos: u32::try_from(meta.ctime_nsec()).unwrap() },
            holds: Vec::new(),
            torn_kept: false,
        };
        let statement = seal_statement(&record, ORIGIN).unwrap();
        record.statement_signature = dsse::sign(&self.key, PAYLOAD_TYPE, statement.as_bytes());
        let digests = StatementDigests { seal: sha256(statement.as_bytes()), provenance: None };
        batch.seal(NewSeal { record, digests }).unwrap();
        batch.commit().unwrap()[0].record().clone()
    }

    /// Seals so many files, then exports the log.
    pub fn seal_many(&self, folder: &str, count: usize) {
        for n in 0..count {
            let (path, content) = (format!("{folder}/{n:05}"), format!("content {n}\n"));
            self.seal_without_export(&path, &content, "30d", RetentionMode::Governance);
        }
        self.export();
    }

    /// Exports the log.
    pub fn export(&self) {
        self.exporter.export(&self.log_key).unwrap();
    }

    /// Compares the index with its log, as the daemon does before anything sealed is changed.
    pub fn compare(&self) {
        let belief = self.index.belief();
        while belief.under_way().is_some() {
            let number = belief.next().unwrap();
            let keys = [self.log_key.public()];
            let checkpoint = sealfs::ledger::check_rollback(self.index.read(), ORIGIN, &keys).unwrap();
            let checkpoint = checkpoint.as_ref().map(|(checkpoint, _)| checkpoint);
            let found = sealfs::recovery::compare(self.index.read(), checkpoint, &|_, _| true).unwrap();
            self.index.compared(number, found);
        }
    }

    /// Extends, shortens, holds or releases.
    pub fn change(&self, record: &SealRecord, change: &RetentionChange<'_>) {
        self.compare();
        let mut batch = self.index.batch(&self.clock).unwrap();
        let proven = batch.prove(&record.path, record.log_index, &Trusting).unwrap();
        let text = change_statement(record, ORIGIN, proven.next_index(), proven.now(), change).unwrap();
        let signature = dsse::sign(&self.key, PAYLOAD_TYPE, text.as_bytes());
        let line = SignedStatement {
            sha256: sha256(text.as_bytes()),
            key: record.key.clone(),
            signature: Signature(signature),
        };
        let by = Actor::Uid(1000);
        match change {
            RetentionChange::Until(until, reason) => proven.retain(*until, by, *reason, line).unwrap(),
            RetentionChange::Hold(name, placed) => proven.hold(name, *placed, by, line).unwrap(),
        }
        batch.commit().unwrap();
        self.exporter.export(&self.log_key).unwrap();
    }

    /// Keeps a refusal.
    pub fn refuse(&self, path: &str, times: u64) {
        let mut batch = self.index.batch(&self.clock).unwrap();
        let refusal = Refusal {
            path: path.to_owned(),
            operation: "unlink".to_owned(),
            reason: "retained until 2026-07-01T12:00:00Z (governance)".to_owned(),
            uid: 1000,
            pid: 4242,
            program: "rm".to_owned(),
            at: batch.now(),
            wall: batch.wall(),
            times,
        };
        batch.refusals(&[refusal]).unwrap();
        batch.commit().unwrap();
    }
}

/// A store with a retained, a held, an extended and an expired file, one day and an hour after [`START`].
pub fn filled() -> (Store, Filling) {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal("releases/1.0/app", "hello sealfs\n", "30d", RetentionMode::Compliance);
    filling.seal("log/build.log", "ok\n", "1h", RetentionMode::Governance);
    let held = filling.seal("evidence.bin", "x", "1h", RetentionMode::Governance);
    let extended = filling.seal("releases/1.0/notes.txt", "notes\n", "1d", RetentionMode::Governance);
    filling.pass("1h");
    filling.change(&held, &RetentionChange::Hold("case-42", true));
    let until = extended.retain_until.plus("10d".parse().unwrap());
    filling.change(&extended, &RetentionChange::Until(until, None));
    filling.refuse("releases/1.0/app", 3);
    filling.pass("1d");
    (store, filling)
}

/// The files in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
