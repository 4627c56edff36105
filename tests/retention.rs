//! Contract, sections 2, 3, 6 and 7: how long what is sealed stays, and who may change that.

mod harness;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{Mount, NOBODY, SLOW, eventually, sealctl, sh, sh_as, xattr};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Sealed on demand only; `ranged` lets writers choose, `brief` expires soon, `strict` is compliance.
const RULES: &str = r#"
version = 1
[defaults]
settle = "1h"
retention = "1h"
[[rule]]
match = ["ranged/**"]
retention = "2h"
min = "1h"
max = "1d"
[[rule]]
match = ["brief/**"]
retention = "1s"
[[rule]]
match = ["strict/**"]
retention = "3h"
mode = "compliance"
"#;

fn mounted(name: &str) -> Mount {
    let mount = Mount::new(name, RULES);
    for dir in ["ranged", "brief", "strict"] {
        fs::create_dir(mount.path(dir)).expect("mkdir");
    }
    mount
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("before 2262")
}

/// Seconds since the epoch of an RFC 3339 time, rounded up.
fn seconds(time: &str) -> i64 {
    let time: jiff::Timestamp = time.parse().unwrap_or_else(|error| panic!("{time}: {error}"));
    assert!(time.to_string().ends_with('Z'));
    time.as_second() + i64::from(time.subsec_nanosecond() > 0)
}

fn attribute(mount: &Mount, name: &str, attribute: &str) -> String {
    xattr(&mount.path(name), &format!("user.seal.{attribute}"))
        .unwrap_or_else(|| panic!("{name}: {attribute}"))
}

/// Until when a file is retained: the same by xattr, atime, `stat` and SQL.
#[track_caller]
fn until(mount: &Mount, name: &str) -> i64 {
    let retain_until = attribute(mount, name, "retain_until");
    let until = seconds(&retain_until);
    assert_eq!(fs::metadata(mount.path(name)).expect("stat").atime(), until, "st_atime");
    assert_eq!(mount.stat(name)["retain_until"], retain_until.as_str());
    let sql = mount.sql(&format!("select retain_until from artifacts where path = '{name}'"));
    assert_eq!(seconds(&sql), until);
    until
}

/// How long a file is retained after its seal: this many seconds, rounded up to a whole one.
#[track_caller]
fn retained_for(mount: &Mount, name: &str, wanted: i64) {
    let sealed_at = seconds(&attribute(mount, name, "sealed_at"));
    let found = until(mount, name) - sealed_at;
    assert!((found - wanted).abs() <= 1, "{name}: retained for {found} s after the seal, not {wanted}");
}

/// Until when, as `touch` and `sealctl` are told.
fn touch(mount: &Mount, name: &str, seconds: i64) {
    sh(&mount.mnt, &format!("touch -a -d @{seconds} {name}"));
}

#[test]
fn retention_is_the_rules() {
    let mount = mounted("rule");
    for (name, wanted, mode) in [
        ("f", HOUR, "governance"),
        ("ranged/f", 2 * HOUR, "governance"),
        ("brief/f", 1, "governance"),
        ("strict/f", 3 * HOUR, "compliance"),
    ] {
        mount.sealed_or_expired(name);
        retained_for(&mount, name, wanted);
        assert_eq!(attribute(&mount, name, "mode"), mode);
        let age = now() - seconds(&attribute(&mount, name, "sealed_at"));
        assert!((-1..30).contains(&age), "{name}: sealed {age} s ago");
    }
}

#[test]
fn a_writer_may_ask_for_retention_with_the_access_time() {
    let mount = mounted("snaplock");
    let (long, short, fits) = (now() + 30 * DAY, now() + 60, now() + 5 * HOUR);
    for (name, asked) in [("ranged/long", long), ("ranged/short", short), ("ranged/fits", fits), ("f", fits)]
    {
        fs::write(mount.path(name), b"content").expect("write");
        touch(&mount, name, asked);
        sh(&mount.mnt, &format!("chmod a-w {name}"));
        mount.until(name, "sealed");
    }
    retained_for(&mount, "ranged/long", DAY);
    retained_for(&mount, "ranged/short", HOUR);
    assert_eq!(until(&mount, "ranged/fits"), fits);
    // Where policy does not let them choose, they do not.
    retained_for(&mount, "f", HOUR);
}

