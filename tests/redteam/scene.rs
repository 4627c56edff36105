//! Where attacks happen: a mount with sealed and unsealed files of an ordinary user, and what must not change there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::XattrFlags;
use rustix::process::{Gid, Uid};

use super::harness::{Mount, NOBODY, SLOW, os, xattr};

/// What is sealed.
pub const CONTENT: &[u8] = b"written once, by an ordinary user\n";

/// What an attack came to, in words: as promised, or not.
pub type Seen = Result<String, String>;

/// A line of the table.
pub struct Row {
    pub family: &'static str,
    pub attack: String,
    pub who: String,
    pub seen: String,
    pub as_promised: bool,
}

/// What has come out so far.
pub struct Table {
    family: &'static str,
    begun: std::time::Instant,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn new(family: &'static str) -> Self {
        Table { family, begun: std::time::Instant::now(), rows: Vec::new() }
    }

    pub fn add(&mut self, attack: &str, who: &str, seen: Seen) {
        let as_promised = seen.is_ok();
        let seen = seen.unwrap_or_else(|seen| seen).replace('\n', " ");
        if std::env::var_os("SEALFS_REDTEAM").is_some_and(|only| !only.is_empty()) {
            eprintln!("{:5.1} s  {attack}, {who}: {seen}", self.begun.elapsed().as_secs_f32());
        }
        self.rows.push(Row {
            family: self.family,
            attack: attack.to_owned(),
            who: who.to_owned(),
            seen,
            as_promised,
        });
    }
}

/// How data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    Passthrough,
    /// Through the daemon, as where the kernel has no passthrough.
    Daemon,
}

impl Data {
    pub const BOTH: [Data; 2] = [Data::Passthrough, Data::Daemon];

    pub fn options(self) -> &'static [&'static str] {
        match self {
            Data::Passthrough => &[],
            Data::Daemon => &["-o", "passthrough=off"],
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Data::Passthrough => "passthrough",
            Data::Daemon => "passthrough=off",
        }
    }
}

/// Somebody who attacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Root,
    /// An ordinary user, whose files these are.
    Owner,
    /// Another one.
    Stranger,
}

impl Who {
    pub fn uid(self) -> u32 {
        match self {
            Who::Root => 0,
            Who::Owner => NOBODY,
            Who::Stranger => 1234,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Who::Root => "root",
            Who::Owner => "owner",
            Who::Stranger => "stranger",
        }
    }
}

/// Runs something as another user: on a thread of its own, which alone changes its credentials. It has no capability
/// in effect; the saved user id only lets [`as_root`] look at what came of it.
pub fn as_user<T: Send>(uid: u32, run: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    std::thread::scope(|scope| {
        let run = move || {
            // Threads begin with the credentials of who starts them.
            rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).expect("seteuid");
            if uid != 0 {
                let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
                rustix::thread::set_thread_groups(&[]).expect("setgroups");
                rustix::thread::set_thread_res_gid(group, group, group).expect("setresgid");
                rustix::thread::set_thread_res_uid(user, user, Uid::ROOT).expect("setresuid");
            }
            run()
        };
        scope.spawn(run).join()
    })
}

/// Runs something as root, inside of [`as_user`].
pub fn as_root<T>(run: impl FnOnce() -> T) -> T {
    let before = rustix::process::geteuid();
    rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).expect("seteuid");
    let done = run();
    rustix::thread::set_thread_res_uid(None, before, None).expect("seteuid");
    done
}

/// An attack through the mount, by its name.
pub struct Attack {
    pub name: String,
    run: Box<dyn Fn(&Scene) -> Seen + Send + Sync>,
}

pub fn attack(name: impl Into<String>, run: impl Fn(&Scene) -> Seen + Send + Sync + 'static) -> Attack {
    Attack { name: name.into(), run: Box::new(run) }
}

/// A mount in which `a/b/f`, of [`Who::Owner`], is sealed, `a/b/g` is closed and not sealed.
pub struct Scene {
    pub mount: Mount,
    pub data: Data,
    round: AtomicU32,
}

impl Scene {
    pub fn new(name: &str, data: Data) -> Self {
        Self::with(name, data, SLOW)
    }

