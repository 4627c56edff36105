//! Names and paths inside a mount, checked once.

use std::ffi::OsStr;
use std::fmt;

/// Longest name of a file, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path from the mount's root, in bytes: what one call can name (`PATH_MAX`, without the byte that ends it).
pub const PATH_MAX: usize = 4095;
/// Suffix of the signature's sidecar.
pub const SEAL_SUFFIX: &str = ".seal";
/// Suffix of the statements' sidecar.
pub const STATEMENTS_SUFFIX: &str = ".seal.jsonl";
/// Suffix kept for manifests of folders.
pub const SUMS_SUFFIX: &str = ".seal.sums";

/// Why a name is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not UTF-8: it could not be stated in a signed statement.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// Holds a control character: it could forge lines in lists and logs.
    #[error("the name holds a control character")]
    Control,
    /// Longer than [`NAME_MAX`] bytes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
}

/// Checks one component of a path and hands it back as text.
///
/// # Errors
/// [`NameError`], see there.
pub fn check_name(name: &OsStr) -> Result<&str, NameError> {
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    let text = name.to_str().ok_or(NameError::NotUtf8)?;
    let control = if text.is_ascii() {
        text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    };
    if control { Err(NameError::Control) } else { Ok(text) }
}

/// Whether nobody may create this name: it ends in a suffix that sidecars have, or may have.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    [SEAL_SUFFIX, STATEMENTS_SUFFIX, SUMS_SUFFIX].iter().any(|suffix| name.ends_with(suffix))
}

/// The two virtual files beside each sealed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sidecar {
    /// `F.seal`: an armored OpenSSH signature over the content.
    Signature,
    /// `F.seal.jsonl`: DSSE envelopes, one a line.
    Statements,
}

impl Sidecar {
    /// Both kinds.
    pub const ALL: [Sidecar; 2] = [Sidecar::Signature, Sidecar::Statements];

    /// The suffix that this kind adds to the file's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Sidecar::Signature => SEAL_SUFFIX,
            Sidecar::Statements => STATEMENTS_SUFFIX,
        }
    }

    /// Splits a sidecar's name into the file's name and the kind.
    #[must_use]
    pub fn parse(name: &str) -> Option<(&str, Sidecar)> {
        Self::ALL.into_iter().find_map(|kind| {
            let base = name.strip_suffix(kind.suffix())?;
            (!base.is_empty()).then_some((base, kind))
        })
    }

    /// The sidecar's name, unless it would be longer than a name can be.
    #[must_use]
    pub fn name_of(self, base: &str) -> Option<String> {
        (base.len() + self.suffix().len() <= NAME_MAX).then(|| format!("{base}{}", self.suffix()))
    }
}

/// A path from the mount's root, without a leading or trailing slash; empty for the root itself.
/// Every component has passed [`check_name`] and none is `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(String);

impl RelPath {
    /// The mount's root.
    #[must_use]
    pub fn root() -> Self {
        RelPath(String::new())
    }

    /// Parses a path as it stands in an index or a command; repeated and outer slashes are folded.
    ///
    /// # Errors
    /// If a component is no valid name. `.` and `..` are refused as control names.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut path = Self::root();
        for part in text.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return Err(NameError::Control);
            }
            path = path.join(check_name(OsStr::new(part))?);
        }
        Ok(path)
    }

    /// This path and one more component, which the caller has checked with [`check_name`].
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() { RelPath(name.to_owned()) } else { RelPath(format!("{}/{name}", self.0)) }
    }

    /// The path of components that were checked with [`check_name`].
    pub fn of_checked<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut path = String::new();
        for part in parts {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
        }
        RelPath(path)
    }

    /// Folder and last component; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(&str, &str)> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0.rsplit_once('/').unwrap_or(("", &self.0)))
    }

    /// The folder that holds this path; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        RelPath(self.split().map_or("", |(dir, _)| dir).to_owned())
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.split().map_or("", |(_, name)| name)
    }

    /// The text, as above.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the mount's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `dir` or lies below it.
    #[must_use]
    pub fn is_within(&self, dir: &RelPath) -> bool {
        dir.0.is_empty()
            || self.0 == dir.0
            || (self.0.starts_with(&dir.0) && self.0.as_bytes().get(dir.0.len()) == Some(&b'/'))
    }

    /// The same path after the folder (or file) `from` was renamed to `to`; `None` if it was not below it.
    #[must_use]
    pub fn rebased(&self, from: &RelPath, to: &RelPath) -> Option<Self> {
        if !self.is_within(from) || from.is_root() {
            return None;
        }
        Some(RelPath(format!("{}{}", to.0, &self.0[from.0.len()..])))
    }
}

impl serde::Serialize for RelPath {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for RelPath {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(from)?;
        RelPath::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn names_are_checked() {
        assert_eq!(check_name(OsStr::new("a b")), Ok("a b"));
        assert_eq!(check_name(OsStr::from_bytes(b"\xff")), Err(NameError::NotUtf8));
        assert_eq!(check_name(OsStr::new("a\nb")), Err(NameError::Control));
        assert_eq!(check_name(OsStr::new("a\u{85}b")), Err(NameError::Control));
        assert_eq!(check_name(OsStr::new(&"x".repeat(256))), Err(NameError::TooLong));
        assert!(check_name(OsStr::new(&"x".repeat(255))).is_ok());
    }

    #[test]
    fn sidecar_names_split_and_join() {
        assert_eq!(Sidecar::parse("f.seal"), Some(("f", Sidecar::Signature)));
        assert_eq!(Sidecar::parse("f.seal.jsonl"), Some(("f", Sidecar::Statements)));
        assert_eq!(Sidecar::parse(".seal"), None);
        assert_eq!(Sidecar::parse("f.seal.sums"), None);
        assert_eq!(Sidecar::Signature.name_of(&"x".repeat(251)), None);
        assert!(is_reserved("f.seal.sums") && is_reserved(".seal") && !is_reserved("seal"));
    }

    #[test]
    fn paths_stay_inside() {
        assert!(RelPath::parse("a/../b").is_err());
        let path = RelPath::parse("/a//b/c/").unwrap();
        assert_eq!(path.as_str(), "a/b/c");
        assert_eq!((path.parent().as_str(), path.name()), ("a/b", "c"));
        let (a, ab) = (RelPath::parse("a").unwrap(), RelPath::parse("ab").unwrap());
        assert!(path.is_within(&a) && !path.is_within(&ab) && path.is_within(&RelPath::root()));
        assert_eq!(path.rebased(&a, &ab).unwrap().as_str(), "ab/b/c");
        assert_eq!(ab.rebased(&a, &ab), None);
    }
}
