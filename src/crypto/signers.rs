//! `allowed_signers`: which key may sign as whom, for what (ssh-keygen(1), ALLOWED SIGNERS).
//!
//! A line is `principals [options] ssh-ed25519 AAAA… comment`. Principals and namespaces are lists of patterns: commas
//! part them, `*` and `?` are wildcards, `!` negates. What is written here holds none of these: an [`Origin`] cannot,
//! and namespaces are checked.

use super::PublicKey;
use super::sshsig::{SigError, check_namespace};
use crate::model::{Origin, Timestamp};

/// Why a line cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignersError {
    /// A namespace that would be a pattern or break the line.
    #[error(transparent)]
    Namespace(#[from] SigError),
    /// Without a namespace the line would let the key sign for everything.
    #[error("no namespace given; the key would be trusted for every purpose")]
    NoNamespace,
    /// A line that cannot be understood.
    #[error("line {line}: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// One line of an `allowed_signers` file with an Ed25519 key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// As whom the key may sign: patterns, see [`Signer::allows`].
    pub principals: Vec<String>,
    /// For what it may sign: patterns; `None` for everything.
    pub namespaces: Option<Vec<String>>,
    /// Not before that.
    pub valid_after: Option<Timestamp>,
    /// Not after that.
    pub valid_before: Option<Timestamp>,
    /// The key.
    pub key: PublicKey,
}

impl Signer {
    /// Whether the line lets its key sign as `principal`, for `namespace`, at the time `at`; as `ssh-keygen -Y verify`
    /// decides it.
    #[must_use]
    pub fn allows(&self, principal: &str, namespace: &str, at: Timestamp) -> bool {
        matches_list(&self.principals, principal)
            && self.namespaces.as_ref().is_none_or(|list| matches_list(list, namespace))
            && self.valid_after.is_none_or(|after| at >= after)
            && self.valid_before.is_none_or(|before| at <= before)
    }
}

/// The line that lets `key` sign as `origin` for `namespaces` and nothing else; without a newline.
///
/// # Errors
/// If there is no namespace, or one that is not a plain word ([`check_namespace`]).
pub fn allowed_signers_line(
    origin: &Origin,
    namespaces: &[String],
    key: &PublicKey,
    comment: &str,
) -> Result<String, SignersError> {
    if namespaces.is_empty() {
        return Err(SignersError::NoNamespace);
    }
    namespaces.iter().try_for_each(|namespace| check_namespace(namespace))?;
    Ok(format!("{origin} namespaces=\"{}\" {}", namespaces.join(","), key.to_openssh(comment)))
}

/// Reads an `allowed_signers` file. Comments, empty lines, keys of other kinds and lines of certificate authorities
/// are passed over.
///
/// # Errors
/// At the first line that cannot be understood: a typing error must not silently take trust away, nor give more.
pub fn parse_allowed_signers(text: &str) -> Result<Vec<Signer>, SignersError> {
    let mut signers = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        signers.extend(parse_line(line).map_err(|what| SignersError::Line { line: at + 1, what })?);
    }
    Ok(signers)
}

fn parse_line(line: &str) -> Result<Option<Signer>, String> {
    let (principals, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is missing")?,
        None => line.split_once([' ', '\t']).ok_or("expected principals and a key")?,
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let (options, key) = if is_key_type(first_word(rest)) { ("", rest) } else { split_options(rest)? };
    let kind = first_word(key);
    if !is_key_type(kind) {
        return Err(format!("expected a kind of key such as ssh-ed25519, found {kind:?}"));
    }
    if kind != "ssh-ed25519" {
        return Ok(None);
    }
    let key = PublicKey::from_openssh(key).map_err(|error| error.to_string())?;
    let mut signer = Signer {
        principals: split_list(principals)?,
        namespaces: None,
        valid_after: None,
        valid_before: None,
        key,
    };
    if !parse_options(options, &mut signer)? {
        return Ok(None);
    }
    Ok(Some(signer))
}

fn first_word(text: &str) -> &str {
    text.split([' ', '\t']).next().unwrap_or("")
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix))
}

