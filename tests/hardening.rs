//! What the daemon's processes may do, and what they hand on, as the kernel tells it of them.

mod harness;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Mount, NOBODY, QUICK, SLOW, eventually, run};

/// What serving needs (capabilities(7), linux/capability.h).
const NEEDED: [(u32, &str); 9] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (5, "KILL"),
    (9, "LINUX_IMMUTABLE"),
    (19, "SYS_PTRACE"),
    (21, "SYS_ADMIN"),
    (28, "LEASE"),
];
/// To write as somebody without privileges.
const SETUID: (u32, &str) = (7, "SETUID");

/// The worker of a mount, which must be another than `not`.
fn worker(mount: &Mount, not: u32) -> u32 {
    let pid = || {
        let status = mount.ctl(&["--json", "status"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
        u32::try_from(status["pid"].as_u64()?).ok().filter(|pid| *pid != not)
    };
    eventually("a worker", || pid().is_some());
    pid().expect("a worker")
}

/// Descriptors of a process that a program started by it would have.
fn handed_on(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("descriptors") {
        let number = entry.expect("entry").file_name().into_string().expect("a number");
        // Closed meanwhile.
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = i32::from_str_radix(flags, 8).expect("octal");
        if flags & libc::O_CLOEXEC == 0 && number.parse::<u32>().expect("a number") > 2 {
            let target = fs::read_link(format!("/proc/{pid}/fd/{number}"));
            found.push(format!("{number}: {:?}", target.ok()));
        }
    }
    found
}

#[test]
fn nothing_is_handed_on_to_other_programs() {
    let mount = Mount::new("cloexec", SLOW);
    let mut writer = File::create(mount.path("open")).expect("create");
    std::io::Write::write_all(&mut writer, b"x").expect("write");
    fs::remove_file(mount.path("open")).expect("rm");
    mount.sealed("sealed", b"sealed");
    let _reader = File::open(mount.path("sealed")).expect("open");
    let first = worker(&mount, 0);
    for (who, pid) in [("parent", mount.pid()), ("worker", first)] {
        assert!(handed_on(pid).is_empty(), "{who}: {:?}", handed_on(pid));
    }
    // One that has taken over has inherited, and been sent, descriptors of the last one's.
    let gone = rustix::process::Pid::from_raw(i32::try_from(first).expect("pid")).expect("pid");
    rustix::process::kill_process(gone, rustix::process::Signal::KILL).expect("kill");
    let second = worker(&mount, first);
    for (who, pid) in [("parent", mount.pid()), ("worker", second)] {
        assert!(handed_on(pid).is_empty(), "{who}, after a takeover: {:?}", handed_on(pid));
    }
    let alone = Mount::with("cloexec-alone", SLOW, &["-o", "takeover=off"]);
    alone.sealed("sealed", b"sealed");
    assert!(handed_on(alone.pid()).is_empty(), "alone: {:?}", handed_on(alone.pid()));
}

/// A hexadecimal field of `/proc/PID/status`.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(value.expect(name).trim(), 16).expect("a number")
}

fn check_privileges(pid: u32, who: &str) {
    let needed = NEEDED.iter().fold(0, |set, (number, _)| set | 1u64 << number);
    let most = needed | 1 << SETUID.0;
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let Ok(status) = fs::read_to_string(entry.expect("entry").path().join("status")) else { continue };
        threads += 1;
        for (set, most) in
            [("CapEff", most), ("CapPrm", most), ("CapBnd", most), ("CapInh", 0), ("CapAmb", 0)]
        {
            let found = field(&status, set);
            assert_eq!(found & !most, 0, "{who}: {set} is {found:x}\n{status}");
        }
        assert_eq!(field(&status, "CapPrm") & needed, needed, "{who}\n{status}");
        assert_eq!(field(&status, "NoNewPrivs"), 1, "{who}\n{status}");
    }
    assert!(threads > 0, "{who}");
    // None of the numbers that it goes by is another user's: those could end it.
    let (code, said) = harness::sh_as(NOBODY, Path::new("/"), &format!("kill -0 {pid}"));
    assert_ne!(code, 0, "{who}: nobody may send it signals: {said}");
}

