//! Folders: list, make, remove.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handles::Handle;
use super::kept::Share;
use super::{Attr, Caller, Fault, Kind, Vfs, renumber, sidecar, special};
use crate::model::{RelPath, Sidecar, Timestamp, check_name};
use crate::store::{self, Entry, EntryKind, ROOT};

/// A name of a folder, with what it is.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

/// A name of a folder with its attributes; none for `.` and `..`, which the kernel does not count as look-ups.
#[derive(Debug, Clone)]
pub struct DirPlus {
    /// The entry.
    pub entry: DirEntry,
    /// Its attributes.
    pub attr: Attr,
    /// Whether the kernel counts it as a look-up.
    pub counts: bool,
}

/// A folder as it was when it was first read.
#[derive(Default)]
pub(super) struct Listing {
    entries: Vec<DirEntry>,
    /// Name → number and end of retention of what is sealed in it; read when attributes are asked for of more than
    /// [`FEW`].
    retained: OnceLock<HashMap<String, (u64, Timestamp)>>,
    /// Entries that attributes were asked of.
    asked: AtomicUsize,
    /// Its room in what handles keep, once a handle keeps it.
    share: Option<Share>,
}

/// Bytes that a listing takes for an entry beside its name, and as much again for what is sealed in it.
const ENTRY: usize = 2 * size_of::<DirEntry>();

impl Listing {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| ENTRY + 2 * entry.name.len()).sum()
    }
}

/// So many entries of a folder are asked for one by one.
const FEW: usize = 20;

fn kind(of: EntryKind) -> Option<Kind> {
    match of {
        EntryKind::File => Some(Kind::File),
        EntryKind::Dir => Some(Kind::Dir),
        EntryKind::Symlink => Some(Kind::Symlink),
        EntryKind::Other => None,
    }
}

impl Vfs {
    /// Opens a folder for listing. Answers whether the kernel may keep what it is told of it: all changes come
    /// through it, or it is told; but not that a seal brings sidecars, where these are listed.
    #[must_use]
    pub fn open_dir(&self, caller: Caller, ino: u64) -> (u64, bool) {
        let handle = self.handles.number();
        self.handles.add(
            handle,
            ino,
            caller,
            None,
            Handle::Dir { ino, uid: caller.uid, listing: OnceLock::new() },
        );
        (handle, !special::is_special(ino) && !self.parts.policy.get().sidecars_listed)
    }

    /// Closes it.
    pub fn release_dir(&self, handle: u64) {
        self.handles.remove(handle);
    }

