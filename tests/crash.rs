//! Commit and export are cut short at each of their steps: nothing that was reported sealed is lost, nothing that was
//! reported failed comes back over what its writer made of it since, and the next daemon goes on from what is there.
//!
//! `SEALFS_SOAK` asks for every occurrence of each step; else it is one or two of each.

#[cfg(target_arch = "x86_64")]
#[allow(dead_code, reason = "what only a longer run needs")]
mod faults;
mod harness;
#[allow(dead_code, reason = "each test program uses a part")]
mod sealed_store;

use std::fs;
use std::process::Command;

use sealed_store::{Filling, Store, bad, good};
use sealfs::model::RetentionMode;

/// Every durable step of a daemon, with each fault.
#[cfg(target_arch = "x86_64")]
mod at_each_step {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use crate::faults::{Fault, Plan, Seen, Traced, within};
    use crate::harness::{self, Mount};

    /// What one run has left: what its writers know.
    #[derive(Default)]
    struct Known {
        /// Reported sealed: name and content.
        sealed: BTreeMap<String, String>,
        /// Not reported sealed: name, and the content that its writer believes to be in it.
        other: BTreeMap<String, String>,
    }

    fn shell(mnt: &Path, script: &str) -> bool {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "10", "sh", "-c", script]).current_dir(mnt);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// A daemon with faults, and writers that write, ask for seals, and change what they are told has failed.
    fn run(mount: &Mount, run: usize, plan: Option<Plan>, known: &mut Known) -> Seen {
        let mut command = harness::sealfs();
        // One process, which dies and fails once.
        command.args(["-f", "-o", "takeover=off"]).arg(&mount.store).arg(&mount.mnt);
        let log =
            fs::File::options().create(true).append(true).open(mount.dir.join("traced.log")).expect("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = Traced::start(command, &mount.store, plan);
        let mounted = || mount.is_mounted() && fs::metadata(&mount.mnt).is_ok_and(|_| mount.is_mounted());
        within(Duration::from_secs(20), || daemon.is_over() || mounted());
        let sealctl = format!("{} --store {}", env!("CARGO_BIN_EXE_sealctl"), mount.store.display());
        // One by one, and many in a batch.
        for (round, files) in [1, 12, 2, 8].into_iter().enumerate() {
            if daemon.is_over() {
                break;
            }
            let names: Vec<_> = (0..files).map(|n| format!("{run}-{round}-{n}")).collect();
            let all = names.join(" ");
            for name in &names {
                known.other.insert(name.clone(), name.clone());
            }
            if !shell(&mount.mnt, &format!("for f in {all}; do printf %s $f > $f || exit 1; done")) {
                continue;
            }
            let together = files > 2 && shell(&mount.mnt, &format!("{sealctl} seal {all}"));
            for name in &names {
                if together || shell(&mount.mnt, &format!("cat {name}.seal")) {
                    let content = known.other.remove(name).expect("just added");
                    known.sealed.insert(name.clone(), content);
                } else if !daemon.is_over() && shell(&mount.mnt, &format!("printf + >> {name}")) {
                    known.other.get_mut(name).expect("just added").push('+');
                }
            }
            if round == 1 {
                shell(&mount.mnt, &format!("{sealctl} retain --for 2h {}", names[0]));
                // Long enough for an export.
                within(Duration::from_millis(300), || daemon.is_over());
            }
        }
        let seen = daemon.kill();
        let _ = Command::new("umount").arg("-l").arg(&mount.mnt).stderr(Stdio::null()).status();
        seen
    }

    /// After each run a daemon without faults finds everything as its writers know it.
    fn check(mount: &mut Mount, known: &mut Known, what: &str) {
        mount.start();
        for name in known.sealed.keys() {
            assert_eq!(mount.state(name), "sealed", "{what}: {name} was reported sealed");
        }
        for (name, content) in std::mem::take(&mut known.other) {
            // Not there at all: the daemon died before it was made.
            let Ok(now) = fs::read_to_string(mount.path(&name)) else { continue };
            if mount.state(&name) == "sealed" {
                assert_eq!(now, content, "{what}: {name} was sealed with something else");
                known.sealed.insert(name, content);
            }
        }
        for (name, content) in &known.sealed {
            assert_eq!(&fs::read_to_string(mount.path(name)).expect("readable"), content, "{what}: {name}");
        }
        for command in [&["verify", "--all"][..], &["log", "check"]] {
            let output = mount.ctl(command);
            assert!(
                output.status.success(),
                "{what}: {command:?}: {}{}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                fs::read_to_string(mount.dir.join("traced.log")).unwrap_or_default(),
            );
        }
        mount.stop();
    }

    fn store(name: &str) -> Mount {
        let mut mount = Mount::new(name, harness::SLOW);
        mount.stop();
        mount
    }

    fn soak() -> bool {
        std::env::var_os("SEALFS_SOAK").is_some()
    }

    /// Dying after a step is dying before the next one: in a short run each of the two has every other step.
    fn has(fault: Fault, step: usize) -> bool {
        match fault {
            Fault::DiesBefore => soak() || step.is_multiple_of(2),
            Fault::DiesAfter => soak() || !step.is_multiple_of(2),
            Fault::Failed | Fault::FailedButPersisted => true,
        }
    }

    /// The occurrences of a step that are tried: each in a long run; the last, where most is at stake, and one that
    /// moves with the step in a short one.
    fn occurrences(step: usize, count: usize) -> Vec<usize> {
        if soak() {
            return (1..=count).collect();
        }
        let mut some = vec![1 + (step * 7) % count];
        if count > 3 {
            some.push(count - 1);
        }
        some.dedup();
        some
    }

    fn with(fault: Fault) {
        let (mut mount, mut known) = (store("faults"), Known::default());
        let counted = run(&mount, 0, None, &mut known);
        check(&mut mount, &mut known, "no fault");
        assert!(known.sealed.len() >= 8, "what is not disturbed is sealed: {:?}", known.other);
        // What a daemon is known to do must be among what is counted, or else this tests nothing.
        for step in [
            "fsync index.db-wal",
            "pwrite index.db-wal",
            "rename log/checkpoint",
            "setflags tree/#",
            "write log/checkpoint.new",
        ] {
            assert!(counted.steps.contains_key(step), "no {step} among {:#?}", counted.steps);
        }
        let synced = ["syncfs", "fsync tree/#"].iter().any(|step| counted.steps.contains_key(*step));
        assert!(synced, "neither together nor one by one: {:#?}", counted.steps);
        let (mut runs, mut hit) = (0, BTreeSet::new());
        let steps: Vec<_> =
            counted.steps.iter().enumerate().filter(|(number, _)| has(fault, *number)).collect();
        for &(number, (step, &count)) in &steps {
            for from in occurrences(number, count) {
                runs += 1;
                let plan = Plan { step: step.clone(), from, times: 1, fault };
                let seen = run(&mount, runs, Some(plan), &mut known);
                if seen.faults > 0 {
                    hit.insert(step.clone());
                }
                check(&mut mount, &mut known, &format!("{fault:?} at {step}, time {from} of {count}"));
            }
        }
        // Which thread comes first differs; a few steps may not come as often as they did.
        let missed: Vec<_> =
            steps.iter().map(|(_, (step, _))| step).filter(|step| !hit.contains(**step)).collect();
        assert!(missed.len() * 4 <= steps.len(), "hardly any fault was met: {missed:?}");
        println!(
            "soak: {fault:?}: {runs} runs, {} kinds of step, {} of them met, {} seals, lost: nothing",
            steps.len(),
            hit.len(),
            known.sealed.len()
        );
    }

    #[test]
    fn failed() {
        with(Fault::Failed);
    }

    #[test]
    fn failed_but_persisted() {
        with(Fault::FailedButPersisted);
    }

    #[test]
    fn dies_before() {
        with(Fault::DiesBefore);
    }

    #[test]
    fn dies_after() {
        with(Fault::DiesAfter);
    }

    /// A disk that takes what is written and answers each sync with an error: what may come back stays as it is.
    #[test]
    fn a_commit_in_doubt_keeps_its_files_frozen() {
        let (mut mount, mut known) = (store("doubt"), Known::default());
        let step = "fsync index.db-wal".to_owned();
        let counted = run(&mount, 0, None, &mut known);
        check(&mut mount, &mut known, "no fault");
        let count = counted.steps[&step];
        // What fails once is written over at once; what fails again is not known until it fails no more, or never.
        let half = count / 2;
        let cases = [(half, 2), (half + 1, 3), (half + 2, 4), (half, usize::MAX)];
        for (number, (from, times)) in cases.into_iter().enumerate() {
            let plan = Plan { step: step.clone(), from, times, fault: Fault::FailedButPersisted };
            let seen = run(&mount, number + 1, Some(plan), &mut known);
            assert!(seen.faults >= 2, "{seen:?}");
            check(&mut mount, &mut known, &format!("{times} failures from {from}"));
        }
        let log = fs::read_to_string(mount.dir.join("traced.log")).expect("log");
        assert!(log.contains("in doubt"), "no commit was in doubt: {log}");
    }
}

