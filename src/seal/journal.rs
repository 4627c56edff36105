//! What is open and what is closed, for the next daemon of the same boot.
//!
//! One line an event, tab-separated, appended without fsync: it has to survive a kill of the daemon, not of
//! the host (after a reboot only what the index marked as synced goes on). The first line names the boot.
//! Paths hold no control characters, so a line is a line.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::model::{Asked, RelPath, Timestamp};

/// The journal is written anew when events have added this much to what it held when it was last written anew, in bytes,
/// and at least as much again as that was: so that each byte is rewritten a bounded number of times.
const COMPACT_AT: u64 = 16 << 20;
/// Bytes that are allocated beyond its end, so that a disk that has become full does not end it at once.
const AHEAD: u64 = 1 << 20;

/// A file that the last daemon knew and had not sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it stood.
    pub path: RelPath,
    /// Whether a writer had it.
    pub open: bool,
    /// Whether it was torn.
    pub torn: bool,
    /// How its seal was demanded, if so.
    pub demanded: Option<Asked>,
    /// The retention its writer asked for.
    pub request: Option<Timestamp>,
}

struct Open {
    /// None where nothing is to be written.
    file: Option<File>,
    size: u64,
    /// The size from which it is written anew.
    anew_at: u64,
    /// Bytes up to which it has its room.
    allocated: u64,
    /// Lines that found no room.
    behind: String,
}

impl Open {
    /// Writes what is behind; answers whether nothing is any more.
    fn catch_up(&mut self) -> bool {
        let Some(file) = &mut self.file else { return true };
        // One write a line: a killed daemon leaves whole lines, but for the last.
        let written = self.behind.is_empty() || file.write_all(self.behind.as_bytes()).is_ok();
        if written {
            self.size += self.behind.len() as u64;
            self.behind.clear();
        } else {
            // What was written of it must not be the beginning of another line.
            let _ = file.set_len(self.size);
        }
        written
    }

    fn allocate(&mut self) {
        let wanted = self.size + AHEAD;
        if let Some(file) = &self.file
            && self.allocated < self.size + AHEAD / 2
            && rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, wanted).is_ok()
        {
            self.allocated = wanted;
        }
    }
}

/// The journal of a store.
pub struct Journal {
    path: PathBuf,
    boot: String,
    open: Mutex<Open>,
}