    pub fn with(name: &str, data: Data, policy: &str) -> Self {
        let mount = Mount::with(name, policy, data.options());
        let scene = Scene { mount, data, round: AtomicU32::new(0) };
        fs::create_dir_all(scene.at("a/b")).expect("mkdir");
        for file in ["a/b/f", "a/b/g"] {
            fs::write(scene.at(file), CONTENT).expect("write");
            os(rustix::fs::setxattr(scene.at(file), "user.note", b"kept", XattrFlags::CREATE))
                .expect("setxattr");
        }
        for path in ["", "a", "a/b", "a/b/f", "a/b/g"] {
            std::os::unix::fs::chown(scene.at(path), Some(NOBODY), Some(NOBODY)).expect("chown");
        }
        fs::set_permissions(&scene.mount.dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        scene.mount.ctl_ok(&[OsStr::new("seal"), scene.at("a/b/f").as_os_str()]);
        scene.mount.until("a/b/f", "sealed");
        // The kernel is told a moment later; then the time of access is the end of retention.
        let told = || scene.sealed().metadata().is_ok_and(|meta| meta.atime() > meta.mtime() + 1800);
        in_time("its attributes are those of a sealed file", told).expect("in time");
        scene.next_round();
        scene
    }

    /// The same store in another mount.
    pub fn mounted_again(self) -> Self {
        let mount = self.mount.stopped().again(self.data.options());
        Scene { mount, data: self.data, round: self.round }
    }

    /// A path in the mount.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        if name.as_ref().as_os_str().is_empty() { self.mount.mnt.clone() } else { self.mount.path(name) }
    }

    /// Where a path in the mount is in the store.
    pub fn backing(&self, path: &Path) -> PathBuf {
        self.mount.backing(path.strip_prefix(&self.mount.mnt).expect("in the mount"))
    }

    pub fn sealed(&self) -> PathBuf {
        self.at("a/b/f")
    }

    /// A name in a folder where the attackers may do what they like; each attack has another.
    pub fn free(&self, name: &str) -> PathBuf {
        self.at(format!("free{}", self.round.load(Ordering::Relaxed))).join(name)
    }

    fn next_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        let free = self.at(format!("free{}", self.round.load(Ordering::Relaxed)));
        fs::create_dir(&free).expect("mkdir");
        std::os::unix::fs::chown(free, Some(NOBODY), Some(NOBODY)).expect("chown");
    }

    /// Has a file sealed, and waits for it; by root, whoever attacks.
    pub fn seal(&self, path: &Path) -> Result<(), String> {
        let output = as_root(|| self.mount.ctl(&[OsStr::new("seal"), path.as_os_str()]));
        check(output.status.success(), String::from_utf8_lossy(&output.stderr))?;
        in_time("sealed", || xattr(path, "user.seal.state").as_deref() == Some("sealed"))
    }

    /// Everything that can be seen of what is sealed, in the mount and on the backing file system.
    fn picture(&self) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        for (place, sidecars) in [(self.sealed(), true), (self.mount.backing("a/b/f"), false)] {
            let mut all = paint(&place);
            for suffix in [".seal", ".seal.jsonl"].into_iter().filter(|_| sidecars) {
                let mut name = place.clone().into_os_string();
                name.push(suffix);
                all += &format!(" {suffix} {:?}", fs::read(name).map_err(|error| error.to_string()));
            }
            picture.insert(place.display().to_string(), all);
        }
        for dir in ["a", "a/b"] {
            let mut names: Vec<_> = fs::read_dir(self.at(dir))
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect())
                .unwrap_or_default();
            names.sort();
            picture.insert(dir.to_owned(), format!("{names:?}"));
        }
        picture
    }

    /// Lets somebody attack, each attack by itself; what is sealed must look afterwards as it did before, and in the
    /// end the whole store be verified.
    pub fn run(&self, table: &mut Table, who: Who, attacks: &[Attack]) {
        let label = format!("{}, {}", who.word(), self.data.word());
        for attack in attacks {
            self.next_round();
            let before = self.picture();
            let seen = as_user(who.uid(), || (attack.run)(self));
            let seen = seen.unwrap_or_else(|_| Err("the attack itself failed, see above".to_owned()));
            let after = self.picture();
            let changed = before.iter().find(|(name, was)| after.get(*name) != Some(was));
            let seen = match changed {
                Some((name, was)) => Err(format!("CHANGED {name}: {was} is now {:?}", after.get(name))),
                None => seen,
            };
            table.add(&attack.name, &label, seen);
        }
        table.add("(verify --all after them)", &label, self.verifies());
    }

    /// The store must verify as a whole.
    pub fn verifies(&self) -> Seen {
        verifies(&self.mount)
    }

    /// A new file must be sealed, and have this content for readers, on disk, and in its seal.
    pub fn is_sealed_as(&self, path: &Path, content: &[u8]) -> Seen {
        as_root(|| is_sealed_as(&self.mount, path, content))
    }
}

