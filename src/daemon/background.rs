//! Going to the background: the command ends when the mount is live, or with the daemon's error.

use std::fs::File;
use std::io::Write as _;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Args, StartError};

/// Tells the daemon that its standard output is for one word: that it is ready.
pub const READY_ENV: &str = "SEALFS_TELL_READY";

/// Tells a worker that its parent goes to the background.
pub const BACKGROUND_ENV: &str = "SEALFS_IN_BACKGROUND";

/// Starts the daemon as a process of its own and waits until it is ready.
pub fn start(args: &Args) -> Result<(), StartError> {
    let failed = |what: &str, error: std::io::Error| StartError::failed(format!("{what}: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("own executable", error))?;
    let mut command = Command::new(program);
    command
        .args(args.in_foreground())
        .env(READY_ENV, "1")
        .env(BACKGROUND_ENV, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut daemon = command.spawn().map_err(|error| failed("cannot start", error))?;
    let mut told = String::new();
    if let Some(output) = daemon.stdout.take() {
        BufReader::new(output).read_line(&mut told).map_err(|error| failed("daemon", error))?;
    }
    if told.trim() == "ready" {
        return Ok(());
    }
    // It has told its error itself, unless it had no time to.
    let status = daemon.wait().map_err(|error| failed("daemon", error))?;
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Err(StartError::failed(format!(
            "the daemon ended by signal {signal} before the mount was live"
        )));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    std::process::exit(i32::from(code));
}

/// The daemon's side: leaves the terminal's session, keeps nothing of it open, and says that it is ready.
/// Without a terminal, what it logs from here on goes to `log`.
pub fn tell_ready(log: &std::path::Path) -> std::io::Result<()> {
    if std::env::var_os(READY_ENV).is_none() {
        return Ok(());
    }
    let _ = writeln!(std::io::stdout(), "ready");
    detach(log)
}

/// A worker's side of the same: the terminal is the parent's to leave, but is not kept open by us either.
pub fn leave_terminal(log: &std::path::Path) -> std::io::Result<()> {
    if std::env::var_os(BACKGROUND_ENV).is_none() { Ok(()) } else { detach(log) }
}

/// Bytes of a log from which on it is put aside; the one put aside before goes.
const LOG_MAX: u64 = 16 << 20;

/// The log that this process writes, if it does.
static LOG: OnceLock<PathBuf> = OnceLock::new();

/// Puts the log aside, as `….log.old`, when it has grown large. It lies in memory (`/run`).
///
/// # Errors
/// If it cannot be looked at, or copied; it then goes on growing.
pub fn bound_log() -> io::Result<()> {
    LOG.get().map_or(Ok(()), |log| bound(log, LOG_MAX))
}

/// Parent and worker append to the same file: so it is copied and emptied, and both go on with it.
fn bound(log: &Path, most: u64) -> io::Result<()> {
    if std::fs::metadata(log)?.len() <= most {
        return Ok(());
    }
    let old = log.with_extension("log.old");
    let _ = std::fs::remove_file(&old);
    let mut copy = File::options().write(true).create_new(true).mode(0o600).open(&old)?;
    let mut from = File::options().read(true).write(true).open(log)?;
    io::copy(&mut from, &mut copy)?;
    from.set_len(0)
}

/// Opens the log, which holds names that not everybody may read.
fn open_log(path: &Path) -> io::Result<File> {
    let log =
        File::options().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    log.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(log)
}

fn detach(path: &Path) -> io::Result<()> {
    let _ = rustix::process::setsid();
    let null = File::open("/dev/null")?;
    let log = open_log(path)?;
    let _ = LOG.set(path.to_owned());
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    std::env::set_current_dir("/")
}

/// Says that the service is well, if systemd watches that (`WATCHDOG_USEC`; sd_watchdog_enabled(3)).
pub fn feed_watchdog() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        notify_systemd("WATCHDOG=1");
    }
}

/// Tells systemd, if it asked (`NOTIFY_SOCKET`; sd_notify(3)).
pub fn notify_systemd(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd not notified");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_is_for_its_owner_and_is_put_aside_when_it_is_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "of an older daemon").unwrap();
        let mut log = open_log(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        for n in 0..100 {
            writeln!(log, "{n:0100}").unwrap();
            bound(&path, 1000).unwrap();
        }
        let old = dir.path().join("x.log.old");
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(length(&path) <= 1000 && length(&old) <= 1200, "{} and {}", length(&path), length(&old));
        assert_eq!(mode(&old), 0o600);
        let kept = std::fs::read_to_string(&old).unwrap() + &std::fs::read_to_string(&path).unwrap();
        assert!(kept.contains(&format!("{:0100}\n", 99)), "the newest lines are kept");
    }
}
