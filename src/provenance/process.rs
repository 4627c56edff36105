//! Small questions to `/proc`.

use std::fs;
use std::io::Read;

/// `PF_EXITING` of `include/linux/sched.h`: the task is on its way out.
const PF_EXITING: u64 = 0x4;

/// How a process that flushes a file is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It lives, or cannot be seen.
    Well,
    /// It ends by itself.
    Ended,
    /// It is dying from this signal.
    Signal(u8),
}

/// Whether the task (a thread's number will do) is dying from a signal: `PF_EXITING` and the signal in
/// `exit_code` of `/proc/PID/stat` (proc(5), fields 9 and 52). Without `CAP_SYS_PTRACE`, or from another PID
/// namespace, the code reads 0: [`self_test`] finds out.
#[must_use]
pub fn exit_of(pid: u32) -> Exit {
    // Not `stat` at once: that waits for a task in execve(2) (`exec_update_lock`), which waits for us while its
    // close-on-exec descriptors are flushed: deadlock. A dying task has given up its memory before its files
    // (`do_exit`: `exit_mm`, then `exit_files`); one in execve(2) has memory, and is well.
    let mut first = [0; 2];
    let read =
        fs::File::open(format!("/proc/{pid}/statm")).and_then(|mut statm| statm.read_exact(&mut first));
    if read.is_err() || &first != b"0 " {
        return Exit::Well;
    }
    let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { return Exit::Well };
    // The command (field 2) is in parentheses and may hold anything, parentheses too.
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { return Exit::Well };
    let Ok(rest) = std::str::from_utf8(&stat[end + 1..]) else { return Exit::Well };
    let mut fields = rest.split_ascii_whitespace();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let flags = number(fields.nth(6));
    let code = number(fields.nth(42));
    match u8::try_from(code & 0x7f) {
        Ok(signal) if flags & PF_EXITING != 0 && signal != 0 => Exit::Signal(signal),
        Ok(_) if flags & PF_EXITING != 0 => Exit::Ended,
        _ => Exit::Well,
    }
}

/// Whether a process that is ending may have written anything since it was forked (`wchar` in `/proc/PID/io`, which
/// counts `write(2)`, `sendfile(2)` and `copy_file_range(2)`). True if that cannot be seen. Only for a task that
/// [`exit_of`] has seen ending: of a living one the question waits for `execve(2)`, as there.
#[must_use]
pub fn may_have_written(pid: u32) -> bool {
    let Ok(io) = fs::read_to_string(format!("/proc/{pid}/io")) else { return true };
    let written = io.lines().find_map(|line| line.strip_prefix("wchar:"));
    written.and_then(|count| count.trim().parse::<u64>().ok()) != Some(0)
}

/// The process that a thread belongs to. A process's first thread has its number.
#[must_use]
pub fn thread_group(tid: u32) -> Option<u32> {
    if let Some(pid) = i32::try_from(tid).ok().and_then(rustix::process::Pid::from_raw)
        && rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).is_ok()
    {
        return Some(tid);
    }
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The command name of a process, at most 15 bytes; for messages, not for decisions.
#[must_use]
pub fn name_of(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = String::from_utf8_lossy(&name).trim().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "?".to_owned() } else { name }
}

/// Whether exit codes of other processes can be seen here: kills a child of ours and looks.
#[must_use]
pub fn self_test() -> bool {
    use std::process::{Command, Stdio};
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -KILL $$"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let pid = child.id();
    // Unreaped it stays a zombie, whose exit code can be read as long as it takes.
    let mut seen = false;
    for _ in 0..400 {
        if let Exit::Signal(9) = exit_of(pid) {
            seen = true;
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_child_shows_its_signal_and_a_living_one_none() {
        assert!(self_test());
        assert_eq!(exit_of(std::process::id()), Exit::Well);
        assert_eq!(thread_group(std::process::id()), Some(std::process::id()));
        let tid = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            (tid, thread_group(tid))
        });
        let (tid, group) = tid.join().unwrap();
        assert_ne!(tid, std::process::id());
        assert_eq!(group, Some(std::process::id()));
    }
}