#[test]
fn an_export_goes_on_from_wherever_it_stopped() {
    let store = Store::made();
    let filling = Filling::of(&store);
    filling.seal_many("a", 300);
    let log = store.path().join("log");
    let whole = store.beside("whole");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let before = store.beside("before");
    copy(&log, &before);
    for n in 0..20 {
        filling.seal_without_export(&format!("b/{n}"), "x\n", "30d", RetentionMode::Governance);
    }
    drop(filling);
    let index = std::sync::Arc::new(sealfs::ledger::Index::open(&store.path().join("index.db")).unwrap());
    let key = sealfs::crypto::SigningKey::read(&store.path().join("keys/log")).unwrap();
    let export = || {
        let keys = [key.public()];
        let exporter =
            sealfs::ledger::Exporter::open(std::sync::Arc::clone(&index), sealed_store::ORIGIN, &keys)?;
        exporter.export(&key)
    };
    assert_eq!(export().unwrap(), 321);
    copy(&log, &whole);
    let names = |folder: &std::path::Path| {
        let output =
            Command::new("find").arg(folder).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
        let mut names: Vec<_> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let (old, new) = (names(&before), names(&whole));
    let fresh: Vec<_> = new.iter().filter(|name| !old.contains(name) || *name == "checkpoint").collect();
    assert!(fresh.len() >= 3, "{fresh:?}");
    // Each set of files that a crash can leave: the first few, the last of them whole, or torn under another name.
    for count in 0..=fresh.len() {
        for torn in [false, true] {
            copy(&before, &log);
            for (n, name) in fresh.iter().take(count).enumerate() {
                if *name == "checkpoint" {
                    continue; // It comes last.
                }
                let (from, to) = (whole.join(name), log.join(name));
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                let bytes = fs::read(from).unwrap();
                if torn && n + 1 == count {
                    fs::write(
                        to.with_file_name(format!("{}.new", to.file_name().unwrap().to_str().unwrap())),
                        &bytes[..bytes.len() / 2],
                    )
                    .unwrap();
                } else {
                    fs::write(to, bytes).unwrap();
                }
            }
            assert_eq!(export().unwrap(), 321, "{count} {torn}");
            good(&store.run(&["log", "check"]));
            assert_eq!(
                fs::read(log.join("checkpoint")).unwrap(),
                fs::read(whole.join("checkpoint")).unwrap()
            );
        }
    }
    // The checkpoint was written and the tiles were not: that no crash leaves, and it is told.
    copy(&before, &log);
    fs::copy(whole.join("checkpoint"), log.join("checkpoint")).unwrap();
    bad(&store.run(&["log", "check"]), 3);
}
