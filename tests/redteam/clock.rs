//! Time: what a wall clock that leaps, forwards, backwards, once and again, frees. The clock of the host is not
//! touched: while the daemon is down, what it had seen last of boot and wall clock is moved the other way, which to
//! it is the same.

use std::fs;
use std::process::Command;

use sealfs::crypto::SigningKey;
use sealfs::ledger::ReadIndex;
use sealfs::ledger::anchor::message;

use super::harness::{Mount, NOBODY, run};
use super::scene::{Seen, Table, check, refused};

/// Retained for longer than is ever believed of the time in which a host was off (7 days, in all).
const POLICY: &str = "version = 1\n[defaults]\nsettle = \"1h\"\nretention = \"10d\"\n";
const WHO: &str = "root, clock";

pub fn attacks(table: &mut Table) {
    table.add("forwards by a year while the host is off", WHO, leaps(&[365], true));
    table.add("forwards by six days at each of five reboots", WHO, leaps(&[6; 5], true));
    table.add("forwards by a century, and back again", WHO, leaps(&[36_500, -36_500], true));
    table.add("backwards by a year while the host is off", WHO, leaps(&[-365], true));
    table.add("backwards at each of five reboots", WHO, leaps(&[-30; 5], true));
    table.add("forwards by a year, the daemon restarted, same boot", WHO, leaps(&[365], false));
    table.add("backwards by a year, the daemon restarted, same boot", WHO, leaps(&[-365], false));
    table.add("the clock's row in index.db set forward by a year", WHO, row_set_forward());
    table.add("clock accept by another user", "stranger", others_accept());
}

/// Seconds since the epoch, of an RFC 3339 time, by another program than ours.
fn seconds(time: &str) -> i64 {
    run(Command::new("date").args(["+%s", "-d", time])).trim().parse().expect("a number")
}

fn time(mount: &Mount) -> i64 {
    seconds(mount.ctl_json(&["status"])[0]["time"].as_str().expect("time"))
}

/// Signs the clock's row as the daemon would: the attack is on the host's clock, and not on the row.
fn sign_again(mount: &Mount) {
    let index = ReadIndex::open(&mount.store.join("index.db")).expect("index");
    let anchor = index.anchor().expect("read").expect("a row");
    let origin = index.origin().expect("origin");
    drop(index);
    let key = SigningKey::read(&mount.store.join("keys/log")).expect("log key");
    let signature = key.sign_raw(&message(&anchor, &origin).expect("canonical"));
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let statement = format!("update clock set signature = x'{hex}'");
    run(Command::new("sqlite3").arg(mount.store.join("index.db")).arg(statement));
}

fn leaps(days: &[i64], reboot: bool) -> Seen {
    let mut mount = Mount::new("clock", POLICY);
    let path = mount.sealed("f", b"retained for ten days");
    let begin = time(&mount);
    let mut last = begin;
    for (n, days) in days.iter().enumerate() {
        mount.stop();
        let boot = if reboot { format!("boot_id = 'boot {n}', ") } else { String::new() };
        let leap = days * 86_400_000_000_000;
        let statement = format!("update clock set {boot}wall = wall - ({leap})");
        run(Command::new("sqlite3").arg(mount.store.join("index.db")).arg(statement));
        sign_again(&mount);
        mount.start();
        let now = time(&mount);
        check(now >= last, format!("time ran backwards, by {} s", last - now))?;
        last = now;
    }
    let passed = last - begin;
    check(passed <= 7 * 86_400 + 60, format!("{passed} s were believed"))?;
    refused(&[libc::EPERM], fs::remove_file(&path))?;
    mount.sealed("later", b"sealed after it");
    let sealed_at = |name: &str| seconds(mount.stat(name)["sealed_at"].as_str().expect("sealed_at"));
    check(sealed_at("later") >= sealed_at("f"), "sealed_at decreased")?;
    check(mount.ctl(&["verify", "--all"]).status.success(), "verify --all")?;
    // An acceptance does not leap past the wall clock, which in truth has gone on.
    mount.ctl_ok(&["clock", "accept"]);
    refused(&[libc::EPERM], fs::remove_file(&path))?;
    Ok(format!("{:.1} days believed; retained", f64::from(i32::try_from(passed).unwrap_or(0)) / 86_400.0))
}

fn row_set_forward() -> Seen {
    let mut mount = Mount::new("clock-row", POLICY);
    let path = mount.sealed("f", b"retained for ten days");
    mount.stop();
    let statement = "update clock set sealfs = sealfs + 86400000000000 * 365";
    run(Command::new("sqlite3").arg(mount.store.join("index.db")).arg(statement));
    mount.start();
    refused(&[libc::EPERM], fs::remove_file(&path))?;
    let status = mount.ctl_ok(&["status"]);
    check(status.contains("the clock's row in index.db is not signed"), "retained, status warns")
}

fn others_accept() -> Seen {
    let mount = Mount::new("clock-accept", POLICY);
    let output = mount.ctl_as(NOBODY, &["clock", "accept"]);
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    check(output.status.code() == Some(4), text.rsplit(": ").next().unwrap_or_default())
}
