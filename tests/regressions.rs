//! What once went wrong, each by its name.

mod harness;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Mount, NOBODY, QUICK, SLOW, run, sealfs};

const CHURN: Duration = Duration::from_secs(3);

/// Errors that a reader or writer may see while names come and go: the name is not there at this moment.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EEXIST))
}

fn read(path: &std::path::Path) -> io::Result<()> {
    let mut file = fs::File::open(path)?;
    std::thread::yield_now();
    file.read_to_end(&mut Vec::new()).map(drop)
}

/// Runs the jobs side by side for a while and answers with everything that is no absence.
fn side_by_side(jobs: &[&(dyn Fn() -> io::Result<()> + Sync)]) -> (u64, Vec<String>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| {
                scope.spawn(|| {
                    let (mut done, mut wrong) = (0, Vec::new());
                    while !over.load(Ordering::Relaxed) {
                        match job() {
                            Ok(()) => done += 1,
                            Err(error) if is_absence(&error) => {}
                            Err(error) => wrong.push(error.to_string()),
                        }
                    }
                    (done, wrong)
                })
            })
            .collect();
        std::thread::sleep(CHURN);
        over.store(true, Ordering::Relaxed);
        let mut all = (0, Vec::new());
        for thread in threads {
            let (done, wrong) = thread.join().expect("thread");
            all.0 += done;
            all.1.extend(wrong);
        }
        all
    })
}

fn churn(options: &[&str]) {
    let mount = Mount::with("churn", SLOW, options);
    let (path, new) = (mount.path("f"), mount.path("f-new"));
    let (other, again) = (mount.path("g"), mount.path("g"));
    let replace = || {
        fs::write(&new, "content of the next")?;
        fs::rename(&new, &path)
    };
    let make_and_remove = || {
        fs::write(&other, "short-lived")?;
        fs::remove_file(&other)
    };
    let read_replaced = || read(&path);
    let read_removed = || read(&again);
    let (done, wrong) = side_by_side(&[&replace, &make_and_remove, &read_replaced, &read_removed]);
    let some: Vec<_> = wrong.iter().take(5).collect();
    assert!(wrong.is_empty(), "{} of {} calls: {some:?}", wrong.len(), done);
    assert!(done > 100, "{done}");
    let log = mount.log();
    assert!(!log.contains("without history"), "{log}");
}

#[test]
fn files_replaced_and_removed_at_full_speed_give_nobody_an_error() {
    churn(&[]);
}

#[test]
fn files_replaced_and_removed_at_full_speed_give_nobody_an_error_without_passthrough() {
    churn(&["-o", "passthrough=off"]);
}

#[test]
fn a_read_only_mount_tears_nothing_that_it_looks_at() {
    let mut mount = Mount::new("ro-torn", SLOW);
    fs::write(mount.path("f"), "closed well").unwrap();
    mount.stop();
    let mut command = sealfs();
    command.arg("-f").arg("-r").arg(&mount.store).arg(&mount.mnt).env("SEALFS_LOG", "off");
    let mut daemon = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !mount.is_mounted() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"closed well");
    assert_eq!(mount.state("f"), "settling");
    assert!(fs::read(mount.path("f.seal")).is_err(), "nothing is sealed here");
    run(Command::new("umount").arg(&mount.mnt));
    assert!(daemon.wait().unwrap().success());
    mount.start();
    assert_eq!(mount.state("f"), "settling");
    assert!(fs::read(mount.path("f.seal")).is_ok());
}

#[test]
fn a_retained_file_that_is_missing_on_the_raw_disk_keeps_its_name() {
    let mount = Mount::new("missing", QUICK);
    let path = mount.sealed("f", b"retained");
    let backing = mount.backing("f");
    run(Command::new("chattr").arg("-i").arg(&backing));
    fs::remove_file(&backing).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::write(&path, "another").unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(fs::rename(mount.sealed("other", b"x"), &path).is_err());
    fs::write(mount.path("fresh"), "x").unwrap();
    assert!(fs::rename(mount.path("fresh"), &path).is_err());
    assert!(!backing.exists());
    assert!(mount.ctl_ok(&["status", "--json"]).contains("ALTERED"));
    assert_eq!(mount.ctl(&["verify", "--all"]).status.code(), Some(3));
}

#[test]
fn one_user_cannot_take_all_control_connections() {
    let mount = Mount::new("connections", QUICK);
    let socket = Command::new("sh")
        .arg("-c")
        .arg("ls -t /run/sealfs/*.sock | head -n 200")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap();
    // Ours is the one that root's connections are counted on; take places on every socket there is as nobody.
    let script = "import socket,sys,time\nkept=[]\nfor path in sys.argv[1:]:\n    for _ in range(200):\n        s=socket.socket(socket.AF_UNIX)\n        s.settimeout(1)\n        try:\n            s.connect(path)\n            kept.append(s)\n        except OSError:\n            break\nprint('ready',flush=True)\ntime.sleep(20)\n";
    let mut command = Command::new("python3");
    command.arg("-c").arg(script);
    let mine: Vec<&str> = socket.lines().filter(|path| UnixStream::connect(path).is_ok()).collect();
    command.args(mine).stdout(std::process::Stdio::piped());
    std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
    let mut crowd = command.spawn().unwrap();
    let mut ready = [0u8; 5];
    crowd.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let status = mount.ctl(&["status"]);
    crowd.kill().unwrap();
    crowd.wait().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(String::from_utf8_lossy(&status.stdout).contains("running"));
}

