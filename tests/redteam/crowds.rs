//! A crowd of names: sealed one by one, listed, looked up, and verified. A million with `SEALFS_SOAK=1`.

use std::fs;

use super::harness::{Mount, eventually};
use super::scene::{Seen, Table, check, refused, soak};

pub fn attacks(table: &mut Table) {
    let names = if soak() { 1_000_000 } else { 5_000 };
    table.add(&format!("{names} names, each sealed"), "root, passthrough", crowd(names));
}

fn crowd(names: u64) -> Seen {
    let mount = Mount::new("crowd", "version = 1\n[defaults]\nsettle = \"1s\"\nretention = \"1d\"\n");
    let dirs = 10.max(names / 1000);
    for dir in 0..dirs {
        fs::create_dir(mount.path(format!("d{dir}"))).map_err(|error| error.to_string())?;
    }
    for n in 0..names {
        let path = mount.path(format!("d{}/{n:07}", n % dirs));
        fs::write(path, n.to_string()).map_err(|error| format!("{n}: {error}"))?;
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60 + names / 1000);
    let sealed = || mount.ctl_json(&["status"])[0]["sealed"].as_u64().unwrap_or(0);
    while sealed() < names {
        if std::time::Instant::now() > until {
            return Err(format!("only {} of {names} are sealed", sealed()));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let listed: usize =
        (0..dirs).map(|dir| fs::read_dir(mount.path(format!("d{dir}"))).map_or(0, Iterator::count)).sum();
    check(listed as u64 == names, format!("{listed} names listed"))?;
    let last = format!("d{}/{:07}", (names - 1) % dirs, names - 1);
    refused(&[libc::EPERM], fs::remove_file(mount.path(&last)))?;
    refused(&[libc::EPERM], fs::rename(mount.path("d0"), mount.path("moved")))?;
    eventually("the log is exported", || mount.ctl(&["log", "check"]).status.success());
    let output = mount.ctl(&["verify", "--all"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    check(output.status.success(), text.lines().last().unwrap_or_default())
}
