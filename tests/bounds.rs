//! What users can make the daemon hold, write or do is bounded: each bound of the README's table, beyond it.
#![cfg(target_os = "linux")]

mod harness;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use harness::{Mount, NOBODY, QUICK, SLOW, eventually, sh};
use rustix::fs::{Mode, OFlags};

fn mkdir(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))?;
    Ok(rustix::fs::openat(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
}

/// Folders in folders until one is refused; the innermost that was made.
fn deepest(root: OwnedFd, name: &str) -> (OwnedFd, usize, io::Error) {
    let (mut dir, mut length) = (root, 0);
    loop {
        match mkdir(&dir, name) {
            Ok(made) => (dir, length) = (made, length + name.len() + 1),
            Err(error) => return (dir, length, error),
        }
    }
}

#[test]
fn a_path_is_no_longer_than_a_call_can_name() {
    let mount = Mount::new("depth", SLOW);
    fs::create_dir(mount.path("a")).unwrap();
    let open = |name: &str| OwnedFd::from(File::open(mount.path(name)).unwrap());
    let name = "d".repeat(249);
    let (dir, length, error) = deepest(open("a"), &name);
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    assert_eq!(length, 4000, "4095 bytes, 'a' and whole names of 250");
    // 94 bytes are left with the slash before them.
    let (fits, long) = ("f".repeat(93), "f".repeat(94));
    let made = OFlags::CREATE | OFlags::WRONLY;
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::openat(&dir, &fits, made, mode).unwrap();
    let too_long = |result: rustix::io::Result<()>, what: &str| {
        assert_eq!(result, Err(rustix::io::Errno::NAMETOOLONG), "{what}");
    };
    too_long(rustix::fs::openat(&dir, &long, made, mode).map(drop), "create");
    too_long(rustix::fs::mkdirat(&dir, &long, mode), "mkdir");
    too_long(rustix::fs::symlinkat("x", &dir, &long), "symlink");
    too_long(rustix::fs::renameat(&dir, &fits, &dir, &long), "rename");
    too_long(rustix::fs::linkat(&dir, &fits, &dir, &long, rustix::fs::AtFlags::empty()), "link");
    // Nor do folders become longer by what they are moved into.
    let moved = |from: &str, to: &str| fs::rename(mount.path(from), mount.path(to));
    assert_eq!(moved("a", "ab").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    fs::create_dir_all(mount.path("b/c")).unwrap();
    assert_eq!(moved("a", "b/c/a").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    moved("a", "z").unwrap();
    fs::create_dir_all(mount.path("short/er")).unwrap();
    moved("short", "something-longer").unwrap();
}

#[test]
fn a_file_has_a_hundred_attestations_and_no_more() {
    let mount = Mount::new("attested", QUICK);
    let path = mount.sealed("f", b"x");
    let digest = harness::sha256sum(&path);
    let body = mount.dir.join("statement");
    let envelope = |n: usize, pad: usize| {
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://x/y","subject":[{{"name":"f","digest":{{"sha256":"{digest}"}}}}],"predicate":{{"n":{n},"pad":"{}"}}}}"#,
            "A".repeat(pad)
        );
        fs::write(&body, statement).unwrap();
        let payload = sh(&mount.store, &format!("base64 -w0 {}", body.display()));
        format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":"AAAA"}}]}}"#,
            payload.trim()
        )
    };
    let file = mount.dir.join("envelope");
    let attest = |n: usize, pad: usize| {
        fs::write(&file, envelope(n, pad)).unwrap();
        mount.ctl(&["attest".as_ref(), path.as_os_str(), file.as_os_str()])
    };
    for n in 0..100 {
        let output = attest(n, 10);
        assert!(output.status.success(), "{n}: {output:?}");
    }
    let output = attest(100, 10);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can have 100 attestations"), "{output:?}");
    let lines = fs::read_to_string(mount.path("f.seal.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 102, "seal, provenance, and a hundred");
}

#[test]
fn names_in_private_folders_are_told_to_those_who_may_read_them() {
    let policy = "version = 1\n[defaults]\nretention = \"1s\"\nsettle = \"0s\"\n";
    let mount = Mount::new("private", policy);
    fs::create_dir(mount.path("private")).unwrap();
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&mount.path("private"), 0o700);
    fs::write(mount.path("private/secret-name"), "x").unwrap();
    mount.until("private/secret-name", "sealed");
    // Found altered, which status says.
    let backing = mount.backing("private/secret-name");
    sh(&mount.store, &format!("chattr -i {0} 2>/dev/null; echo changed > {0}", backing.display()));
    let _ = fs::read(mount.path("private/secret-name"));
    eventually("root is told", || mount.ctl_ok(&["status"]).contains("secret-name"));
    let told = String::from_utf8(mount.ctl_as(NOBODY, &["status"]).stdout).unwrap();
    assert!(told.contains("ALTERED") && !told.contains("secret-name"), "{told}");
}

#[test]
fn provenance_of_one_byte_is_no_longer_than_its_bound() {
    let mount = Mount::new("provenance-bound", SLOW);
    // Quotes are twice as long in JSON; ten times what is kept of a command line.
    let pad = vec!["\"".repeat(512); 80];
    let mut command = std::process::Command::new("sh");
    harness::run(command.args(["-c", "echo x > made", "sh"]).args(pad).current_dir(&mount.mnt));
    mount.ctl_ok(&["seal".as_ref(), mount.path("made").as_os_str()]);
    let lines = fs::read_to_string(mount.path("made.seal.jsonl")).unwrap();
    let second = lines.lines().nth(1).unwrap();
    assert!(second.len() < 64 * 1024, "{} bytes", second.len());
    let line = mount.dir.join("line");
    fs::write(&line, second).unwrap();
    let statement = sh(&mount.dir, "jq -r .payload line | base64 -d");
    assert!(statement.contains(r#""truncated":true"#), "{statement}");
}

#[test]
fn sums_that_status_shows_follow_each_change() {
    let mount = Mount::new("totals", "version = 1\n[defaults]\nretention = \"2s\"\nsettle = \"0s\"\n");
    let status = || mount.ctl_json(&["status"]).remove(0);
    let is = |name: &str, wanted: u64| status()[name].as_u64() == Some(wanted);
    assert!(is("sealed", 0) && is("bytes", 0));
    for name in ["a", "b", "c"] {
        mount.sealed(name, b"four");
    }
    mount.ctl_ok(&["hold", "add", "case", mount.path("a").to_str().unwrap()]);
    eventually("a is held", || is("held", 1) && is("bytes", 12));
    eventually("two have expired", || is("expired", 2) && is("sealed", 1));
    fs::remove_file(mount.path("b")).unwrap();
    eventually("one went", || is("expired", 1) && is("bytes", 8));
    mount.ctl_ok(&["hold", "remove", "case", mount.path("a").to_str().unwrap()]);
    eventually("nothing is held", || is("held", 0) && is("expired", 2) && is("sealed", 0));
}

#[test]
fn a_folder_of_many_expired_files_is_moved_step_by_step() {
    // More than may end in one call; ten times as many in the long run.
    let files = if std::env::var_os("SEALFS_SOAK").is_some() { 10_000 } else { 1_100 };
    let mount = Mount::new("many", "version = 1\n[defaults]\nretention = \"1s\"\nsettle = \"0s\"\n");
    fs::create_dir(mount.path("d")).unwrap();
    for n in 0..files {
        fs::write(mount.path(format!("d/{n}")), "x").unwrap();
    }
    let expired = || mount.ctl_json(&["status"])[0]["expired"].as_u64().unwrap();
    eventually("all have expired", || expired() == files as u64);
    mount.refuses(libc::EXDEV, "rename of many", || fs::rename(mount.path("d"), mount.path("e")));
    assert!(mount.why("d")[0]["reason"].as_str().unwrap().contains("mv copies them"));
    // One that is retained, and the answer is another: mv must not begin to copy.
    mount.ctl_ok(&["hold", "add", "case", mount.path("d/7").to_str().unwrap()]);
    mount.refuses(libc::EPERM, "rename of many, one held", || fs::rename(mount.path("d"), mount.path("e")));
    mount.ctl_ok(&["hold", "remove", "case", mount.path("d/7").to_str().unwrap()]);
    // While mv is under way, nobody waits.
    fs::create_dir(mount.path("other")).unwrap();
    let (from, to) = (mount.path("d"), mount.path("e"));
    let moving =
        std::thread::spawn(move || harness::run(std::process::Command::new("mv").args([&from, &to])));
    let mut longest = std::time::Duration::ZERO;
    let mut n = 0;
    while !moving.is_finished() {
        let begun = std::time::Instant::now();
        fs::write(mount.path(format!("other/{n}")), "y").unwrap();
        longest = longest.max(begun.elapsed());
        n += 1;
        harness::pause(5);
    }
    moving.join().unwrap();
    assert!(!mount.path("d").exists());
    assert_eq!(fs::read_dir(mount.path("e")).unwrap().count(), files);
    assert!(longest < std::time::Duration::from_secs(5), "{longest:?}, beside what else this host does");
}

#[test]
fn handles_of_a_user_keep_so_much_of_listings() {
    let mount = Mount::new("listings", SLOW);
    fs::create_dir(mount.path("crowd")).unwrap();
    // 3,000 names of 250 bytes: two MiB a listing.
    let backing = mount.store.join("tree/crowd");
    for n in 0..3000 {
        File::create(backing.join(format!("{n:0250}"))).unwrap();
    }
    let script = "import os,sys\n\
        kept = []; refused = 0\n\
        for n in range(200):\n\
        \x20   try:\n\
        \x20       it = os.scandir(sys.argv[1]); next(it); kept.append(it)\n\
        \x20   except OSError as error:\n\
        \x20       assert error.errno == 23, error; refused += 1\n\
        print(len(kept), refused)\n";
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "1234", "--regid", "1234", "--clear-groups", "/usr/bin/python3", "-c", script])
        .arg(mount.path("crowd"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let numbers: Vec<usize> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(numbers[0] > 50 && numbers[0] < 200 && numbers[1] > 20, "{numbers:?}");
    // Whoever lets go of them can list again, and others were never kept from it.
    assert_eq!(fs::read_dir(mount.path("crowd")).unwrap().count(), 3000);
}

/// A reader that keeps a transaction open lets the write-ahead log grow; once it is gone, the log is cut back.
#[test]
fn the_write_ahead_log_is_cut_back_once_a_long_reader_is_gone() {
    use sealfs::clock::{Clock, SystemTime};
    use sealfs::ledger::{AttachmentKind, Index};
    let dir = harness::scratch("wal");
    let path = dir.join("index.db");
    let index = Index::create(&path, "test.example/store").expect("index");
    let (clock, _) = Clock::start(Box::new(SystemTime), None, "7d".parse().expect("a span"));
    let write = |n: usize| {
        let mut batch = index.batch(&clock).expect("batch");
        let body = format!("\"{n} {}\"", "x".repeat(1 << 20));
        batch.attach(AttachmentKind::Writers, &body, &[]).expect("attach");
        batch.commit().expect("commit");
    };
    let wal = || fs::metadata(dir.join("index.db-wal")).expect("the write-ahead log").len();
    write(0);
    let mut reader = std::process::Command::new("sqlite3");
    reader
        .arg("-readonly")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut reader = reader.spawn().expect("sqlite3");
    let mut ask = reader.stdin.take().expect("input");
    io::Write::write_all(&mut ask, b"begin; select count(*) from attachment;\n").expect("ask");
    let mut answer = [0; 2];
    io::Read::read_exact(reader.stdout.as_mut().expect("output"), &mut answer).expect("a transaction");
    // More than ten times what is kept.
    for n in 1..=170 {
        write(n);
    }
    assert!(wal() > 160 << 20, "a snapshot needs {} bytes", wal());
    drop(ask);
    reader.wait().expect("wait");
    for n in 200..204 {
        write(n);
    }
    assert!(wal() <= 17 << 20, "{} bytes are left of the write-ahead log", wal());
    drop(index);
    let _ = fs::remove_dir_all(&dir);
}