#[test]
fn a_request_survives_a_restart_and_a_rename() {
    let mut mount = mounted("request-kept");
    let asked = now() + 5 * HOUR;
    fs::write(mount.path("ranged/f"), b"content").expect("write");
    touch(&mount, "ranged/f", asked);
    mount.restart();
    fs::rename(mount.path("ranged/f"), mount.path("ranged/g")).expect("rename");
    mount.ctl_ok(&["seal", "ranged/g"]);
    assert_eq!(until(&mount, "ranged/g"), asked);
}

#[test]
fn copying_both_times_asks_for_nothing() {
    let mount = mounted("both-times");
    let future = now() + 20 * HOUR;
    sh(
        &mount.dir,
        &format!(
            "echo one > a; touch -d @{future} a; cp -a a mnt/ranged/cp; tar -cf t.tar a; \
             tar -xf t.tar -C mnt/ranged; touch -d @{future} mnt/ranged/touch"
        ),
    );
    sh(&mount.mnt, "echo two > ranged/past; touch -a -d 2001-01-01 ranged/past; echo x >> ranged/touch");
    for name in ["ranged/cp", "ranged/a", "ranged/past", "ranged/touch"] {
        mount.ctl_ok(&["seal", name]);
        retained_for(&mount, name, 2 * HOUR);
    }
    assert_eq!(fs::metadata(mount.path("ranged/cp")).expect("stat").mtime(), future);
}

#[test]
fn retention_is_extended_by_a_later_access_time_and_never_shortened() {
    let mount = mounted("extend");
    mount.sealed("ranged/f", b"content");
    mount.sealed("f", b"content");
    let first = until(&mount, "ranged/f");
    touch(&mount, "ranged/f", first + HOUR);
    assert_eq!(until(&mount, "ranged/f"), first + HOUR);
    let set = |name: &str, seconds: i64| {
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let omit = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: omit };
        let flags = rustix::fs::AtFlags::empty();
        harness::os(rustix::fs::utimensat(rustix::fs::CWD, mount.path(name), &times, flags))
    };
    mount.refuses(libc::EPERM, "an earlier date", || set("ranged/f", first));
    mount.refuses(libc::EPERM, "a past date", || set("ranged/f", 1));
    // The same date changes nothing and succeeds.
    set("ranged/f", first + HOUR).expect("no change");
    let _ = set("ranged/f", now() + 30 * DAY);
    let sealed_at = seconds(&attribute(&mount, "ranged/f", "sealed_at"));
    assert!(until(&mount, "ranged/f") <= sealed_at + DAY + 1, "beyond max");
    let other = until(&mount, "f");
    mount.refuses(libc::EPERM, "max is reached", || set("f", other + DAY));
    assert_eq!(mount.ctl(&["verify", "ranged/f", "f"]).status.code(), Some(0));
}

