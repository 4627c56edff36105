//! Contract, section 2: the life of a file from its creation to its expiry.

mod harness;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use harness::{
    Mount, QUICK, SLOW, Writer, errno, eventually, pause, sealctl, sh, sha256sum, truncate, xattr,
};

/// What an unsealed closed file waits until it is sealed by itself.
const EAGER: &str = "version = 1\n[defaults]\nsettle = \"100ms\"\nretention = \"1h\"\n";

/// Sealed on demand only, and expired soon.
const BRIEF: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1s\"\n";

fn chmod(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).expect("open")
}

/// Sealed content is what the file has, in the mount, on disk, in the index and for `sealctl verify`.
#[track_caller]
fn sealed_as(mount: &Mount, name: &str, content: &[u8]) {
    mount.until(name, "sealed");
    assert_eq!(fs::read(mount.path(name)).expect("read"), content);
    assert_eq!(fs::read(mount.backing(name)).expect("read"), content);
    let sha256 = xattr(&mount.path(name), "user.seal.sha256");
    assert_eq!(sha256.as_deref(), Some(sha256sum(&mount.backing(name)).as_str()));
    mount.ctl_ok(&[OsStr::new("verify"), mount.path(name).as_os_str()]);
}

#[test]
fn a_closed_file_settles_and_is_then_sealed() {
    let mount = Mount::new("settle", QUICK);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"one").expect("write");
    mount.stays("f", "open", 400);
    drop(file);
    eventually("it settles or is sealed", || mount.state("f") != "open");
    sealed_as(&mount, "f", b"one");
}

#[test]
fn a_settling_file_that_is_opened_for_writing_is_open_again() {
    let mount = Mount::new("reopen", "version = 1\n[defaults]\nsettle = \"800ms\"\nretention = \"1h\"\n");
    fs::write(mount.path("f"), b"one").expect("write");
    mount.until("f", "settling");
    let mut file = append(&mount.path("f"));
    assert_eq!(mount.state("f"), "open");
    mount.stays("f", "open", 1200);
    file.write_all(b" two").expect("write");
    drop(file);
    mount.until("f", "settling");
    // Reading does not disturb it.
    let _reader = File::open(mount.path("f")).expect("open");
    sealed_as(&mount, "f", b"one two");
}

#[test]
fn a_file_that_is_written_bit_by_bit_is_sealed_once_with_everything() {
    let mount = Mount::new("bits", QUICK);
    sh(&mount.mnt, "for i in $(seq 50); do echo $i >> f; done");
    let all: String = (1..=50).map(|i| format!("{i}\n")).collect();
    sealed_as(&mount, "f", all.as_bytes());
    assert_eq!(mount.sql("select count(*) from artifacts"), "1");
}

#[test]
fn a_settling_file_can_be_changed_renamed_and_removed() {
    let mount = Mount::new("changeable", SLOW);
    let path = mount.path("f");
    fs::write(&path, b"one").expect("write");
    mount.until("f", "settling");
    chmod(&path, 0o640).expect("chmod");
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).expect("chown");
    sh(&mount.mnt, "touch -d 2001-02-03T04:05:06Z f; setfattr -n user.x -v y f");
    let meta = fs::metadata(&path).expect("stat");
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()),
        (0o640, 1234, 4321, 981_173_106)
    );
    assert_eq!(mount.state("f"), "settling");
    fs::rename(&path, mount.path("g")).expect("rename");
    assert_eq!(mount.state("g"), "settling");
    fs::write(mount.path("h"), b"new").expect("write");
    fs::rename(mount.path("h"), mount.path("g")).expect("rename over");
    assert_eq!(fs::read(mount.path("g")).expect("read"), b"new");
    fs::remove_file(mount.path("g")).expect("unlink");
    assert_eq!(fs::read_dir(&mount.mnt).expect("list").count(), 0);
    assert_eq!(fs::read_dir(mount.store.join("tree")).expect("list").count(), 0);
}

#[test]
fn looking_at_a_sidecar_seals() {
    let mount = Mount::new("sidecar-stat", SLOW);
    for (name, sidecar) in [("a", "a.seal"), ("b", "b.seal.jsonl")] {
        fs::write(mount.path(name), b"content").expect("write");
        mount.until(name, "settling");
        let size = fs::metadata(mount.path(sidecar)).expect("stat").len();
        assert_eq!(mount.state(name), "sealed");
        assert_eq!(mount.sql(&format!("select count(*) from artifacts where path = '{name}'")), "1");
        let content = fs::read(mount.path(sidecar)).expect("read");
        assert_eq!(content.len() as u64, size);
        sealed_as(&mount, name, b"content");
    }
}

