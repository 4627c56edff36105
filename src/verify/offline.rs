//! A copy and its sidecars, without the store: what a deploy host can check.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::require::Facts;
use crate::crypto::signers::Signer;
use crate::crypto::{self, Hasher, PublicKey, dsse, sshsig};
use crate::model::{Sidecar, Timestamp};
use crate::statement::{HOLD_TYPE, PAYLOAD_TYPE, PROVENANCE_TYPE, RETENTION_TYPE, SEAL_TYPE};

/// Why a copy is not what it says, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The copy, or a sidecar of it, is not there or cannot be read.
    #[error("{path}: {error}; export the file again with its sidecars", path = .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
    /// It does not hold.
    #[error("{0}")]
    Wrong(String),
}

/// What a copy's sidecars prove about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The store that sealed it.
    pub origin: String,
    /// The path it was sealed under.
    pub path: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// SSHSIG namespace.
    pub namespace: String,
    /// When, sealfs time.
    pub sealed_at: Timestamp,
    /// What requirements are checked against.
    pub facts: Facts,
    /// What should be said of it although it holds, in words.
    pub notes: Vec<String>,
    /// What only the store can tell, in words.
    pub unchecked: Vec<String>,
}

/// A copy that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// A file or symbolic link whose sidecars vouch for it.
    Sealed(Box<Vouched>),
    /// What is never sealed, in words: there is nothing to check.
    Plain(&'static str),
}

/// Checks a copy against `F.seal` and `F.seal.jsonl` beside it, with `trusted` as the only root: content, kind, both
/// signatures, that they agree, that the name in the statement ends in the copy's name, and that each further line is
/// about this seal. A symbolic link has no `F.seal`; one without statements, and an empty file without, are what they are.
///
/// # Errors
/// [`OfflineError`].
pub fn verify_copy(file: &Path, trusted: &[Signer]) -> Result<Copied, OfflineError> {
    let wrong = |what: &str| OfflineError::Wrong(what.to_owned());
    let fail = |error| OfflineError::Io(file.to_owned(), error);
    let meta = std::fs::symlink_metadata(file).map_err(fail)?;
    let bare = || !has_sidecar(file, Sidecar::Statements) && !has_sidecar(file, Sidecar::Signature);
    let is_link = meta.is_symlink();
    let (sha256, size) = if is_link {
        if bare() {
            return Ok(Copied::Plain("a symbolic link that was not sealed"));
        }
        let target = std::fs::read_link(file).map_err(fail)?;
        let target = target.as_os_str().as_bytes();
        (crypto::sha256(target), target.len() as u64)
    } else if meta.is_file() {
        if meta.len() == 0 && bare() {
            return Ok(Copied::Plain("an empty file, which is not sealed"));
        }
        hash(file)?
    } else {
        return Err(wrong("it is neither a file nor a symbolic link"));
    };
    let first = read_sidecar(file, Sidecar::Statements)?;
    let mut lines = first.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let envelope = dsse::parse(line).map_err(|error| OfflineError::Wrong(error.to_string()))?;
    let keys: Vec<_> = trusted.iter().map(|signer| signer.key).collect();
    let key = *envelope.verify(&keys).map_err(|error| OfflineError::Wrong(error.to_string()))?;
    let statement: Value = serde_json::from_slice(envelope.payload())
        .map_err(|error| OfflineError::Wrong(format!("line 1 is no statement: {error}")))?;
    let (predicate, subject) = (&statement["predicate"], &statement["subject"][0]);
    if envelope.payload_type() != PAYLOAD_TYPE || statement["predicateType"].as_str() != Some(SEAL_TYPE) {
        return Err(wrong("line 1 of the statements is not a seal"));
    }
    if statement["subject"].as_array().is_none_or(|subjects| subjects.len() != 1) {
        return Err(wrong("line 1 of the statements has not one subject"));
    }
    match (is_link, predicate["kind"].as_str() == Some("symlink")) {
        (false, true) => return Err(wrong("it is a file, and its statement is of a symbolic link")),
        (true, false) => return Err(wrong("it is a symbolic link, and its statement is of a file")),
        _ => {}
    }
    let text = |value: &Value, what: &str| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| OfflineError::Wrong(format!("the seal has no {what}")))
    };
    let time = text(&predicate["sealedAtWallClock"], "time")?;
    let parse =
        |text: &str| text.parse::<Timestamp>().map_err(|error| OfflineError::Wrong(error.to_string()));
    let mut vouched = Vouched {
        origin: text(&predicate["log"]["origin"], "origin")?,
        path: text(&subject["name"], "name")?,
        sha256: text(&subject["digest"]["sha256"], "SHA-256")?,
        namespace: text(&predicate["namespace"], "namespace")?,
        sealed_at: parse(&text(&predicate["sealedAt"], "time")?)?,
        facts: Facts::of(&statement, None),
        notes: Vec::new(),
        unchecked: Vec::new(),
    };
    if predicate["path"].as_str() != Some(&vouched.path) {
        return Err(wrong("line 1 of the statements has two names for it"));
    }
    if predicate["torn"] == Value::Bool(true) {
        vouched
            .notes
            .push("it was torn when it was sealed: its writer was killed, and somebody kept it".to_owned());
    }
    let allowed = trusted.iter().any(|signer| {
        signer.key == key
            && parse(&time).is_ok_and(|at| signer.allows(&vouched.origin, &vouched.namespace, at))
    });
    if !allowed {
        return Err(wrong("its key is not trusted to sign as this store for this namespace at that time"));
    }
    if vouched.sha256 != sha256.to_hex() || predicate["size"].as_u64() != Some(size) {
        return Err(OfflineError::Wrong(format!(
            "the content was altered: its SHA-256 is {sha256}, sealed was {}",
            vouched.sha256
        )));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if vouched.path.rsplit('/').next() != Some(&*name) {
        return Err(OfflineError::Wrong(format!("it was sealed under another name, {:?}", vouched.path)));
    }
    let mut further = Further {
        seal: &vouched,
        index: predicate["log"]["index"].as_u64(),
        last: None,
        key,
        trusted,
        provenance: None,
        foreign: 0,
        changes: 0,
    };
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        further
            .take(number, line)
            .map_err(|what| OfflineError::Wrong(format!("line {} of the statements: {what}", number + 2)))?;
    }
    let (facts, unchecked) = (Facts::of(&statement, further.provenance.as_ref()), further.unchecked());
    (vouched.facts, vouched.unchecked) = (facts, unchecked);
    if !is_link {
        let signature = read_sidecar(file, Sidecar::Signature)?;
        sshsig::parse(&signature)
            .and_then(|parsed| parsed.verify(&key, &vouched.namespace, &sha256))
            .map_err(|error| OfflineError::Wrong(error.to_string()))?;
    }
    Ok(Copied::Sealed(Box::new(vouched)))
}

