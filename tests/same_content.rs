//! A file renamed over a sealed one with the same content: a success that changes nothing. Over other content it is
//! refused, as ever.

mod harness;

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Mount, errno};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A sealed file is never sealed by time here, and what is renamed is scratch.
const POLICY: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1h\"\nsymlinks = \"seal\"\n\
                      [[rule]]\nmatch = [\"**/*.tmp\"]\nseal = \"never\"\n";

const MODES: [&[&str]; 2] = [&[], &["-o", "passthrough=off"]];

/// What a user sees of a file, and the index of it.
fn seen(mount: &Mount, name: &str) -> (Vec<i64>, Vec<u8>, String) {
    let path = mount.path(name);
    let meta = fs::metadata(&path).expect("metadata");
    let times = [meta.mtime(), meta.mtime_nsec(), meta.atime()];
    let attributes =
        [i64::from(meta.mode()), i64::from(meta.uid()), i64::try_from(meta.size()).expect("size")];
    let numbers = [i64::try_from(meta.ino()).expect("number"), i64::try_from(meta.nlink()).expect("links")];
    let row = mount.sql(&format!("select * from artifacts where path = '{name}'"));
    ([&times[..], &attributes[..], &numbers[..]].concat(), fs::read(path).expect("read"), row)
}

fn absent(path: &Path) {
    assert_eq!(errno(fs::symlink_metadata(path)), libc::ENOENT, "{}", path.display());
}

#[test]
fn the_same_content_over_a_sealed_file_changes_nothing() {
    for options in MODES {
        let mount = Mount::with("same", POLICY, options);
        // Compared by the serving thread, and aside.
        for (name, size) in [("small", 100), ("large", 5_000_000)] {
            let content: Vec<u8> = (0..size).map(|n: u32| (n / 251).to_le_bytes()[0]).collect();
            let sealed = mount.sealed(name, &content);
            let mut reader = fs::File::open(&sealed).expect("open");
            let before = seen(&mount, name);
            let log = mount.sql("select count(*) from artifacts");
            for round in 0..20 {
                let new = mount.path(format!("{name}-{round}.tmp"));
                fs::write(&new, &content).expect("write");
                fs::rename(&new, &sealed).unwrap_or_else(|error| panic!("{name}, {round}: {error}"));
                // At once: the kernel must not take the new file for what has the name. Nor what it has cached of it.
                let mask = rustix::fs::StatxFlags::INO | rustix::fs::StatxFlags::MODE;
                let cached =
                    rustix::fs::statx(CWD, &sealed, rustix::fs::AtFlags::empty(), mask).expect("statx");
                assert_eq!(i64::try_from(cached.stx_ino).expect("number"), before.0[6], "{name}, {round}");
                assert_eq!(seen(&mount, name), before, "{name}, {round}");
                absent(&new);
            }
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("read");
            assert_eq!(read, content);
            assert_eq!(reader.metadata().expect("metadata").nlink(), 1);
            assert_eq!(mount.sql("select count(*) from artifacts"), log);
            assert_eq!(mount.state(name), "sealed");
            assert!(fs::read(mount.path(format!("{name}.seal"))).is_ok_and(|seal| !seal.is_empty()));
            mount.refuses(libc::EPERM, "write", || OpenOptions::new().write(true).open(&sealed));
        }
        mount.ctl_ok(&["verify", "--all"]);
        mount.ctl_ok(&["log", "check"]);
        assert_eq!(
            fs::read_dir(mount.store.join("tree")).expect("tree").count(),
            2,
            "nothing is left behind"
        );
    }
}

#[test]
fn what_may_differ_is_refused_and_stays() {
    for options in MODES {
        let mount = Mount::with("other", POLICY, options);
        let sealed = mount.sealed("sealed", b"one");
        let before = seen(&mount, "sealed");
        let new = mount.path("new.tmp");
        let refused = |what: &str| {
            mount.refuses(libc::EPERM, what, || fs::rename(&new, &sealed));
            assert!(new.exists(), "{what}");
            assert_eq!(seen(&mount, "sealed"), before, "{what}");
        };
        fs::write(&new, "two").expect("write");
        refused("other content of the same size");
        assert!(mount.why("sealed")[0].to_string().contains("rename over"));
        fs::write(&new, "one more").expect("write");
        refused("another size");
        // Somebody can still write to it: open, or mapped.
        fs::write(&new, "one").expect("write");
        let writer = OpenOptions::new().write(true).open(&new).expect("open");
        refused("a writer");
        writer.write_at(b"two", 0).expect("write");
        drop(writer);
        refused("written since");
        fs::write(&new, "one").expect("write");
        let number = fs::metadata(&sealed).expect("metadata").ino();
        // Other kinds of rename do not replace.
        let flags = |flags| renameat_with(CWD, &new, CWD, &sealed, flags).expect_err("flags").raw_os_error();
        assert_eq!(flags(RenameFlags::NOREPLACE), libc::EEXIST);
        assert_eq!(flags(RenameFlags::EXCHANGE), libc::EINVAL);
        assert_eq!(errno(fs::hard_link(&new, &sealed)), libc::EEXIST);
        // A sealed file is not dropped for another one.
        let other = mount.sealed("other", b"one");
        mount.refuses(libc::EPERM, "a sealed file", || fs::rename(&other, &sealed));
        assert!(other.exists());
        fs::rename(&new, &sealed).expect("the same content");
        assert_eq!(fs::metadata(&sealed).expect("metadata").ino(), number);
        assert_eq!(seen(&mount, "sealed"), before);
    }
}