#[test]
fn a_sidecar_can_be_read_right_after_the_close() {
    let mount = Mount::new("right-after", SLOW);
    let source = mount.dir.join("x");
    fs::write(&source, "content\n".repeat(1000)).expect("write");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (mount, source) = (&mount, &source);
            scope.spawn(move || {
                let script = format!(
                    "for i in $(seq 75); do cp {} {thread}-$i && cat {thread}-$i.seal; done",
                    source.display()
                );
                let text = sh(&mount.mnt, &script);
                assert_eq!(text.matches("-----END SSH SIGNATURE-----").count(), 75);
            });
        }
    });
    assert_eq!(mount.sql("select count(*), count(distinct sha256) from artifacts"), "300|1");
}

#[test]
fn a_sidecar_can_be_opened_right_after_the_close_in_one_process() {
    let mount = Mount::new("right-after-2", SLOW);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mount = &mount;
            scope.spawn(move || {
                for i in 0..75 {
                    let name = format!("{thread}-{i}");
                    fs::write(mount.path(&name), &name).expect("write");
                    let sidecar = mount.path(format!("{name}.seal.jsonl"));
                    let text = fs::read_to_string(sidecar).unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(text.contains("payload"), "{name}: {text:?}");
                }
            });
        }
    });
}

#[test]
fn a_file_that_is_open_has_no_sidecar() {
    let mount = Mount::new("open-sidecar", SLOW);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"one").expect("write");
    assert_eq!(errno(fs::metadata(mount.path("f.seal"))), libc::ENOENT);
    assert_eq!(errno(fs::read(mount.path("f.seal.jsonl"))), libc::ENOENT);
    assert_eq!(errno(fs::read(mount.path("absent.seal"))), libc::ENOENT);
    assert_eq!(mount.state("f"), "open");
    drop(file);
    // The negative answer was not kept.
    assert!(fs::read_to_string(mount.path("f.seal")).is_ok());
}

#[test]
fn taking_the_write_bits_away_seals() {
    let mount = Mount::new("readonly", SLOW);
    fs::write(mount.path("f"), b"one").expect("write");
    sh(&mount.mnt, "chmod a-w f");
    sealed_as(&mount, "f", b"one");
    assert_eq!(fs::metadata(mount.path("f")).expect("stat").mode() & 0o7777, 0o444);
    // From a mode without write bits it is no demand, nor while one is left.
    fs::write(mount.path("g"), b"one").expect("write");
    sh(&mount.mnt, "chmod g-w,o-w g; chmod 744 g");
    mount.stays("g", "settling", 300);
}

#[test]
fn taking_the_write_bits_away_while_open_seals_at_the_last_close() {
    let mount = Mount::new("readonly-open", SLOW);
    let mut file = File::create(mount.path("f")).expect("create");
    let second = append(&mount.path("f"));
    file.write_all(b"one").expect("write");
    chmod(&mount.path("f"), 0o444).expect("chmod");
    file.write_all(b" two").expect("what is open stays writable");
    drop(file);
    mount.stays("f", "open", 300);
    drop(second);
    sealed_as(&mount, "f", b"one two");
}

#[test]
fn sealctl_seal_seals_at_once_and_waits() {
    let mount = Mount::new("seal", SLOW);
    fs::create_dir(mount.path("d")).expect("mkdir");
    for name in ["a", "d/b"] {
        fs::write(mount.path(name), name).expect("write");
    }
    mount.ctl_ok(&["seal", "a", "d/b"]);
    assert_eq!((mount.state("a"), mount.state("d/b")), ("sealed".into(), "sealed".into()));
    mount.ctl_ok(&["seal", "a"]);
    sealed_as(&mount, "d/b", b"d/b");
    assert_eq!(mount.ctl(&["seal", "absent"]).status.code(), Some(5));
}

#[test]
fn sealctl_seal_of_an_open_file_waits_for_its_last_close() {
    let mount = Mount::new("seal-open", SLOW);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"one").expect("write");
    let mut command = sealctl();
    command.arg("seal").arg(mount.path("f")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut asking = command.spawn().expect("sealctl");
    pause(400);
    assert!(asking.try_wait().expect("wait").is_none(), "it did not wait");
    assert_eq!(mount.state("f"), "open");
    file.write_all(b" two").expect("write");
    drop(file);
    assert!(asking.wait().expect("wait").success());
    assert_eq!(mount.state("f"), "sealed");
    sealed_as(&mount, "f", b"one two");
}

