//! Random operations on a real mount against a model of what a write-once tree allows. Small alphabets, so
//! that names collide; the seed of a failing run is printed, and SEALFS_MODEL_SEED runs it again.
//! With SEALFS_SOAK_MINUTES each way goes on for so long, with seeds that were not run before.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use harness::{Mount, SLOW};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { content: Vec<u8>, sealed: bool },
    Dir,
    Link(String),
}

/// The tree as it should be, by path.
#[derive(Debug, Default)]
struct Model {
    nodes: BTreeMap<PathBuf, Node>,
}

type Answer = Result<(), i32>;

impl Model {
    /// The parent must be a folder.
    fn parent(&self, path: &Path) -> Answer {
        let mut at = PathBuf::new();
        let parts: Vec<_> = path.components().collect();
        for part in &parts[..parts.len() - 1] {
            at.push(part);
            match self.nodes.get(&at) {
                Some(Node::Dir) => {}
                Some(Node::File { .. }) => return Err(libc::ENOTDIR),
                // All symbolic links here lead nowhere.
                Some(Node::Link(_)) | None => return Err(libc::ENOENT),
            }
        }
        Ok(())
    }

    fn has_children(&self, path: &Path) -> bool {
        self.nodes.keys().any(|other| other != path && other.starts_with(path))
    }

    fn write(&mut self, path: &Path, content: &[u8], append: bool) -> Answer {
        self.parent(path)?;
        match self.nodes.get_mut(path) {
            Some(Node::Dir) => Err(libc::EISDIR),
            Some(Node::Link(_)) => Err(libc::ELOOP),
            Some(Node::File { sealed: true, .. }) => Err(libc::EPERM),
            Some(Node::File { content: old, .. }) => {
                if !append {
                    old.clear();
                }
                old.extend_from_slice(content);
                Ok(())
            }
            None if append => Err(libc::ENOENT),
            None => {
                self.nodes.insert(path.to_owned(), Node::File { content: content.to_vec(), sealed: false });
                Ok(())
            }
        }
    }

    fn unlink(&mut self, path: &Path) -> Answer {
        self.parent(path)?;
        match self.nodes.get(path) {
            None => Err(libc::ENOENT),
            Some(Node::Dir) => Err(libc::EISDIR),
            Some(Node::File { sealed: true, .. }) => Err(libc::EPERM),
            Some(_) => {
                self.nodes.remove(path);
                Ok(())
            }
        }
    }

    fn mkdir(&mut self, path: &Path) -> Answer {
        self.parent(path)?;
        if self.nodes.contains_key(path) {
            return Err(libc::EEXIST);
        }
        self.nodes.insert(path.to_owned(), Node::Dir);
        Ok(())
    }

    fn rmdir(&mut self, path: &Path) -> Answer {
        self.parent(path)?;
        match self.nodes.get(path) {
            None => Err(libc::ENOENT),
            Some(Node::Dir) if self.has_children(path) => Err(libc::ENOTEMPTY),
            Some(Node::Dir) => {
                self.nodes.remove(path);
                Ok(())
            }
            Some(_) => Err(libc::ENOTDIR),
        }
    }

    fn symlink(&mut self, path: &Path, target: &str) -> Answer {
        self.parent(path)?;
        if self.nodes.contains_key(path) {
            return Err(libc::EEXIST);
        }
        self.nodes.insert(path.to_owned(), Node::Link(target.to_owned()));
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> Answer {
        self.parent(from)?;
        let source = self.nodes.get(from).cloned().ok_or(libc::ENOENT)?;
        self.parent(to)?;
        if self.nodes.contains_key(to) {
            return Err(libc::EEXIST);
        }
        let copy = match source {
            Node::Dir => return Err(libc::EPERM),
            Node::File { content, .. } => Node::File { content, sealed: false },
            link @ Node::Link(_) => link,
        };
        self.nodes.insert(to.to_owned(), copy);
        Ok(())
    }

    fn is_sealed_within(&self, path: &Path) -> bool {
        self.nodes
            .iter()
            .any(|(other, node)| other.starts_with(path) && matches!(node, Node::File { sealed: true, .. }))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Answer {
        self.parent(from)?;
        self.parent(to)?;
        let source = self.nodes.get(from).cloned().ok_or(libc::ENOENT)?;
        if from == to {
            return Ok(());
        }
        let from_dir = source == Node::Dir;
        if to.starts_with(from) {
            return Err(libc::EINVAL);
        }
        if from.starts_with(to) {
            return Err(libc::ENOTEMPTY);
        }
        match self.nodes.get(to) {
            Some(Node::Dir) if !from_dir => return Err(libc::EISDIR),
            Some(Node::Dir) if self.has_children(to) => return Err(libc::ENOTEMPTY),
            Some(node) if *node != Node::Dir && from_dir => return Err(libc::ENOTDIR),
            _ => {}
        }
        if let (Node::File { content, sealed: false }, Some(Node::File { content: there, sealed: true })) =
            (&source, self.nodes.get(to))
            && content == there
        {
            // The seal says of it already what it is: it is dropped.
            self.nodes.remove(from);
            return Ok(());
        }
        if self.is_sealed_within(from) || self.is_sealed_within(to) {
            return Err(libc::EPERM);
        }
        let moving: Vec<_> = self.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        self.nodes.remove(to);
        for old in moving {
            let node = self.nodes.remove(&old).expect("listed");
            let rest = old.strip_prefix(from).expect("below");
            let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            self.nodes.insert(new, node);
        }
        Ok(())
    }

    /// Asking for the sidecar seals.
    fn seal(&mut self, path: &Path) -> Answer {
        self.parent(path)?;
        match self.nodes.get_mut(path) {
            Some(Node::File { sealed, .. }) => {
                *sealed = true;
                Ok(())
            }
            _ => Err(libc::ENOENT),
        }
    }
}

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).expect("fits") % bound
    }

    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| ["a", "b", "c"][self.below(3)]).collect()
    }

    fn content(&mut self) -> Vec<u8> {
        let byte = b'a' + u8::try_from(self.below(26)).expect("fits");
        vec![byte; [0, 1, 100, 5000][self.below(4)]]
    }
}