#[test]
fn an_altered_sealed_file_does_not_stand_for_the_new_one() {
    let mount = Mount::new("altered", POLICY);
    for (name, alter, wanted) in [("touched", "true", 0), ("edited", "printf two >", libc::EIO)] {
        let sealed = mount.sealed(name, b"one");
        let backing = mount.backing(name);
        let backing = backing.display();
        harness::sh(
            &mount.dir,
            &format!("chattr -i {backing}; sleep 0.01; {alter} {backing}; chattr +i {backing}"),
        );
        let new = mount.path("new.tmp");
        fs::write(&new, "one").expect("write");
        let renamed = fs::rename(&new, &sealed);
        assert_eq!(
            renamed.as_ref().err().and_then(std::io::Error::raw_os_error).unwrap_or(0),
            wanted,
            "{name}"
        );
        assert_eq!(new.exists(), wanted != 0, "{name}");
    }
}

#[test]
fn an_expired_file_is_replaced_and_a_sealed_link_is_kept() {
    let mount = Mount::new("expired", &POLICY.replace("retention = \"1h\"", "retention = \"1s\""));
    let path = mount.sealed("file", b"one");
    let number = fs::metadata(&path).expect("metadata").ino();
    mount.until("file", "expired");
    fs::write(mount.path("file.tmp"), "one").expect("write");
    fs::rename(mount.path("file.tmp"), &path).expect("rename");
    assert_ne!(fs::metadata(&path).expect("metadata").ino(), number, "a new file, that will be sealed anew");
    drop(mount);

    let mount = Mount::new("link", POLICY);
    let link = mount.path("current");
    std::os::unix::fs::symlink("1.4", &link).expect("link");
    mount.ctl_ok(&["seal", "current"]);
    let number = fs::symlink_metadata(&link).expect("metadata").ino();
    for (target, kept) in [("1.4", true), ("1.5", false)] {
        let new = mount.path("new");
        std::os::unix::fs::symlink(target, &new).expect("link");
        assert_eq!(fs::rename(&new, &link).is_ok(), kept, "{target}");
        assert_eq!(new.is_symlink(), !kept, "{target}");
        assert_eq!(fs::read_link(&link).expect("link"), Path::new("1.4"));
        assert_eq!(fs::symlink_metadata(&link).expect("metadata").ino(), number);
    }
}

#[test]
fn many_put_the_same_files_at_once() {
    let mount = Mount::new("crowd", &POLICY.replace("settle = \"1h\"", "settle = \"0s\""));
    let threads: Vec<_> = (0..6)
        .map(|who| {
            let mnt = mount.mnt.clone();
            std::thread::spawn(move || {
                for n in 0..60 {
                    let new = mnt.join(format!("{who}-{n}.tmp"));
                    let mut file = fs::File::create(&new).expect("create");
                    file.write_all(format!("blob {n}").as_bytes()).expect("write");
                    drop(file);
                    fs::rename(&new, mnt.join(format!("blob-{n}")))
                        .unwrap_or_else(|error| panic!("{who}, {n}: {error}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no rename failed");
    }
    harness::eventually("all are sealed", || mount.sql("select count(*) from artifacts") == "60");
    assert_eq!(fs::read_dir(&mount.mnt).expect("list").count(), 60);
    mount.ctl_ok(&["verify", "--all"]);
}

#[test]
fn no_such_rename_fails_while_workers_are_killed() {
    let mut mount = Mount::new("same-kills", POLICY);
    for who in 0..3 {
        mount.sealed(format!("sealed-{who}"), b"one");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|who| {
            let (mnt, stop) = (mount.mnt.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (new, sealed) = (mnt.join(format!("{who}.tmp")), mnt.join(format!("sealed-{who}")));
                let number = fs::metadata(&sealed).expect("metadata").ino();
                let mut rounds = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    fs::write(&new, "one").expect("write");
                    fs::rename(&new, &sealed).expect("rename");
                    assert_eq!(fs::read_to_string(&sealed).expect("read"), "one");
                    harness::eventually("the name has its inode", || {
                        fs::metadata(&sealed).is_ok_and(|meta| meta.ino() == number)
                    });
                    absent(&new);
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    for n in 0..12 {
        harness::pause(100);
        let worker = mount.worker();
        if n % 6 == 3 {
            rustix::process::kill_process(worker, rustix::process::Signal::KILL).expect("kill");
        } else {
            // A SIGKILL too, but after it the next one comes without a pause.
            mount.ctl_ok(&["restart"]);
        }
        // No request is lost: the next call is answered by another one.
        fs::metadata(mount.path("sealed-0")).expect("metadata");
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().expect("no rename failed") > 10);
    }
    mount.worker();
    mount.ctl_ok(&["verify", "--all"]);
    assert_eq!(mount.sql("select count(*) from artifacts where state = 'sealed'"), "3");
    let status = &mount.ctl_json(&["status"])[0];
    assert_eq!(status["unsealed"]["torn"], 0, "{status}");
    mount.stop();
}