#[test]
fn an_empty_file_stays_open_until_it_has_content() {
    let mount = Mount::new("empty", EAGER);
    fs::write(mount.path("f"), b"").expect("write");
    mount.stays("f", "open", 600);
    fs::write(mount.path("f"), b"content").expect("write");
    sealed_as(&mount, "f", b"content");
    // What is made empty is only a name again.
    let slow = Mount::new("emptied", SLOW);
    fs::write(slow.path("f"), b"content").expect("write");
    slow.until("f", "settling");
    sh(&slow.mnt, "truncate -s 0 f");
    assert_eq!(slow.state("f"), "open");
    sh(&slow.mnt, "truncate -s 1 f");
    slow.until("f", "settling");
}

#[test]
fn an_empty_file_is_sealed_when_demanded() {
    let mount = Mount::new("empty-demand", SLOW);
    for name in ["a", "b"] {
        File::create(mount.path(name)).expect("create");
    }
    sh(&mount.mnt, "chmod a-w a");
    sealed_as(&mount, "a", b"");
    mount.ctl_ok(&["seal", "b"]);
    sealed_as(&mount, "b", b"");
    assert!(fs::read_to_string(mount.path("a.seal")).is_ok());
}

#[test]
fn an_empty_file_is_sealed_after_its_own_time() {
    let policy = "version = 1\n[defaults]\nsettle = \"50ms\"\nsettle_empty = \"700ms\"\nretention = \"1h\"\n";
    let mount = Mount::new("settle-empty", policy);
    File::create(mount.path("f")).expect("create");
    mount.stays("f", "open", 350);
    sealed_as(&mount, "f", b"");
}

#[test]
fn a_file_whose_writer_is_killed_is_torn() {
    let mount = Mount::new("torn", EAGER);
    for (name, signal) in [("kill", libc::SIGKILL), ("term", libc::SIGTERM), ("segv", libc::SIGSEGV)] {
        let script = format!("ulimit -c 0; exec 3>{name}; echo half >&3; echo ready; read || true");
        Writer::start(&mount.mnt, &script).kill(signal);
        mount.until(name, "torn");
    }
    mount.stays("kill", "torn", 500);
    assert_eq!(errno(fs::read(mount.path("kill.seal"))), libc::ENOENT);
    chmod(&mount.path("kill"), 0o444).expect("chmod");
    assert_eq!(mount.ctl(&["seal", "kill"]).status.code(), Some(4));
    mount.stays("kill", "torn", 300);
    let status = mount.ctl_json(&["status"]).remove(0);
    assert_eq!(status["unsealed"]["torn"], 3, "{status}");
    fs::remove_file(mount.path("kill")).expect("unlink");
}

#[test]
fn a_writer_that_ends_by_itself_tears_nothing() {
    let mount = Mount::new("exits", EAGER);
    let writer = Writer::start(&mount.mnt, "exec 3>f; echo all >&3; echo ready; read || true; exit 1");
    assert_eq!(writer.end(), Some(1));
    sealed_as(&mount, "f", b"all\n");
}

#[test]
fn a_crashing_child_that_inherited_a_descriptor_tears_nothing() {
    let mount = Mount::new("inherited", EAGER);
    let script = "exec 3>log; echo before >&3; bash -c 'kill -KILL $$' || true; echo after >&3; echo ready; \
                  read || true";
    let writer = Writer::start(&mount.mnt, script);
    mount.stays("log", "open", 300);
    assert_eq!(writer.end(), Some(0));
    sealed_as(&mount, "log", b"before\nafter\n");
}

#[test]
fn a_child_that_executes_a_program_while_a_file_is_open_is_not_held_up() {
    let mount = Mount::new("exec", SLOW);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"one").expect("write");
    // The descriptor is closed within execve(2), which then flushes it: whoever looks at the process must not wait.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..20 {
            let status = std::process::Command::new("true").status().expect("true");
            assert!(status.success());
        }
        let _ = tell.send(());
    });
    told.recv_timeout(std::time::Duration::from_secs(20)).expect("execve(2) hangs");
    assert_eq!(mount.state("f"), "open");
    drop(file);
    mount.until("f", "settling");
}