#[test]
fn a_store_can_be_mounted_again_at_once() {
    let mut mount = Mount::new("again", QUICK);
    for n in 0..5 {
        fs::write(mount.path(format!("f{n}")), "x").unwrap();
        mount.unmount();
        run(sealfs().arg(&mount.store).arg(&mount.mnt));
    }
    mount.unmount();
    mount.reap();
}

#[test]
fn a_hash_is_told_only_to_those_who_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let mount = Mount::new("hash", QUICK);
    let path = mount.path("secret");
    fs::write(&path, "1234").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    mount.ctl_ok(&["seal", "secret"]);
    mount.until("secret", "sealed");
    let output = mount.ctl_as(NOBODY, &["stat", "--json", "secret"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("sha256"));
    assert!(mount.ctl_ok(&["stat", "--json", "secret"]).contains("sha256"));
}

#[test]
fn offline_verification_passes_over_nothing() {
    let mount = Mount::new("offline", QUICK);
    mount.sealed("a", b"one");
    mount.sealed("b", b"another");
    let out = mount.dir.join("out");
    fs::create_dir(&out).unwrap();
    let trust = mount.dir.join("trust");
    fs::write(&trust, mount.ctl_ok(&["trust"])).unwrap();
    mount.ctl_ok(&["export", "a", "b", out.to_str().unwrap()]);
    let verify = || {
        let arguments = ["verify", "--offline", "--trust", trust.to_str().unwrap(), out.to_str().unwrap()];
        mount.ctl(&arguments).status.code()
    };
    assert_eq!(verify(), Some(0));
    std::os::unix::fs::symlink("/etc/passwd", out.join("planted")).unwrap();
    assert_eq!(verify(), Some(3), "a planted symbolic link");
    fs::remove_file(out.join("planted")).unwrap();
    run(Command::new("mkfifo").arg(out.join("fifo")));
    assert_eq!(verify(), Some(3), "a FIFO");
    fs::remove_file(out.join("fifo")).unwrap();
    let lines = out.join("a.seal.jsonl");
    let good = fs::read(&lines).unwrap();
    for more in [b"garbage\n".to_vec(), fs::read(out.join("b.seal.jsonl")).unwrap(), vec![0; 1000]] {
        fs::set_permissions(&lines, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&lines, [good.clone(), more].concat()).unwrap();
        assert_eq!(verify(), Some(3), "a further line that is not about this file");
    }
    fs::write(&lines, &good).unwrap();
    assert_eq!(verify(), Some(0));
    fs::remove_file(out.join("a")).unwrap();
    assert_ne!(verify(), Some(0), "a file that is gone while its sidecars are there");
}

#[test]
fn a_running_program_is_not_truncated_by_an_open_without_writing() {
    let mount = Mount::new("running", SLOW);
    let program = mount.path("sleep");
    harness::run(Command::new("cp").arg("/bin/sleep").arg(&program));
    let mut running = Command::new(&program).arg("60").spawn().expect("run");
    let open = || fs::File::options().read(true).custom_flags(libc::O_TRUNC).open(&program);
    let answers: Vec<_> = (0..20).map(|_| open().map(drop)).collect();
    let size = fs::metadata(&program).expect("stat").len();
    let alive = running.try_wait().expect("wait").is_none();
    let _ = running.kill();
    let _ = running.wait();
    for answer in answers {
        assert_eq!(harness::errno(answer), libc::ETXTBSY);
    }
    assert_eq!(size, fs::metadata("/bin/sleep").expect("stat").len());
    assert!(alive, "it lost its bytes");
    // Once it has ended, and the kernel has let go of it, it can be emptied this way as on other file systems.
    harness::eventually("truncated", || open().is_ok());
    assert_eq!(fs::metadata(&program).expect("stat").len(), 0);
}

#[test]
fn modes_are_as_asked_whatever_mask_the_daemon_has() {
    let mut mount = Mount::new("mask", SLOW);
    mount.stop();
    let start = mount.dir.join("start");
    let sealfs = env!("CARGO_BIN_EXE_sealfs");
    fs::write(&start, format!("#!/bin/sh\numask 077\nexec {sealfs} \"$@\"\n")).expect("script");
    run(Command::new("chmod").arg("755").arg(&start));
    let mount = mount.under(&start);
    let modes =
        "umask 002; touch f; mkdir d; (umask 077; touch p); umask 0; touch o; stat -c '%n %a' d f o p";
    assert_eq!(harness::sh(&mount.mnt, modes), "d 775\nf 664\no 666\np 600\n");
    for (daemon, options) in [("on", &[][..]), ("off", &["-o", "passthrough=off"][..])] {
        let mount = Mount::with("mask-usual", SLOW, options);
        assert_eq!(harness::sh(&mount.mnt, modes), "d 775\nf 664\no 666\np 600\n", "{daemon}");
    }
}
