//! Time on the real programs: the wall clock leaps, forwards and backwards (libfaketime), the boot clock leaps (a time
//! namespace), the boot is another one (another file over `boot_id`); across restarts and reboots of a host that in
//! truth goes on. What has been retained stays retained.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::Mount;
use harness::image::Image;

/// Retained for longer than is ever believed of the time in which a host was off.
const POLICY: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"10d\"\n\
                      [[rule]]\nmatch = [\"brief*\"]\nretention = \"2d\"\nsettle = \"1h\"\n";
const DAY: i64 = 86_400;
/// How far times may be apart that are the same, in seconds: as long as a slow machine takes between two looks.
const SAME: i64 = 60;

/// What the daemon is to believe of the host. Days may be negative.
#[derive(Clone, Copy)]
struct Host {
    boot: u32,
    wall_days: i64,
    up_days: i64,
}

const NOW: Host = Host { boot: 0, wall_days: 0, up_days: 0 };

/// A library that hides the offsets of a time namespace from a program: the daemon refuses to start in one, and here the
/// namespace stands for a host that has been up for longer.
fn hides_offsets(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("hide.c"), dir.join("hide.so"));
    let text = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        #include <string.h>
        #define HIDE(NAME) int NAME(const char *path, int flags, ...) { \
            va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
            if (!strcmp(path, "/proc/self/timens_offsets")) { errno = ENOENT; return -1; } \
            int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME); return next(path, flags, mode); }
        HIDE(open) HIDE(open64)
    "#;
    fs::write(&source, text).expect("source");
    harness::run(Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"));
    library
}

/// Where Debian and Ubuntu have it. What does not exist is skipped, and told.
fn libfaketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let found = folders.map(|dir| dir.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "libfaketime is missing: install faketime");
    if found.is_none() {
        eprintln!("SKIPPED: no libfaketime: install faketime");
    }
    found
}

/// A store and its daemon, which live where the host is as told.
struct Scene {
    mount: Mount,
    /// Mounts in it are seen on both sides; all else that is mounted for the daemon is for it alone.
    shared: Image,
    /// For `LD_PRELOAD`.
    preload: String,
    host: Host,
    /// How often it began again.
    turns: u32,
}

impl Scene {
    fn new() -> Option<Self> {
        let faketime = libfaketime()?;
        let shared = Image::new("ext4", 64, &[]);
        let preload = format!("{} {}", faketime.display(), hides_offsets(&shared.root()).display());
        harness::run(Command::new("mount").arg("--make-shared").arg(shared.root()));
        let mount = Mount::at(&shared.root().join("sealfs"), POLICY).stopped();
        let program = Self::program(&shared);
        let scene = Scene { mount, shared, preload, host: NOW, turns: 0 };
        scene.set(NOW);
        Some(Scene { mount: scene.mount.under(&program), ..scene })
    }

    fn program(shared: &Image) -> PathBuf {
        shared.root().join("sealfs-elsewhere")
    }