#[test]
fn a_child_that_wrote_nothing_and_is_killed_last_tears_nothing() {
    let mount = Mount::new("last-child", EAGER);
    // The child that is killed at last holds what its parent opened and closed.
    let script = "exec 4<&0 3>f; echo whole >&3; (exec 0<&4; read || true) & echo $! > ../pid; \
                  exec 3>&-; echo ready; wait $! || true";
    let writer = Writer::start(&mount.mnt, script);
    mount.stays("f", "open", 200);
    let pid = fs::read_to_string(mount.dir.join("pid")).expect("pid");
    sh(&mount.dir, &format!("kill -KILL {pid}"));
    sealed_as(&mount, "f", b"whole\n");
    writer.end();
}

#[test]
fn a_torn_file_that_is_written_anew_is_sealed() {
    let mount = Mount::new("anew", EAGER);
    Writer::start(&mount.mnt, "exec 3>f; echo half >&3; echo ready; read || true").kill(libc::SIGKILL);
    mount.until("f", "torn");
    fs::write(mount.path("f"), b"whole").expect("write");
    sealed_as(&mount, "f", b"whole");
}

#[test]
fn a_torn_file_can_be_kept() {
    let mount = Mount::new("keep", EAGER);
    Writer::start(&mount.mnt, "exec 3>f; echo half >&3; echo ready; read || true").kill(libc::SIGKILL);
    mount.until("f", "torn");
    mount.ctl_ok(&["seal", "--torn", "f"]);
    sealed_as(&mount, "f", b"half\n");
}

#[test]
fn a_descriptor_of_a_forked_child_keeps_a_file_unsealed() {
    let mount = Mount::new("forked", EAGER);
    let script =
        "exec 4<&0 3>f; echo one >&3; (exec 0<&4; read || true; echo two >&3) & exec 3>&-; echo ready; wait";
    let writer = Writer::start(&mount.mnt, script);
    mount.stays("f", "open", 500);
    assert_eq!(errno(fs::metadata(mount.path("f.seal"))), libc::ENOENT);
    writer.end();
    sealed_as(&mount, "f", b"one\ntwo\n");
}

#[test]
fn a_shared_mapping_keeps_a_file_unsealed_and_what_it_writes_is_sealed() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let mount = Mount::new("mmap", EAGER);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(mount.path("f")).expect("create");
    file.set_len(8192).expect("truncate");
    // SAFETY: the mapping is made by the kernel where it likes, and only used below until it is unmapped.
    let map = unsafe {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        mmap(std::ptr::null_mut(), 8192, prot, MapFlags::SHARED, &file, 0).expect("mmap")
    };
    // SAFETY: within the mapping.
    unsafe { map.cast::<u8>().write_bytes(b'a', 4096) };
    drop(file);
    // With passthrough the kernel may tell of the close before the mapping goes: then it looks as if it settled.
    for _ in 0..25 {
        assert!(["open", "settling"].contains(&mount.state("f").as_str()));
        pause(20);
    }
    // SAFETY: within the mapping, which goes afterwards.
    unsafe {
        map.cast::<u8>().add(4096).write_bytes(b'b', 4096);
        munmap(map, 8192).expect("munmap");
    }
    sealed_as(&mount, "f", &[[b'a'; 4096], [b'b'; 4096]].concat());
}

const SCRATCH: &str = "version = 1\n[defaults]\nsettle = \"100ms\"\nsettle_empty = \"300ms\"\nretention = \"1h\"\n\
                       [[rule]]\nmatch = [\"**/*.tmp\", \"stage/**\"]\nseal = \"never\"\n";

#[test]
fn scratch_is_not_sealed_until_it_gets_another_name() {
    let mount = Mount::new("scratch", SCRATCH);
    fs::create_dir(mount.path("stage")).expect("mkdir");
    for name in ["f.tmp", "stage/f"] {
        fs::write(mount.path(name), b"one").expect("write");
        sh(&mount.mnt, &format!("chmod a-w {name}"));
    }
    mount.stays("f.tmp", "open", 600);
    assert_eq!(mount.state("stage/f"), "open");
    for sidecar in ["f.tmp.seal", "stage/f.seal.jsonl"] {
        assert_eq!(errno(fs::metadata(mount.path(sidecar))), libc::ENOENT);
    }
    sh(&mount.mnt, "chmod u+w f.tmp; echo ' two' >> f.tmp; chmod 640 f.tmp");
    fs::rename(mount.path("f.tmp"), mount.path("f")).expect("rename");
    sealed_as(&mount, "f", b"one two\n");
    fs::rename(mount.path("stage/f"), mount.path("g")).expect("rename");
    sealed_as(&mount, "g", b"one");
}

