//! Words and options of a command line, and of commands inside arguments (`sh -c '…'`).

use std::ops::Range;

use super::names::{is_scheme, is_secret};
use super::programs::{self, Row, Says, Takes};
use super::{Hidden, in_any_text, shapes};

/// How deep commands are looked for in arguments of commands.
const DEPTH: usize = 4;
/// Most rows of programs that count at once.
const ROWS: usize = 32;
/// Words after which `NAME VALUE` is set.
const VERBS: [&str; 7] = ["setx", "set", "config", "put", "setenv", "export", "write"];
/// Words that by themselves say that a secret follows.
const SAYING: [&str; 8] =
    ["password", "passphrase", "passwd", "psk", "authtoken", "_authtoken", "add-authtoken", "auth-token"];
/// Options of any program whose value is a secret although their name does not say so.
const OPTIONS: [&str; 8] = ["-i", "-pw", "-pwd", "--pat", "-pass", "-passwd", "--pin", "--code"];
/// Options of any program whose value is `user:secret`.
const USERS: [&str; 8] =
    ["-u", "-U", "--user", "--proxy-user", "--creds", "--credentials", "--auth", "--http-auth"];

/// A command line, read word by word.
#[derive(Default)]
pub(super) struct Line {
    rows: Vec<&'static Row>,
    seen: Vec<String>,
    next: Next,
    sets: bool,
    all: bool,
    key: Key,
    digests: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Unknown,
    Takes(Takes),
    /// So many words that stand before a secret, or are it: all are hidden.
    Words(usize),
}

/// Whether the words are those of a private key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    #[default]
    No,
    Inside,
    Ending,
}

impl Line {
    /// Marks what is secret in an argument.
    pub(super) fn argument(&mut self, text: &str, hidden: &mut Hidden) {
        self.text(text, 0..text.len(), 0, hidden);
        let random = if self.digests { shapes::Random::ShortNoDigest } else { shapes::Random::Short };
        in_any_text(text, random, hidden);
        printed(text, hidden);
    }

    /// One word, which may hold a command.
    fn text(&mut self, text: &str, range: Range<usize>, depth: usize, hidden: &mut Hidden) {
        let word = &text[range.clone()];
        if self.in_key(word) {
            return hidden.hide(range);
        }
        if !word.contains(char::is_whitespace) {
            return self.word(word, range.start, hidden);
        }
        if self.all || matches!(self.next, Next::Takes(Takes::Secret) | Next::Words(_)) {
            self.word(word, range.start, hidden);
            return;
        }
        // `-p 'a b'` in one argument, and an option's text as an argument of its own.
        self.word(word, range.start, hidden);
        if depth < DEPTH {
            command(text, range, depth, hidden);
        }
    }

    /// Whether this is a piece of a private key that was split at its spaces.
    fn in_key(&mut self, word: &str) -> bool {
        let was = self.key;
        self.key = match was {
            Key::No if shapes::key_goes_on(word) => Key::Inside,
            Key::No => Key::No,
            Key::Inside if !word.contains("-----END") => Key::Inside,
            // `-----END`, `RSA`, `PRIVATE`, `KEY-----`.
            _ if word.ends_with("-----") => Key::No,
            _ => Key::Ending,
        };
        was != Key::No
    }

    fn word(&mut self, word: &str, at: usize, hidden: &mut Hidden) {
        let range = at..at + word.len();
        if word.is_empty() {
            // An empty password; what follows is none.
            self.next = Next::Unknown;
            return;
        }
        if self.all {
            return hidden.hide(range);
        }
        match std::mem::take(&mut self.next) {
            Next::Takes(Takes::Secret) => {
                if !is_long_option(word) {
                    hidden.hide(range);
                    if is_scheme(word.trim_end_matches(':')) {
                        self.next = Next::Takes(Takes::Secret);
                    }
                    if !word.starts_with('-') {
                        return;
                    }
                }
            }
            Next::Takes(Takes::User) => return after_user(word, at, hidden),
            Next::Takes(Takes::Pair) => return after_name(word, at, hidden),
            Next::Takes(Takes::Plain) => return,
            Next::Words(left) => {
                hidden.hide(range);
                // Options stand between.
                let left = if word.starts_with('-') { left } else { left - 1 };
                self.next = if left > 0 { Next::Words(left) } else { Next::Unknown };
                return;
            }
            Next::Unknown => {}
        }
        if word.contains(char::is_whitespace) && !word.starts_with('-') {
            return;
        }
        self.by_rows(word, at, hidden);
        if self.next == Next::Unknown {
            self.by_itself(word);
        }
        if !word.starts_with('-') {
            let rows = programs::of(word);
            if self.rows.len() + rows.len() <= ROWS {
                self.rows.extend(rows);
            }
            self.sets |= VERBS.contains(&word) || word.ends_with(":set");
            self.digests |= matches!(
                word,
                "git" | "hg" | "jj" | "nix" | "docker" | "podman" | "ostree" | "bazel" | "ccache"
            );
            if self.seen.len() < ROWS {
                self.seen.push(word.to_owned());
            }
            // A row's own program may be the word after which a secret stands.
            if self.next == Next::Unknown {
                self.next = rows
                    .iter()
                    .flat_map(|row| &row.says)
                    .find_map(|says| after_word(says, word))
                    .unwrap_or_default();
            }
        }
    }