/// Options and what follows: they end at the first white space outside quotation marks.
fn split_options(text: &str) -> Result<(&str, &str), String> {
    let end = unquoted(text, |c| c == ' ' || c == '\t')?.ok_or("expected a key after the options")?;
    Ok((&text[..end], text[end..].trim_start_matches([' ', '\t'])))
}

/// Where the first such character outside quotation marks stands; `\"` is no quotation mark.
fn unquoted(text: &str, wanted: impl Fn(char) -> bool) -> Result<Option<usize>, String> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if !quoted && wanted(c) {
            return Ok(Some(at));
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\';
    }
    if quoted { Err("a quotation mark is missing".to_owned()) } else { Ok(None) }
}

/// Puts the options into `signer`; false if the line is for a certificate authority.
fn parse_options(mut rest: &str, signer: &mut Signer) -> Result<bool, String> {
    let mut plain = true;
    let mut more = !rest.is_empty();
    while more {
        let comma = unquoted(rest, |c| c == ',')?;
        let option;
        (option, rest) = comma.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
        more = comma.is_some();
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name.to_ascii_lowercase(), Some(unquote(name, value)?)),
            None => (option.to_ascii_lowercase(), None),
        };
        let twice = match (name.as_str(), value) {
            ("cert-authority", None) => !std::mem::replace(&mut plain, false),
            ("namespaces", Some(value)) => signer.namespaces.replace(split_list(&value)?).is_some(),
            ("valid-after", Some(value)) => signer.valid_after.replace(parse_time(&value)?).is_some(),
            ("valid-before", Some(value)) => signer.valid_before.replace(parse_time(&value)?).is_some(),
            _ => return Err(format!("unknown option {option:?}")),
        };
        if twice {
            return Err(format!("option {name:?} given twice"));
        }
    }
    if let (Some(after), Some(before)) = (signer.valid_after, signer.valid_before)
        && before <= after
    {
        return Err("valid-before is not later than valid-after".to_owned());
    }
    Ok(plain)
}

/// The text in quotation marks, `\"` undone.
fn unquote(name: &str, value: &str) -> Result<String, String> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match inner.map(|inner| (inner, inner.replace("\\\"", ""))) {
        Some((inner, rest)) if !rest.contains('"') => Ok(inner.replace("\\\"", "\"")),
        _ => Err(format!("expected {name}=\"…\"")),
    }
}

fn split_list(list: &str) -> Result<Vec<String>, String> {
    if list.split(',').any(str::is_empty) {
        return Err(format!("expected names parted by commas, found {list:?}"));
    }
    Ok(list.split(',').map(str::to_owned).collect())
}

/// `YYYYMMDD[HHMM[SS]]Z`. Without the `Z` it would be the local time of whoever checks: not for us.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let error = || format!("expected a time in UTC such as 20260131Z or 20260131235959Z, found {text:?}");
    let digits = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("UTC")).ok_or_else(error)?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(error());
    }
    let full = format!("{digits:0<14}");
    let part = |from: usize, to: usize| &full[from..to];
    let (date, time) =
        ([part(0, 4), part(4, 6), part(6, 8)].join("-"), [part(8, 10), part(10, 12), part(12, 14)].join(":"));
    format!("{date}T{time}Z").parse().map_err(|_| error())
}

/// OpenSSH's `match_pattern_list`: some pattern matches, and none that is negated.
fn matches_list(patterns: &[String], text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(pattern, text) => return false,
            Some(_) => {}
            None => found |= matches_pattern(pattern, text),
        }
    }
    found
}

/// `*` for any bytes, `?` for one (`ssh_config(5)`, PATTERNS). Takes at most length times length steps.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stood, and where in the text what it swallowed ends.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == b'?' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, end)) = star {
            star = Some((at, end + 1));
            p = at + 1;
            t = end + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
#[path = "signers_tests.rs"]
mod tests;
