//! What the kernel knows of the live mount by number, kept where a new worker finds it: inodes, handles and
//! backing files.
//!
//! A file in memory (`memfd`) that the parent owns, written by the worker: one line an event, tab-separated, each
//! with the whole new state of its subject, so that replaying a line twice changes nothing. It outlives the worker,
//! not the mount, and is never on disk. The first eight bytes say from where on it counts (little endian); what
//! stands before was written anew further on and given back to the system. What follows the last line is room: zeros, or
//! half a line of a worker that died.
//!
//! | line | says |
//! | --- | --- |
//! | `i HEX` | the kernel's first request (`FUSE_INIT`), verbatim |
//! | `n INO PARENT GENERATION LOOKUPS NAME` | the kernel knows this inode at this place |
//! | `u INO` | its name is gone |
//! | `p INO [PARENT NAME]` | its name is about to go, or to become this one |
//! | `q INO` | that is done, or will not be |
//! | `f INO LOOKUPS` | so many look-ups are left; none: forgotten |
//! | `h HANDLE INO KIND UNIQUE PROCESS` | opened in answer to the request UNIQUE (KIND `r` reads, `w` writes, `d` folder, `c` made content) |
//! | `l HANDLE TORN` | flushed; the file is torn as it stands (1), for who wrote last was killed |
//! | `t INO` | the file is torn as it stands; written anew instead of the flush that said so |
//! | `e INO` | a writer was told that its bytes did not reach the disk: counts as killed |
//! | `m INO` | the kernel may have cached content of it that the daemon never got |
//! | `x HANDLE` | released |
//! | `b INO ID` | backing file registered with the kernel; 0: about to be given back |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;

use super::window::Window;
use crate::model::RelPath;

/// Room for the place from which on it counts.
const HEAD: u64 = 8;
/// Growth, in bytes, from which it is written anew.
const COMPACT_AT: u64 = 256 << 20;

/// An inode that the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// The folder's number.
    pub parent: u64,
    /// The name in it, or what it was.
    pub name: String,
    /// What the kernel was told beside the number.
    pub generation: u64,
    /// How often the kernel was told of it and has not forgotten it.
    pub lookups: u64,
    /// The name is gone.
    pub unlinked: bool,
}

/// What a handle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// Reads a file.
    Reader,
    /// Writes it, too.
    Writer,
    /// Lists a folder.
    Folder,
    /// Content that is made by the daemon.
    Content,
}

/// A handle that the kernel has, or that was made for it and not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveHandle {
    /// What it is of.
    pub ino: u64,
    /// What it is for.
    pub kind: LiveKind,
    /// The request that it answers.
    pub unique: u64,
    /// Who opened it, if known.
    pub process: Option<u32>,
    /// Whether it was flushed.
    pub flushed: bool,
}

/// All of it, as the last worker left it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The kernel's first request.
    pub init: Option<Vec<u8>>,
    /// Inodes by number.
    pub nodes: HashMap<u64, LiveNode>,
    /// Inodes whose name was about to go (`None`) or to become another (folder and name) when the worker died.
    pub pending: HashMap<u64, Option<(u64, String)>>,
    /// Handles by number.
    pub handles: BTreeMap<u64, LiveHandle>,
    /// Highest number of a handle so far.
    pub last_handle: u64,
    /// Backing files by inode.
    pub backings: HashMap<u64, u32>,
    /// Highest number of a backing file so far.
    pub last_backing: u32,
    /// The backing file that was to be given back last; 0: none was.
    pub given_back: u32,
    /// Inodes that the kernel knows and of which it may have cached content that the daemon never got.
    pub doubted: HashSet<u64>,
    /// Inodes that a process wrote last that was killed, and whether bytes are known to be lost besides.
    pub killed: HashMap<u64, bool>,
}

struct Open {
    file: File,
    /// Around `end`, once something was written.
    window: Option<Window>,
    start: u64,
    end: u64,
    broken: bool,
}

