//! The batch: make durable together, freeze the names, sign, commit once, tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::digest::Content;
use super::durability;
use super::life::{Failure, Life, NotSealed, Phase};
use super::observed::Observed;
use super::pipeline::{Inner, tell_all};
use super::work::Trouble;
use crate::crypto::{self, dsse, sshsig};
use crate::ledger::{AttachmentKind, Batch, Committed, LedgerError, NewSeal, StatementDigests};
use crate::model::{ArtifactKind, Event, ProvenanceRef, RelPath, SealRecord};
use crate::policy;
use crate::sched::Turns;
use crate::statement::{PAYLOAD_TYPE, ProvenanceTemplate, TEMPLATE, claimed_commits, seal_statement};
use crate::store::{self, Lease, Meta};

/// How long after a commit that is in doubt the next attempt to rule that out waits: at first, and at most.
const DOUBT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// From so many files on, signing uses more than one thread.
const MANY: usize = 64;

/// Hashed while nobody could write; not yet durable.
pub struct HashedFile {
    life: Arc<Life>,
    epoch: u64,
    /// Held until the seal is committed; none for a symbolic link.
    lease: Option<Arc<Lease>>,
    content: Content,
    /// The name under which it is durable, once it is.
    durable: Option<RelPath>,
}

impl HashedFile {
    /// A file; `durable`: under which name, if it is already.
    pub fn of(
        life: &Arc<Life>,
        epoch: u64,
        lease: Option<Arc<Lease>>,
        content: Content,
        durable: Option<RelPath>,
    ) -> Self {
        HashedFile { life: Arc::clone(life), epoch, lease, content, durable }
    }

    pub fn is_durable(&self) -> bool {
        self.durable.is_some()
    }