#[test]
fn each_file_of_a_renamed_scratch_folder_settles() {
    let mount = Mount::new("scratch-folder", SCRATCH);
    fs::create_dir_all(mount.path("stage/d/e")).expect("mkdir");
    for name in ["stage/d/a", "stage/d/e/b", "stage/d/e/c.tmp"] {
        fs::write(mount.path(name), name).expect("write");
    }
    mount.stays("stage/d/a", "open", 300);
    fs::rename(mount.path("stage/d"), mount.path("d")).expect("rename");
    sealed_as(&mount, "d/a", b"stage/d/a");
    sealed_as(&mount, "d/e/b", b"stage/d/e/b");
    mount.stays("d/e/c.tmp", "open", 200);
}

#[test]
fn a_hard_link_is_an_independent_copy() {
    let mount = Mount::new("link", SLOW);
    let a = mount.sealed("a", b"one");
    sh(&mount.mnt, "echo -n two > b; chmod 640 b; chown 1234:4321 b; touch -d 2001-02-03T04:05:06Z b");
    for (from, to) in [("a", "a2"), ("b", "b2")] {
        fs::hard_link(mount.path(from), mount.path(to)).expect("link");
        let (from, to) =
            (fs::metadata(mount.path(from)).expect("a"), fs::metadata(mount.path(to)).expect("b"));
        assert_ne!(from.ino(), to.ino());
        assert_eq!((from.nlink(), to.nlink()), (1, 1));
        assert_eq!((from.mode(), from.uid(), from.gid()), (to.mode(), to.uid(), to.gid()));
        assert_eq!((from.mtime(), from.mtime_nsec()), (to.mtime(), to.mtime_nsec()));
    }
    assert_eq!(mount.state("a2"), "settling");
    // Writing one does not write the other.
    append(&mount.path("b2")).write_all(b" more").expect("write");
    mount.ctl_ok(&["seal", "a2", "b2"]);
    sealed_as(&mount, "a2", b"one");
    sealed_as(&mount, "b2", b"two more");
    assert_eq!(fs::read(mount.path("b")).expect("read"), b"two");
    assert_ne!(xattr(&a, "user.seal.index"), xattr(&mount.path("a2"), "user.seal.index"));
    assert!(fs::read_to_string(mount.path("a2.seal")).is_ok());
}

#[test]
fn tar_unpacks_hard_links() {
    let mount = Mount::new("tar", EAGER);
    let script =
        "mkdir in; echo one > in/a; ln in/a in/b; ln -s a in/c; tar -cf x.tar in; tar -xf x.tar -C mnt";
    sh(&mount.dir, script);
    sealed_as(&mount, "in/a", b"one\n");
    sealed_as(&mount, "in/b", b"one\n");
    assert_eq!(fs::read_link(mount.path("in/c")).expect("readlink"), Path::new("a"));
}

#[test]
fn symbolic_links_are_free_and_each_change_is_logged() {
    let mount = Mount::new("symlinks", EAGER);
    sh(&mount.mnt, "ln -s 1.0 current; ln -sfn 1.1 current; ln -s 1.2 next; mv -T next current");
    assert_eq!(fs::read_link(mount.path("current")).expect("readlink"), Path::new("1.2"));
    pause(300);
    fs::remove_file(mount.path("current")).expect("unlink");
    symlink("2.0", mount.path("current")).expect("symlink");
    assert_eq!(errno(fs::symlink_metadata(mount.path("current.seal.jsonl"))), libc::ENOENT);
    let told = || mount.ctl(&["history", "current"]).stdout;
    eventually("every target is in the log", || {
        let told = String::from_utf8(told()).expect("UTF-8");
        ["1.0", "1.1", "1.2", "2.0"].iter().all(|target| told.contains(target))
    });
}