/// Who keeps open inodes that have no name: nobody could find them again.
pub trait Ghosts: Send + Sync {
    /// Keeps one.
    fn keep(&self, ino: u64, file: BorrowedFd<'_>);
    /// It is not needed any more, if it was kept.
    fn let_go(&self, ino: u64);
}

/// The writing side.
#[derive(Default)]
pub struct Handover {
    /// None: nobody will ever take over. Last of all locks.
    open: Option<Mutex<Open>>,
    ghosts: Option<Box<dyn Ghosts>>,
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover").field("kept", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl Handover {
    /// Goes on with `file`. Answers what is in it, too.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn take(file: File, ghosts: Box<dyn Ghosts>) -> io::Result<(Self, Live)> {
        if file.metadata()?.len() < HEAD {
            file.write_all_at(&HEAD.to_le_bytes(), 0)?;
        }
        let (live, start, end) = read(&file)?;
        Ok((
            Handover {
                open: Some(Mutex::new(Open { file, window: None, start, end, broken: false })),
                ghosts: Some(ghosts),
            },
            live,
        ))
    }

    fn append(&self, line: &str) {
        let Some(open) = &self.open else { return };
        let mut open = open.lock();
        let Open { file, window, end, broken, .. } = &mut *open;
        if *broken {
            return;
        }
        if let Err(error) = Window::write(window, file, line.as_bytes(), *end) {
            tracing::error!(%error, "what is open is not kept any more: a new worker will not know of it");
            *broken = true;
            return;
        }
        *end += line.len() as u64;
        if open.end - open.start > COMPACT_AT
            && let Err(error) = compact(&mut open)
        {
            tracing::warn!(%error, "the table for a new worker was not written anew");
        }
    }

    /// The kernel's first request.
    pub fn init(&self, request: &[u8]) {
        let hex: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
        self.append(&format!("i\t{hex}\n"));
    }

    /// The kernel knows an inode.
    pub fn node(&self, ino: u64, parent: u64, generation: u64, lookups: u64, name: &str) {
        self.append(&format!("n\t{ino}\t{parent}\t{generation}\t{lookups}\t{name}\n"));
    }

    /// Its name is about to go. [`Handover::settled`] comes after.
    pub fn going(&self, ino: u64) {
        self.append(&format!("p\t{ino}\n"));
    }

    /// Its name is about to become this one. [`Handover::settled`] comes after.
    pub fn moving(&self, ino: u64, parent: u64, name: &str) {
        self.append(&format!("p\t{ino}\t{parent}\t{name}\n"));
    }

    /// What was about to happen to its name has happened, or will not.
    pub fn settled(&self, ino: u64) {
        self.append(&format!("q\t{ino}\n"));
    }

    /// An open inode loses its name.
    pub fn keep(&self, ino: u64, file: BorrowedFd<'_>) {
        if let Some(ghosts) = &self.ghosts {
            ghosts.keep(ino, file);
        }
    }

    /// The kernel has forgotten an inode without a name.
    pub fn let_go(&self, ino: u64) {
        if let Some(ghosts) = &self.ghosts {
            ghosts.let_go(ino);
        }
    }

    /// Its name is gone.
    pub fn unlinked(&self, ino: u64) {
        self.append(&format!("u\t{ino}\n"));
    }

    /// So many look-ups are left.
    pub fn forget(&self, ino: u64, lookups: u64) {
        self.append(&format!("f\t{ino}\t{lookups}\n"));
    }

    /// A handle was made.
    pub fn opened(&self, number: u64, handle: &LiveHandle) {
        self.append(&opened_line(number, handle));
    }

    /// A writable handle was flushed; `torn`: the file is torn as it stands.
    pub fn flushed(&self, number: u64, torn: bool) {
        self.append(&format!("l\t{number}\t{}\n", u8::from(torn)));
    }

    /// A writer of the file was told that its bytes did not reach the disk: whoever closes it leaves it torn.
    pub fn lost(&self, ino: u64) {
        self.append(&format!("e\t{ino}\n"));
    }

    /// The kernel may have cached content of it that the daemon never got, until it forgets the inode.
    pub fn doubted(&self, ino: u64) {
        self.append(&format!("m\t{ino}\n"));
    }

    /// A handle was released.
    pub fn released(&self, number: u64) {
        self.append(&format!("x\t{number}\n"));
    }

    /// A backing file was registered; 0: it is about to be given back, the only one at this moment.
    pub fn backing(&self, ino: u64, id: u32) {
        self.append(&format!("b\t{ino}\t{id}\n"));
    }
}