    pub fn durable_at(&mut self, path: RelPath) {
        self.durable = Some(path);
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn content(&self) -> Content {
        self.content
    }

    pub fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    pub fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Where it stands now.
    pub fn path(&self) -> RelPath {
        self.life.lock().path.clone()
    }
}

/// Durable, its name and attributes frozen: what is signed next.
struct FrozenFile {
    hashed: HashedFile,
    path: RelPath,
    meta: Meta,
    request: Option<crate::model::Timestamp>,
    torn: bool,
    /// Who wrote it, as it goes into the provenance statement; none of a symbolic link.
    writers: Option<Arc<str>>,
}

/// The committer's thread.
pub fn run(inner: &Inner) {
    while let Some(batch) = inner.hashed.take(|| inner.queue.small_ahead() > 0) {
        let count = batch.len() as u64;
        let _first = inner.pieces.first();
        // Who comes to wait from here on says so itself.
        inner.awaited.store(false, Ordering::Relaxed);
        if batch.iter().any(|file| file.life.lock().is_awaited()) {
            inner.awaited.store(true, Ordering::Relaxed);
        }
        let durable = durability::make_durable(inner, batch);
        let frozen = freeze(inner, durable);
        commit(inner, frozen);
        inner.committing.fetch_sub(count, Ordering::Relaxed);
    }
}

/// From here on rename, setattr and unlink of these files are refused.
fn freeze(inner: &Inner, batch: Vec<HashedFile>) -> Vec<FrozenFile> {
    let _still = inner.setup.lives.namespace.read();
    let mut frozen = Vec::with_capacity(batch.len());
    for hashed in batch {
        let life = Arc::clone(&hashed.life);
        let mut state = life.lock();
        let hashing = matches!(state.phase, Phase::Hashing(_));
        if state.over || life.epoch() != hashed.epoch || !hashing || !state.writers.is_empty() {
            continue;
        }
        if !inner.is_wanted(&life, &mut state) {
            continue;
        }
        state.phase = Phase::Frozen;
        let (path, request) = (state.path.clone(), state.request);
        let torn = state.state == crate::model::State::Torn;
        let writers = (life.kind == ArtifactKind::File).then(|| state.observed.clone());
        drop(state);
        // Renamed since it was synced: durable under another name than the one that is signed for.
        if hashed.durable.as_ref() != Some(&path)
            && let Err(undone) = durability::sync_folder_of(inner, &path)
        {
            inner.undone(&life, &undone);
            continue;
        }
        let marked = mark(inner, &hashed, &path)
            .and_then(|meta| Ok((meta, writers.map(Observed::to_body).transpose()?)));
        match marked {
            Ok((meta, writers)) => frozen.push(FrozenFile { hashed, path, meta, request, torn, writers }),
            Err(what) => {
                unmark(&hashed);
                inner.failed(&life, &Trouble::Failed(what));
            }
        }
    }
    frozen
}

/// Sets the immutable flag and reads the attributes that are sealed.
fn mark(inner: &Inner, hashed: &HashedFile, path: &RelPath) -> Result<Meta, String> {
    let text = |error: std::io::Error| error.to_string();
    let meta = match &hashed.lease {
        Some(lease) => {
            if inner.setup.abilities.immutable {
                store::set_immutable(lease.file(), true)
                    .map_err(|error| format!("immutable flag: {error}"))?;
            }
            store::stat_fd(lease.file()).map_err(text)?
        }
        None => store::stat_at(inner.setup.tree.parent_of(path).map_err(text)?, path.name()).map_err(text)?,
    };
    if meta.ino != hashed.life.ino || meta.size != hashed.content.size {
        return Err(format!(
            "it changed while it was hashed ({} bytes, now {})",
            hashed.content.size, meta.size
        ));
    }
    Ok(meta)
}

fn unmark(hashed: &HashedFile) {
    if let Some(lease) = &hashed.lease {
        let _ = store::set_immutable(lease.file(), false);
    }
}

/// Signs and commits. A batch that cannot be committed is tried file by file, so that one does not keep the
/// others.
fn commit(inner: &Inner, frozen: Vec<FrozenFile>) {
    if frozen.is_empty() {
        return;
    }
    let mut result = sign_and_commit(inner, &frozen);
    while let Err(error) = &result
        && error.is_in_doubt()
    {
        if !rule_out(inner, &frozen, error) {
            // The daemon ends: the next one sees which of the two it is.
            return;
        }
        result = sign_and_commit(inner, &frozen);
    }
    match result {
        Ok(committed) => publish(inner, frozen, committed),
        Err(error) if frozen.len() > 1 => {
            tracing::warn!(%error, files = frozen.len(), "batch not committed; each file is tried by itself");
            for file in frozen {
                commit(inner, vec![file]);
            }
        }
        Err(error) => {
            for file in frozen {
                unmark(&file.hashed);
                inner.failed(&file.hashed.life, &Trouble::Failed(error.to_string()));
            }
        }
    }
}

/// A commit failed, and a crash now may show it done: its files stay frozen until that is ruled out, for a writer who
/// changed one meanwhile would find the old hash over it. Whoever waits is told at once; who asks later, for these files
/// or others, is told after the next attempt, or has the seal. Answers whether it is ruled out; if not, the daemon is
/// ending.
fn rule_out(inner: &Inner, frozen: &[FrozenFile], error: &LedgerError) -> bool {
    tracing::error!(%error, files = frozen.len(), "a commit is in doubt; its files stay as they are until it is not");
    let what = error.to_string();
    let (mut pause, longest) = DOUBT_PAUSE;
    loop {
        for file in frozen {
            in_doubt(&file.hashed.life, &what);
        }
        for file in inner.hashed.drain() {
            let what = "the index cannot be written, see the daemon's log".to_owned();
            inner.failed(&file.life, &Trouble::Failed(what));
            inner.committing.fetch_sub(1, Ordering::Relaxed);
        }
        if inner.queue.wait_stopped(pause) {
            return false;
        }
        if inner.setup.index.rule_out_doubt(&inner.setup.clock).is_ok() {
            tracing::warn!(
                files = frozen.len(),
                "the commit that was in doubt has not happened; it is tried again"
            );
            return true;
        }
        pause = (pause * 2).min(longest);
    }
}

/// Keeps a file frozen after a commit that is in doubt, and tells whoever waits for its seal.
fn in_doubt(life: &Life, what: &str) {
    let mut state = life.lock();
    state.phase = Phase::InDoubt;
    let tries = state.failure.as_ref().map_or(1, |failure| failure.tries);
    state.failure = Some(Failure { what: what.to_owned(), tries, busy: false });
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    tell_all(waiters, &Err(NotSealed::Failed(what.to_owned())));
}

fn sign_and_commit(inner: &Inner, frozen: &[FrozenFile]) -> Result<Vec<Committed>, LedgerError> {
    let setup = &inner.setup;
    let policy = setup.policy.get();
    let _steady = setup.keys.steady();
    let sealer = setup.keys.seal();
    let key = sealer.public().fingerprint();
    let mut batch = setup.index.batch(&setup.clock)?;
    let attachments = Attached::of_all(&mut batch, frozen, &setup.origin)?;
    let (now, wall, first) = (batch.now(), batch.wall(), batch.next_index());
    let sign = |position: usize, file: &FrozenFile| -> Result<NewSeal, LedgerError> {
        let decision = policy.decide(&file.path);
        let until = policy::retention::at_seal(decision, now, file.request);
        let content = file.hashed.content;
        let kind = file.hashed.life.kind;
        let mut record = SealRecord {
            id: 0,
            path: file.path.clone(),
            kind,
            sha256: content.sha256,
            size: content.size,
            perm: file.meta.perm,
            uid: file.meta.uid,
            gid: file.meta.gid,
            mtime: file.meta.mtime,
            sealed_at: now,
            sealed_wall: wall,
            retain_sealed: until,
            retain_until: until,
            mode: decision.mode,
            policy: policy.digest(),
            namespace: decision.namespace.clone(),
            log_index: first + position as u64,
            key: key.clone(),
            signature: (kind == ArtifactKind::File)
                .then(|| sshsig::sign_digest(&sealer, &decision.namespace, &content.sha256)),
            statement_signature: [0; 64],
            provenance: None,
            template: TEMPLATE,
            ino: file.meta.ino,
            ctime: file.meta.ctime,
            holds: Vec::new(),
            torn_kept: file.torn,
        };
        let entry = |error: crypto::jcs::JcsError| LedgerError::Entry(format!("{}: {error}", file.path));
        let statement = seal_statement(&record, &setup.origin).map_err(entry)?;
        record.statement_signature = dsse::sign(&sealer, PAYLOAD_TYPE, statement.as_bytes());
        let mut digests = StatementDigests { seal: crypto::sha256(statement.as_bytes()), provenance: None };
        if let Some((attachment, template)) = attachments.of(file) {
            let statement = template
                .render(&record)
                .map_err(|error| LedgerError::Entry(format!("{}: {error}", file.path)))?;
            let signature = dsse::sign(&sealer, PAYLOAD_TYPE, statement.as_bytes());
            record.provenance = Some(ProvenanceRef { attachment, signature });
            digests.provenance = Some(crypto::sha256(statement.as_bytes()));
        }
        Ok(NewSeal { record, digests })
    };
    let seals = if frozen.len() < MANY {
        sign_all(frozen, 0, &sign, &inner.awaited)?
    } else {
        sign_in_parallel(frozen, &sign, &inner.awaited)?
    };
    let mut turns = Turns::new(&inner.awaited);
    for seal in seals {
        turns.next();
        batch.seal(seal)?;
    }
    batch.commit()
}

/// What is said of writers, kept once for all the files of a batch.
struct Attached<'a>(HashMap<&'a str, (u64, ProvenanceTemplate)>);