#[test]
fn symbolic_links_are_sealed_where_policy_says_so() {
    let policy = "version = 1\n[defaults]\nsettle = \"100ms\"\nretention = \"1h\"\nsymlinks = \"seal\"\n";
    let mount = Mount::new("sealed-symlinks", policy);
    let link = mount.path("current");
    symlink("1.0", &link).expect("symlink");
    eventually("it is sealed", || {
        mount.sql("select state from artifacts where path = 'current'") == "sealed"
    });
    let statement = fs::read_to_string(mount.path("current.seal.jsonl")).expect("statement");
    assert!(!statement.is_empty());
    assert_eq!(errno(fs::symlink_metadata(mount.path("current.seal"))), libc::ENOENT);
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&link));
    mount.refuses(libc::EPERM, "rename", || fs::rename(&link, mount.path("other")));
    symlink("1.1", mount.path("next")).expect("symlink");
    mount.refuses(libc::EPERM, "rename over", || fs::rename(mount.path("next"), &link));
    assert_eq!(fs::read_link(&link).expect("readlink"), Path::new("1.0"));
    let target = sh(&mount.mnt, "printf %s 1.0 | sha256sum")[..64].to_owned();
    assert_eq!(mount.sql("select sha256 from artifacts where path = 'current'"), target);
}

#[test]
fn modes_owners_and_times_stay_as_the_builder_set_them() {
    let mount = Mount::new("attributes", SLOW);
    let script = "umask 027; echo one > a; echo two > b; chmod 755 b; chown 1234:4321 b; \
                  touch -d '2001-02-03 04:05:06.123456789 UTC' b; setfattr -n user.note -v kept b; \
                  install -m 604 b c";
    sh(&mount.mnt, script);
    let look = |name: &str| {
        let meta = fs::metadata(mount.path(name)).expect("stat");
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino())
    };
    let before = ["a", "b", "c"].map(look);
    mount.ctl_ok(&["seal", "a", "b", "c"]);
    assert_eq!(["a", "b", "c"].map(look), before);
    let found = before.map(|(mode, uid, gid, ..)| (mode & 0o7777, uid, gid));
    assert_eq!(found, [(0o640, 0, 0), (0o755, 1234, 4321), (0o604, 0, 0)]);
    assert_eq!((before[1].3, before[1].4), (981_173_106, 123_456_789));
    assert_eq!(xattr(&mount.path("b"), "user.note").as_deref(), Some("kept"));
    // A copy out is as built, and its owner may write it.
    sh(&mount.dir, "cp -a mnt/a mnt/b .; echo more >> a; diff b mnt/b; test $(stat -c %a b) = 755");
}

#[test]
fn what_changes_nothing_of_a_sealed_file_succeeds() {
    let mount = Mount::new("no-op", SLOW);
    sh(&mount.mnt, "echo one > f; chmod 664 f; chown 1234:4321 f; touch -d 2001-02-03T04:05:06Z f");
    mount.ctl_ok(&["seal", "f"]);
    let before = mount.picture();
    let script = "chmod 664 f; chmod a-w f; chmod 444 f; chmod u-w f; chown 1234:4321 f; chown 1234 f; \
                  chgrp 4321 f; touch -m -d 2001-02-03T04:05:06Z f; touch -r f f";
    sh(&mount.mnt, script);
    truncate(&mount.path("f"), 4).expect("the size that it has");
    assert_eq!(mount.picture(), before);
    mount.refuses(libc::EPERM, "more than write bits", || chmod(&mount.path("f"), 0o440));
}

#[test]
fn set_id_bits_are_not_stored() {
    let mount = Mount::new("set-id", SLOW);
    let mode = |name: &str| {
        let backing = fs::metadata(mount.backing(name)).expect("stat").mode() & 0o7777;
        assert_eq!(fs::metadata(mount.path(name)).expect("stat").mode() & 0o7777, backing);
        backing
    };
    sh(&mount.mnt, "echo one > a; chmod 6755 a; install -m 4711 a b; cp -a a c");
    OpenOptions::new().write(true).create_new(true).mode(0o6755).open(mount.path("d")).expect("create");
    assert_eq!((mode("a"), mode("b"), mode("c"), mode("d")), (0o755, 0o711, 0o755, 0o755));
    mount.ctl_ok(&["seal", "a", "b"]);
    assert_eq!((mode("a"), mode("b")), (0o755, 0o711));
}

/// Seals a file that expires in a moment, and waits for that.
fn expired(mount: &Mount, name: &str, content: &[u8]) -> std::path::PathBuf {
    fs::write(mount.path(name), content).expect("write");
    mount.ctl_ok(&[OsStr::new("seal"), mount.path(name).as_os_str()]);
    mount.until(name, "expired");
    mount.path(name)
}

