//! What the doctor looks at.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::access::{self, Reading};
use super::doctor::Check;
use super::render::count;
use crate::control::client::ClientError;
use crate::crypto::{PublicKey, SigningKey};
use crate::provenance;
use crate::store::{Layout, probe};

/// The kernel from which passthrough and takeover exist.
const PASSTHROUGH: (u32, u32) = (6, 9);

/// The host.
pub fn environment() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    vec![device(), fusermount(root), kernel(root), ssh_keygen(), exit_status()]
}

fn device() -> Check {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Check::good("/dev/fuse", "can be opened"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::bad(
            "/dev/fuse",
            "not there",
            "load the module with 'modprobe fuse', or give the container the device",
        ),
        Err(error) => Check::bad(
            "/dev/fuse",
            error.to_string(),
            "its mode should be 0666; in a container, allow the device",
        ),
    }
}

fn fusermount(root: bool) -> Check {
    match in_path("fusermount3") {
        Some(path) => Check::good("fusermount3", path.display().to_string()),
        None if root => {
            Check::poor("fusermount3", "not found; root mounts without it", "install the package fuse3")
        }
        None => Check::bad(
            "fusermount3",
            "not found; without root nothing can be mounted",
            "install the package fuse3",
        ),
    }
}

fn kernel(root: bool) -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = PASSTHROUGH;
    match version(release) {
        Some(found) if found < PASSTHROUGH => Check::poor(
            "kernel",
            format!("{release}; passthrough needs {major}.{minor}, so data goes through the daemon"),
            "a newer kernel makes large files several times faster",
        ),
        Some(_) if !root => Check::poor(
            "kernel",
            format!("{release}; passthrough needs root, so data goes through the daemon"),
            "run sealfs as root for speed",
        ),
        Some(_) => Check::good("kernel", format!("{release}, with passthrough")),
        None => Check::poor("kernel", format!("unknown version {release:?}"), "Linux 6.9 or later is best"),
    }
}

/// Major and minor of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn ssh_keygen() -> Check {
    match in_path("ssh-keygen") {
        Some(path) => Check::good("ssh-keygen", path.display().to_string()),
        None => Check::poor(
            "ssh-keygen",
            "not found; sealfs does not need it, but others check seals with it",
            "install openssh-client",
        ),
    }
}

fn exit_status() -> Check {
    if provenance::self_test() {
        Check::good("exit codes", "a killed writer can be told from one that ended well")
    } else {
        Check::poor(
            "exit codes",
            "other processes' cannot be seen, so files of killed writers are sealed too",
            "give the daemon CAP_SYS_PTRACE and the writers' PID namespace",
        )
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let runnable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(runnable)
}

/// A store.
pub fn store(path: &Path) -> Vec<Check> {
    let layout = match Layout::open(path) {
        Ok(layout) => layout,
        Err(error) => {
            return vec![Check::bad("store", error.to_string(), "give the right store, as its owner")];
        }
    };
    let mut all = vec![Check::good("store", format!("{}, mode 0700, ours", layout.root().display()))];
    all.push(key("seal key", &layout.seal_key()));
    all.push(key("log key", &layout.log_key()));
    all.push(policy_file(&layout));
    all.push(match access::policy(&layout.policy()) {
        Ok(policy) => {
            let rules = count(policy.rules().len() as u64, "rule", "rules");
            Check::good("policy", format!("{rules}, no mistakes"))
        }
        Err(failure) => Check::bad(
            "policy",
            failure.to_string().trim_start_matches("sealctl: "),
            "correct it; until then a running daemon keeps the one it had, and a new one does not start",
        ),
    });
    all.push(match Reading::open(path) {
        Ok(reading) => Check::good("index", format!("readable, origin {}", reading.origin)),
        Err(failure) => Check::bad(
            "index",
            failure.to_string().trim_start_matches("sealctl: "),
            "restore index.db from a backup",
        ),
    });
    match access::connect(layout.root()) {
        Ok(_) => all.push(Check::good("daemon", "running; 'sealctl status' tells more")),
        Err(ClientError::NoDaemon(_)) => {
            all.push(Check::poor("daemon", "not running", "start it with 'sealfs STORE MOUNTPOINT'"));
            all.extend(abilities(&layout));
        }
        Err(ClientError::NoWorker { holder, .. }) => all.push(Check::bad(
            "daemon",
            format!("does not respond: {holder}"),
            "its log, beside the control socket in /run/sealfs or in the journal, has the reason",
        )),
        Err(error) => all.push(Check::bad("daemon", error.to_string(), "restart it")),
    }
    all
}

fn key(what: &str, path: &Path) -> Check {
    let shown = path.display();
    let private = match SigningKey::read(path) {
        Ok(key) => key.public(),
        Err(error) => {
            return Check::bad(what, format!("{shown}: {error}"), "without it nothing can be sealed");
        }
    };
    let text = fs::read_to_string(path.with_extension("pub")).unwrap_or_default();
    match PublicKey::from_openssh(&text) {
        Ok(public) if public == private => Check::good(what, private.fingerprint()),
        Ok(_) => Check::bad(
            what,
            format!("{shown}.pub is of another key"),
            "write it anew with 'ssh-keygen -y -f'",
        ),
        Err(error) => {
            Check::bad(what, format!("{shown}.pub: {error}"), "write it anew with 'ssh-keygen -y -f'")
        }
    }
}

fn policy_file(layout: &Layout) -> Check {
    let path = layout.policy();
    match fs::metadata(&path) {
        Ok(meta) if meta.permissions().mode() & 0o022 != 0 => Check::bad(
            "policy file",
            "group or others may write it",
            "'chmod 600' it, and look at what it says",
        ),
        Ok(_) => Check::good("policy file", path.display().to_string()),
        Err(error) => {
            Check::bad("policy file", format!("{}: {error}", path.display()), "restore it from a backup")
        }
    }
}

/// What the file system below can do. A running daemon has found out by itself, and tells in its status.
fn abilities(layout: &Layout) -> Vec<Check> {
    let found = match probe(layout) {
        Ok(found) => found,
        Err(error) => {
            return vec![Check::bad("backing file system", error.to_string(), "is it full, or read-only?")];
        }
    };
    vec![
        if found.leases {
            Check::good("leases", "the kernel proves that nobody writes to what is sealed")
        } else {
            Check::poor(
                "leases",
                "not here; the daemon's own count of handles decides",
                "ext4, xfs and btrfs have them",
            )
        },
        if found.immutable {
            Check::good(
                "immutable flag",
                "can be set here; whether each sealed file carries it, the daemon looks after its start",
            )
        } else {
            Check::poor(
                "immutable flag",
                "cannot be set here; root could change backing files by accident",
                "run sealfs as root, on ext4, xfs or btrfs",
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(version("6.18.0-rc1"), Some((6, 18)));
        assert_eq!(version("5.10-amd64"), Some((5, 10)));
        assert_eq!(version("x"), None);
        assert!((6, 10) > PASSTHROUGH);
    }
}
