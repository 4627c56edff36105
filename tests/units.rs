//! The systemd units: understood by systemd, and none of them hides the mount from the host.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).env("SYSTEMD_COLORS", "0").output() {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "systemd-analyze: {error}");
            eprintln!("SKIPPED: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

#[test]
fn systemd_understands_the_units() {
    // Where the programs are on this machine; instances as an administrator names them.
    let dir = harness::scratch("units");
    let bin = Path::new(env!("CARGO_BIN_EXE_sealfs")).parent().expect("folder").display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(units()).expect("units") {
        let entry = entry.expect("entry");
        let text = fs::read_to_string(entry.path()).expect("unit");
        let name = entry.file_name().into_string().expect("name").replace('@', "@builds");
        let file = dir.join(name);
        fs::write(&file, text.replace("/usr/local/bin", &bin)).expect("write");
        files.push(file.display().to_string());
    }
    assert_eq!(files.len(), 3);
    let mut args = vec!["verify"];
    args.extend(files.iter().map(String::as_str));
    let output = analyze(&args);
    let _ = fs::remove_dir_all(&dir);
    let Some(output) = output else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("sealfs")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_that_mounts_has_the_mount_namespace_of_the_host() {
    let text = fs::read_to_string(units().join("sealfs@.service")).expect("unit");
    // systemd.exec(5): each of these gives the service a mount namespace of its own.
    let hiding = [
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectProc",
        "ProcSubset",
        "ProtectHostname",
        "ProtectClock",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateUsers",
        "PrivateNetwork",
        "PrivateIPC",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "RootImage",
        "MountImages",
        "ExtensionImages",
        "MountFlags",
        "MountAPIVFS",
        "DynamicUser",
        "StateDirectory",
        "RuntimeDirectory",
        "LogsDirectory",
        "NetworkNamespacePath",
    ];
    for line in text.lines() {
        let directive = line.split_once('=').map_or("", |(directive, _)| directive);
        assert!(!hiding.contains(&directive), "{line}: the mount would be seen by nobody else");
    }
}

#[test]
fn exposure_is_as_low_as_a_mount_allows() {
    for (unit, most) in [("sealfs@.service", 6.9), ("sealfs-verify@.service", 3.0)] {
        let file = units().join(unit);
        let file = file.display().to_string();
        let Some(output) = analyze(&["security", "--offline=true", "--no-pager", &file]) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        let level =
            said.lines().find_map(|line| line.split_once("Overall exposure level for ")?.1.split(' ').nth(1));
        let level: f64 =
            level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{unit}: {output:?}"));
        assert!(level <= most, "{unit}: {level}\n{said}");
        eprintln!("{unit}: exposure {level}");
    }
}