#[test]
fn each_thread_has_the_capabilities_that_it_needs_and_can_get_no_others() {
    let mount = Mount::new("capabilities", QUICK);
    mount.sealed("sealed", b"sealed");
    let first = worker(&mount, 0);
    check_privileges(mount.pid(), "parent");
    check_privileges(first, "worker");
    mount.ctl_ok(&["restart"]);
    check_privileges(worker(&mount, first), "worker that took over");
    let alone = Mount::with("capabilities-alone", QUICK, &["-o", "takeover=off"]);
    check_privileges(alone.pid(), "alone");
}

/// An ext4 in a file, of whose room a part is for root alone.
struct Small {
    dir: PathBuf,
}

impl Small {
    fn new(name: &str) -> Self {
        let dir = harness::scratch(name);
        fs::create_dir(dir.join("fs")).expect("folder");
        let small = Small { dir };
        let image = small.dir.join("image");
        File::create(&image).expect("image").set_len(192 << 20).expect("size");
        run(Command::new("mkfs.ext4").args(["-q", "-m", "25"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(small.root()));
        small
    }

    fn root(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// MiB that are free, and of those what is not for root alone.
    fn free(&self) -> (u64, u64) {
        // What is written is given its blocks.
        run(Command::new("sync").arg("-f").arg(self.root()));
        let stat = rustix::fs::statvfs(self.root()).expect("statvfs");
        ((stat.f_bfree * stat.f_frsize) >> 20, (stat.f_bavail * stat.f_frsize) >> 20)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.root()).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writes as another user until there is no room; each way of taking room is tried.
fn reserve_is_kept(options: &[&str]) {
    let small = Small::new("reserve");
    let mount = Mount::at_with(&small.root().join("sealfs"), SLOW, options);
    fs::create_dir(mount.path("all")).expect("mkdir");
    run(Command::new("chmod").arg("777").arg(mount.path("all")));
    let (before, _) = small.free();
    let reserve = before - small.free().1;
    assert!(reserve > 30, "mkfs keeps {reserve} MiB for root");
    let ways = [
        ("write", "head -c 400M /dev/zero > f"),
        ("append", "for i in $(seq 60); do head -c 1M /dev/zero >> g; done"),
        ("allocate", "for i in $(seq 60); do fallocate -l 1M h$i; done"),
        (
            "map",
            "truncate -s 60M m && python3 -c 'import mmap; m = mmap.mmap(open(\"m\", \"r+b\").fileno(), 0); m[:] = b\"x\" * len(m); m.flush()'",
        ),
        ("copy", "for i in $(seq 60); do cp --reflink=never one two$i; done"),
        ("link", "for i in $(seq 60); do ln one link$i; done"),
        ("small", "for i in $(seq 2000); do head -c 4000 /dev/zero > s$i || exit; done"),
        ("folders", "for i in $(seq 9000); do mkdir d$i || exit; done"),
        ("links", "t=$(printf %04000d 7); for i in $(seq 2000); do ln -s $t l$i || exit; done"),
        (
            "attributes",
            "v=$(printf %03000d 7); for i in $(seq 60); do setfattr -n user.a -v $v s$i || exit; done",
        ),
    ];
    fs::write(mount.path("all/one"), vec![7; 1 << 20]).expect("write");
    run(Command::new("chmod").arg("666").arg(mount.path("all/one")));
    for (way, script) in ways {
        let (_, said) =
            harness::sh_as(NOBODY, &mount.path("all"), &format!("{{ {script}; }} 2>&1 | tail -n 1"));
        let (free, available) = small.free();
        assert!(free + 2 >= reserve, "{way}: {free} MiB free, {reserve} were kept for root ({said})");
        assert!(available < 3, "{way}: {available} MiB left: the attempt proves nothing ({said})");
    }
    // Root's own room is there: for the index, among others.
    fs::write(small.root().join("root"), vec![1; 4 << 20]).expect("room for root");
    fs::remove_file(small.root().join("root")).expect("rm");
    // What was written can be removed, and the daemon lives.
    fs::remove_file(mount.path("all/f")).expect("rm");
    let after = || fs::write(mount.path("all/after"), b"after").is_ok();
    eventually("room for what was removed", after);
    mount.ctl_ok(&["seal".as_ref(), mount.path("all/after").as_os_str()]);
    drop(mount);
    drop(small);
}

#[test]
fn writers_cannot_fill_what_is_kept_for_root_with_passthrough() {
    reserve_is_kept(&[]);
}

#[test]
fn writers_cannot_fill_what_is_kept_for_root_through_the_daemon() {
    reserve_is_kept(&["-o", "passthrough=off"]);
}

fn directive(unit: &str, name: &str) -> String {
    let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {name}")).to_owned()
}

/// What systemd gives the service before it starts, but for systemd itself, which may not run here: the bounding set,
/// `no_new_privs`, the mask, no address families but one.
#[test]
fn a_mount_under_the_settings_of_the_unit_is_seen_by_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/sealfs@.service");
    let unit = fs::read_to_string(path).expect("unit");
    let bounding: Vec<_> =
        directive(&unit, "CapabilityBoundingSet").split(' ').map(|name| name[4..].to_lowercase()).collect();
    let mask = directive(&unit, "UMask");
    assert_eq!(directive(&unit, "NoNewPrivileges"), "yes");
    // SETPCAP is for dropping the rest.
    for name in NEEDED.iter().map(|(_, name)| *name).chain(["SETPCAP"]) {
        assert!(bounding.contains(&name.to_lowercase()), "the unit does not grant {name}");
    }

    let mut mount = Mount::new("unit", QUICK);
    mount.stop();
    let start = mount.dir.join("start");
    fs::write(
        &start,
        format!(
            "#!/bin/sh\numask {mask}\nexec setpriv --no-new-privs --bounding-set=-all,+{} {} \"$@\"\n",
            bounding.join(",+"),
            env!("CARGO_BIN_EXE_sealfs")
        ),
    )
    .expect("script");
    run(Command::new("chmod").arg("755").arg(&start));
    let mount = mount.under(&start);
    check_privileges(mount.pid(), "parent");
    let worker = worker(&mount, 0);
    check_privileges(worker, "worker");
    // This process is another one than those, and so is the one of another user; both see the mount, and what is in it.
    assert!(mount.is_mounted());
    mount.sealed("file", b"seen");
    assert_eq!(harness::sh_as(NOBODY, &mount.mnt, "cat file").1, "seen");
    let fresh = harness::sh_as(NOBODY, &mount.mnt, "ls ..; stat -c %a file file.seal");
    assert!(fresh.1.ends_with("644\n444\n"), "{fresh:?}");
    let outside = fs::read_link("/proc/self/ns/mnt").expect("namespace");
    for pid in [mount.pid(), worker] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("namespace"), outside);
    }
}

#[test]
fn a_private_mount_namespace_would_hide_the_mount() {
    // What the unit must not do, done: so the check above can fail.
    let mut mount = Mount::new("private", QUICK);
    mount.stop();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", env!("CARGO_BIN_EXE_sealfs"), "-f"]);
    command.arg(&mount.store).arg(&mount.mnt).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut daemon = command.spawn().expect("unshare");
    eventually("mounted inside", || {
        fs::read_to_string(format!("/proc/{}/mountinfo", daemon.id()))
            .is_ok_and(|mounts| mounts.contains(mount.mnt.to_str().expect("UTF-8")))
    });
    let seen = mount.is_mounted();
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    daemon.wait().expect("wait");
    assert!(!seen, "a private namespace hides nothing here");
}