/// A store must verify as a whole.
pub fn verifies(mount: &Mount) -> Seen {
    let output = mount.ctl(&["verify", "--all"]);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default().to_owned();
    if output.status.success() { Ok(last) } else { Err(format!("verify --all: {text}")) }
}

/// Mount, disk and seal must have the same content.
pub fn is_sealed_as(mount: &Mount, path: &Path, content: &[u8]) -> Seen {
    let name = path.strip_prefix(&mount.mnt).expect("in the mount");
    let state = mount.state(name);
    if state != "sealed" {
        return Err(format!("{} is {state:?}", name.display()));
    }
    let expected = sealfs::crypto::sha256(content).to_hex();
    let on_disk = fs::read(mount.backing(name)).map_err(|error| error.to_string())?;
    let read = fs::read(path).map_err(|error| error.to_string())?;
    let told = xattr(path, "user.seal.sha256").unwrap_or_default();
    let hash = |bytes: &[u8]| sealfs::crypto::sha256(bytes).to_hex();
    if hash(&on_disk) != expected || hash(&read) != expected || told != expected {
        return Err(format!(
            "sealed as {told}, read as {}, on disk {}, meant {expected}",
            hash(&read),
            hash(&on_disk)
        ));
    }
    Ok("sealed with these bytes".to_owned())
}

fn paint(at: &Path) -> String {
    let meta = match fs::symlink_metadata(at) {
        Ok(meta) => meta,
        Err(error) => return error.to_string(),
    };
    let names = ["user.note", "user.new", "user.seal.state", "user.seal.sha256", "user.seal.retain_until"];
    let values: Vec<_> = names.iter().map(|name| xattr(at, name)).collect();
    // The time of access on disk is nobody's concern: reading changes it.
    let atime = if values[2].is_some() { (meta.atime(), meta.atime_nsec()) } else { (0, 0) };
    format!(
        "ino {} mode {:o} owner {}:{} links {} size {} mtime {}.{} ctime {}.{} atime {atime:?} {values:?} {:?}",
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        fs::read(at).map_err(|error| error.to_string()),
    )
}

/// The name of an errno that is expected here.
fn name_of(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::EBADF => "EBADF",
        libc::EINVAL => "EINVAL",
        libc::EEXIST => "EEXIST",
        libc::ENOENT => "ENOENT",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENOTTY => "ENOTTY",
        libc::EXDEV => "EXDEV",
        libc::EILSEQ => "EILSEQ",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::EIO => "EIO",
        libc::ESTALE => "ESTALE",
        libc::EROFS => "EROFS",
        libc::ELOOP => "ELOOP",
        libc::ENOSYS => "ENOSYS",
        libc::EBUSY => "EBUSY",
        libc::ENODATA => "ENODATA",
        other => return io::Error::from_raw_os_error(other).to_string(),
    };
    name.to_owned()
}

/// The call must fail with one of these.
pub fn refused<T: Debug>(wanted: &[i32], result: io::Result<T>) -> Seen {
    match result {
        Ok(value) => Err(format!("it succeeded: {value:?}")),
        Err(error) => match error.raw_os_error() {
            Some(errno) if wanted.contains(&errno) => Ok(format!("refused: {}", name_of(errno))),
            Some(errno) => Err(format!("refused: {}, expected another errno", name_of(errno))),
            None => Err(error.to_string()),
        },
    }
}

/// All of them must be as promised; the first one's words are shown.
pub fn all(seen: impl IntoIterator<Item = Seen>) -> Seen {
    let mut first = None;
    for one in seen {
        let words = one?;
        first.get_or_insert(words);
    }
    first.ok_or_else(|| "nothing was tried".to_owned())
}

/// Whether something is as promised.
pub fn check(holds: bool, words: impl Into<String>) -> Seen {
    if holds { Ok(words.into()) } else { Err(words.into()) }
}

/// Waits a while for something.
pub fn in_time(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        if std::time::Instant::now() > until {
            return Err(format!("never: {what}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// Whether everything is to be as large as it is meant.
pub fn soak() -> bool {
    std::env::var_os("SEALFS_SOAK").is_some()
}