impl Journal {
    /// Reads what the last daemon left, if that was in this boot; else nothing.
    ///
    /// # Errors
    /// If it is there and cannot be read. Lines that are damaged are passed over.
    pub fn read(path: &Path, boot: &str) -> io::Result<Option<HashMap<u64, Found>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        reader.read_until(b'\n', &mut line)?;
        if line != format!("sealfs journal 1\t{boot}\n").as_bytes() {
            return Ok(None);
        }
        let mut replayed = Replayed::default();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            // Half a line, which a killed daemon leaves at the edge of a page, names another file than was meant.
            if line.pop() != Some(b'\n') {
                return Ok(Some(replayed.files));
            }
            if let Ok(line) = std::str::from_utf8(&line) {
                replayed.line(line);
            }
        }
    }

    /// Begins a new journal that holds `files`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn start(path: &Path, boot: &str, files: &HashMap<u64, Found>) -> io::Result<Self> {
        let open = write_anew(path, boot, files)?;
        Ok(Journal { path: path.to_owned(), boot: boot.to_owned(), open: Mutex::new(open) })
    }

    /// A journal that is only read: what it says stays as the last writer left it.
    #[must_use]
    pub fn read_only(path: &Path, boot: &str) -> Self {
        let open = Open { file: None, size: 0, anew_at: u64::MAX, allocated: 0, behind: String::new() };
        Journal { path: path.to_owned(), boot: boot.to_owned(), open: Mutex::new(open) }
    }

    fn append(&self, line: &str) {
        let mut open = self.open.lock();
        if open.file.is_some() {
            open.behind.push_str(line);
            open.catch_up();
        }
    }

    /// Writes down what found no room; answers whether all is written. Where it is not, a file that is opened again
    /// for writing would be taken for closed by the next daemon.
    #[must_use]
    pub fn catch_up(&self) -> bool {
        self.open.lock().catch_up()
    }

    /// Keeps room ahead.
    pub fn keep_room(&self) {
        self.open.lock().allocate();
    }

    /// A writer has opened the file, or made it.
    pub fn opened(&self, ino: u64, path: &RelPath) {
        self.append(&format!("o\t{ino}\t{path}\n"));
    }

    /// The last writer has closed it.
    pub fn closed(&self, ino: u64, path: &RelPath) {
        self.append(&format!("c\t{ino}\t{path}\n"));
    }

    /// It is torn.
    pub fn torn(&self, ino: u64, path: &RelPath) {
        self.append(&format!("t\t{ino}\t{path}\n"));
    }

    /// Its seal was demanded; `None`: the demand does not stand any more.
    pub fn demanded(&self, ino: u64, asked: Option<Asked>) {
        self.append(&format!("d\t{ino}\t{}\n", asked.map_or("", Asked::word)));
    }

    /// Its writer asked for retention until then.
    pub fn requested(&self, ino: u64, until: Timestamp) {
        self.append(&format!("r\t{ino}\t{}\n", until.0));
    }

    /// It is sealed or removed.
    pub fn over(&self, inos: impl IntoIterator<Item = u64>) {
        let mut lines = String::new();
        for ino in inos {
            lines.push_str(&format!("x\t{ino}\n"));
        }
        self.append(&lines);
    }

    /// A file or folder was renamed.
    pub fn renamed(&self, from: &RelPath, to: &RelPath) {
        self.append(&format!("m\t{from}\t{to}\n"));
    }

    /// Whether it has grown so large that it should be written anew.
    #[must_use]
    pub fn is_large(&self) -> bool {
        let open = self.open.lock();
        open.size > open.anew_at
    }

    /// Writes it anew with what it says now. Nothing is lost if that fails; it is tried again when it has grown further.
    ///
    /// # Errors
    /// If it cannot be read back or written.
    pub fn compact(&self) -> io::Result<()> {
        let mut open = self.open.lock();
        open.anew_at = open.size + COMPACT_AT;
        if !open.catch_up() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let files = Self::read(&self.path, &self.boot)?.unwrap_or_default();
        *open = write_anew(&self.path, &self.boot, &files)?;
        Ok(())
    }
}

fn write_anew(path: &Path, boot: &str, files: &HashMap<u64, Found>) -> io::Result<Open> {
    let temporary = path.with_extension("new");
    let mut text = format!("sealfs journal 1\t{boot}\n");
    for (ino, file) in files {
        let event = if file.torn {
            't'
        } else if file.open {
            'o'
        } else {
            'c'
        };
        text.push_str(&format!("{event}\t{ino}\t{}\n", file.path));
        if let Some(asked) = file.demanded {
            text.push_str(&format!("d\t{ino}\t{}\n", asked.word()));
        }
        if let Some(until) = file.request {
            text.push_str(&format!("r\t{ino}\t{}\n", until.0));
        }
    }
    let mut file = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&temporary, path)?;
    let size = text.len() as u64;
    let anew_at = size + size.max(COMPACT_AT);
    let mut open = Open { file: Some(file), size, anew_at, allocated: 0, behind: String::new() };
    open.allocate();
    Ok(open)
}

/// What the lines read so far say.
#[derive(Default)]
struct Replayed {
    files: HashMap<u64, Found>,
    /// The same by path, from the first rename on: a rename costs what it moves, not what there is.
    places: Option<BTreeSet<(RelPath, u64)>>,
}

impl Replayed {
    fn line(&mut self, line: &str) {
        let mut fields = line.split('\t');
        let (Some(event), Some(first)) = (fields.next(), fields.next()) else { return };
        let second = fields.next();
        if event == "m" {
            let (Ok(from), Some(Ok(to))) = (RelPath::parse(first), second.map(RelPath::parse)) else {
                return;
            };
            self.renamed(&from, &to);
            return;
        }
        let Ok(ino) = first.parse::<u64>() else { return };
        match (event, second) {
            ("o" | "c" | "t", Some(path)) => {
                let Ok(path) = RelPath::parse(path) else { return };
                self.at(ino, path, event);
            }
            ("d", Some(word)) => {
                if let Some(file) = self.files.get_mut(&ino) {
                    file.demanded = Asked::of_word(word);
                }
            }
            ("r", Some(until)) => {
                if let (Some(file), Ok(until)) = (self.files.get_mut(&ino), until.parse()) {
                    file.request = Some(Timestamp(until));
                }
            }
            ("x", None) => {
                if let (Some(gone), Some(places)) = (self.files.remove(&ino), &mut self.places) {
                    places.remove(&(gone.path, ino));
                }
            }
            _ => {}
        }
    }

