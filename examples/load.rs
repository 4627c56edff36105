//! The load of `scripts/bench`: does one thing to a folder, and prints one line of JSON about it. What is timed runs in
//! this process alone: no shell, no interpreter. The exception are the steps of `script` and `copy`, where the programs
//! that people use are what is measured; they are started directly.
//!
//! Files of a tree are `DIR/0000/000.o` and so on, a thousand a folder. Their bytes cannot be compressed, and no
//! two files are the same. Nothing is synced unless the command says so.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use sealfs::control::client::Client;
use sealfs::control::protocol::Request;
use serde_json::{Value, json};

const PER_FOLDER: usize = 1000;
/// Between two questions whether all is sealed.
const POLL: Duration = Duration::from_millis(2);
/// After so long without one more seal, something is wrong.
const STUCK: Duration = Duration::from_secs(120);

type Outcome = Result<Value, Box<dyn std::error::Error + Send + Sync>>;

/// Puts a load on a file system and prints how long that took, as JSON
#[derive(Parser)]
enum Load {
    /// Write one file, from open through close; then, if asked, until its sidecar could be read
    Write {
        path: PathBuf,
        #[arg(long)]
        mib: usize,
        /// KiB a write
        #[arg(long, default_value_t = 1024)]
        block: usize,
        #[arg(long)]
        seal: bool,
    },
    /// Read one file, from open through close
    Read {
        path: PathBuf,
        #[arg(long, default_value_t = 1024)]
        block: usize,
    },
    /// Copy one file with cp, then read its sidecar: durable and readable
    Copy { source: PathBuf, path: PathBuf },
    /// Copy one file with cp, sync, hash it with openssl
    CopyHash { source: PathBuf, path: PathBuf },
    /// What people do without sealfs, to each file: cp, sync, sha256sum, ssh-keygen -Y sign, chattr +i
    Script {
        source: PathBuf,
        dir: PathBuf,
        #[arg(long)]
        key: PathBuf,
        #[arg(long)]
        files: usize,
        /// Each step for all files at once
        #[arg(long)]
        together: bool,
    },
    /// Create, write and close the files of a tree; with a store: until all of them are durably sealed
    Create {
        dir: PathBuf,
        #[arg(long)]
        files: usize,
        #[arg(long, default_value_t = 4096)]
        size: usize,
        #[arg(long, default_value_t = 1)]
        threads: usize,
        #[arg(long)]
        store: Option<PathBuf>,
        /// The number of the first
        #[arg(long, default_value_t = 0)]
        first: usize,
    },
    /// Open, read and close each file of a tree
    Open {
        dir: PathBuf,
        #[arg(long)]
        files: usize,
    },
    /// Get the attributes of each file of a tree
    Stat {
        dir: PathBuf,
        #[arg(long)]
        files: usize,
    },
    /// List the folders of a tree
    Readdir {
        dir: PathBuf,
        #[arg(long)]
        files: usize,
    },
    /// Files of 64 KiB, 1 MiB and 16 MiB, from so many writers
    Mixed {
        dir: PathBuf,
        #[arg(long)]
        writers: usize,
        /// How many times 16 + 4 + 1 files, 21 MiB
        #[arg(long)]
        sets: usize,
    },
    /// How long small files wait for their seals while large ones are hashed
    Starve {
        dir: PathBuf,
        #[arg(long)]
        mib: usize,
        #[arg(long)]
        large: usize,
        /// Without seals: how long its sync takes while the large ones are synced
        #[arg(long)]
        sync: bool,
    },
    /// How fast one core hashes
    Sha,
}

fn main() {
    let outcome = match Load::parse() {
        Load::Write { path, mib, block, seal } => write(&path, mib, block << 10, seal),
        Load::Read { path, block } => read(&path, block << 10),
        Load::Copy { source, path } => copy(&source, &path),
        Load::CopyHash { source, path } => copy_hash(&source, &path),
        Load::Script { source, dir, key, files, together } => script(&source, &dir, &key, files, together),
        Load::Create { dir, files, size, threads, store, first } => {
            create(&dir, first..first + files, size, threads, store.as_deref())
        }
        Load::Open { dir, files } => open_all(&dir, files),
        Load::Stat { dir, files } => stat_all(&dir, files),
        Load::Readdir { dir, files } => list_all(&dir, files),
        Load::Mixed { dir, writers, sets } => mixed(&dir, writers, sets),
        Load::Starve { dir, mib, large, sync } => starve(&dir, mib, large, sync),
        Load::Sha => Ok(sha()),
    };
    match outcome {
        Ok(value) => println!("{value}"),
        Err(error) => {
            eprintln!("load: {error}");
            std::process::exit(1);
        }
    }
}

/// Bytes that do not compress (xorshift), others for each seed.
fn noise(seed: usize, size: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn file_of(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("{:04}/{:03}.o", n / PER_FOLDER, n % PER_FOLDER))
}

fn folders(dir: &Path, files: &std::ops::Range<usize>) -> impl Iterator<Item = PathBuf> {
    let folders = files.start / PER_FOLDER..files.end.div_ceil(PER_FOLDER);
    folders.map(|n| dir.join(format!("{n:04}"))).collect::<Vec<_>>().into_iter()
}

