//! `/proc/PID/stat`, and the chain of parents. Only for the observer's threads: these reads may wait.

use std::fs::File;
use std::io::Read;

use serde_json::{Value, json};

use super::mask::{mask, mask_path};
use super::room::{self, Room};
use crate::model::Timestamp;

/// Most parents that are told.
const PARENTS: usize = 16;
/// Most bytes of a command line, and most arguments.
const COMMAND: u64 = 8 * 1024;
const ARGUMENTS: usize = 100;
/// Most characters of one argument.
const ARGUMENT: usize = 512;

/// What tells a process from every other, and one program in it from the next (`proc_pid_stat(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22).
    pub start: u64,
    /// Where code, stack, data, arguments and environment begin and end (fields 26 to 28 and 45 to 51): execve(2) moves
    /// them, and where addresses are not random another program still has other sizes.
    pub layout: [u64; 10],
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Which process, and which program in it.
    pub identity: Identity,
    /// Its parent.
    pub parent: u32,
    /// Its session: the number of the process that began it.
    pub session: u32,
}

/// Reads `/proc/PID/stat`; none if there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    parse(&read(&format!("/proc/{pid}/stat"), 4096)?)
}

/// Reads the text of `/proc/PID/stat`.
pub fn parse(text: &[u8]) -> Option<Stat> {
    // The command (field 2) is in parentheses and may hold anything, parentheses too.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let pid: u64 = std::str::from_utf8(text.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let small = |field: usize| number(field).and_then(|number| u32::try_from(number).ok());
    Some(Stat {
        identity: Identity {
            pid: u32::try_from(pid).ok()?,
            start: number(22)?,
            layout: [26, 27, 28, 45, 46, 47, 48, 49, 50, 51].map(|field| number(field).unwrap_or(0)),
        },
        parent: small(4)?,
        session: small(6).unwrap_or(0),
    })
}

/// At most `most` bytes of a file in `/proc`.
pub fn read(path: &str, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Where a link in `/proc` leads.
pub fn link(path: &str) -> Option<String> {
    std::fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}

/// The same for what is recorded: tokens in it are masked.
pub fn masked_link(path: &str) -> Option<String> {
    link(path).map(|target| mask_path(&target))
}

/// The command line, masked, as far as it has room; `"off"` where it is not to be told.
pub fn arguments(pid: u32, told: bool, room: &mut Room) -> Value {
    if !told {
        return json!("off");
    }
    let bytes = read(&format!("/proc/{pid}/cmdline"), COMMAND).unwrap_or_default();
    let whole = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    room.full |= bytes.len() as u64 >= COMMAND || whole.split(|byte| *byte == 0).count() > ARGUMENTS;
    let arguments: Vec<String> = if whole.is_empty() {
        Vec::new()
    } else {
        whole
            .split(|byte| *byte == 0)
            .take(ARGUMENTS)
            .map(|argument| shortened(&String::from_utf8_lossy(argument)))
            .collect()
    };
    json!(room.keep_all(mask(&arguments)))
}

/// An argument that is longer than anybody reads, cut short.
fn shortened(argument: &str) -> String {
    match argument.char_indices().nth(ARGUMENT) {
        Some((end, _)) => format!("{}…", &argument[..end]),
        None => argument.to_owned(),
    }
}

/// The control group (`proc_pid_cgroup(5)`, version 2).
pub fn cgroup(pid: u32) -> Option<String> {
    let text = String::from_utf8(read(&format!("/proc/{pid}/cgroup"), 4096)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// When a process started, by today's wall clock, to the second.
pub fn started(start_ticks: u64) -> Option<Timestamp> {
    let ticks = Some(rustix::param::clock_ticks_per_second()).filter(|ticks| *ticks > 0)?;
    let now = |clock| {
        let time = rustix::time::clock_gettime(clock);
        (time.tv_sec, u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let (up, _) = now(rustix::time::ClockId::Boottime);
    let (wall, _) = now(rustix::time::ClockId::Realtime);
    let since_boot = i64::try_from(start_ticks / ticks).ok()?;
    Some(Timestamp::from_parts(wall.checked_sub(up)?.checked_add(since_boot)?, 0))
}

/// The parents of a process, nearest first: up to the process that began its session, and further while the control
/// group stays the same (a service's or a container's own processes); never process 1.
pub fn parents(of: &Stat, cgroup_of: Option<&str>, arguments_told: bool) -> Vec<Value> {
    let mut room = Room::of(room::PARENTS);
    let (mut found, mut next, mut in_session) = (Vec::new(), of.parent, of.identity.pid != of.session);
    while next > 1 && found.len() < PARENTS {
        let Some(parent) = stat(next) else { break };
        // The root group is everybody's: it says nothing.
        let same_group = cgroup_of.is_some_and(|group| group != "/") && cgroup(next).as_deref() == cgroup_of;
        if !in_session && !same_group {
            break;
        }
        room.full = false;
        let mut known = json!({
            "pid": parent.identity.pid,
            "started": started(parent.identity.start),
            "executable": room.keep(masked_link(&format!("/proc/{next}/exe"))),
            "arguments": arguments(next, arguments_told, &mut room),
        });
        if room.full {
            known["truncated"] = json!(true);
        }
        found.push(known);
        in_session &= next != of.session;
        next = parent.parent;
    }
    found
}