    fn at(&mut self, ino: u64, path: RelPath, event: &str) {
        let file = self.files.entry(ino).or_insert_with(|| Found {
            path: path.clone(),
            open: false,
            torn: false,
            demanded: None,
            request: None,
        });
        if let Some(places) = &mut self.places {
            places.remove(&(file.path.clone(), ino));
            places.insert((path.clone(), ino));
        }
        file.path = path;
        file.open = event == "o";
        file.torn = event == "t";
    }

    fn renamed(&mut self, from: &RelPath, to: &RelPath) {
        let files = &self.files;
        let places = self
            .places
            .get_or_insert_with(|| files.iter().map(|(ino, file)| (file.path.clone(), *ino)).collect());
        // Whatever lies below a path comes after it, among names that begin alike.
        let same = places.range((from.clone(), 0)..).take_while(|(path, _)| path == from);
        let below = places.range((from.join(""), 0)..).take_while(|(path, _)| path.is_within(from));
        let moved: Vec<_> = same.chain(below).cloned().collect();
        for place in moved {
            let Some(path) = place.0.rebased(from, to) else { continue };
            let ino = place.1;
            places.remove(&place);
            places.insert((path.clone(), ino));
            if let Some(file) = self.files.get_mut(&ino) {
                file.path = path;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[test]
    fn the_next_daemon_of_the_boot_finds_what_was_open_and_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        let journal = Journal::start(&file, "boot", &HashMap::new()).unwrap();
        journal.opened(1, &path("d/a"));
        journal.opened(2, &path("d/b"));
        journal.closed(2, &path("d/b"));
        journal.requested(2, Timestamp(77));
        journal.opened(3, &path("gone"));
        journal.over([3]);
        journal.renamed(&path("d"), &path("e"));
        journal.compact().unwrap();
        journal.demanded(1, Some(Asked::Explicit));
        journal.demanded(1, None);
        journal.demanded(2, Some(Asked::Readonly));
        journal.append("garbage\tx\n\t\t\n");
        journal.append("c\t1\te/another name, half writ");
        let found = Journal::read(&file, "boot").unwrap().unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[&1].open && found[&1].demanded.is_none() && found[&1].path == path("e/a"));
        assert!(!found[&2].open && found[&2].request == Some(Timestamp(77)));
        assert!(found[&2].demanded == Some(Asked::Readonly) && found[&2].request == Some(Timestamp(77)));
        assert_eq!(Journal::read(&file, "another boot").unwrap(), None);
    }

    #[test]
    fn it_is_written_anew_only_when_it_has_doubled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        let long = "p".repeat(250);
        let live: HashMap<u64, Found> = (0..100_000)
            .map(|ino| {
                let path = path(&format!("{long}/{ino}"));
                (ino, Found { path, open: true, torn: false, demanded: None, request: None })
            })
            .collect();
        let journal = Journal::start(&file, "boot", &live).unwrap();
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(size > COMPACT_AT && !journal.is_large(), "its live content alone is {size} bytes");
        let line = format!("c\t1\t{long}/1\n").repeat(1000);
        let mut added = 0;
        while !journal.is_large() {
            journal.append(&line);
            added += line.len() as u64;
        }
        assert!(added >= size, "{added} bytes came to {size}");
        journal.compact().unwrap();
        assert!(!journal.is_large());
    }

    #[test]
    fn renames_cost_what_they_move() {
        let mut replayed = Replayed::default();
        for ino in 0..20_000 {
            replayed.line(&format!("o\t{ino}\td/{ino}"));
        }
        replayed.line("o\t20000\td-1");
        replayed.line("o\t20001\te/x");
        replayed.line("m\td\tf/g");
        let begun = std::time::Instant::now();
        for n in 0..20_000 {
            let (from, to) = if n % 2 == 0 { ("e", "h") } else { ("h", "e") };
            replayed.line(&format!("m\t{from}\t{to}"));
        }
        // All files for each rename would be 400 million looks: minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
        assert_eq!(replayed.files[&7].path, path("f/g/7"));
        assert_eq!(replayed.files[&20_000].path, path("d-1"));
        assert_eq!(replayed.files[&20_001].path, path("e/x"));
    }
}