/// The file's sidecar: opening it demands the seal, and is answered when that is durable.
fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".seal");
    name.into()
}

fn write_from(path: &Path, source: &[u8], bytes: usize, block: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut left = bytes;
    for piece in source.chunks(block).cycle() {
        if left == 0 {
            break;
        }
        let piece = &piece[..piece.len().min(left)];
        file.write_all(piece)?;
        left -= piece.len();
    }
    Ok(())
}

fn write(path: &Path, mib: usize, block: usize, seal: bool) -> Outcome {
    let source = noise(mib, 64 << 20);
    let from = Instant::now();
    write_from(path, &source, mib << 20, block)?;
    let closed = from.elapsed();
    if seal {
        fs::read(sidecar(path))?;
    }
    let sealed = from.elapsed();
    Ok(json!({ "seconds": closed.as_secs_f64(), "sealed": sealed.as_secs_f64(), "bytes": mib << 20 }))
}

fn read(path: &Path, block: usize) -> Outcome {
    let mut buffer = vec![0; block];
    let from = Instant::now();
    let mut file = File::open(path)?;
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            more => bytes += more,
        }
    }
    drop(file);
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "bytes": bytes }))
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {status}"))) }
}

fn copy(source: &Path, path: &Path) -> Outcome {
    let from = Instant::now();
    run("cp", &[source.as_ref(), path.as_ref()])?;
    let copied = from.elapsed();
    fs::read(sidecar(path))?;
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "copied": copied.as_secs_f64() }))
}

fn copy_hash(source: &Path, path: &Path) -> Outcome {
    let from = Instant::now();
    run("cp", &[source.as_ref(), path.as_ref()])?;
    let copied = from.elapsed();
    run("sync", &[])?;
    run("openssl", &["dgst".as_ref(), "-sha256".as_ref(), path.as_ref()])?;
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "copied": copied.as_secs_f64() }))
}

fn script(source: &Path, dir: &Path, key: &Path, files: usize, together: bool) -> Outcome {
    let sign = ["-Y", "sign", "-n", "file", "-f"].map(std::ffi::OsStr::new);
    let paths: Vec<PathBuf> = (0..files).map(|n| dir.join(format!("{n:06}.o"))).collect();
    let sources: Vec<PathBuf> =
        if files == 1 { vec![source.to_owned()] } else { (0..files).map(|n| file_of(source, n)).collect() };
    let from = Instant::now();
    if together {
        for folder in folders(source, &(0..files)) {
            run("cp", &["-r".as_ref(), folder.as_ref(), dir.as_ref()])?;
        }
        run("sync", &[])?;
        let copies: Vec<PathBuf> = (0..files).map(|n| file_of(dir, n)).collect();
        let copies: Vec<&std::ffi::OsStr> = copies.iter().map(AsRef::as_ref).collect();
        run("sha256sum", &copies)?;
        run("ssh-keygen", &[&sign[..], &[key.as_ref()], &copies[..]].concat())?;
        run("chattr", &[&["+i".as_ref()], &copies[..]].concat())?;
    } else {
        for (source, path) in sources.iter().zip(&paths) {
            let path: &std::ffi::OsStr = path.as_ref();
            run("cp", &[source.as_ref(), path])?;
            run("sync", &[])?;
            run("sha256sum", &[path])?;
            run("ssh-keygen", &[&sign[..], &[key.as_ref(), path]].concat())?;
            run("chattr", &["+i".as_ref(), path])?;
        }
    }
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "files": files }))
}

/// How many seals the daemon of a store has made durable.
struct Seals(Client);

impl Seals {
    fn of(store: &Path) -> Result<Self, sealfs::control::client::ClientError> {
        Ok(Seals(Client::connect(store, rustix::process::geteuid().as_raw())?))
    }

    fn count(&mut self) -> Result<u64, sealfs::control::client::ClientError> {
        let answer = self.0.ask(&Request::Counters, None)?;
        Ok(answer.first().and_then(|counters| counters["index_seals"].as_u64()).unwrap_or(0))
    }
}

fn create(
    dir: &Path,
    files: std::ops::Range<usize>,
    size: usize,
    threads: usize,
    store: Option<&Path>,
) -> Outcome {
    let mut seals = store.map(Seals::of).transpose()?;
    let before = seals.as_mut().map(Seals::count).transpose()?;
    fs::create_dir_all(dir)?;
    for folder in folders(dir, &files) {
        fs::create_dir_all(folder)?;
    }
    let source = noise(files.start, size + 8 * files.len());
    let count = files.len();
    let from = Instant::now();
    // Each thread works through folders of its own.
    let step = |thread: usize| -> io::Result<()> {
        let own = files.clone().filter(|n| n / PER_FOLDER % threads == thread);
        for n in own {
            let at = 8 * (n - files.start);
            File::create(file_of(dir, n))?.write_all(&source[at..at + size])?;
        }
        Ok(())
    };
    if threads == 1 {
        step(0)?;
    } else {
        std::thread::scope(|scope| {
            let step = &step;
            let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || step(n))).collect();
            running.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })?;
    }
    let created = from.elapsed();
    if let (Some(seals), Some(before)) = (&mut seals, before) {
        let (mut last, mut since) = (before, Instant::now());
        while last < before + count as u64 {
            std::thread::sleep(POLL);
            let now = seals.count()?;
            if now > last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > STUCK {
                return Err(format!("{} of {count} files sealed, and no more", last - before).into());
            }
        }
    }
    let seconds = created.as_secs_f64();
    Ok(json!({ "seconds": seconds, "sealed": from.elapsed().as_secs_f64(), "files": count }))
}

