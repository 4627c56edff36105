//! Extended attributes: the users' own before the seal, ours to read at any time.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::resolve::Found;
use super::{Caller, Fault, Standing, Vfs, sidecar, special};
use crate::model::{Event, SealRecord, Sidecar};
use crate::store::EntryKind;

/// Prefix of what is ours.
const OURS: &str = "user.seal.";

/// How `setxattr(2)` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrFlags {
    /// Made or replaced.
    Any,
    /// Only made.
    Create,
    /// Only replaced.
    Replace,
}

/// Only `user.*` is kept: security labels and ACLs would change who may do what behind the seal's back.
fn check(name: &OsStr) -> Result<&str, Fault> {
    name.to_str().filter(|name| name.starts_with("user.")).ok_or(Fault::NotSupported)
}

impl Vfs {
    /// Reads an extended attribute.
    ///
    /// # Errors
    /// [`Fault::NoData`] if there is none.
    pub fn getxattr(&self, ino: u64, name: &OsStr) -> Result<Vec<u8>, Fault> {
        let name = check(name)?;
        if special::is_special(ino) || sidecar::parse_number(ino).is_some() {
            return Err(Fault::NoData);
        }
        if let Some(ours) = name.strip_prefix(OURS) {
            let (_, _, standing) = self.standing_of(ino)?;
            return self.our_xattr(&standing, ours).map(String::into_bytes);
        }
        let _still = self.lives().namespace.read();
        let file = self.open_for_xattr(ino)?.ok_or(Fault::NoData)?.0;
        let mut value = vec![0u8; 64 * 1024];
        let size = rustix::fs::fgetxattr(&file, name, &mut value).map_err(no_data)?;
        value.truncate(size);
        Ok(value)
    }

    fn our_xattr(&self, standing: &Standing, name: &str) -> Result<String, Fault> {
        if name == "state" {
            return self.state_of(standing).map(|state| state.to_string()).ok_or(Fault::NoData);
        }
        let Standing::Sealed(record) = standing else { return Err(Fault::NoData) };
        self.record_xattr(record, name)
    }

    fn record_xattr(&self, record: &SealRecord, name: &str) -> Result<String, Fault> {
        Ok(match name {
            "sha256" => record.sha256.to_hex(),
            "sealed_at" => record.sealed_at.to_rfc3339(),
            "retain_until" => record.retain_until.to_rfc3339(),
            "mode" => record.mode.to_string(),
            "hold" if record.holds.is_empty() => return Err(Fault::NoData),
            "hold" => record.holds.iter().map(|hold| hold.name.as_str()).collect::<Vec<_>>().join(","),
            "index" => record.log_index.to_string(),
            "key" => record.key.clone(),
            "signature" => self.rendered(record, Sidecar::Signature)?,
            _ => return Err(Fault::NoData),
        })
    }

    /// Lists the users' own.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn listxattr(&self, ino: u64) -> Result<Vec<u8>, Fault> {
        if special::is_special(ino) || sidecar::parse_number(ino).is_some() {
            return Ok(Vec::new());
        }
        let _still = self.lives().namespace.read();
        let Some((file, _)) = self.open_for_xattr(ino)? else { return Ok(Vec::new()) };
        let mut names = vec![0u8; 64 * 1024];
        let length = match rustix::fs::flistxattr(&file, &mut names) {
            Ok(length) => length,
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(error.into()),
        };
        let users = |name: &&[u8]| name.starts_with(b"user.") && !name.starts_with(OURS.as_bytes());
        Ok(names[..length].split_inclusive(|byte| *byte == 0).filter(users).flatten().copied().collect())
    }

    /// Sets one.
    ///
    /// # Errors
    /// Refused if the file is sealed or the name is ours.
    pub fn setxattr(
        &self,
        caller: Caller,
        ino: u64,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), Fault> {
        let flags = match flags {
            XattrFlags::Any => rustix::fs::XattrFlags::empty(),
            XattrFlags::Create => rustix::fs::XattrFlags::CREATE,
            XattrFlags::Replace => rustix::fs::XattrFlags::REPLACE,
        };
        self.change_xattr(caller, ino, name, "setxattr", &|file, name| {
            crate::store::room::check(file)?;
            rustix::fs::fsetxattr(file, name, value, flags).map_err(no_data)
        })
    }

    /// Removes one.
    ///
    /// # Errors
    /// As [`Vfs::setxattr`].
    pub fn removexattr(&self, caller: Caller, ino: u64, name: &OsStr) -> Result<(), Fault> {
        self.change_xattr(caller, ino, name, "removexattr", &|file, name| {
            rustix::fs::fremovexattr(file, name).map_err(no_data)
        })
    }

    fn change_xattr(
        &self,
        caller: Caller,
        ino: u64,
        name: &OsStr,
        operation: &'static str,
        change: &dyn Fn(&OwnedFd, &str) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.changeable_tree()?;
        let name = check(name)?;
        let virtual_file = special::is_special(ino) || sidecar::parse_number(ino).is_some();
        if virtual_file || name.starts_with(OURS) {
            let path = self.parts.places.path(ino).unwrap_or_else(crate::model::RelPath::root);
            return Err(self.refuse(caller, &path, operation, "user.seal.* is made by sealfs"));
        }
        let _still = self.lives().namespace.read();
        let (file, found) = self.open_for_xattr(ino)?.ok_or(Fault::NotPermitted)?;
        let Some(found) = found.filter(|found| found.meta.kind == EntryKind::File) else {
            return change(&file, name);
        };
        match self.standing(&found.path, &found.meta)? {
            Standing::Sealed(record) => {
                let reason = format!("it is sealed; retained until {}", record.retain_until);
                Err(self.refuse(caller, &found.path, operation, reason))
            }
            Standing::Unsealed(life) => {
                let _free =
                    self.parts.pipeline.changeable(&life, Event::AttributesChanged).map_err(|_| {
                        self.refuse(caller, &found.path, operation, "it is being sealed at this moment")
                    })?;
                change(&file, name)
            }
            Standing::Free => change(&file, name),
        }
    }

    /// Opens a file or folder for xattr calls; `None` for a symbolic link, which has none.
    fn open_for_xattr(&self, ino: u64) -> Result<Option<(OwnedFd, Option<Found>)>, Fault> {
        if ino == crate::store::ROOT {
            return Ok(Some((self.parts.tree.root().try_clone_to_owned()?, None)));
        }
        let found = match self.find_ino(ino) {
            Ok(found) => found,
            Err(fault) => {
                let anchor = self.handles.anchor(ino).ok_or(fault)?;
                return Ok(Some((anchor.file().try_clone_to_owned()?, None)));
            }
        };
        if found.meta.kind == EntryKind::Symlink {
            return Ok(None);
        }
        let file = crate::store::open_at(&*found.dir, &found.name, OFlags::RDONLY)?;
        Ok(Some((file, Some(found))))
    }
}

fn no_data(error: rustix::io::Errno) -> Fault {
    if error == rustix::io::Errno::NODATA { Fault::NoData } else { error.into() }
}
