//! `cp x MNT/x && cat MNT/x.seal` never fails, whatever else is being hashed, and nobody else waits for a seal.

mod harness;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Mount, run};
use std::process::Command;

const WRITERS: usize = 4;
const FILES: usize = 300;

fn under_load(options: &[&str]) {
    let policy = "version = 1\n[defaults]\nsettle = \"100ms\"\nretention = \"1h\"\n\
                  [[rule]]\nmatch = \"other*\"\nsettle = \"1h\"\n";
    let mount = Mount::with("demand-load", policy, options);
    let done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        // Gigabytes without a disk's worth of them: holes are hashed like everything else.
        scope.spawn(|| {
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let path = mount.path(format!("large{n}"));
                run(Command::new("truncate").args(["-s", "1G"]).arg(&path));
                let seal = fs::read(path.with_file_name(format!("large{n}.seal")));
                assert!(seal.is_ok(), "large{n}: {seal:?}");
            }
        });
        let others = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let from = Instant::now();
                let (one, two) = (mount.path("other"), mount.path("other-two"));
                fs::write(&one, "x").expect("write");
                fs::rename(&one, &two).expect("rename");
                fs::metadata(&two).expect("stat");
                fs::remove_file(&two).expect("remove");
                slowest = slowest.max(from.elapsed());
            }
            slowest
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mount = &mount;
                scope.spawn(move || {
                    for n in 0..FILES {
                        let path = mount.path(format!("w{writer}-{n}"));
                        fs::write(&path, format!("content {writer} {n}")).expect("write");
                        let seal = fs::read_to_string(mount.path(format!("w{writer}-{n}.seal")));
                        let seal = seal.unwrap_or_else(|error| panic!("w{writer}-{n}.seal: {error}"));
                        assert!(seal.starts_with("-----BEGIN SSH SIGNATURE-----"));
                    }
                })
            })
            .collect();
        let failed = writers.into_iter().filter_map(|writer| writer.join().err()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "writers failed");
        others.join().expect("others")
    });
    println!("the slowest of the others' four calls: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "somebody waited for a seal: {slowest:?}");
    assert!(mount.sql("select count(*) from artifacts").parse::<usize>().unwrap() >= WRITERS * FILES);
    mount.ctl_ok(&["verify", "w0-0"]);
}

#[test]
fn parallel_demands_never_fail_while_gigabytes_are_hashed() {
    under_load(&[]);
}

#[test]
fn parallel_demands_never_fail_without_passthrough() {
    under_load(&["-o", "passthrough=off"]);
}