    /// What the table says of this word.
    fn by_rows(&mut self, word: &str, at: usize, hidden: &mut Hidden) {
        for row in self.rows.iter().rev() {
            if !row.needs.is_empty() && row.needs != word && !self.seen.iter().any(|seen| seen == row.needs) {
                continue;
            }
            for says in &row.says {
                match says {
                    Says::Option { name, takes, attached } => {
                        let Some(value) = value_of(word, name) else { continue };
                        if value.is_empty() {
                            if !attached && self.next == Next::Unknown {
                                self.next = Next::Takes(*takes);
                            }
                        } else {
                            let from = at + word.len() - value.len();
                            match takes {
                                Takes::Secret => hidden.hide(from..at + word.len()),
                                Takes::User => after_user(value, from, hidden),
                                Takes::Pair => after_name(value, from, hidden),
                                Takes::Plain => {}
                            }
                        }
                    }
                    Says::AllPairs => {
                        if !word.starts_with('-') || word.contains('=') {
                            after_name(word, at, hidden);
                        }
                    }
                    Says::AllAfter(name) => self.all |= word == *name,
                    Says::Logon => {
                        if let Some(slash) = word.find('/').filter(|at| *at > 0) {
                            let end = word.rfind('@').filter(|end| *end > slash).unwrap_or(word.len());
                            hidden.hide(at + slash + 1..at + end);
                        }
                    }
                    Says::Word { .. } => {
                        if let Some(next) = after_word(says, word) {
                            self.next = next;
                        }
                    }
                }
            }
        }
    }

    /// What a word says by itself, whatever the program.
    fn by_itself(&mut self, word: &str) {
        let is_option = word.starts_with('-') || word.starts_with('/') && !word[1..].contains('/');
        let is_name = !word.contains(['=', ' ']) && !word.trim_end_matches(':').contains(':');
        let lower = word.to_ascii_lowercase();
        let is_before_secret = word == "<<<"
            || matches!(lower.as_str(), "bearer" | "basic")
            || OPTIONS.contains(&word)
            || SAYING.contains(&lower.as_str())
            || is_secret(word)
                && (is_option && is_name && word.len() > 3
                    || !is_option && word.len() > 1 && word.ends_with([':', '='])
                    || !is_option && is_name && self.sets);
        self.next = if USERS.contains(&word) {
            Next::Takes(Takes::User)
        } else if word == "--from-literal" {
            Next::Takes(Takes::Pair)
        } else if is_before_secret {
            Next::Takes(Takes::Secret)
        } else {
            Next::Unknown
        };
    }
}

fn after_word(says: &Says, word: &str) -> Option<Next> {
    let Says::Word { word: name, after } = says else { return None };
    let is_it = word == *name
        || word.rsplit(['/', '.', ':']).next() == Some(*name)
        || word.split('.').next() == Some(*name);
    is_it.then_some(Next::Words(*after))
}

/// `--quiet`: an option that no password looks like.
fn is_long_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| {
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .split('=')
                .next()
                .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    })
}

/// Flags of one letter that may stand before an option's letter, in every program.
const FLAGS: &str = "sSfLkvgqn";