#[test]
fn an_expired_file_can_be_removed() {
    let mount = Mount::new("expired-rm", BRIEF);
    fs::create_dir(mount.path("d")).expect("mkdir");
    let path = expired(&mount, "d/f", b"one");
    expired(&mount, "d/g", b"two");
    assert_eq!(fs::read(&path).expect("read"), b"one");
    fs::remove_file(&path).expect("unlink");
    assert!(!mount.backing("d/f").exists());
    assert_eq!(mount.sql("select count(*) from artifacts where path = 'd/f'"), "0");
    sh(&mount.mnt, "rm -r d");
    assert!(!mount.backing("d").exists());
    // The name is free.
    mount.sealed("d", b"three");
}

#[test]
fn an_expired_file_can_be_replaced() {
    let mount = Mount::new("expired-over", BRIEF);
    let path = expired(&mount, "f", b"one");
    fs::write(mount.path("new"), b"two").expect("write");
    fs::rename(mount.path("new"), &path).expect("rename over");
    assert_eq!(fs::read(&path).expect("read"), b"two");
    assert_eq!(mount.state("f"), "settling");
    mount.ctl_ok(&["seal", "f"]);
    let history = mount.ctl_ok(&["history", "f"]);
    assert!(history.lines().count() >= 3, "seal, end, seal: {history}");
    // A folder of what has expired can be renamed.
    fs::create_dir(mount.path("d")).expect("mkdir");
    expired(&mount, "d/g", b"three");
    fs::rename(mount.path("d"), mount.path("e")).expect("rename");
    assert_eq!(
        (fs::read(mount.path("e/g")).expect("read"), mount.state("e/g")),
        (b"three".into(), "settling".into())
    );
}

#[test]
fn an_expired_file_can_be_rewritten_from_scratch_and_readers_keep_the_old_bytes() {
    let mount = Mount::new("expired-trunc", BRIEF);
    let path = expired(&mount, "f", b"old bytes");
    let mut reader = File::open(&path).expect("open");
    let mut first = [0; 3];
    reader.read_exact(&mut first).expect("read");
    fs::write(&path, b"new").expect("rewrite");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, " bytes");
    assert_eq!(fs::read(&path).expect("read"), b"new");
    assert_eq!(mount.state("f"), "settling");
    sh(&mount.mnt, "chmod a-w f");
    eventually("it is sealed anew", || {
        let sha256 = xattr(&path, "user.seal.sha256");
        sha256.is_some_and(|sha256| sha256 == sha256sum(&mount.backing("f")))
    });
    assert_eq!(fs::read(&path).expect("read"), b"new");
}

#[test]
fn an_expired_file_that_is_renamed_settles_anew() {
    let mount = Mount::new("expired-mv", BRIEF);
    let path = expired(&mount, "f", b"one");
    let index: u64 = xattr(&path, "user.seal.index").expect("index").parse().expect("a number");
    fs::rename(&path, mount.path("g")).expect("rename");
    assert_eq!(mount.state("g"), "settling");
    assert_eq!(errno(fs::metadata(mount.path("f.seal"))), libc::ENOENT);
    mount.ctl_ok(&["seal", "g"]);
    let again: u64 = xattr(&mount.path("g"), "user.seal.index").expect("index").parse().expect("a number");
    assert!(again > index);
    mount.ctl_ok(&["verify", "g"]);
}

#[test]
fn an_expired_file_is_never_changed_in_place() {
    let mount = Mount::new("expired-in-place", BRIEF);
    let path = expired(&mount, "f", b"one");
    for options in [
        OpenOptions::new().write(true),
        OpenOptions::new().append(true),
        OpenOptions::new().read(true).write(true),
        OpenOptions::new().write(true).create(true),
    ] {
        mount.refuses(libc::EPERM, "open for writing", || options.open(&path));
    }
    mount.refuses(libc::EPERM, "chmod", || chmod(&path, 0o600));
    mount.refuses(libc::EPERM, "chown", || std::os::unix::fs::chown(&path, Some(1), None));
}

