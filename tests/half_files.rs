//! What a killed writer leaves is not sealed, whoever opened the file; what a writer has finished is.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::Mount;

const EAGER: &str = "version = 1\n[defaults]\nsettle = \"50ms\"\nretention = \"1h\"\n";

/// Programs that open a file, and start another one that writes half of it and is killed. `K` is that one.
const OPENERS: &[(&str, &str)] = &[
    ("bash", "bash -c '$K > bash; :'"),
    ("dash", "dash -c '$K > dash; :'"),
    ("busybox", "busybox sh -c '$K > busybox; :'"),
    ("mksh", "mksh -c '$K > mksh; :'"),
    ("zsh", "zsh -c '$K > zsh; :'"),
    (
        "ninja",
        "printf 'rule r\\n  command = $K > $out\\nbuild ninja: r\\n' | sed \"s|[$]K|$K|\" > \"$D/build.ninja\"; ninja -f \"$D/build.ninja\"",
    ),
    (
        "npm",
        "cd \"$D\" && printf '{\"scripts\":{\"x\":\"$K > $M/npm\"}}' > package.json && npm run --silent x",
    ),
    (
        "node",
        "node -e \"require('child_process').spawnSync(process.env.K,[],{stdio:['ignore',require('fs').openSync('node','w'),2]})\"",
    ),
    ("parallel", "parallel --will-cite '$K > {}' ::: parallel"),
    ("users", "unshare -U -r dash -c '$K > users; :'"),
    ("group", "dash -c '{ $K; } > group; :'"),
    ("make", "printf 'make:\\n\\t$(K) > $@\\n' | make -sf -"),
    (
        "python",
        "python3 -c 'import os,subprocess; subprocess.run([os.environ[\"K\"]], stdout=open(\"python\",\"w\"))'",
    ),
    ("perl", "perl -e 'open(STDOUT, \">\", \"perl\"); system($ENV{K})'"),
    ("xargs", "echo x | xargs $K > xargs"),
    ("pipe", "echo x | $K > pipe"),
    ("timeout", "timeout 0.3 dash -c 'printf half; exec sleep 60' > timeout"),
    (
        "kill-after",
        "timeout -k 0.2 0.2 dash -c 'trap \"\" TERM; printf half; sleep 60 >/dev/null; :' > kill-after",
    ),
    ("namespace", "unshare -p -f dash -c '$K > namespace; :'"),
    ("builtin", "dash -c 'exec 3>builtin; printf half >&3; kill -9 $$'"),
    (
        "bystander-exits",
        "python3 -c 'import os,subprocess\nf=open(\"bystander-exits\",\"wb\",0); f.write(b\"half\"); subprocess.run([\"true\"]); os.kill(os.getpid(),9)'",
    ),
];

/// The same, where what stands in the file at last is whole.
const WHOLE: &[(&str, &str)] = &[
    ("written-on", "dash -c '{ $K; echo rest; } > written-on'"),
    ("bystander", "bash -c 'exec 3>bystander; echo whole >&3; sleep 60 & exec 3>&-; kill -9 $!; wait'"),
    ("handled", "bash -c 'trap \"exit 1\" TERM; echo whole; kill -TERM $$; :' > handled"),
    ("reader-killed", "bash -c 'echo whole > reader-killed; cat reader-killed | bash -c \"kill -9 \\$\\$\"'"),
];

fn runs_of(name: &str, options: &[&str]) {
    let mount = Mount::with(name, EAGER, options);
    let killed = mount.dir.join("killed");
    fs::write(&killed, "#!/bin/sh\nprintf half; kill -9 $$\n").expect("write");
    fs::set_permissions(&killed, fs::Permissions::from_mode(0o755)).expect("chmod");
    for (_, script) in OPENERS.iter().chain(WHOLE) {
        let mut shell = std::process::Command::new("sh");
        let _ = shell
            .args(["-c", script])
            .env("K", &killed)
            .env("D", &mount.dir)
            .env("M", &mount.mnt)
            .current_dir(&mount.mnt)
            .output()
            .expect("sh");
    }
    for (name, _) in OPENERS {
        mount.until(name, "torn");
    }
    for (name, _) in WHOLE {
        mount.until(name, "sealed");
    }
}

#[test]
fn who_wrote_last_decides() {
    runs_of("who-wrote", &[]);
}

#[test]
fn who_wrote_last_decides_without_passthrough() {
    runs_of("who-wrote-off", &["-o", "passthrough=off"]);
}

#[test]
fn an_open_file_gets_no_second_name() {
    let mount = Mount::new("link-open", EAGER);
    let mut file = fs::File::create(mount.path("out.part")).expect("create");
    std::io::Write::write_all(&mut file, b"first ").expect("write");
    let refused = fs::hard_link(mount.path("out.part"), mount.path("out")).expect_err("it is open");
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert!(!mount.path("out").exists());
    std::io::Write::write_all(&mut file, b"second").expect("write");
    drop(file);
    mount.until("out.part", "sealed");
}

#[test]
fn an_unfinished_file_does_not_settle() {
    let policy = format!("{EAGER}[[rule]]\nmatch = \"**/*.aria2\"\nseal = \"never\"\n");
    let mount = Mount::new("unfinished", &policy);
    fs::write(mount.path("a.iso.aria2"), b"control").expect("write");
    fs::write(mount.path("a.iso"), b"half").expect("write");
    fs::write(mount.path("b"), b"half").expect("write");
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options()
        .append(true)
        .open(mount.path("b"))
        .and_then(|file| file.set_modified(epoch))
        .expect("time");
    mount.stays("a.iso", "settling", 400);
    mount.stays("b", "settling", 400);
    let sidecar = fs::read(mount.path("a.iso.seal")).expect_err("it is not finished");
    assert_eq!(sidecar.raw_os_error(), Some(libc::ENOENT));
    mount.stays("a.iso", "settling", 300);
    fs::remove_file(mount.path("a.iso.aria2")).expect("unlink");
    fs::write(mount.path("b"), b"whole").expect("write");
    mount.until("a.iso", "sealed");
    mount.until("b", "sealed");
}