fn each(dir: &Path, files: usize, mut what: impl FnMut(&Path) -> io::Result<()>) -> Outcome {
    let paths: Vec<PathBuf> = (0..files).map(|n| file_of(dir, n)).collect();
    let from = Instant::now();
    for path in &paths {
        what(path)?;
    }
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "files": files }))
}

fn open_all(dir: &Path, files: usize) -> Outcome {
    let mut buffer = vec![0; 64 << 10];
    each(dir, files, |path| File::open(path)?.read(&mut buffer).map(drop))
}

fn stat_all(dir: &Path, files: usize) -> Outcome {
    each(dir, files, |path| fs::symlink_metadata(path).map(drop))
}

fn list_all(dir: &Path, files: usize) -> Outcome {
    let mut found = 0;
    let from = Instant::now();
    for folder in folders(dir, &(0..files)) {
        for entry in fs::read_dir(folder)? {
            found += usize::from(entry?.file_type()?.is_file());
        }
    }
    let seconds = from.elapsed().as_secs_f64();
    if found < files {
        return Err(format!("{found} files listed of {files}").into());
    }
    Ok(json!({ "seconds": seconds, "files": found }))
}

fn mixed(dir: &Path, writers: usize, sets: usize) -> Outcome {
    let one_set = [vec![64 << 10; 16], vec![1 << 20; 4], vec![16 << 20; 1]].concat();
    let sizes = one_set.repeat(sets);
    let source = noise(sets, 64 << 20);
    let next = AtomicUsize::new(0);
    fs::create_dir_all(dir)?;
    let from = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> io::Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(&size) = sizes.get(n) else { return Ok(()) };
                write_from(&dir.join(format!("{n}.o")), &source[8 * n..], size, 256 << 10)?;
            }
        };
        let running: Vec<_> = (0..writers).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let bytes: usize = sizes.iter().sum();
    Ok(json!({ "seconds": from.elapsed().as_secs_f64(), "bytes": bytes, "files": sizes.len() }))
}

fn is_sealed(path: &Path) -> bool {
    let mut value = [0; 16];
    rustix::fs::getxattr(path, "user.seal.state", &mut value[..])
        .is_ok_and(|length| &value[..length] == b"sealed")
}

fn starve(dir: &Path, mib: usize, large: usize, sync: bool) -> Outcome {
    fs::create_dir_all(dir)?;
    let large: Vec<PathBuf> = (0..large).map(|n| dir.join(format!("large-{n}"))).collect();
    let source = noise(mib, 64 << 20);
    let paths = large.clone();
    let (closed, first) = std::sync::mpsc::channel();
    let writing = std::thread::spawn(move || {
        let mut syncing = Vec::new();
        for path in paths {
            write_from(&path, &source, mib << 20, 1 << 20)?;
            let _ = closed.send(());
            if sync {
                syncing.push(std::thread::spawn(move || File::open(path)?.sync_all()));
            }
        }
        syncing
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
    });
    // From here on there is something large to be sealed, and more of it comes.
    first.recv()?;
    // One that is not there could not be written, which is told at the end.
    let over =
        || writing.is_finished() && (sync || large.iter().all(|path| is_sealed(path) || !path.exists()));
    let mut waits = Vec::new();
    while !over() {
        let path = dir.join(format!("small-{}", waits.len()));
        let small = noise(waits.len(), 4096);
        let from = Instant::now();
        let mut file = File::create(&path)?;
        file.write_all(&small)?;
        if sync {
            file.sync_all()?;
        } else {
            drop(file);
            fs::read(sidecar(&path))?;
        }
        waits.push(from.elapsed().as_secs_f64());
    }
    writing.join().map_err(|_| "a thread panicked")??;
    // Which of them was the longest tells a beginning from what comes again and again.
    let at = waits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(n, _)| n);
    waits.sort_by(f64::total_cmp);
    let part = |part: usize| waits.get((waits.len() * part / 100).min(waits.len().saturating_sub(1)));
    Ok(json!({ "files": waits.len(), "p50": part(50), "p99": part(99), "longest": waits.last(), "at": at }))
}

fn sha() -> Value {
    let data = noise(0, 1 << 20);
    let (from, mut rounds) = (Instant::now(), 0);
    while from.elapsed() < Duration::from_secs(1) {
        std::hint::black_box(sealfs::crypto::sha256(&data));
        rounds += 1;
    }
    json!({ "seconds": from.elapsed().as_secs_f64(), "bytes": rounds * data.len() })
}