fn answer(result: io::Result<()>) -> Answer {
    result.map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn open(path: &Path, append: bool) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.custom_flags(libc::O_NOFOLLOW);
    if append { options.append(true) } else { options.write(true).create(true).truncate(true) }.open(path)
}

fn step(random: &mut Random, model: &mut Model, mnt: &Path) -> (String, Answer, Answer) {
    let (one, two) = (random.path(), random.path());
    let at = |path: &Path| mnt.join(path);
    match random.below(20) {
        0..=5 => {
            let (content, append) = (random.content(), random.below(4) == 0);
            let real = open(&at(&one), append).and_then(|mut file| file.write_all(&content));
            let size = content.len();
            (format!("write {one:?} {size} {append}"), answer(real), model.write(&one, &content, append))
        }
        6 | 7 => (format!("unlink {one:?}"), answer(fs::remove_file(at(&one))), model.unlink(&one)),
        8..=10 => (format!("mkdir {one:?}"), answer(fs::create_dir(at(&one))), model.mkdir(&one)),
        11 => (format!("rmdir {one:?}"), answer(fs::remove_dir(at(&one))), model.rmdir(&one)),
        12 => (
            format!("symlink {one:?}"),
            answer(symlink("no/where", at(&one))),
            model.symlink(&one, "no/where"),
        ),
        13 => {
            let real = fs::hard_link(at(&one), at(&two));
            (format!("link {one:?} {two:?}"), answer(real), model.link(&one, &two))
        }
        14..=17 => {
            let real = fs::rename(at(&one), at(&two));
            (format!("rename {one:?} {two:?}"), answer(real), model.rename(&one, &two))
        }
        _ => {
            let mut sidecar = at(&one).into_os_string();
            sidecar.push(".seal");
            let real = fs::symlink_metadata(sidecar).map(drop);
            (format!("seal {one:?}"), answer(real), model.seal(&one))
        }
    }
}

fn walk(dir: &Path, base: &Path, found: &mut BTreeMap<PathBuf, Node>) {
    for entry in fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.strip_prefix(base).expect("below").to_owned();
        let meta = fs::symlink_metadata(&path).expect("metadata");
        if meta.is_dir() {
            found.insert(name, Node::Dir);
            walk(&path, base, found);
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).expect("target").to_string_lossy().into_owned();
            found.insert(name, Node::Link(target));
        } else {
            let sealed = harness::xattr(&path, "user.seal.state").as_deref() == Some("sealed");
            found.insert(name, Node::File { content: fs::read(&path).expect("content"), sealed });
        }
    }
}

#[track_caller]
fn compare(mount: &Mount, model: &Model, seed: u64, when: &str) {
    let mut found = BTreeMap::new();
    walk(&mount.mnt, &mount.mnt, &mut found);
    assert_eq!(found, model.nodes, "seed {seed}, {when}");
}

fn run(seed: u64, options: &[&str], steps: usize) {
    let mut mount = Mount::with("model", SLOW, options);
    let (mut random, mut model) = (Random(seed), Model::default());
    let mut done = Vec::new();
    for n in 0..steps {
        let (what, real, expected) = step(&mut random, &mut model, &mount.mnt);
        done.push(what);
        let tail = &done[done.len().saturating_sub(12)..];
        assert_eq!(real, expected, "seed {seed}, step {n}; last steps: {tail:#?}");
        if n % 500 == 499 {
            compare(&mount, &model, seed, "on the way");
        }
    }
    compare(&mount, &model, seed, "at the end");
    mount.restart();
    compare(&mount, &model, seed, "after a restart");
    mount.ctl_ok(&["verify", "--all"]);
}

fn seed(default: u64) -> u64 {
    std::env::var("SEALFS_MODEL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Operations of one seed.
const STEPS: usize = 3000;

/// These seeds, or new ones for as long as is asked for.
fn runs(seeds: &[u64], options: &[&str]) {
    let minutes = std::env::var("SEALFS_SOAK_MINUTES").ok().and_then(|minutes| minutes.parse::<f64>().ok());
    let Some(minutes) = minutes else {
        for seed in seeds {
            run(*seed, options, STEPS);
        }
        return;
    };
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let first = seeds[0] ^ now.as_secs() << 20;
    let mut next = first;
    while next == first || Instant::now() < until {
        run(next, options, STEPS);
        next += 1;
    }
    let (operations, way) = ((next - first) * STEPS as u64, if options.is_empty() { "on" } else { "off" });
    eprintln!("soak: {operations} operations, as the model says (passthrough={way}, seeds from {first})");
}

#[test]
fn random_operations_do_what_the_model_says_with_passthrough() {
    runs(&[seed(0x5ea1), 77, 2026], &[]);
}

#[test]
fn random_operations_do_what_the_model_says_through_the_daemon() {
    runs(&[seed(0xf5), 4711], &["-o", "passthrough=off"]);
}