#[test]
fn an_owner_may_extend_and_others_may_not() {
    let mount = mounted("owner");
    fs::set_permissions(mount.path("ranged"), fs::Permissions::from_mode(0o777)).expect("chmod");
    let (code, text) = sh_as(NOBODY, &mount.mnt, "echo one > ranged/f; echo two > ranged/g");
    assert_eq!(code, 0, "{text}");
    let code = |uid, args: &[&str]| mount.ctl_as(uid, args).status.code().expect("a code");
    assert_eq!(code(1234, &["seal", "ranged/f"]), 4);
    assert_eq!(mount.state("ranged/f"), "settling");
    assert_eq!(code(NOBODY, &["seal", "ranged/f", "ranged/g"]), 0);
    let first = until(&mount, "ranged/f");
    let (exit, _) = sh_as(1234, &mount.mnt, &format!("touch -a -d @{} ranged/f", first + HOUR));
    assert_ne!(exit, 0);
    assert_eq!(code(1234, &["retain", "ranged/f", "--for", "5h"]), 4);
    assert_eq!(until(&mount, "ranged/f"), first);
    let (exit, text) = sh_as(NOBODY, &mount.mnt, &format!("touch -a -d @{} ranged/f", first + HOUR));
    assert_eq!(exit, 0, "{text}");
    assert_eq!(until(&mount, "ranged/f"), first + HOUR);
    assert_eq!(code(NOBODY, &["retain", "ranged/f", "--for", "5h"]), 0);
    assert!(until(&mount, "ranged/f") > first + 2 * HOUR);
    // The rest is for the roles.
    let last = until(&mount, "ranged/f");
    assert_eq!(code(NOBODY, &["retain", "ranged/f", "--for", "1h"]), 4);
    let shorten = ["retain", "ranged/f", "--for", "1h", "--bypass-governance", "--reason", "mine"];
    assert_eq!(code(NOBODY, &shorten), 4);
    assert_eq!(code(NOBODY, &["hold", "add", "case", "ranged/f"]), 4);
    assert_eq!(code(NOBODY, &["purge"]), 4);
    assert_eq!(until(&mount, "ranged/f"), last);
    assert_eq!(xattr(&mount.path("ranged/f"), "user.seal.hold"), None);
}

