//! Two requests at once: what one of them has been granted, the other does not undo.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use sealfs::control::client::{Client, ClientError};
use sealfs::control::protocol::Request;
use serde_json::Value;

use super::harness::{Mount, NOBODY, xattr};
use super::scene::{Seen, Table, as_user, check, verifies};

const POLICY: &str =
    "version = 1\n[defaults]\nretention = \"1s\"\nmax = \"3650d\"\nmode = \"compliance\"\nsettle = \"0s\"\n";
/// Files of each kind of race; at each another time lies between the two.
const TRIES: u32 = 20;
const YEAR: u64 = 365 * 86_400;

pub fn attacks(table: &mut Table) {
    let mount = Mount::new("races", POLICY);
    fs::set_permissions(&mount.mnt, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod");
    fs::set_permissions(&mount.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let prepared = Instant::now();
    for n in 0..TRIES {
        for kind in REMOVALS.iter().map(|(what, _)| *what).chain(["extended"]) {
            as_user(NOBODY, || fs::write(at(&mount, kind, n), "x").expect("write")).expect("as the owner");
        }
    }
    mount.until(at(&mount, "extended", TRIES - 1), "expired");
    std::thread::sleep(Duration::from_secs(3).saturating_sub(prepared.elapsed()));
    table.add("two extensions of a compliance retention at once", "owner", extensions(&mount));
    for (what, remove) in REMOVALS {
        table.add(&format!("a hold placed while the file is {what}"), "owner", held(&mount, what, remove));
    }
    table.add("(verify --all after them)", "root", verifies(&mount));
}

type Remove = fn(&Path) -> std::io::Result<()>;

const REMOVALS: [(&str, Remove); 4] = [
    ("unlinked", |path| fs::remove_file(path)),
    ("renamed", |path| fs::rename(path, path.with_extension("moved"))),
    ("renamed over", |path| {
        let other = path.with_extension("other");
        fs::write(&other, "other")?;
        fs::rename(other, path)
    }),
    ("written anew", |path| fs::File::create(path).map(drop)),
];

fn retain(seconds: u64) -> Request {
    Request::Retain {
        until: None,
        seconds: Some(seconds),
        months: 0,
        yes: false,
        bypass: false,
        reason: None,
    }
}

fn ask(mount: &Mount, path: &Path, request: &Request) -> Result<Vec<Value>, ClientError> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
    Client::connect(&mount.store, 0)?.ask(request, Some(file.as_fd()))
}

/// A sealed file of the owner, one of each kind of race for each try.
fn at(mount: &Mount, kind: &str, n: u32) -> PathBuf {
    mount.path(format!("{}{n}", kind.replace(' ', "-")))
}

/// The same, when its retention is over.
fn expired(mount: &Mount, kind: &str, n: u32) -> PathBuf {
    let path = at(mount, kind, n);
    mount.until(&path, "expired");
    path
}

fn extensions(mount: &Mount) -> Seen {
    for n in 0..TRIES {
        let path = expired(mount, "extended", n);
        let together = Barrier::new(2);
        let longer = std::thread::scope(|scope| {
            let go = |seconds| {
                let (path, together) = (&path, &together);
                move || {
                    as_user(NOBODY, || {
                        together.wait();
                        ask(mount, path, &retain(seconds))
                    })
                }
            };
            let (longer, shorter) = (scope.spawn(go(5 * YEAR)), scope.spawn(go(YEAR)));
            let _ = shorter.join();
            longer.join()
        });
        let granted = longer.ok().and_then(Result::ok).is_some_and(|asked| asked.is_ok());
        let until = xattr(&path, "user.seal.retain_until").unwrap_or_default();
        let year = |text: &str| text.get(..4).and_then(|year| year.parse::<u32>().ok()).unwrap_or(0);
        let sealed = xattr(&path, "user.seal.sealed_at").unwrap_or_default();
        check(granted, "the longer one was refused")?;
        check(year(&until) >= year(&sealed) + 4, format!("granted five years, and now until {until}"))?;
    }
    Ok(format!("{TRIES} times, the later end stands"))
}

fn held(mount: &Mount, what: &str, remove: Remove) -> Seen {
    let (mut kept, mut gone) = (0, 0);
    for n in 0..TRIES {
        let path = expired(mount, what, n);
        let together = Barrier::new(2);
        let (asked, removed) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let request = Request::Hold { add: true, name: "CASE-17".to_owned() };
                together.wait();
                ask_quietly(mount, &path, &request)
            });
            let removed = as_user(NOBODY, || {
                together.wait();
                std::thread::sleep(Duration::from_micros(150) * n);
                remove(&path)
            });
            (asking.join(), removed)
        });
        let (Ok(asked), Ok(removed)) = (asked, removed) else { return Err("a thread panicked".to_owned()) };
        match (asked, removed) {
            (true, Ok(())) => return Err(format!("{} was held, and is {what}", path.display())),
            (true, Err(_)) => kept += 1,
            (false, _) => gone += 1,
        }
    }
    Ok(format!("{kept} held and kept, {gone} gone before"))
}

/// Whether a hold was confirmed; the file may be gone before it can be asked for.
fn ask_quietly(mount: &Mount, path: &Path, request: &Request) -> bool {
    let Ok(file) = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    let sealed = xattr(path, "user.seal.state").is_some_and(|state| state == "expired");
    let asked =
        Client::connect(&mount.store, 0).and_then(|mut client| client.ask(request, Some(file.as_fd())));
    sealed && asked.is_ok()
}