    /// Writes the program that starts the daemon on such a host.
    fn set(&self, host: Host) {
        let program = Self::program(&self.shared);
        let boot = program.with_file_name(format!("boot-{}", host.boot));
        fs::write(&boot, format!("{:08x}-0000-4000-8000-000000000000\n", host.boot)).expect("write");
        let script = format!(
            "#!/bin/sh\nset -eu\n\
             exec unshare --mount --propagation unchanged --time --boottime {up} sh -euc '\n\
             mount --make-private /proc\n\
             mount --bind {boot} /proc/sys/kernel/random/boot_id\n\
             export LD_PRELOAD=\"{preload}\" FAKETIME={wall:+}d FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1\n\
             exec {sealfs} \"$@\"' sealfs \"$@\"\n",
            up = host.up_days * DAY,
            boot = boot.display(),
            preload = self.preload,
            wall = host.wall_days,
            sealfs = env!("CARGO_BIN_EXE_sealfs"),
        );
        fs::write(&program, script).expect("write");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// The daemon ends, well or killed, and begins again on such a host. Time must not have run backwards.
    fn again(&mut self, host: Host, killed: bool) {
        let before = self.time();
        if killed {
            self.mount.kill();
        } else {
            self.mount.stop();
        }
        self.host = host;
        self.set(host);
        self.mount.start();
        let after = self.time();
        assert!(after >= before, "time ran backwards by {} s", before - after);
        // One more file, to see what is said of its time.
        self.turns += 1;
        self.mount.sealed(format!("sealed-{}", self.turns), b"x");
        assert_eq!(
            self.mount.sql(
                "select count(*) from (select sealed_at < lag(sealed_at) over (order by log_index) as back \
                 from artifact) where back"
            ),
            "0",
            "sealed_at decreases along the log"
        );
    }

    fn status(&self) -> serde_json::Value {
        self.mount.ctl_json(&["status"]).remove(0)
    }

    /// Sealfs time, in seconds.
    fn time(&self) -> i64 {
        seconds(self.status()["time"].as_str().expect("time"))
    }

    /// Runs `sealctl` where the daemon is.
    fn ctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.mount.pid().to_string(), "--mount", "--time"]);
        command.arg("env").arg(format!("LD_PRELOAD={}", self.preload));
        command.arg(format!("FAKETIME={:+}d", self.host.wall_days));
        command.args(["FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1", env!("CARGO_BIN_EXE_sealctl")]);
        command.arg("--store").arg(&self.mount.store).args(args).output().expect("nsenter")
    }

    #[track_caller]
    fn ctl_json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.ctl(&[&["--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    #[track_caller]
    fn retained(&self, name: &str) {
        assert_eq!(self.mount.state(name), "sealed", "{name}");
        let told = fs::remove_file(self.mount.path(name)).expect_err("retained");
        assert_eq!(told.raw_os_error(), Some(libc::EPERM), "{name}: {told}");
    }

    fn end(mut self) {
        assert!(self.ctl(&["verify", "--all"]).status.success());
        self.mount.ctl_ok(&["log", "check"]);
        self.mount.stop();
    }
}

/// Seconds since the epoch of an RFC 3339 time, by another program than ours.
fn seconds(time: &str) -> i64 {
    harness::run(Command::new("date").args(["+%s", "-d", time])).trim().parse().expect("a number")
}

fn close_to(what: i64, wanted: i64) -> bool {
    (what - wanted).abs() <= SAME
}

#[test]
fn the_boot_clock_alone_counts_while_the_host_is_up() {
    let Some(mut scene) = Scene::new() else { return };
    assert!(Path::new("/proc/self/ns/time").exists());
    scene.mount.sealed("f", b"for ten days");
    scene.mount.sealed("brief", b"for two");
    let begin = scene.time();
    let wall = |scene: &Scene| seconds(scene.ctl_json(&["clock", "show"])["wall"].as_str().expect("wall"));
    for (days, killed) in [(400, false), (36_500, true), (-400, false), (-15_000, true), (0, false)] {
        let host = Host { wall_days: days, ..NOW };
        let true_wall = seconds("now");
        scene.again(host, killed);
        // It is seen, and changes nothing.
        assert!(close_to(wall(&scene), true_wall + days * DAY), "the wall clock was not moved");
        assert!(close_to(scene.time(), begin), "{days} days: {} s", scene.time() - begin);
        assert_eq!(scene.status()["clock_doubted_seconds"], 0);
        scene.retained("f");
        scene.retained("brief");
    }
    // A host that was up, or slept, for so long.
    scene.again(Host { up_days: 3, wall_days: -20, ..NOW }, false);
    assert!(close_to(scene.time(), begin + 3 * DAY), "{}", scene.time() - begin);
    assert_eq!(scene.mount.state("brief"), "expired");
    fs::remove_file(scene.mount.path("brief")).expect("its time is over");
    scene.retained("f");
    // The boot clock of a boot cannot go back: so that is another boot, whatever it says.
    scene.again(NOW, true);
    assert!(close_to(scene.time(), begin + 3 * DAY + 7 * DAY), "{}", scene.time() - begin);
    scene.end();
}

/// Reboots, at each of which the wall clock has moved on by so many days; answers with the seconds that counted.
fn reboots(scene: &mut Scene, days: &[i64]) -> i64 {
    let begin = scene.time();
    for (n, days) in days.iter().enumerate() {
        let host = Host {
            boot: scene.host.boot + 1,
            wall_days: scene.host.wall_days + days,
            // Where the boot clock begins makes no difference.
            up_days: i64::try_from(n % 3).expect("small"),
        };
        scene.again(host, n % 2 == 1);
    }
    scene.time() - begin
}

#[test]
fn five_reboots_free_no_more_than_one_leap() {
    let Some(mut scene) = Scene::new() else { return };
    scene.mount.sealed("f", b"for ten days");
    let five = reboots(&mut scene, &[6; 5]);
    assert!(close_to(five, 7 * DAY), "{five} s");
    scene.retained("f");
    assert!(scene.status()["warnings"].to_string().contains("clock accept"), "{}", scene.status());
    let shown = scene.ctl_json(&["clock", "show"]);
    assert!(close_to(shown["believed_seconds"].as_i64().expect("a number"), 7 * DAY), "{shown}");
    assert!(close_to(shown["doubted_seconds"].as_i64().expect("a number"), 23 * DAY), "{shown}");
    assert!(close_to(seconds(shown["wall"].as_str().expect("wall")), seconds("now") + 30 * DAY), "{shown}");

    // The budget is used up: nothing counts any more, and nothing is given back by a clock that is set right.
    let (back, more) = (reboots(&mut scene, &[-30]), reboots(&mut scene, &[30, 365]));
    assert!(back.abs() <= SAME && more.abs() <= SAME, "{back} {more}");
    scene.retained("f");
    // The clock that was set right took its doubt back; what leapt after it is doubted, as far as the wall clock says.
    let doubted = (30 + 365 - 7) * DAY;

    let refused = scene.mount.ctl_as(harness::NOBODY, &["clock", "accept"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let before = scene.time();
    let accepted = scene.ctl_json(&["clock", "accept"]);
    assert!(close_to(accepted["accepted_seconds"].as_i64().expect("a number"), doubted), "{accepted}");
    assert!(close_to(scene.time(), before + doubted));
    let log = scene.mount.ctl_ok(&["log", "show"]);
    assert!(log.contains("s accepted by uid 0"), "{log}");
    assert_eq!(scene.mount.state("f"), "expired");
    assert!(!scene.status()["warnings"].to_string().contains("clock accept"));
    // Once: and what was accepted is kept.
    assert_eq!(scene.ctl_json(&["clock", "accept"])["accepted_seconds"], 0);
    scene.mount.sealed("g", b"for ten days");
    let five = reboots(&mut scene, &[6; 5]);
    assert!(close_to(five, 7 * DAY), "{five} s after the acceptance");
    scene.retained("g");
    scene.end();
}

#[test]
fn one_leap_and_reboots_backwards() {
    let Some(mut scene) = Scene::new() else { return };
    scene.mount.sealed("f", b"for ten days");
    let back = reboots(&mut scene, &[-30, -365, -10_000]);
    assert!(back.abs() <= SAME, "{back} s");
    assert_eq!(scene.status()["clock_doubted_seconds"], 0);
    let one = reboots(&mut scene, &[20_000]);
    assert!(close_to(one, 7 * DAY), "{one} s");
    scene.retained("f");
    scene.end();
}

#[test]
fn nothing_starts_in_a_time_namespace() {
    let mut mount = Mount::new("timens", POLICY);
    mount.sealed("f", b"for ten days");
    mount.stop();
    let elsewhere = |program: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", "252288000", "--fork", program]).args(args);
        let output = command.output().expect("unshare");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{program}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("time namespace") && told.contains("252288000"), "{told}");
    };
    let [store, mnt] = [&mount.store, &mount.mnt].map(|path| path.to_str().expect("UTF-8").to_owned());
    for more in [&[][..], &["-f"], &["-f", "-o", "takeover=off"]] {
        elsewhere(env!("CARGO_BIN_EXE_sealfs"), &[more, &[&*store, &*mnt]].concat());
    }
    // What judges retention without a daemon, too.
    elsewhere(env!("CARGO_BIN_EXE_sealctl"), &["destroy", &store]);
    assert!(!mount.is_mounted());
    mount.start();
    assert_eq!(mount.state("f"), "sealed");
    mount.stop();
}

#[test]
fn a_clock_row_that_was_edited_frees_nothing() {
    let mut mount = Mount::new("clock-row", POLICY);
    let path = mount.sealed("f", b"for ten days");
    for edit in [
        "update clock set sealfs = sealfs + 86400000000000 * 365",
        "update clock set boottime = boottime - 86400000000000 * 365",
        "update clock set boot_id = 'another', wall = wall - 86400000000000 * 365, believed = 0",
        "update clock set doubted = 86400000000000 * 365",
        "update clock set signature = null, sealfs = sealfs + 86400000000000 * 365",
        "delete from clock",
    ] {
        mount.stop();
        harness::run(Command::new("sqlite3").arg(mount.store.join("index.db")).arg(edit));
        mount.start();
        let status = mount.ctl_ok(&["status"]);
        assert!(status.contains("the clock's row in index.db is not signed"), "{edit}: {status}");
        mount.ctl_ok(&["clock", "accept"]);
        let told = fs::remove_file(&path).expect_err("retained");
        assert_eq!(told.raw_os_error(), Some(libc::EPERM), "{edit}: {told}");
        let view = mount.ctl_json(&["status"]).remove(0);
        let [time, wall] = ["time", "wall"].map(|name| seconds(view[name].as_str().expect("time")));
        assert!(time <= wall + SAME, "{edit}: {time} after {wall}");
    }
    mount.restart();
    assert!(!mount.ctl_ok(&["status"]).contains("not signed"), "the next row is signed");
    mount.stop();
}
