//! Who may ask the daemon for what.

use super::error::PolicyError;
use super::read::{At, Table};

/// Looks names of users and groups up; the host's database stands behind it, or a test's.
pub trait NameLookup {
    /// The number of the user `name`, if there is one.
    fn uid(&self, name: &str) -> Option<u32>;
    /// The number of the group `name`, if there is one.
    fn gid(&self, name: &str) -> Option<u32>;
}

/// What a caller can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Shortens, bypasses, accepts the clock, removes holds, seals torn files of others, keeps keys.
    Governance,
    /// Reads everything.
    Auditor,
}

impl Role {
    /// The role's key in `[roles]`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Governance => "governance",
            Role::Auditor => "auditor",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One user or one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Uid(u32),
    Gid(u32),
}

/// Holders of each role. A role that the policy does not list is root's; one that it lists has exactly
/// those holders, root among them only if stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    governance: Vec<Holder>,
    auditor: Vec<Holder>,
}

impl Default for Roles {
    fn default() -> Self {
        Roles { governance: vec![Holder::Uid(0)], auditor: vec![Holder::Uid(0)] }
    }
}

impl Roles {
    /// Whether nobody holds the role `governance`.
    pub(super) fn has_no_governance(&self) -> bool {
        self.governance.is_empty()
    }

    /// Whether somebody with this user number and these groups (primary and others) holds the role.
    #[must_use]
    pub fn has(&self, role: Role, uid: u32, gids: &[u32]) -> bool {
        let holders = match role {
            Role::Governance => &self.governance,
            Role::Auditor => &self.auditor,
        };
        holders.iter().any(|holder| match holder {
            Holder::Uid(holder) => *holder == uid,
            Holder::Gid(holder) => gids.contains(holder),
        })
    }

    /// The keys of `[roles]`.
    pub(super) const KEYS: [&str; 2] = ["governance", "auditor"];

    pub(super) fn read(table: &Table<'_>, names: &dyn NameLookup) -> Result<Self, PolicyError> {
        let list = |role: Role, default: Vec<Holder>| {
            let key = role.as_str();
            match table.strings(key, false, "a list such as [\"uid:0\", \"gid:release\"]")? {
                None => Ok(default),
                Some(entries) => entries.iter().map(|entry| holder(table, key, entry, names)).collect(),
            }
        };
        let root = Roles::default();
        Ok(Roles {
            governance: list(Role::Governance, root.governance)?,
            auditor: list(Role::Auditor, root.auditor)?,
        })
    }
}

fn holder(
    table: &Table<'_>,
    key: &str,
    entry: &At<&str>,
    names: &dyn NameLookup,
) -> Result<Holder, PolicyError> {
    let shape = "\"uid:NAME\", \"uid:NUMBER\", \"gid:NAME\" or \"gid:NUMBER\"";
    let (kind, who) = match entry.value.split_once(':') {
        Some((kind @ ("uid" | "gid"), who)) if !who.is_empty() => (kind, who),
        _ => return Err(table.wrong_text(&format!("an entry of {key}"), entry, shape)),
    };
    let number = if who.bytes().all(|b| b.is_ascii_digit()) {
        // The highest number means "nobody in particular" to chown(2), so no one has it.
        let Some(number) = who.parse().ok().filter(|number| *number != u32::MAX) else {
            let expected = format!("a number up to {}", u32::MAX - 1);
            return Err(table.wrong_text(&format!("an entry of {key}"), entry, &expected));
        };
        number
    } else {
        let (found, word) = match kind {
            "uid" => (names.uid(who), "user"),
            _ => (names.gid(who), "group"),
        };
        found.ok_or_else(|| {
            let found = format!("{key} in {} names the {word} {who:?}, which does not exist", table.name);
            table.source.error(&entry.span, found, format!("an existing {word}, or its number"))
        })?
    };
    Ok(if kind == "uid" { Holder::Uid(number) } else { Holder::Gid(number) })
}