#[test]
fn nobody_asks_about_what_they_cannot_reach() {
    let mount = mounted("reach");
    fs::create_dir(mount.path("private")).expect("mkdir");
    fs::set_permissions(mount.path("private"), fs::Permissions::from_mode(0o700)).expect("chmod");
    sh(&mount.mnt, "echo one > private/f; chown 65534 private/f");
    for args in [&["seal", "private/f"][..], &["stat", "private/f"], &["why", "private/f"]] {
        let output = mount.ctl_as(NOBODY, args);
        assert_eq!(output.status.code(), Some(4), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(mount.state("private/f"), "settling");
}

#[test]
fn a_role_of_policy_may_do_what_root_may() {
    let policy = format!("{SLOW}[roles]\ngovernance = [\"uid:1234\"]\n");
    let mount = Mount::new("role", &policy);
    mount.sealed("f", b"content");
    let code = |uid, args: &[&str]| mount.ctl_as(uid, args).status.code().expect("a code");
    assert_eq!(code(1234, &["hold", "add", "case", "f"]), 0);
    assert_eq!(code(1235, &["hold", "remove", "case", "f"]), 4);
    assert_eq!(attribute(&mount, "f", "hold"), "case");
    assert_eq!(code(1234, &["hold", "remove", "case", "f"]), 0);
    assert_eq!(code(1234, &["retain", "f", "--for", "1m", "--bypass-governance", "--reason", "short"]), 0);
    assert!(until(&mount, "f") < now() + 120);
}

#[test]
fn a_hold_keeps_what_would_have_expired() {
    let mount = mounted("hold");
    let path = mount.path("brief/f");
    fs::write(&path, b"content").expect("write");
    mount.ctl_ok(&["seal", "brief/f"]);
    mount.ctl_ok(&["hold", "add", "case-1", "brief/f"]);
    mount.ctl_ok(&["hold", "add", "case-2", "brief/f"]);
    let held = attribute(&mount, "brief/f", "hold");
    assert!(held.contains("case-1") && held.contains("case-2"), "{held}");
    let end = until(&mount, "brief/f");
    eventually("its time is over", || now() > end + 1);
    assert_eq!(mount.state("brief/f"), "sealed");
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
    mount.refuses(libc::EPERM, "rewrite", || fs::write(&path, b"new"));
    mount.refuses(libc::EPERM, "rename", || fs::rename(&path, mount.path("g")));
    mount.refuses(libc::EPERM, "rename of its folder", || fs::rename(mount.path("brief"), mount.path("b")));
    assert!(mount.why("brief/f")[0]["reason"].as_str().expect("reason").contains("case-1"));
    assert_eq!(mount.ctl_json(&["purge", "--dry-run"]).len(), 0);
    assert_eq!(mount.ctl_json(&["status"])[0]["held"], 1);
    mount.ctl_ok(&["hold", "remove", "case-1", "brief/f"]);
    assert_eq!(mount.state("brief/f"), "sealed");
    mount.ctl_exit(&["hold", "remove", "case-1", "brief/f"], 5);
    mount.ctl_ok(&["hold", "remove", "case-2", "brief/f"]);
    assert_eq!(mount.state("brief/f"), "expired");
    fs::remove_file(&path).expect("unlink");
}

#[test]
fn a_governance_retention_is_shortened_only_with_a_bypass_and_a_reason() {
    let mount = mounted("governance");
    let path = mount.sealed("f", b"content");
    let first = until(&mount, "f");
    mount.ctl_exit(&["retain", "f", "--for", "1s"], 4);
    mount.ctl_exit(&["retain", "f", "--for", "1s", "--bypass-governance"], 2);
    mount.ctl_exit(&["retain", "f", "--for", "1s", "--bypass-governance", "--reason", " "], 2);
    mount.ctl_exit(&["retain", "f", "--for", "1s", "--reason", "why"], 2);
    mount.ctl_exit(&["retain", "f"], 2);
    assert_eq!(until(&mount, "f"), first);
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
    mount.ctl_ok(&["retain", "f", "--for", "1s", "--bypass-governance", "--reason", "wrong build 4711"]);
    assert!(until(&mount, "f") < first);
    mount.until("f", "expired");
    let history = mount.ctl_ok(&["--json", "history", "f"]);
    assert!(history.contains("wrong build 4711"), "{history}");
    assert_eq!(mount.ctl(&["verify", "f"]).status.code(), Some(0));
    fs::remove_file(&path).expect("unlink");
}

#[test]
fn a_compliance_retention_is_shortened_by_nobody() {
    let mount = mounted("compliance");
    let path = mount.sealed("strict/f", b"content");
    let first = until(&mount, "strict/f");
    mount.ctl_exit(&["retain", "strict/f", "--for", "1s"], 4);
    mount.ctl_exit(&["retain", "strict/f", "--for", "1s", "--bypass-governance", "--reason", "please"], 4);
    let error = mount.ctl_exit(
        &["retain", "strict/f", "--until", "2001-01-01", "--bypass-governance", "--reason", "x"],
        4,
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("sealctl: strict/f: "), "{error}");
    assert_eq!(until(&mount, "strict/f"), first);
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
    mount.ctl_ok(&["retain", "strict/f", "--for", "5h"]);
    assert!(until(&mount, "strict/f") > first);
}

#[test]
fn a_new_policy_never_shortens_what_is_sealed() {
    let mount = mounted("policy");
    let path = mount.sealed("f", b"content");
    mount.sealed("strict/f", b"content");
    let before = (until(&mount, "f"), until(&mount, "strict/f"));
    let digest = || mount.ctl_json(&["status"])[0]["policy"].as_str().expect("policy").to_owned();
    let first = digest();
    fs::write(
        mount.store.join("policy.toml"),
        "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1s\"\n",
    )
    .expect("policy");
    eventually("the new policy is in force", || digest() != first);
    fs::write(mount.path("new"), b"content").expect("write");
    mount.ctl_ok(&["seal", "new"]);
    mount.until("new", "expired");
    assert_eq!((until(&mount, "f"), until(&mount, "strict/f")), before);
    assert_eq!(attribute(&mount, "strict/f", "mode"), "compliance");
    mount.refuses(libc::EPERM, "unlink", || fs::remove_file(&path));
    mount.ctl_exit(&["retain", "strict/f", "--for", "1s", "--bypass-governance", "--reason", "x"], 4);
    // A mistake in it changes nothing, and is told.
    let second = digest();
    fs::write(mount.store.join("policy.toml"), "version = 1\n[defaults]\nretention = \"soon\"\n")
        .expect("policy");
    let warned = || mount.ctl_json(&["status"])[0]["warnings"].to_string().contains("policy.toml:3");
    eventually("the mistake is told with its place", warned);
    assert_eq!(digest(), second);
}

#[test]
fn purge_removes_what_has_expired_and_nothing_else() {
    let mount = mounted("purge");
    fs::create_dir(mount.path("brief/d")).expect("mkdir");
    for name in ["brief/a", "brief/d/b", "keep", "brief/unsealed"] {
        fs::write(mount.path(name), name).expect("write");
    }
    mount.ctl_ok(&["seal", "brief/a", "brief/d/b", "keep"]);
    mount.until("brief/a", "expired");
    mount.until("brief/d/b", "expired");
    let paths = |args: &[&str]| -> Vec<String> {
        let mut paths: Vec<String> =
            mount.ctl_json(args).iter().map(|item| item["path"].as_str().expect("path").to_owned()).collect();
        paths.sort();
        paths
    };
    let before = mount.picture();
    assert_eq!(paths(&["purge", "--dry-run"]), ["brief/a", "brief/d/b"]);
    assert_eq!(paths(&["purge", "--dry-run", "brief/d"]), ["brief/d/b"]);
    // Of a file that was named the reason is told, with the code of what is retained.
    for dry_run in [&[][..], &["--dry-run"]] {
        let told = mount.ctl_exit(&[&["purge", "keep"], dry_run].concat(), 4);
        assert!(told.contains("keep: retained until"), "{told}");
    }
    mount.ctl_exit(&["purge", "brief/unsealed"], 5);
    assert_eq!(mount.picture(), before);
    assert_eq!(paths(&["purge", "brief/d"]), ["brief/d/b"]);
    assert!(!mount.path("brief/d/b").exists() && !mount.backing("brief/d/b").exists());
    assert!(mount.path("brief/a").exists());
    assert_eq!(paths(&["purge"]), ["brief/a"]);
    assert!(!mount.path("brief/a").exists() && mount.path("keep").exists());
    assert!(mount.path("brief/unsealed").exists());
    assert_eq!(paths(&["purge"]), [""; 0]);
    assert_eq!(mount.sql("select path from artifacts"), "keep");
    // What is shortened to now is over now.
    mount.ctl_ok(&["retain", "keep", "--for", "0s", "--bypass-governance", "--reason", "wrong build"]);
    assert_eq!(mount.state("keep"), "expired");
    assert_eq!(paths(&["purge", "keep"]), ["keep"]);
    assert!(mount.ctl_ok(&["--json", "history", "brief/a"]).contains("purge"));
    mount.sealed_or_expired("brief/a");
}

#[test]
fn expired_files_are_swept_where_policy_says_so() {
    let policy = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"1s\"\n\
                  [[rule]]\nmatch = [\"sweep/**\"]\nexpired = \"delete\"\n";
    let mount = Mount::new("sweep", policy);
    fs::create_dir(mount.path("sweep")).expect("mkdir");
    for name in ["sweep/f", "sweep/held", "kept"] {
        mount.sealed_or_expired(name);
    }
    mount.ctl_ok(&["hold", "add", "case", "sweep/held"]);
    let end = Instant::now() + Duration::from_secs(60);
    while mount.backing("sweep/f").exists() {
        assert!(Instant::now() < end, "not swept:\n{}", mount.log());
        harness::pause(200);
    }
    assert!(!mount.path("sweep/f").exists());
    assert_eq!((mount.state("kept"), mount.state("sweep/held")), ("expired".into(), "sealed".into()));
}

#[test]
fn exit_codes_tell_how_a_command_ended() {
    let mut mount = mounted("exit-codes");
    mount.sealed("f", b"content");
    fs::write(mount.path("open"), b"content").expect("write");
    for (code, args) in [
        (0, &["stat", "f"][..]),
        (0, &["ls"]),
        (2, &[]),
        (2, &["no-such-command"]),
        (2, &["retain", "f", "--until", "tomorrow"]),
        (2, &["hold", "add", "no/name", "f"]),
        (2, &["seal"]),
        (4, &["retain", "f", "--for", "1s"]),
        (5, &["stat", "absent"]),
        (5, &["seal", "absent"]),
        (5, &["wait", "absent"]),
        (5, &["verify", "absent"]),
        (5, &["retain", "absent", "--for", "1d"]),
        (5, &["retain", "open", "--for", "1d"]),
        (5, &["hold", "add", "case", "open"]),
    ] {
        let output = mount.ctl(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        if code != 0 {
            assert!(error.starts_with("sealctl: ") && error.lines().count() == 1, "{args:?}: {error:?}");
        }
    }
    mount.stop();
    for args in
        [&["seal", "open"][..], &["retain", "f", "--for", "1d"], &["hold", "add", "x", "f"], &["purge"]]
    {
        let output = mount.ctl(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(6), "{args:?}: {error}");
    }
    // What only reads works without a daemon too.
    for args in [&["stat", "f"][..], &["ls"], &["status"], &["history", "f"], &["why", "f"], &["verify", "f"]]
    {
        let output = mount.ctl(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    mount.start();
    let output = sealctl().args(["stat", "f"]).current_dir("/").output().expect("sealctl");
    assert_eq!(output.status.code(), Some(2), "no store can be found");
}

#[test]
fn wait_returns_when_it_is_sealed_or_the_time_is_over() {
    let policy = "version = 1\n[defaults]\nsettle = \"700ms\"\nretention = \"1h\"\n\
                  [[rule]]\nmatch = [\"slow\"]\nsettle = \"1h\"\n";
    let mount = Mount::new("wait", policy);
    fs::write(mount.path("f"), b"content").expect("write");
    fs::write(mount.path("slow"), b"content").expect("write");
    mount.ctl_ok(&["wait", "f"]);
    assert_eq!(mount.state("f"), "sealed");
    let begun = Instant::now();
    let output = mount.ctl(&["wait", "slow", "--timeout", "300ms"]);
    assert!(!output.status.success() && begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(mount.state("slow"), "settling");
}

/// Local helpers on the mount.
trait Sealing {
    fn sealed_or_expired(&self, name: &str);
}

impl Sealing for Mount {
    fn sealed_or_expired(&self, name: &str) {
        fs::write(self.path(name), b"content").expect("write");
        self.ctl_ok(&[OsStr::new("seal"), self.path(Path::new(name)).as_os_str()]);
    }
}

#[test]
fn years_are_those_of_the_calendar_and_a_slip_of_the_hand_is_asked_about() {
    let policy = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"7y\"\nmode = \"compliance\"\n";
    let mut mount = Mount::new("calendar", policy);
    mount.sealed("f", b"x");
    let view = mount.stat("f");
    let time = |name: &str| view[name].as_str().expect("a time").to_owned();
    let (sealed, until) = (time("sealed_at"), time("retain_until"));
    let year = |time: &str| time[..4].parse::<u32>().expect("a year");
    assert_eq!(year(&until), year(&sealed) + 7, "{sealed} {until}");
    // The same day, or the second after it, by rounding up.
    assert!(until[5..10] >= sealed[5..10] || sealed[5..].starts_with("02-29"), "{sealed} {until}");
    let retain = |options: &[&str]| {
        let output = mount.ctl(&[&["retain", "f"], options].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = retain(&["--for", "99999y"]);
    assert!(code == Some(2) && told.contains("2262"), "{code:?} {told}");
    let (code, told) = retain(&["--for", "31y"]);
    assert!(code == Some(4) && told.contains("--yes"), "{code:?} {told}");
    assert_eq!(mount.stat("f")["retain_until"].as_str(), Some(until.as_str()), "nothing was changed");
    assert_eq!(retain(&["--for", "29y6mo"]).0, Some(0));
    assert_eq!(retain(&["--for", "31y", "--yes"]).0, Some(0));
    mount.stop();
}