/// The value that is attached to an option: `-pX`, `--option=X`, `/p:X`, `-suX`. Empty: it is the next word.
fn value_of<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    if word == name {
        return Some("");
    }
    let is_short = name.len() == 2 && name.starts_with('-');
    let rest = match word.strip_prefix(name) {
        Some(rest) => rest,
        None if is_short && word.starts_with('-') => {
            word[1..].trim_start_matches(|c| FLAGS.contains(c)).strip_prefix(&name[1..])?
        }
        None => return None,
    };
    match rest.strip_prefix(['=', ':']) {
        Some(value) => Some(value),
        None => (is_short || name == "-hp").then_some(rest),
    }
}

/// `user:secret`, also with `%`, `,` or `/`. Without the secret the user is it.
fn after_user(word: &str, at: usize, hidden: &mut Hidden) {
    let from = word.find([':', '%', ',']).or_else(|| word.find('/'));
    match from {
        Some(from) if from + 1 < word.len() => {
            hidden.hide(at + from + 1..at + word.len());
            if from > 15 || shapes::is_random(&word[..from]) {
                hidden.hide(at..at + from);
            }
        }
        Some(from) => hidden.hide(at..at + from),
        None => {}
    }
}

/// `name=secret`.
fn after_name(word: &str, at: usize, hidden: &mut Hidden) {
    if let Some(from) = word.find('=') {
        hidden.hide(at + from + 1..at + word.len());
    }
}

/// A shell's words in a text: each is read as an argument; an operator begins another command.
fn command(text: &str, range: Range<usize>, depth: usize, hidden: &mut Hidden) {
    let mut line = Line::default();
    for piece in pieces(text, range) {
        match piece {
            Piece::Word(word) => line.text(text, word, depth + 1, hidden),
            Piece::Operator => line = Line { key: line.key, ..Line::default() },
        }
    }
}

/// What a text prints into a pipe may be the next command's password.
fn printed(text: &str, hidden: &mut Hidden) {
    let mut from = 0;
    while let Some(end) = text[from..].find('|').map(|at| from + at) {
        let command = &text[from..end];
        let command = &command[command.rfind([';', '&', '\n']).map_or(0, |at| at + 1)..];
        let start = ["echo", "printf"].iter().filter_map(|name| {
            let at = command.find(name)?;
            let is_word = command[at + name.len()..].starts_with(char::is_whitespace);
            (is_word && !command[..at].ends_with(|c: char| c.is_ascii_alphanumeric()))
                .then_some(at + name.len() + 1)
        });
        if let Some(start) = start.min() {
            hidden.hide(end - command.len() + start..end);
        }
        from = end + 1;
    }
}

enum Piece {
    Word(Range<usize>),
    Operator,
}

/// Splits a text as a shell does. Quotation marks around a whole word are not part of it.
fn pieces(text: &str, range: Range<usize>) -> Vec<Piece> {
    let (mut found, mut begin, mut quote, mut escaped) = (Vec::new(), None, None, false);
    let start = range.start;
    let finish = |begin: &mut Option<usize>, end: usize, found: &mut Vec<Piece>| {
        if let Some(from) = begin.take() {
            found.push(Piece::Word(unquoted(text, from..end)));
        }
    };
    for (at, c) in text[range.clone()].char_indices().map(|(at, c)| (start + at, c)) {
        if escaped {
            escaped = false;
            begin.get_or_insert(at);
            continue;
        }
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                escaped = true;
                begin.get_or_insert(at);
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => {
                quote = Some(c);
                begin.get_or_insert(at);
            }
            (None, ';' | '|' | '&' | '(' | ')' | '`' | '\n') => {
                finish(&mut begin, at, &mut found);
                found.push(Piece::Operator);
            }
            (None, c) if c.is_whitespace() => finish(&mut begin, at, &mut found),
            (None, _) => {
                begin.get_or_insert(at);
            }
        }
    }
    finish(&mut begin, range.end, &mut found);
    found
}

/// A word without the quotation marks around all of it, plain or escaped.
fn unquoted(text: &str, range: Range<usize>) -> Range<usize> {
    let word = &text[range.clone()];
    for mark in ["\\\"", "\\'", "\"", "'"] {
        let inner = word.strip_prefix(mark);
        if let Some(inner) = inner {
            let end = if inner.ends_with(mark) { inner.len() - mark.len() } else { inner.len() };
            return range.start + mark.len()..range.start + mark.len() + end;
        }
    }
    range
}
