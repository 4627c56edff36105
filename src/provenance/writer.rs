//! A process that writes, as the kernel showed it.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::chain::{self, Identity, Stat};
use super::claims::{claims, pick};
use super::executable::Executables;
use super::room::{self, Room};

/// Most bytes of an environment that are looked through.
const ENVIRONMENT: u64 = 1 << 20;

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Environment variables beside those of the known CI systems.
    pub env: Vec<String>,
    /// Whether command lines are told.
    pub arguments: bool,
    /// Which boot process numbers are of.
    pub boot_id: String,
}

/// A process that opened a file for writing, read once.
#[derive(Debug)]
pub struct Writer {
    json: Value,
    process: u32,
    /// See [`Identity::layout`].
    layout: [u64; 10],
    /// What is made of it, once; see [`Writer::made_once`].
    made: OnceLock<Arc<str>>,
}

impl Writer {
    /// What was seen, as it goes into statements.
    #[must_use]
    pub fn to_json(&self) -> &Value {
        &self.json
    }

    /// Its number.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// Where its program lies.
    pub(super) fn layout(&self) -> [u64; 10] {
        self.layout
    }

    /// A text that is made of this writer alone, kept from the first time on.
    pub fn made_once(&self, make: impl FnOnce(&Value) -> String) -> Arc<str> {
        Arc::clone(self.made.get_or_init(|| make(&self.json).into()))
    }

    /// Reads everything about a process that `before` was just read of.
    ///
    /// # Errors
    /// In a few words, if it ended or ran another program meanwhile.
    pub(super) fn read(
        before: &Stat,
        settings: &Settings,
        known: &Executables,
    ) -> Result<Self, &'static str> {
        let Identity { pid, start, .. } = before.identity;
        let (mut command_line, mut paths) = (Room::of(room::COMMAND_LINE), Room::of(room::PATHS));
        let executable = paths.keep(chain::masked_link(&format!("/proc/{pid}/exe")));
        let digest = known.digest_of(pid);
        let arguments = chain::arguments(pid, settings.arguments, &mut command_line);
        let directory = paths.keep(chain::masked_link(&format!("/proc/{pid}/cwd")));
        let status = chain::read(&format!("/proc/{pid}/status"), 64 * 1024).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let cgroup = paths.keep(chain::cgroup(pid));
        let environment = chain::read(&format!("/proc/{pid}/environ"), ENVIRONMENT).unwrap_or_default();
        let mut environment = pick(&environment, &settings.env);
        let mut variables = Room::of(room::VARIABLES);
        environment.retain(|name, value| variables.takes(name) && variables.takes(value));
        let parents = chain::parents(before, cgroup.as_deref(), settings.arguments);
        // The same process, running the same program, from the first look to the last.
        if chain::stat(pid).map(|after| after.identity) != Some(before.identity) {
            return Err("it ended, or ran another program, while it was looked at");
        }
        let claimed = claims(&environment);
        let mut json = json!({
            "pid": pid,
            "started": chain::started(start),
            "boot": settings.boot_id,
            "executable": executable,
            "arguments": arguments,
            "directory": directory,
            "uid": ids(&status, "Uid:"),
            "gid": ids(&status, "Gid:"),
            "parents": parents,
            "environment": environment,
            "claims": {
                "system": claimed.system,
                "repository": claimed.repository,
                "ref": claimed.reference,
                "commit": claimed.commit,
                "run": claimed.run,
            },
        });
        if command_line.full || paths.full || variables.full {
            json["truncated"] = json!(true);
        }
        match digest {
            Ok(digest) => json["executableSha256"] = json!(digest),
            Err(why) => json["executableUnread"] = json!(why),
        }
        if let Some(cgroup) = cgroup {
            let (unit, container) = (unit(&cgroup), container(&cgroup));
            json["cgroup"] = json!({ "path": cgroup, "unit": unit, "container": container });
        }
        Ok(Writer { json, process: pid, layout: before.identity.layout, made: OnceLock::new() })
    }
}

/// Real and effective id of a line of `/proc/PID/status`.
fn ids(status: &str, name: &str) -> Value {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut ids = line.split_ascii_whitespace().map(|id| id.parse::<u32>().ok());
    json!({ "real": ids.next().flatten(), "effective": ids.next().flatten() })
}

/// The innermost systemd unit in a control group's path.
fn unit(cgroup: &str) -> Option<&str> {
    cgroup
        .rsplit('/')
        .find(|part| [".service", ".scope"].iter().any(|kind| part.strip_suffix(kind).is_some()))
}

/// The id of a container in a control group's path: 64 hexadecimal digits, whatever stands around them.
fn container(cgroup: &str) -> Option<&str> {
    cgroup
        .rsplit(|c: char| !c.is_ascii_hexdigit())
        .find(|part| part.len() == 64 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_found_in_paths() {
        let id = "0123456789abcdef".repeat(4);
        for (path, unit_, container_) in [
            ("/system.slice/gitlab-runner.service", Some("gitlab-runner.service"), None),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope"), None),
            ("/", None, None),
        ] {
            assert_eq!((unit(path), container(path)), (unit_, container_), "{path}");
        }
        let docker = format!("/system.slice/docker-{id}.scope");
        assert_eq!(container(&docker), Some(id.as_str()));
        let kube = format!("/kubepods/burstable/pod8f/{id}");
        assert_eq!((unit(&kube), container(&kube)), (None, Some(id.as_str())));
    }
}
