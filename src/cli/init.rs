//! `sealctl init STORE`: a new store, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::render::fields;
use crate::clock::{Clock, SystemTime};
use crate::crypto::{self, PublicKey, SigningKey};
use crate::durable;
use crate::ledger::{Change, Exporter, Index};
use crate::model::{Origin, Span};
use crate::policy::{Purpose, init_text};
use crate::store::{Layout, LayoutError};

/// Make a new store: folders, keys, policy and index
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where: a free name, or an empty folder
    store: PathBuf,
    /// Name of the store in signatures and log, of a-z, 0-9, '.', '/' and '-' [default: sealfs.local/HOSTNAME]
    #[arg(long, value_name = "NAME")]
    origin: Option<Origin>,
    /// Default retention, such as 30d or 7y [default: 30d]
    #[arg(long, value_name = "D")]
    retention: Option<Span>,
    /// What the store is for: builds, releases, packages, models or logs; chooses the rules of its policy
    #[arg(long, value_name = "PURPOSE", default_value = "builds", value_parser = purpose)]
    template: Purpose,
}

fn purpose(name: &str) -> Result<Purpose, String> {
    let named = Purpose::ALL.iter().find(|(known, _)| *known == name);
    named.map(|(_, purpose)| *purpose).ok_or_else(|| {
        let names = Purpose::ALL.map(|(known, _)| known);
        format!("give one of {}", names.join(", "))
    })
}

/// What was made.
struct Made {
    origin: Origin,
    seal: PublicKey,
    log: PublicKey,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let store = std::path::absolute(&args.store)
        .map_err(|error| Failure::about(args.store.display(), Exit::Failed, error))?;
    let origin = args.origin.clone().map_or_else(default_origin, Ok)?;
    let made = make(&store, origin, &init_text(args.template, args.retention))?;
    let store = store.canonicalize().unwrap_or(store).display().to_string();
    let next = [
        format!("sealfs {} MOUNTPOINT", quoted(&store)),
        format!("sealctl --store {} trust > allowed_signers", quoted(&store)),
    ];
    if cx.json {
        cx.value(&serde_json::json!({
            "store": store,
            "origin": made.origin.as_str(),
            "seal_key": made.seal.fingerprint(),
            "log_key": made.log.fingerprint(),
            "next": next,
        }))?;
        return Ok(Exit::Done);
    }
    cx.text(&fields(
        "",
        &[
            ("store", store),
            ("origin", made.origin.to_string()),
            ("seal key", made.seal.fingerprint()),
            ("log key", made.log.fingerprint()),
        ],
    ))?;
    cx.line("\nMount it, then let those who deploy from it pin its key:")?;
    for command in next {
        cx.line(&format!("  {command}"))?;
    }
    Ok(Exit::Done)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn default_origin() -> Result<Origin, Failure> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    origin_of(&host)
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, format_args!("{error}; give --origin NAME")))
}

fn origin_of(host: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let host: String = host.trim().chars().take(64).map(fit).collect();
    let host = host.trim_matches(['-', '.']);
    format!("sealfs.local/{}", if host.is_empty() { "store" } else { host })
}

/// Makes the store beside its place and moves it there when it is whole and durable. A mount point that is to
/// become a store cannot be moved onto: there it is made in place, and taken away again if that fails.
fn make(store: &Path, origin: Origin, policy: &str) -> Result<Made, Failure> {
    let io = |error| Failure::about(store.display(), Exit::Failed, error);
    let taken = || Failure::from(LayoutError::Taken(store.to_owned()));
    match fs::read_dir(store) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(taken());
            }
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => {}
            io::ErrorKind::NotADirectory => return Err(taken()),
            _ => return Err(io(error)),
        },
    }
    let (Some(parent), Some(name)) = (store.parent(), store.file_name()) else { return Err(taken()) };
    fs::create_dir_all(parent).map_err(io)?;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    let in_place = device(store).is_ok_and(|dev| device(parent).is_ok_and(|above| above != dev));
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".init-{}", std::process::id()));
    let place = if in_place { store.to_owned() } else { parent.join(temporary) };
    let made = build(&place, origin, policy).and_then(|made| {
        sync_below(&place).map_err(io)?;
        if !in_place {
            // Over an empty folder this succeeds, over anything else it fails.
            fs::rename(&place, store).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => taken(),
                _ => io(error),
            })?;
            File::open(parent).and_then(durable::sync_dir).map_err(io)?;
        }
        Ok(made)
    });
    if made.is_err() {
        if in_place {
            for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        } else {
            let _ = fs::remove_dir_all(&place);
        }
    }
    made
}

fn build(place: &Path, origin: Origin, policy: &str) -> Result<Made, Failure> {
    let layout = Layout::create(place)?;
    let key = |path: PathBuf| -> Result<SigningKey, Failure> {
        let key = SigningKey::generate().map_err(|error| Failure::new(Exit::Failed, error))?;
        let fail = |error: &dyn std::fmt::Display| Failure::about(path.display(), Exit::Failed, error);
        key.write_new(&path, origin.as_str()).map_err(|error| fail(&error))?;
        let line = key.public().to_openssh(origin.as_str()) + "\n";
        durable::create(&path.with_extension("pub"), 0o644, line.as_bytes()).map_err(|error| fail(&error))?;
        Ok(key)
    };
    let (seal, log_key) = (key(layout.seal_key())?, Arc::new(key(layout.log_key())?));
    let (seal, log) = (seal.public(), log_key.public());
    durable::create(&layout.policy(), 0o600, policy.as_bytes())
        .map_err(|error| Failure::about(layout.policy().display(), Exit::Failed, error))?;

    let index = Arc::new(Index::create(&layout.index(), origin.as_str())?);
    let signing = Arc::clone(&log_key);
    index.sign_anchors(origin.as_str(), Box::new(move |message| signing.sign_raw(message)));
    let (clock, _) = Clock::start(Box::new(SystemTime), None, Span::default());
    let mut batch = index.batch(&clock)?;
    batch.note(Change::Store {
        origin: origin.to_string(),
        seal_key: seal.to_openssh(""),
        log_key: log.to_openssh(""),
    })?;
    batch.note(Change::Policy { sha256: crypto::sha256(policy.as_bytes()) })?;
    batch.commit()?;
    Exporter::open(Arc::clone(&index), origin.as_str(), &[log])?.export(&log_key)?;
    Ok(Made { origin, seal, log })
}

/// Makes everything in a folder durable, names and contents.
fn sync_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        } else {
            durable::sync_file(File::open(entry.path())?)?;
        }
    }
    durable::sync_dir(File::open(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_become_origins() {
        for (host, origin) in [
            ("build-7.acme.example\n", "sealfs.local/build-7.acme.example"),
            ("My_Host", "sealfs.local/my-host"),
            ("", "sealfs.local/store"),
            ("été", "sealfs.local/t"),
        ] {
            assert_eq!(origin_of(host), origin);
            assert!(origin_of(host).parse::<Origin>().is_ok());
        }
        assert_eq!(quoted("/a/b-1"), "/a/b-1");
        assert_eq!(quoted("/a b'c"), r"'/a b'\''c'");
    }
}
