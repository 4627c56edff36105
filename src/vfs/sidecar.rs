//! The virtual files beside each sealed file.

use std::sync::Arc;
use std::time::Duration;

use super::{Attr, CacheEvent, Done, Fault, Kind, OPEN_TTL, SEALED_TTL, Standing, Vfs};
use crate::crypto::sshsig;
use crate::model::{ArtifactKind, FileTime, SealRecord, Sidecar, State};
use crate::seal::render_lines;
use crate::seal::{Demand, NotSealed, Waiter};
use crate::statement::render_signature;
use crate::store::Meta;

/// A sidecar's number is its file's with one of these bits, which no backing file system uses.
const SIGNATURE_BIT: u64 = 1 << 62;
const STATEMENTS_BIT: u64 = 1 << 63;

/// The number of a file's sidecar.
pub(super) fn number(base: u64, kind: Sidecar) -> u64 {
    base | match kind {
        Sidecar::Signature => SIGNATURE_BIT,
        Sidecar::Statements => STATEMENTS_BIT,
    }
}

/// Splits a sidecar's number into its file's and the kind.
pub(super) fn parse_number(ino: u64) -> Option<(u64, Sidecar)> {
    let base = ino & !(SIGNATURE_BIT | STATEMENTS_BIT);
    if ino & STATEMENTS_BIT != 0 {
        Some((base, Sidecar::Statements))
    } else if ino & SIGNATURE_BIT != 0 {
        Some((base, Sidecar::Signature))
    } else {
        None
    }
}

/// What is done with a file's record, or with the reason why there is none.
type WithSeal = Box<dyn FnOnce(&Renderer, Result<Arc<SealRecord>, Fault>) + Send>;

impl Vfs {
    /// Looks up a sidecar, without waiting.
    pub(super) fn sidecar_lookup(&self, parent: u64, base: &str, kind: Sidecar) -> Result<Attr, Fault> {
        let found = self.find(parent, base)?;
        let attr = match self.standing(&found.path, &found.meta)? {
            Standing::Free => return Err(Fault::NotFound),
            Standing::Sealed(record) => self.sidecar_attr(&record, kind)?,
            Standing::Unsealed(life) => {
                if life.kind == ArtifactKind::Symlink && kind == Sidecar::Signature {
                    return Err(Fault::NotFound);
                }
                let policy = self.parts.policy.get();
                let rule = policy.decide(&found.path);
                let state = life.lock();
                let demandable = rule.seal.seals(state.demanded);
                let torn = state.state == State::Torn && !state.keep_torn;
                if !demandable || torn || !state.all_flushed() {
                    return Err(Fault::NotFound);
                }
                let size = match kind {
                    Sidecar::Signature => sshsig::armored_len(&rule.namespace) as u64,
                    Sidecar::Statements => 0,
                };
                unsealed_attr(&found.meta, kind, size)
            }
        };
        self.parts.places.remember(found.meta.ino, parent, base, 1);
        Ok(attr)
    }

    /// Attributes of a sidecar, once its file is sealed.
    pub(super) fn sidecar_getattr(&self, base: u64, kind: Sidecar, done: Done<Attr>) {
        self.with_seal(
            base,
            Box::new(move |vfs, sealed| done(sealed.and_then(|record| vfs.sidecar_attr(&record, kind)))),
        );
    }

    /// The content of a sidecar, once its file is sealed.
    pub(super) fn sidecar_content(&self, base: u64, kind: Sidecar, done: Done<Arc<Vec<u8>>>) {
        self.with_seal(
            base,
            Box::new(move |vfs, sealed| {
                done(
                    sealed
                        .and_then(|record| vfs.render(&record, kind))
                        .map(|text| Arc::new(text.into_bytes())),
                );
            }),
        );
    }

