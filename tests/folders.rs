//! Commands that take a PATH take a folder, and mean what is in it.

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use harness::{Mount, SLOW, scratch, sealctl};

fn folder(mount: &Mount) -> std::path::PathBuf {
    let rel = mount.path("rel");
    fs::create_dir_all(rel.join("lib")).expect("mkdir");
    fs::write(rel.join("a"), "1").expect("write");
    fs::write(rel.join("lib/libx.so.1"), "2").expect("write");
    symlink("libx.so.1", rel.join("lib/libx.so")).expect("symlink");
    fs::write(rel.join("py.typed"), "").expect("write");
    rel
}

fn code(mount: &Mount, args: &[&str]) -> (Option<i32>, String) {
    let output = mount.ctl(args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn seal_wait_hold_retain_why_and_history_take_folders() {
    let mut mount = Mount::new("folders", SLOW);
    let rel = folder(&mount);
    fs::remove_file(rel.join("py.typed")).expect("unlink");
    for args in [
        &["seal", "rel"][..],
        &["wait", "rel", "--timeout", "20s"],
        &["hold", "add", "CASE-1", "rel"],
        &["retain", "rel", "--for", "60d"],
        &["verify", "rel"],
    ] {
        let (code, text) = code(&mount, args);
        assert_eq!(code, Some(0), "{args:?}: {text}");
    }
    for file in ["rel/a", "rel/lib/libx.so.1"] {
        let view = mount.stat(file);
        assert_eq!(
            (view["state"].as_str(), view["holds"][0].as_str()),
            (Some("sealed"), Some("CASE-1")),
            "{file}"
        );
    }
    assert!(fs::remove_file(rel.join("a")).is_err() && fs::remove_file(rel.join("lib/libx.so.1")).is_err());
    let why = mount.ctl_ok(&["why", "rel"]);
    assert!(
        why.contains("rel/a") && why.contains("rel/lib/libx.so.1") && why.contains("unlink refused"),
        "{why}"
    );
    assert_eq!(mount.ctl_ok(&["history", "rel"]).matches("CASE-1").count(), 2);
    // What cannot be sealed is said once a file, and the others are done.
    fs::write(rel.join("late"), "3").expect("write");
    let (exit, text) = code(&mount, &["hold", "add", "CASE-2", "rel"]);
    assert_eq!(exit, Some(5), "{text}");
    assert!(text.contains("rel/late: it is not sealed") && !text.contains("libx.so:"), "{text}");
    assert_eq!(mount.stat("rel/a")["holds"].as_array().map(Vec::len), Some(2));
    // A folder or a free link by itself has one wording and one code.
    let links: Vec<_> = ["seal", "wait"].iter().map(|it| code(&mount, &[*it, "rel/lib/libx.so"])).collect();
    for (code, text) in links {
        assert!(code == Some(5) && text.contains("folders and free symbolic links are not sealed"), "{text}");
    }
    mount.stop();
}

#[test]
fn many_files_in_a_folder_take_seconds() {
    let mut mount = Mount::new("folder-many", SLOW);
    fs::create_dir(mount.path("d")).expect("mkdir");
    for n in 0..1000 {
        fs::write(mount.path(format!("d/{n}")), "x").expect("write");
    }
    let begun = std::time::Instant::now();
    mount.ctl_ok(&["seal", "d"]);
    mount.ctl_ok(&["hold", "add", "CASE-1", "d"]);
    mount.ctl_ok(&["retain", "d", "--for", "60d"]);
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn a_folder_of_which_half_was_removed_is_noticed() {
    let mut mount = Mount::new("folder-half", SLOW);
    let rel = folder(&mount);
    symlink("rel", mount.path("current")).expect("symlink");
    mount.ctl_ok(&["seal", "rel/a", "rel/lib/libx.so.1"]);
    let (exit, text) = code(&mount, &["verify", "rel"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("rel/py.typed: an empty file") && text.contains("rel/lib/libx.so: a symbolic link"),
        "{text}"
    );
    // A deployment's link that is replaced is what it is.
    fs::remove_file(mount.path("current")).expect("unlink");
    symlink("rel/lib", mount.path("current")).expect("symlink");
    assert!(fs::remove_dir_all(&rel).is_err(), "sealed files stand");
    if rel.join("lib/libx.so").symlink_metadata().is_ok() {
        fs::remove_file(rel.join("lib/libx.so")).expect("unlink");
    }
    // Changes of links are logged once a second.
    harness::eventually("the link's end is logged", || code(&mount, &["verify", "rel"]).0 == Some(3));
    let (_, text) = code(&mount, &["verify", "rel"]);
    assert!(text.contains("rel/lib/libx.so: the symbolic link is not as it was"), "{text}");
    // The name was freed, and takes other content: it is no link, and not sealed.
    fs::write(rel.join("lib/libx.so"), "x").expect("write");
    assert_eq!(code(&mount, &["verify", "rel"]).0, Some(3));
    fs::remove_file(rel.join("lib/libx.so")).expect("unlink");
    symlink("libx.so.1", rel.join("lib/libx.so")).expect("symlink");
    harness::eventually("put back", || code(&mount, &["verify", "rel"]).0 == Some(0));
    mount.ctl_ok(&["verify", "--all"]);
    mount.stop();
}

#[test]
fn exported_folders_say_offline_what_they_say_online() {
    for links in ["free", "seal"] {
        let policy = format!("{SLOW}symlinks = \"{links}\"\n");
        let mut mount = Mount::new("folder-offline", &policy);
        folder(&mount);
        mount.ctl_ok(&["seal", "rel/a", "rel/lib/libx.so.1"]);
        if links == "seal" {
            mount.ctl_ok(&["seal", "rel/lib/libx.so"]);
        }
        let out = scratch("offline");
        let trust = out.join("trust");
        fs::write(&trust, mount.ctl_ok(&["trust"])).expect("trust");
        let copies = out.join("copies");
        fs::create_dir(&copies).expect("mkdir");
        let _ = mount.ctl(&["export", "rel", copies.to_str().expect("UTF-8")]);
        let offline = |at: &Path| {
            let mut command = sealctl();
            command.args(["verify", "--offline", "--trust"]).arg(&trust).arg(at);
            let output = command.output().expect("sealctl");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            (output.status.code(), text)
        };
        let rel = copies.join("rel");
        let (code, text) = offline(&rel);
        assert_eq!(code, Some(0), "{links}: {text}");
        // Two files exchanged, of one folder; a file without sidecars; sidecars without a file.
        // A chain of links, each of which stays inside by its text.
        fs::create_dir(rel.join("d")).expect("mkdir");
        symlink("..", rel.join("d/up")).expect("symlink");
        symlink("d/up/../../../trust", rel.join("chain")).expect("symlink");
        assert_eq!(offline(&rel).0, Some(3), "a chain that leads out");
        fs::remove_dir_all(rel.join("d")).and_then(|()| fs::remove_file(rel.join("chain"))).expect("remove");
        let exchange = |a: &str, b: &str| {
            for suffix in ["", ".seal", ".seal.jsonl"] {
                let [a, b] = [a, b].map(|name| rel.join(format!("{name}{suffix}")));
                let spare = rel.join("spare");
                fs::rename(&a, &spare).and_then(|()| fs::rename(&b, &a)).expect("rename");
                fs::rename(&spare, &b).expect("rename");
            }
        };
        exchange("a", "lib/libx.so.1");
        assert_eq!(offline(&rel).0, Some(3), "exchanged");
        exchange("a", "lib/libx.so.1");
        fs::write(rel.join("more"), "x").expect("write");
        assert_eq!(offline(&rel).0, Some(3), "a file without sidecars");
        fs::remove_file(rel.join("more")).expect("unlink");
        // Where a sidecar should be stands what never ends.
        fs::rename(rel.join("a.seal"), out.join("a.seal")).expect("rename");
        harness::run(std::process::Command::new("mkfifo").arg(rel.join("a.seal")));
        assert_eq!(offline(&rel).0, Some(3), "a FIFO as a sidecar");
        fs::rename(out.join("a.seal"), rel.join("a.seal")).expect("rename");
        fs::rename(rel.join("a"), out.join("a")).expect("rename");
        assert_eq!(offline(&rel).0, Some(3), "sidecars without a file");
        mount.stop();
        let _ = fs::remove_dir_all(&out);
    }
}

#[test]
fn a_daemon_out_of_reach_is_not_said_to_be_gone() {
    let mut mount = Mount::new("out-of-reach", SLOW);
    let path = mount.sealed("f", b"x");
    // As in a container: the mount is there, the store and the control socket are not.
    let hidden = scratch("hidden");
    let script = format!(
        "mount --bind {hidden} {store} && mount --bind {hidden} /run/sealfs && {ctl} hold add CASE-1 {path}",
        hidden = hidden.display(),
        store = mount.store.display(),
        ctl = sealctl().get_program().to_str().expect("UTF-8"),
        path = path.display(),
    );
    let output =
        std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("out of reach") && told.contains("/run/sealfs/"), "{told}");
    mount.stop();
    let _ = fs::remove_dir_all(&hidden);
}

#[test]
fn wait_says_what_it_waits_for_and_waits_on() {
    let policy = "version = 1\n[defaults]\nsettle = \"4s\"\nsettle_empty = \"4s\"\nretention = \"1h\"\n";
    let mut mount = Mount::new("wait-on", policy);
    for (name, content) in [("f", "x"), ("empty", "")] {
        fs::write(mount.path(name), content).expect("write");
        let output = mount.ctl(&["wait", name]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{name}: {told}");
        assert!(told.contains("waits for") && told.contains("sealctl seal"), "{name}: {told}");
        assert_eq!(mount.state(name), "sealed");
    }
    fs::write(mount.path("late"), "x").expect("write");
    let begun = std::time::Instant::now();
    let output = mount.ctl(&["wait", "--timeout", "500ms", "late"]);
    assert!(output.status.code() == Some(1) && begun.elapsed().as_secs() < 3, "{output:?}");
    mount.stop();
}

#[test]
fn what_cannot_be_read_or_held_in_a_folder_is_said() {
    let policy = format!("{SLOW}symlinks = \"seal\"\n");
    let mut mount = Mount::new("folder-parts", &policy);
    let rel = mount.path("rel");
    fs::create_dir(&rel).expect("mkdir");
    fs::write(rel.join("a"), "1").expect("write");
    mount.ctl_ok(&["seal", "rel"]);
    // A link that will be sealed and is not yet: it takes no hold, and that is said.
    symlink("a", rel.join("l")).expect("symlink");
    let (exit, text) = code(&mount, &["hold", "add", "CASE-1", "rel"]);
    assert!(exit == Some(5) && text.contains("rel/l: it is not sealed"), "{exit:?} {text}");
    // A folder that another user cannot read is complained of; what he can reach is done.
    let open = mount.path("open");
    fs::create_dir_all(open.join("closed")).expect("mkdir");
    harness::sh(&mount.mnt, "chmod 755 open; chmod 700 open/closed");
    let output = std::process::Command::new("sh").args(["-c", "echo x > mine"]).current_dir(&open).status();
    assert!(output.is_ok_and(|status| status.success()));
    std::os::unix::fs::chown(open.join("mine"), Some(harness::NOBODY), Some(harness::NOBODY)).expect("chown");
    let output = mount.ctl_as(harness::NOBODY, &["seal", "open"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(4) && told.contains("open/closed"), "{output:?}");
    assert_eq!(mount.state("open/mine"), "sealed");
    mount.stop();
}
