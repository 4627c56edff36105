//! Names of users and groups, as `/etc/passwd` and `/etc/group` have them.

use std::path::PathBuf;

/// The host's files of users and groups. Other sources (LDAP and the like) are not asked: whoever needs those
/// states numbers.
#[derive(Debug, Clone)]
pub struct SystemNames {
    passwd: PathBuf,
    group: PathBuf,
}

impl Default for SystemNames {
    fn default() -> Self {
        SystemNames { passwd: "/etc/passwd".into(), group: "/etc/group".into() }
    }
}

impl SystemNames {
    /// The number of the user `name`.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<u32> {
        number(&self.passwd, name)
    }

    /// The number of the group `name`.
    #[must_use]
    pub fn gid(&self, name: &str) -> Option<u32> {
        number(&self.group, name)
    }
}

/// The third field of the line whose first is `name`: the same in both files (passwd(5), group(5)).
fn number(file: &std::path::Path, name: &str) -> Option<u32> {
    let text = std::fs::read(file).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().filter(|found| !found.is_empty() && *found == name);
        found.and_then(|_| fields.nth(1)?.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_whole_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = SystemNames { passwd: dir.path().join("p"), group: dir.path().join("g") };
        assert_eq!(names.uid("root"), None);
        std::fs::write(&names.passwd, "# c\nroot:x:0:0::/:/bin/sh\nci:x:1007:7::/:/bin/sh\n").unwrap();
        std::fs::write(&names.group, "root:x:0:\nrelease:x:42:ci\n").unwrap();
        assert_eq!((names.uid("ci"), names.uid("c"), names.uid("")), (Some(1007), None, None));
        assert_eq!((names.gid("release"), names.gid("ci")), (Some(42), None));
    }
}