    /// Hands over the record of a file, demanding its seal if need be.
    fn with_seal(&self, ino: u64, then: WithSeal) {
        let renderer = Renderer::of(self);
        let standing = self.standing_of(ino);
        let (path, size, life) = match standing {
            Ok((_, _, Standing::Sealed(record))) => return then(&renderer, Ok(Arc::from(record))),
            Ok((_, _, Standing::Free)) => return then(&renderer, Err(Fault::NotFound)),
            Ok((path, meta, Standing::Unsealed(life))) => (path, meta.size, life),
            // Its name is gone, or another file's: the kernel looks up again.
            Err(fault) => return then(&renderer, Err(fault)),
        };
        let index = Arc::clone(&self.parts.index);
        let tell = Box::new(move |outcome: Result<Arc<SealRecord>, NotSealed>| {
            let record = match outcome {
                Ok(record) => Ok(record),
                // Sealed between our look and our question.
                Err(NotSealed::Gone) => match index.read().find(&path) {
                    Ok(Some(record)) => Ok(Arc::new(record)),
                    Ok(None) => Err(Fault::NotFound),
                    Err(error) => Err(error.into()),
                },
                Err(NotSealed::Failed(_)) => Err(Fault::Io(std::io::Error::from_raw_os_error(libc::EIO))),
                Err(_) => Err(Fault::NotFound),
            };
            then(&renderer, record);
        });
        let waiter = Waiter { deadline: None, until_released: false, tell };
        self.parts.pipeline.demand(&life, Demand::Sidecar, size, Some(waiter));
    }

    /// A seal has ended: the kernel, which remembers sidecars for long, must not show those of an earlier life.
    pub(super) fn sidecars_gone(&self, record: &SealRecord) {
        let Ok(folder) = self.parts.tree.stat_path(&record.path.parent()) else { return };
        let folder = self.number(folder.ino);
        for name in Sidecar::ALL.iter().filter_map(|kind| kind.name_of(record.path.name())) {
            let _ = self.parts.cache.send(CacheEvent::Name(folder, name));
        }
    }

    pub(super) fn sidecar_attr(&self, record: &SealRecord, kind: Sidecar) -> Result<Attr, Fault> {
        Renderer::of(self).sidecar_attr(record, kind)
    }

    /// The content of a sealed file's sidecar.
    pub(super) fn rendered(&self, record: &SealRecord, kind: Sidecar) -> Result<String, Fault> {
        Renderer::of(self).render(record, kind)
    }
}

/// What rendering needs, apart from the file system: it may happen on another thread, later.
struct Renderer {
    index: Arc<crate::ledger::Index>,
    keys: Arc<crate::seal::Keys>,
    origin: String,
}

impl Renderer {
    fn of(vfs: &Vfs) -> Self {
        Renderer {
            index: Arc::clone(&vfs.parts.index),
            keys: Arc::clone(&vfs.parts.keys),
            origin: vfs.parts.origin.to_string(),
        }
    }

    fn render(&self, record: &SealRecord, kind: Sidecar) -> Result<String, Fault> {
        match kind {
            Sidecar::Signature => {
                let key = self.keys.public(&record.key).ok_or_else(|| {
                    Fault::Io(std::io::Error::other(format!("public key {} is missing", record.key)))
                })?;
                render_signature(record, &key).ok_or(Fault::NotFound)
            }
            Sidecar::Statements => render_lines(record, &self.origin, self.index.read())
                .map_err(|error| Fault::Io(std::io::Error::other(error.to_string()))),
        }
    }

    fn sidecar_attr(&self, record: &SealRecord, kind: Sidecar) -> Result<Attr, Fault> {
        let size = match kind {
            Sidecar::Signature if record.signature.is_none() => return Err(Fault::NotFound),
            Sidecar::Signature => sshsig::armored_len(&record.namespace),
            Sidecar::Statements => self.render(record, kind)?.len(),
        } as u64;
        let (seconds, nanos) = record.sealed_wall.to_parts();
        let time = FileTime { seconds, nanos };
        Ok(Attr {
            ino: number(record.ino, kind),
            generation: 0,
            kind: Kind::File,
            perm: record.perm & 0o444,
            nlink: 1,
            uid: record.uid,
            gid: record.gid,
            size,
            blocks: size.div_ceil(512),
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            // The signature is for ever; statements gain lines.
            ttl: if kind == Sidecar::Signature { SEALED_TTL } else { OPEN_TTL },
        })
    }
}

fn unsealed_attr(meta: &Meta, kind: Sidecar, size: u64) -> Attr {
    let never = FileTime::default();
    Attr {
        ino: number(meta.ino, kind),
        generation: 0,
        kind: Kind::File,
        perm: meta.perm & 0o444,
        nlink: 1,
        uid: meta.uid,
        gid: meta.gid,
        size,
        blocks: 1,
        blksize: 4096,
        atime: never,
        mtime: never,
        ctime: never,
        ttl: Duration::ZERO,
    }
}
