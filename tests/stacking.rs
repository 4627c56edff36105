//! What stands on the mount: overlays, bind mounts, containers; and what the store stands on.

mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{Mount, QUICK, run, sh};

/// An overlay over `lower` at `dir/merged`.
fn overlay(dir: &Path, lower: &Path) -> bool {
    for folder in ["upper", "work", "merged"] {
        fs::create_dir_all(dir.join(folder)).expect("mkdir");
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(dir.join("merged"));
    mount.output().expect("mount").status.success()
}

fn unmount(dir: &Path) {
    run(Command::new("umount").arg(dir.join("merged")));
}

#[test]
fn an_overlay_has_the_mount_as_its_lower_layer() {
    for options in [&[][..], &["-o", "passthrough=off"]] {
        let mount = Mount::with("stacking", QUICK, options);
        fs::create_dir(mount.path("d")).expect("mkdir");
        let sealed = mount.sealed("d/f", b"sealed");
        fs::write(mount.path("open"), "not sealed").expect("write");
        assert!(overlay(&mount.dir, &mount.mnt), "{options:?}: the overlay cannot be mounted");
        let merged = mount.dir.join("merged");
        let told = sh(
            &merged,
            "cat d/f open && echo changed > d/f && cat d/f && echo more >> open && cat open && rm d/f && ls d && mv d e && ls",
        );
        assert!(told.starts_with("sealednot sealed"), "{told}");
        assert!(told.contains("changed") && told.contains("more"), "{told}");
        unmount(&mount.dir);
        assert_eq!(fs::read(&sealed).expect("read"), b"sealed");
        mount.ctl_ok(&["verify", "d"]);
    }
}

#[test]
fn a_store_on_an_overlay_works() {
    let dir = harness::scratch("stacking-below");
    fs::create_dir_all(dir.join("lower")).expect("mkdir");
    // A tmpfs below: an overlay is no upper layer of another one, and this host may run on one.
    let place = dir.join("place");
    fs::create_dir_all(&place).expect("mkdir");
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&place));
    assert!(overlay(&place, &dir.join("lower")), "overlay");
    {
        let store = place.join("merged/store");
        let mount = Mount::with_store(&dir.join("mount"), &store, QUICK, &[]);
        mount.sealed("f", b"content");
        // Opened for reading and writing: what is cached of it cannot be seen from above the overlay.
        sh(
            &mount.mnt,
            "python3 -c \"f=open('g','w+b'); f.write(b'both'); f.flush(); f.seek(0); assert f.read()==b'both'\"",
        );
        mount.until("g", "sealed");
        assert_eq!(fs::read(mount.path("g")).expect("read"), b"both");
        mount.ctl_ok(&["verify", "--all"]);
        let status = mount.ctl_ok(&["status"]);
        assert!(status.contains("cachestat"), "{status}");
        assert!(!status.contains("no kernel passthrough"), "{status}");
    }
    unmount(&place);
    run(Command::new("umount").arg(&place));
    harness::remove(&dir);
}

#[test]
fn a_bind_mount_in_another_namespace_is_the_same_mount() {
    let mount = Mount::new("stacking-bind", QUICK);
    mount.sealed("f", b"sealed");
    let there = mount.dir.join("there");
    fs::create_dir(&there).expect("mkdir");
    let script = "mount --bind mnt there && cd there && cat f && cat f.seal > /dev/null && ! rm -f f 2>/dev/null && echo new > g";
    run(Command::new("unshare").args(["-m", "bash", "-ec", script]).current_dir(&mount.dir));
    mount.until("g", "sealed");
    assert_eq!(fs::read_dir(&there).expect("ls").count(), 0);
}

/// A container whose root is an overlay over the mount, as engines make it of an image's layers.
#[test]
fn a_container_runs_from_an_overlay_over_the_mount() {
    if Command::new("crun").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "crun is missing");
        eprintln!("skipped: crun is missing");
        return;
    }
    let mount = Mount::new("stacking-container", QUICK);
    let program = "#include <stdio.h>\nint main() { FILE *f = fopen(\"/out\", \"w\"); return fputs(\"made in it\", f) < 0 || fclose(f); }\n";
    fs::write(mount.dir.join("main.c"), program).expect("write");
    for folder in ["proc", "dev", "sys", "bin"] {
        fs::create_dir(mount.path(folder)).expect("mkdir");
    }
    sh(&mount.dir, "gcc -static -o main main.c && cp main mnt/bin/main");
    mount.until("bin/main", "sealed");
    assert!(overlay(&mount.dir, &mount.mnt), "the overlay cannot be mounted");
    let config = r#"{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["/bin/main"],"cwd":"/"},
        "root":{"path":"merged","readonly":false},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]}}"#;
    fs::write(mount.dir.join("config.json"), config).expect("write");
    let name = format!("sealfs-test-{}", std::process::id());
    // Whatever hierarchies of control groups this host has: the container needs none.
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec crun --cgroup-manager=disabled run --bundle \"$0\" \"$1\"";
    let ran = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(&mount.dir)
        .arg(&name)
        .output()
        .expect("crun");
    let out = fs::read_to_string(mount.dir.join("upper/out")).unwrap_or_default();
    unmount(&mount.dir);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(out, "made in it");
    mount.ctl_ok(&["verify", "bin"]);
}