fn opened_line(number: u64, handle: &LiveHandle) -> String {
    let kind = match handle.kind {
        LiveKind::Reader => 'r',
        LiveKind::Writer => 'w',
        LiveKind::Folder => 'd',
        LiveKind::Content => 'c',
    };
    let (ino, unique, process) = (handle.ino, handle.unique, handle.process.unwrap_or(0));
    format!("h\t{number}\t{ino}\t{kind}\t{unique}\t{process}\n")
}

fn read(file: &File) -> io::Result<(Live, u64, u64)> {
    let mut head = [0; size_of::<u64>()];
    file.read_exact_at(&mut head, 0)?;
    let start = u64::from_le_bytes(head);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    reader.seek(SeekFrom::Start(start))?;
    let (mut live, mut end, mut line) = (Live::default(), start, Vec::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        // Half a line is what a worker was writing when it died: the next one writes over it.
        if count == 0 || line.pop() != Some(b'\n') {
            break;
        }
        end += count as u64;
        if let Ok(line) = std::str::from_utf8(&line) {
            let _ = live.replay(line);
        }
    }
    Ok((live, start, end))
}

/// Writes the state behind the events, and only then says that it counts from there. Dying in between leaves the
/// events and some of the state, which says the same once more.
fn compact(open: &mut Open) -> io::Result<()> {
    let (live, _, _) = read(&open.file)?;
    let text = live.lines();
    open.file.write_all_at(text.as_bytes(), open.end)?;
    let start = open.end;
    open.file.write_all_at(&start.to_le_bytes(), 0)?;
    open.start = start;
    open.end += text.len() as u64;
    let page = 4096;
    let room = (start / page).saturating_sub(1) * page;
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    if room > 0 {
        rustix::fs::fallocate(&open.file, flags, page, room)?;
    }
    Ok(())
}