#[test]
fn a_restart_loses_nothing() {
    let policy = "version = 1\n[defaults]\nsettle = \"1500ms\"\nsettle_empty = \"1h\"\nretention = \"1h\"\n";
    let mut mount = Mount::new("restart", policy);
    fs::create_dir(mount.path("d")).expect("mkdir");
    mount.sealed("d/sealed", b"one");
    fs::write(mount.path("d/settling"), b"two").expect("write");
    File::create(mount.path("d/empty")).expect("create");
    let names = ["d", "d/sealed", "d/settling", "d/empty"];
    let inos = |mount: &Mount| names.map(|name| fs::metadata(mount.path(name)).expect("stat").ino());
    let (before, seal) = (inos(&mount), fs::read(mount.path("d/sealed.seal")).expect("seal"));
    mount.restart();
    assert_eq!(inos(&mount), before);
    assert_eq!(mount.state("d/sealed"), "sealed");
    assert_eq!(fs::read(mount.path("d/sealed.seal")).expect("seal"), seal);
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(mount.path("d/sealed")));
    assert_eq!(mount.state("d/empty"), "open");
    sealed_as(&mount, "d/settling", b"two");
    assert_eq!(mount.ctl(&["verify", "d/sealed", "d/settling"]).status.code(), Some(0));
}

#[test]
fn a_killed_daemon_loses_no_closed_file_and_what_was_open_is_torn() {
    let policy = "version = 1\n[defaults]\nsettle = \"300ms\"\nretention = \"1h\"\n\
                  [[rule]]\nmatch = [\"slow\"]\nsettle = \"1h\"\n";
    let mut mount = Mount::new("kill", policy);
    mount.sealed("sealed", b"one");
    fs::write(mount.path("closed"), b"two").expect("write");
    fs::write(mount.path("slow"), b"three").expect("write");
    mount.until("slow", "settling");
    sh(&mount.mnt, "echo four > demanded; chmod a-w demanded");
    let writer = Writer::start(&mount.mnt, "exec 3>open; echo half >&3; echo ready; read || true");
    mount.kill();
    writer.kill(libc::SIGKILL);
    mount.start();
    assert_eq!(mount.state("sealed"), "sealed");
    sealed_as(&mount, "closed", b"two");
    sealed_as(&mount, "demanded", b"four\n");
    assert_eq!(mount.state("slow"), "settling");
    assert_eq!(mount.state("open"), "torn");
    assert_eq!(mount.ctl(&["verify", "sealed", "closed", "demanded"]).status.code(), Some(0));
}

#[test]
fn a_daemon_that_is_killed_while_it_seals_goes_on_afterwards() {
    let mut mount = Mount::new("kill-many", "version = 1\n[defaults]\nsettle = \"0s\"\nretention = \"1h\"\n");
    for round in 0..3 {
        for i in 0..100 {
            fs::write(mount.path(format!("{round}-{i}")), format!("{round} {i}")).expect("write");
        }
        // The last close may not have been told to the daemon yet: what it did not hear of is torn.
        eventually("every close is known", || mount.state(format!("{round}-99")) != "open");
        mount.kill();
        mount.start();
    }
    for round in 0..3 {
        for i in 0..100 {
            mount.until(format!("{round}-{i}"), "sealed");
        }
    }
    mount.ctl_ok(&["verify", "--all"]);
    assert_eq!(mount.sql("select count(*) from artifacts"), "300");
}

#[test]
fn sidecar_names_are_no_demand_under_other_triggers() {
    let rule = |seal: &str| format!("[[rule]]\nmatch = [\"{seal}/**\"]\nseal = \"{seal}\"\n");
    let policy = format!("{EAGER}{}{}{}", rule("readonly"), rule("explicit"), rule("never"));
    let mount = Mount::new("triggers", &policy);
    for trigger in ["readonly", "explicit", "never"] {
        fs::create_dir(mount.path(trigger)).expect("mkdir");
        let name = format!("{trigger}/f");
        fs::write(mount.path(&name), b"one").expect("write");
        for suffix in ["seal", "seal.jsonl"] {
            assert_eq!(errno(fs::metadata(mount.path(format!("{name}.{suffix}")))), libc::ENOENT);
            assert_eq!(errno(fs::read(mount.path(format!("{name}.{suffix}")))), libc::ENOENT);
        }
    }
    pause(400);
    for trigger in ["readonly", "explicit", "never"] {
        assert_eq!(mount.state(format!("{trigger}/f")), "open", "{trigger}");
    }
    append(&mount.path("explicit/f")).write_all(b" two").expect("write");
    for trigger in ["readonly", "explicit", "never"] {
        sh(&mount.mnt, &format!("chmod a-w {trigger}/f"));
    }
    sealed_as(&mount, "readonly/f", b"one");
    mount.stays("explicit/f", "open", 300);
    assert_eq!(mount.state("never/f"), "open");
    mount.ctl_ok(&["seal", "explicit/f"]);
    sealed_as(&mount, "explicit/f", b"one two");
    assert!(fs::metadata(mount.path("readonly/f.seal")).is_ok());
}