    /// Hands over the names from `offset` on with the offset that comes after each, until `add` says it is
    /// full. A listing that is begun again from the start is made anew.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read_dir(
        &self,
        handle: u64,
        offset: u64,
        add: &mut dyn FnMut(&DirEntry, u64) -> bool,
    ) -> Result<(), Fault> {
        self.each_entry(handle, offset, &mut |_, entry, next| Ok(add(entry, next)))
    }

    /// As [`Vfs::read_dir`], with attributes. What `add` takes counts as looked up. To who will not ask for attributes, only
    /// `.` and `..` are told so; the kernel then goes on asking for names.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read_dir_plus(
        &self,
        caller: Caller,
        ino: u64,
        handle: u64,
        offset: u64,
        add: &mut dyn FnMut(&DirPlus, u64) -> bool,
    ) -> Result<(), Fault> {
        let still = self.lives().namespace.read();
        let folder = if special::is_special(ino) { None } else { Some(self.folder(ino)?) };
        drop(still);
        let mut names_alone = false;
        self.each_entry(handle, offset, &mut |listing, entry, next| {
            let counts = entry.name != "." && entry.name != "..";
            if next == 1 {
                names_alone = !self.habits.lists(caller.pid, ino, listing.entries.len().saturating_sub(2));
            }
            if counts && names_alone {
                return Ok(false);
            }
            let Some(mut attr) = self.entry_attr(listing, folder.as_ref(), entry)? else { return Ok(true) };
            if counts && !special::is_special(entry.ino) {
                attr.generation =
                    self.parts.places.remember(renumber::backing(attr.ino), ino, &entry.name, 1);
            }
            let plus = DirPlus { entry: entry.clone(), attr, counts };
            let taken = add(&plus, next);
            if !taken && counts && !special::is_special(entry.ino) {
                self.parts.places.forget(renumber::backing(attr.ino), 1);
            }
            Ok(taken)
        })
    }

    fn each_entry(
        &self,
        handle: u64,
        offset: u64,
        each: &mut dyn FnMut(&Listing, &DirEntry, u64) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let open = self.handles.get(handle)?;
        let Handle::Dir { ino, uid, listing } = &*open else { return Err(Fault::BadHandle) };
        let fresh;
        let listing = match listing.get() {
            Some(listing) if offset > 0 => listing,
            None => {
                let mut made = self.list(*ino)?;
                made.share = Some(self.kept.room(*uid, made.bytes())?);
                listing.get_or_init(|| made)
            }
            // Rewound: what has come since is shown too. Later offsets go on with the first listing.
            Some(_) => {
                fresh = self.list(*ino)?;
                &fresh
            }
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(listing.entries.len());
        for (entry, next) in listing.entries[start..].iter().zip(offset + 1..) {
            if !each(listing, entry, next)? {
                break;
            }
        }
        Ok(())
    }

    fn list(&self, ino: u64) -> Result<Listing, Fault> {
        let dot = |ino, name: &str| DirEntry { ino, kind: Kind::Dir, name: name.to_owned() };
        if special::is_special(ino) {
            let mut entries = vec![dot(ino, "."), dot(ROOT, "..")];
            let files = self.special_list(ino)?.into_iter();
            entries.extend(files.map(|(ino, kind, name)| DirEntry { ino, kind, name }));
            return Ok(Listing { entries, ..Listing::default() });
        }
        let _still = self.lives().namespace.read();
        let (dir, path) = self.folder(ino)?;
        let parent = self.parts.places.place(ino).map_or(ROOT, |place| place.parent);
        let mut entries = vec![dot(ino, "."), dot(parent, "..")];
        let names = store::list(&*dir)?;
        let listed = self.parts.policy.get().sidecars_listed;
        let sealed =
            if listed { self.parts.index.read().retention_in(&path, u32::MAX)? } else { HashMap::new() };
        for Entry { name, ino, kind: of } in names {
            let Some(kind) = kind(of) else { continue };
            if check_name(OsStr::new(&name)).is_err() {
                continue;
            }
            if sealed.contains_key(&name) {
                for sidecar in Sidecar::ALL {
                    let fits = kind == Kind::File || sidecar == Sidecar::Statements;
                    if fits && let Some(name) = sidecar.name_of(&name) {
                        let ino = sidecar::number(ino, sidecar);
                        entries.push(DirEntry { ino, kind: Kind::File, name });
                    }
                }
            }
            entries.push(DirEntry { ino: self.number(ino), kind, name });
        }
        Ok(Listing { entries, ..Listing::default() })
    }

    fn entry_attr(
        &self,
        listing: &Listing,
        folder: Option<&(std::sync::Arc<std::os::fd::OwnedFd>, crate::model::RelPath)>,
        entry: &DirEntry,
    ) -> Result<Option<Attr>, Fault> {
        let Some((dir, path)) = folder else { return Ok(self.special_attr(entry.ino).ok()) };
        if entry.name == "." || entry.name == ".." {
            let meta = store::stat_fd(&**dir)?;
            return Ok(self.attr_of(&meta, None));
        }
        if let Some((_, kind)) = sidecar::parse_number(entry.ino) {
            let base = entry.name.strip_suffix(kind.suffix()).unwrap_or_default();
            let record = self.parts.index.read().find(&path.join(base))?;
            return Ok(record.and_then(|record| self.sidecar_attr(&record, kind).ok()));
        }
        let meta = match store::stat_at(&**dir, &entry.name) {
            Ok(meta) => meta,
            // Removed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let retained = if meta.kind == EntryKind::Dir || self.lives().get(meta.ino).is_some() {
            None
        } else {
            let asked = listing.asked.fetch_add(1, Ordering::Relaxed);
            let known = match listing.retained.get() {
                Some(retained) => retained.get(&entry.name).copied(),
                None if asked < FEW => self.retention_of(path, &entry.name)?,
                None => {
                    let read = self.parts.index.read().retention_in(path, u32::MAX)?;
                    listing.retained.get_or_init(|| read).get(&entry.name).copied()
                }
            };
            known.filter(|(ino, _)| *ino == meta.ino).map(|(_, until)| until)
        };
        Ok(self.attr_of(&meta, retained))
    }

    /// Inode and end of retention of one name.
    fn retention_of(&self, folder: &RelPath, name: &str) -> Result<Option<(u64, Timestamp)>, Fault> {
        let path = folder.join(name);
        if !self.parts.index.has(&path)? {
            return Ok(None);
        }
        let record = self.parts.index.read().find(&path)?;
        Ok(record.map(|record| (record.ino, record.retain_until)))
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn make_dir(&self, caller: Caller, parent: u64, name: &OsStr, perm: u32) -> Result<Attr, Fault> {
        let name = self.new_name(caller, parent, name, "mkdir")?;
        let _still = self.lives().namespace.read();
        let (dir, folder) = self.folder(parent)?;
        self.check_vacant(caller, &super::depth::room_for(folder.join(name))?, "mkdir")?;
        let inherited = store::stat_fd(&*dir)?.perm & 0o2000;
        store::mkdir_at(&*dir, name, perm & 0o1777)?;
        let made = store::open_at(&*dir, name, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY)
            .and_then(|made| {
                self.own(caller, &dir, name, &made)?;
                // The daemon's umask has no say, and chown has cleared what was inherited.
                store::set_perm(&made, perm & 0o1777 | inherited)
            })
            .and_then(|()| store::stat_at(&*dir, name));
        let meta = match made {
            Ok(meta) => meta,
            Err(error) => {
                let _ = store::remove_at(&*dir, name, true);
                return Err(error.into());
            }
        };
        let mut attr = self.attr_of(&meta, None).ok_or(Fault::NotFound)?;
        attr.generation = self.parts.places.remember(renumber::backing(attr.ino), parent, name, 1);
        Ok(attr)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn remove_dir(&self, caller: Caller, parent: u64, name: &OsStr) -> Result<(), Fault> {
        self.changeable_tree()?;
        let name = check_name(name)?;
        if parent == ROOT && name == special::FOLDER {
            let path = crate::model::RelPath::root().join(name);
            return Err(self.refuse(caller, &path, "rmdir", "'/.seal' is made by sealfs"));
        }
        let _alone = self.lives().namespace.write();
        let found = self.find(parent, name)?;
        self.check_bare(caller, &found)?;
        let ghost = found.ghost();
        self.take_name(&found.dir, name, found.meta.ino, ghost, true)?;
        self.parts.tree.drop_dir(found.meta.ino);
        Ok(())
    }
}