/// What the paths of a folder's files in their statements have before their paths in the copy: for all of them the same,
/// or files of two folders, or of two versions, were mixed or exchanged.
#[derive(Debug, Default)]
pub struct Together(Option<(String, PathBuf)>);

impl Together {
    /// Adds a file that stands at `inside`, from the copied folder.
    ///
    /// # Errors
    /// [`OfflineError::Wrong`] if it does not belong to those before it.
    pub fn add(&mut self, inside: &Path, vouched: &Vouched) -> Result<(), OfflineError> {
        let at = inside.to_string_lossy();
        let before =
            vouched.path.strip_suffix(&*at).filter(|before| before.is_empty() || before.ends_with('/'));
        let Some(before) = before else {
            return Err(OfflineError::Wrong(format!(
                "it was sealed as {:?}, which does not end in {at:?}",
                vouched.path
            )));
        };
        match &self.0 {
            None => self.0 = Some((before.to_owned(), inside.to_owned())),
            Some((first, other)) if first != before => {
                let known = format!("{first}{}", other.display());
                return Err(OfflineError::Wrong(format!(
                    "it was sealed as {:?}, and {} beside it as {known:?}: files of two folders were mixed",
                    vouched.path,
                    other.display()
                )));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// The lines after the first.
struct Further<'a> {
    /// What line 1 says.
    seal: &'a Vouched,
    /// Position of the seal in the log.
    index: Option<u64>,
    /// Position of the last change of retention or hold.
    last: Option<u64>,
    /// The key that signed line 1.
    key: PublicKey,
    trusted: &'a [Signer],
    provenance: Option<Value>,
    /// Attestations by others.
    foreign: u32,
    /// Extensions and holds.
    changes: u32,
}

impl Further<'_> {
    /// Each must be an envelope around a statement about this content. What sealfs signs must be signed by a trusted
    /// key, provenance by the key of line 1; who signed other attestations, they say themselves.
    fn take(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let envelope = dsse::parse(line).map_err(|error| error.to_string())?;
        let statement: Value =
            serde_json::from_slice(envelope.payload()).map_err(|error| format!("no statement: {error}"))?;
        let subjects = statement["subject"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has_digest = |subject: &Value| subject["digest"]["sha256"].as_str() == Some(&self.seal.sha256);
        if !subjects.iter().any(has_digest) {
            return Err("it is about another file".to_owned());
        }
        // What others attest has the names that they use; what sealfs signs has this one.
        let is_ours = |subjects: &[Value]| match subjects {
            [subject] => subject["name"].as_str() == Some(&self.seal.path),
            _ => false,
        };
        let untrusted = |error: dsse::DsseError| error.to_string();
        match statement["predicateType"].as_str().unwrap_or_default() {
            // Another's provenance may have been attached further down.
            PROVENANCE_TYPE if number == 0 => {
                envelope.verify(&[self.key]).map_err(untrusted)?;
                if !is_ours(subjects) {
                    return Err("it says who wrote another file".to_owned());
                }
                self.provenance = Some(statement);
            }
            RETENTION_TYPE | HOLD_TYPE => {
                let predicate = &statement["predicate"];
                let at = predicate["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                let at = at.ok_or("it has no time")?;
                let is_allowed =
                    |signer: &&Signer| signer.allows(&self.seal.origin, &self.seal.namespace, at);
                let keys: Vec<_> = self.trusted.iter().filter(is_allowed).map(|signer| signer.key).collect();
                envelope.verify(&keys).map_err(untrusted)?;
                let about = (predicate["path"].as_str(), predicate["seal"].as_u64());
                if !is_ours(subjects)
                    || about != (Some(&self.seal.path), self.index)
                    || predicate["log"]["origin"].as_str() != Some(&self.seal.origin)
                {
                    return Err("it is about another seal".to_owned());
                }
                let index = predicate["log"]["index"].as_u64();
                if index.is_none() || index <= self.last.or(self.index) {
                    return Err("it is out of order".to_owned());
                }
                self.last = index;
                self.changes += 1;
            }
            SEAL_TYPE => return Err("a second seal".to_owned()),
            _ => self.foreign += 1,
        }
        Ok(())
    }

    fn unchecked(&self) -> Vec<String> {
        let mut unchecked = vec![
            "whether the log has it ('sealctl log prove' in the store gives a proof)".to_owned(),
            "retention and holds as they are today".to_owned(),
            "owner, mode and time of the copy".to_owned(),
        ];
        if self.foreign > 0 {
            unchecked.push(format!("who signed {} added attestation(s)", self.foreign));
        }
        if self.provenance.is_none() {
            unchecked.push("who wrote it: there is no provenance".to_owned());
        }
        unchecked
    }
}

/// The copies below a folder, sorted: everything but sidecars, and the file of every sidecar, whether it is
/// there or not.
///
/// # Errors
/// If a folder cannot be read.
pub fn copies_below(folder: &Path) -> Result<BTreeSet<PathBuf>, OfflineError> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let fail = |error| OfflineError::Io(folder.clone(), error);
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.file_name();
                let base = name.to_str().and_then(Sidecar::parse).map(|(base, _)| folder.join(base));
                found.insert(base.unwrap_or_else(|| entry.path()));
            }
        }
    }
    if found.is_empty() {
        return Err(OfflineError::Wrong("there is nothing in it to verify".to_owned()));
    }
    Ok(found)
}

fn hash(file: &Path) -> Result<(crate::model::Digest, u64), OfflineError> {
    let fail = |error| OfflineError::Io(file.to_owned(), error);
    let mut open = File::open(file).map_err(fail)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 18]);
    loop {
        match open.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hasher.update(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fail(error)),
        }
    }
    let size = hasher.bytes();
    Ok((hasher.finish(), size))
}

fn has_sidecar(file: &Path, kind: Sidecar) -> bool {
    std::fs::symlink_metadata(sidecar(file, kind)).is_ok()
}

fn sidecar(file: &Path, kind: Sidecar) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(kind.suffix());
    file.with_file_name(name)
}

fn read_sidecar(file: &Path, kind: Sidecar) -> Result<Vec<u8>, OfflineError> {
    let path = sidecar(file, kind);
    let mut bytes = Vec::new();
    // What stands there may be a FIFO, which nobody writes to.
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let read = open.and_then(|open| {
        if !open.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        open.take(64 << 20).read_to_end(&mut bytes)
    });
    read.map_err(|error| OfflineError::Io(path, error))?;
    Ok(bytes)
}