impl Live {
    /// Whether no worker has served the mount yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.init.is_none()
    }

    /// Looks in the tree what became of names that were about to change when the worker died: the kernel asks for that
    /// change again, and whoever does it anew must not find less than was done. Answers the renames that were done,
    /// from where to where.
    pub fn settle(&mut self, tree: &super::Tree) -> Vec<(RelPath, RelPath)> {
        let stands = |path: &Option<RelPath>, ino: u64| {
            path.as_ref().is_some_and(|path| tree.stat_path(path).is_ok_and(|meta| meta.ino == ino))
        };
        let mut renamed = Vec::new();
        for (ino, to) in std::mem::take(&mut self.pending) {
            let old = self.path(ino);
            if stands(&old, ino) {
                continue;
            }
            let new = to.as_ref().and_then(|(parent, name)| Some(self.path(*parent)?.join(name)));
            let is_there = stands(&new, ino);
            let Some(node) = self.nodes.get_mut(&ino) else { continue };
            match (to, old, new) {
                (Some((parent, name)), Some(old), Some(new)) if is_there => {
                    (node.parent, node.name) = (parent, name);
                    renamed.push((old, new));
                }
                _ => node.unlinked = true,
            }
        }
        renamed
    }

    /// The path of an inode that the kernel knows; none if a name on the way is gone.
    #[must_use]
    pub fn path(&self, ino: u64) -> Option<RelPath> {
        let (mut parts, mut at) = (Vec::new(), ino);
        while at != super::ROOT {
            let node = self.nodes.get(&at).filter(|node| !node.unlinked)?;
            parts.push(node.name.as_str());
            at = node.parent;
            // A circle would be a damaged table.
            if parts.len() > self.nodes.len() {
                return None;
            }
        }
        Some(parts.iter().rev().fold(RelPath::root(), |path, part| path.join(part)))
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        if let Some(init) = &self.init {
            let hex: String = init.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("i\t{hex}\n"));
        }
        for (ino, node) in &self.nodes {
            let LiveNode { parent, name, generation, lookups, unlinked } = node;
            text.push_str(&format!("n\t{ino}\t{parent}\t{generation}\t{lookups}\t{name}\n"));
            if *unlinked {
                text.push_str(&format!("u\t{ino}\n"));
            }
        }
        for ino in &self.doubted {
            text.push_str(&format!("m\t{ino}\n"));
        }
        for (ino, to) in &self.pending {
            let to = to.as_ref().map(|(parent, name)| format!("\t{parent}\t{name}")).unwrap_or_default();
            text.push_str(&format!("p\t{ino}{to}\n"));
        }
        // The highest number first: it is not to be given again.
        text.push_str(&format!("h\t{0}\t0\tc\t0\t0\nx\t{0}\n", self.last_handle));
        text.push_str(&format!("b\t0\t{}\n", self.last_backing));
        if self.given_back != 0 {
            // Of no inode that there is.
            text.push_str(&format!("b\t{0}\t{1}\nb\t{0}\t0\n", u64::MAX, self.given_back));
        }
        for (ino, id) in &self.backings {
            text.push_str(&format!("b\t{ino}\t{id}\n"));
        }
        for (number, handle) in &self.handles {
            text.push_str(&opened_line(*number, handle));
            if handle.flushed {
                text.push_str(&format!("l\t{number}\t0\n"));
            }
        }
        for (ino, lost) in &self.killed {
            text.push_str(&format!("{}\t{ino}\n", if *lost { 'e' } else { 't' }));
        }
        text
    }

    fn replay(&mut self, line: &str) -> Option<()> {
        let (event, rest) = line.split_once('\t')?;
        let mut fields = rest.split('\t');
        let mut number = || fields.next()?.parse::<u64>().ok();
        match event {
            "i" => self.init = bytes(rest),
            "n" => {
                let (ino, parent, generation, lookups) = (number()?, number()?, number()?, number()?);
                let name = fields.next()?.to_owned();
                let node = LiveNode { parent, name, generation, lookups, unlinked: false };
                self.nodes.insert(ino, node);
            }
            "u" => self.nodes.get_mut(&number()?)?.unlinked = true,
            "p" => {
                let ino = number()?;
                let to = number().and_then(|parent| Some((parent, fields.next()?.to_owned())));
                self.pending.insert(ino, to);
            }
            "q" => drop(self.pending.remove(&number()?)),
            "f" => match (number()?, number()?) {
                (ino, 0) => {
                    self.doubted.remove(&ino);
                    self.nodes.remove(&ino);
                }
                (ino, lookups) => self.nodes.get_mut(&ino)?.lookups = lookups,
            },
            "h" => {
                let (handle, ino) = (number()?, number()?);
                let kind = match fields.next()? {
                    "r" => LiveKind::Reader,
                    "w" => LiveKind::Writer,
                    "d" => LiveKind::Folder,
                    _ => LiveKind::Content,
                };
                let unique = fields.next()?.parse().ok()?;
                let process = fields.next()?.parse().ok().filter(|process| *process != 0);
                self.last_handle = self.last_handle.max(handle);
                let opened = LiveHandle { ino, kind, unique, process, flushed: false };
                self.handles.insert(handle, opened);
            }
            "l" => {
                let (handle, torn) = (number()?, number()?);
                let handle = self.handles.get_mut(&handle)?;
                handle.flushed = true;
                let before = self.killed.remove(&handle.ino);
                if torn == 1 {
                    self.killed.insert(handle.ino, before.unwrap_or(false));
                } else if before == Some(true) {
                    self.killed.insert(handle.ino, true);
                }
            }
            "m" => {
                self.doubted.insert(number()?);
            }
            "e" => {
                self.killed.insert(number()?, true);
            }
            "t" => {
                self.killed.entry(number()?).or_insert(false);
            }
            "x" => {
                let gone = self.handles.remove(&number()?)?;
                // Few were: all handles are looked through for those alone.
                let killed = self.killed.contains_key(&gone.ino);
                if killed && !self.handles.values().any(|handle| handle.ino == gone.ino) {
                    self.killed.remove(&gone.ino);
                }
            }
            "b" => {
                let (ino, id) = (number()?, u32::try_from(number()?).ok()?);
                self.last_backing = self.last_backing.max(id);
                match (ino, id) {
                    (0, _) => {}
                    (_, 0) => self.given_back = self.backings.remove(&ino).unwrap_or(self.given_back),
                    _ => drop(self.backings.insert(ino, id)),
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoGhosts;

    impl Ghosts for NoGhosts {
        fn keep(&self, _: u64, _: BorrowedFd<'_>) {}
        fn let_go(&self, _: u64) {}
    }

    fn handle(ino: u64, kind: LiveKind) -> LiveHandle {
        LiveHandle { ino, kind, unique: 77, process: Some(5), flushed: false }
    }

    #[test]
    fn what_was_about_to_happen_to_names_is_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let tree = crate::store::Tree::open(dir.path()).unwrap();
        let at = |name: &str| dir.path().join(name);
        let ino = |name: &str| tree.stat_path(&RelPath::parse(name).unwrap()).unwrap().ino;
        for name in ["stays", "moved", "to-move", "gone", "to-go"] {
            std::fs::write(at(name), name).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let (kept, _) = Handover::take(file.try_clone().unwrap(), Box::new(NoGhosts)).unwrap();
        let inos: HashMap<_, _> =
            ["stays", "moved", "to-move", "gone", "to-go"].map(|name| (name, ino(name))).into();
        for (name, ino) in &inos {
            kept.node(*ino, 1, 0, 1, name);
        }
        kept.going(inos["stays"]);
        kept.settled(inos["stays"]);
        kept.moving(inos["moved"], 1, "new name");
        std::fs::rename(at("moved"), at("new name")).unwrap();
        kept.moving(inos["to-move"], 1, "never");
        kept.going(inos["gone"]);
        std::fs::remove_file(at("gone")).unwrap();
        kept.going(inos["to-go"]);
        compact(&mut kept.open.as_ref().unwrap().lock()).unwrap();
        let (_, mut live) = Handover::take(file, Box::new(NoGhosts)).unwrap();
        assert_eq!(live.pending.len(), 4);
        let renamed = live.settle(&tree);
        let path = |name: &str| RelPath::parse(name).unwrap();
        assert_eq!(renamed, [(path("moved"), path("new name"))]);
        assert_eq!(live.nodes[&inos["moved"]].name, "new name");
        for (name, unlinked) in [("stays", false), ("to-move", false), ("to-go", false), ("gone", true)] {
            assert_eq!(
                (live.nodes[&inos[name]].name.as_str(), live.nodes[&inos[name]].unlinked),
                (name, unlinked)
            );
        }
    }

    #[test]
    fn the_next_worker_finds_what_the_kernel_knows() {
        let file = tempfile::tempfile().unwrap();
        let (kept, live) = Handover::take(file.try_clone().unwrap(), Box::new(NoGhosts)).unwrap();
        assert!(live.is_new());
        kept.init(&[0, 255, 16]);
        kept.node(10, 1, 0, 1, "a b");
        kept.node(10, 1, 0, 3, "a b");
        kept.node(11, 10, 2, 1, "gone");
        kept.unlinked(11);
        kept.node(12, 10, 0, 2, "forgotten");
        kept.forget(12, 0);
        kept.opened(1, &handle(10, LiveKind::Writer));
        kept.opened(2, &handle(10, LiveKind::Reader));
        kept.backing(10, 3);
        kept.backing(10, 0);
        kept.backing(10, 4);
        kept.flushed(1, true);
        kept.opened(9, &handle(11, LiveKind::Folder));
        kept.released(9);
        kept.opened(3, &handle(13, LiveKind::Writer));
        kept.lost(13);
        let (again, live) = Handover::take(file.try_clone().unwrap(), Box::new(NoGhosts)).unwrap();
        assert_eq!(live.init.as_deref(), Some(&[0, 255, 16][..]));
        assert_eq!(live.nodes.len(), 2);
        assert!(live.nodes[&11].unlinked && live.nodes[&11].generation == 2);
        assert_eq!((live.nodes[&10].lookups, live.nodes[&10].name.as_str()), (3, "a b"));
        assert_eq!((live.handles.len(), live.last_handle, live.backings[&10]), (3, 9, 4));
        assert_eq!((live.given_back, live.last_backing), (3, 4));
        assert!(live.handles[&1].flushed);
        assert_eq!(live.killed, HashMap::from([(10, false), (13, true)]), "torn; bytes lost");

        // Half a line of a dying worker, and writing anew.
        let end = again.open.as_ref().unwrap().lock().end;
        file.write_all_at(b"x\t1", end).unwrap();
        again.forget(10, 2);
        compact(&mut again.open.as_ref().unwrap().lock()).unwrap();
        again.released(2);
        let (_, after) = Handover::take(file, Box::new(NoGhosts)).unwrap();
        let mut expected = live;
        expected.handles.remove(&2);
        expected.nodes.get_mut(&10).unwrap().lookups = 2;
        assert_eq!(after, expected);
    }
}
