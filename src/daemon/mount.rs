//! The mount itself.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::mount::{MountFlags, UnmountFlags};

use super::StartError;
use super::args::Options;
use crate::fuse::Adapter;

fn failed(mountpoint: &Path, error: &std::io::Error) -> StartError {
    let hint = if Path::new("/dev/fuse").exists() { "" } else { "; there is no /dev/fuse: 'modprobe fuse'" };
    StartError::failed(format!("{}: cannot mount: {}{hint}", mountpoint.display(), error.to_string().trim()))
}

/// How the session serves.
pub fn config(options: &Options, threads: usize) -> Config {
    let mut config = Config::default();
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(threads);
    config
}

/// Mounts, and shakes hands with the kernel; who is not root, with the help of `fusermount3`.
pub fn mount(
    adapter: Adapter,
    store: &Path,
    mountpoint: &Path,
    options: &Options,
    threads: usize,
) -> Result<Session<Adapter>, StartError> {
    let mut config = config(options, threads);
    if rustix::process::geteuid().is_root() {
        let device = mount_directly(store, mountpoint, options)?;
        return Session::from_fd(adapter, device, config.acl, config).map_err(|error| {
            unmount(mountpoint);
            failed(mountpoint, &error)
        });
    }
    // A comma would split the option; such a store is found by --store.
    let name = store.display().to_string();
    let name = if name.contains(',') { "sealfs".to_owned() } else { name };
    config.mount_options = vec![
        MountOption::FSName(name),
        MountOption::Subtype("sealfs".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
    ];
    if options.noexec {
        config.mount_options.push(MountOption::NoExec);
    }
    if options.noatime {
        config.mount_options.push(MountOption::NoAtime);
    }
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    Session::new(adapter, mountpoint, &config).map_err(|error| failed(mountpoint, &error))
}

/// Mounts by itself, which only root may: so the mount has the type `fuse.sealfs`, by which it is found. Answers the
/// device; nobody has shaken hands with the kernel yet.
pub fn mount_directly(store: &Path, mountpoint: &Path, options: &Options) -> Result<OwnedFd, StartError> {
    try_mount(store, mountpoint, options).map_err(|error| failed(mountpoint, &error))
}

fn try_mount(store: &Path, mountpoint: &Path, options: &Options) -> std::io::Result<OwnedFd> {
    let device = OwnedFd::from(File::options().read(true).write(true).open("/dev/fuse")?);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::NOEXEC, options.noexec);
    flags.set(MountFlags::NOATIME, options.noatime);
    flags.set(MountFlags::RDONLY, options.read_only);
    let source = CString::new(store.as_os_str().as_bytes())?;
    let data = CString::new(data)?;
    rustix::mount::mount(&*source, mountpoint, c"fuse.sealfs", flags, Some(&*data))?;
    Ok(device)
}

/// Unmounts; what is busy is detached.
pub fn unmount(mountpoint: &Path) {
    match rustix::mount::unmount(mountpoint, UnmountFlags::empty()) {
        // Unmounted already, by somebody else.
        Ok(()) | Err(rustix::io::Errno::INVAL) => return,
        Err(error) => tracing::warn!(%error, "mount is busy: detaching it"),
    }
    if rustix::mount::unmount(mountpoint, UnmountFlags::DETACH).is_err() {
        let _ = std::process::Command::new("fusermount3").args(["-u", "-z"]).arg(mountpoint).status();
    }
}