impl<'a> Attached<'a> {
    fn of_all(batch: &mut Batch<'_>, frozen: &'a [FrozenFile], origin: &str) -> Result<Self, LedgerError> {
        let mut known: HashMap<&str, (u64, ProvenanceTemplate)> = HashMap::new();
        for body in frozen.iter().filter_map(|file| file.writers.as_deref()) {
            if !known.contains_key(body) {
                let template = ProvenanceTemplate::of(body, origin)
                    .map_err(|error| LedgerError::Entry(error.to_string()))?;
                let attachment = batch.attach(AttachmentKind::Writers, body, &claimed_commits(body))?;
                known.insert(body, (attachment, template));
            }
        }
        Ok(Attached(known))
    }

    fn of(&self, file: &FrozenFile) -> Option<(u64, &ProvenanceTemplate)> {
        let (attachment, template) = self.0.get(file.writers.as_deref()?)?;
        Some((*attachment, template))
    }
}

fn sign_all(
    frozen: &[FrozenFile],
    first: usize,
    sign: &impl Fn(usize, &FrozenFile) -> Result<NewSeal, LedgerError>,
    awaited: &AtomicBool,
) -> Result<Vec<NewSeal>, LedgerError> {
    let mut turns = Turns::new(awaited);
    let sign = |(n, file)| {
        turns.next();
        sign(first + n, file)
    };
    frozen.iter().enumerate().map(sign).collect()
}

fn sign_in_parallel(
    frozen: &[FrozenFile],
    sign: &(impl Fn(usize, &FrozenFile) -> Result<NewSeal, LedgerError> + Sync),
    awaited: &AtomicBool,
) -> Result<Vec<NewSeal>, LedgerError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = frozen.len().div_ceil(threads);
    let parts = std::thread::scope(|scope| {
        let parts: Vec<_> = frozen
            .chunks(share)
            .enumerate()
            .map(|(part, files)| scope.spawn(move || sign_all(files, part * share, sign, awaited)))
            .collect();
        parts.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut seals = Vec::with_capacity(frozen.len());
    for part in parts {
        seals.extend(part.map_err(|_| LedgerError::Broken("a signing thread panicked".to_owned()))??);
    }
    Ok(seals)
}

/// The seals are durable: their lives end, and whoever waits is told.
fn publish(inner: &Inner, frozen: Vec<FrozenFile>, committed: Vec<Committed>) {
    let mut turns = Turns::new(&inner.awaited);
    inner.setup.journal.over(committed.iter().map(|seal| seal.record().ino));
    for (file, seal) in frozen.into_iter().zip(committed) {
        turns.next();
        let record = Arc::new(seal.record().clone());
        let mut state = file.hashed.life.lock();
        if let Ok(sealed) = state.state.on(Event::Committed { torn: file.torn }) {
            state.state = sealed;
        }
        state.over = true;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        inner.setup.lives.end(&file.hashed.life);
        drop(file);
        tracing::debug!(path = %record.path, index = record.log_index, "sealed");
        (inner.setup.sealed)(record.ino);
        tell_all(waiters, &Ok(record));
    }
}
