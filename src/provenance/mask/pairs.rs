//! Names with values, in any notation: `NAME=value`, `name: value`, JSON, YAML, dictionaries, headers, query strings,
//! connection strings, SQL.

use std::ops::Range;

use super::Hidden;
use super::names::{is_scheme, is_secret};

/// Most signs between a name and what separates it from its value.
const GAP_MAX: usize = 16;

/// Marks the values that stand under names of secrets.
pub(super) fn find(text: &str, hidden: &mut Hidden) {
    let mut from = 0;
    while let Some(begin) = text.get(from..).and_then(|rest| rest.find(is_name)).map(|at| from + at) {
        let end = text[begin..].find(|c| !is_name(c)).map_or(text.len(), |at| begin + at);
        from = end;
        let name = text[begin..end].trim_matches(['-', '.']);
        if name.is_empty() || !(is_secret(name) || by_sql(name)) {
            continue;
        }
        if let Some(value) = value(text, begin, end, by_sql(name)) {
            from = value.end.max(end);
            hidden.hide(value);
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')
}

/// `IDENTIFIED BY '…'`.
fn by_sql(name: &str) -> bool {
    name.eq_ignore_ascii_case("by")
}

/// How strings begin and end. The longest come first: a mark in a string of the shell, or behind backslashes.
const MARKS: [&str; 9] = ["'\\''", "'\"'\"'", "\\\\\\\"", "\\\"", "\\'", "\"\"\"", "\"", "'", "`"];

/// The mark that a text begins with.
fn mark(text: &str) -> Option<&'static str> {
    MARKS.iter().find(|mark| text.starts_with(**mark)).copied()
}

/// Where the value of the name in `begin..end` stands; none if nothing follows it as one.
fn value(text: &str, begin: usize, end: usize, only_quoted: bool) -> Option<Range<usize>> {
    let rest = &text[end..];
    let gap = prefix(rest, |c| matches!(c, '"' | '\'' | '`' | '\\' | ']' | ')' | ' ' | '\t'), GAP_MAX);
    let spaces_first = prefix(rest, |c| matches!(c, ' ' | '\t'), GAP_MAX);
    let (at, is_loose) = match separator(&rest[gap..], &rest[..gap]) {
        Some((length, is_loose)) if !only_quoted => (end + gap + length, is_loose),
        // `PASSWORD '…'`: only a string follows like this.
        _ if spaces_first > 0 && spaces_first < gap => (end + spaces_first, true),
        _ => return None,
    };
    let is_colon = at == end + gap + 1 && rest[gap..].starts_with(':');
    let spaces = prefix(&text[at..], |c| matches!(c, ' ' | '\t'), usize::MAX);
    let is_spaced = spaces > 0 || spaces_first > 0;
    let brackets = prefix(&text[at + spaces..], |c| matches!(c, '[' | '(' | '{' | ' '), GAP_MAX);
    let value = at + spaces + brackets;
    let after = &text[value..];
    if is_colon && after.starts_with("//") {
        return None;
    }
    let opened = text[at + spaces..value].trim_end().chars().last().filter(|_| !is_loose);
    let (start, stop) = match (opened, mark(after)) {
        (Some(open), _) => {
            let close = match open {
                '[' => ']',
                '(' => ')',
                _ => '}',
            };
            (0, after.find(close).unwrap_or(after.len()))
        }
        // The mark that begins the value stays, so that what remains can be read.
        (None, Some(mark)) => {
            let stop = mark.len() + string_end(&after[mark.len()..], mark);
            let joined =
                if is_loose { 0 } else { after[stop..].find(is_delimiter).unwrap_or(after.len() - stop) };
            (mark.len(), stop + joined)
        }
        (None, None) if is_loose => return None,
        (None, None) => (0, unquoted_end(text, begin, end, value, is_colon && is_spaced)),
    };
    (start < stop).then_some(value + start..value + stop)
}

/// The length of what separates a name from its value, and whether that counts only before a string.
fn separator(rest: &str, gap: &str) -> Option<(usize, bool)> {
    if rest.starts_with("::") && !rest.starts_with("::=") {
        return None;
    }
    for mark in ["::=", "=>", "->", ":=", "?=", "+=", "==", "=", ":", "%3D", "%3d", "%3A", "%3a"] {
        if rest.starts_with(mark) {
            return Some((mark.len(), false));
        }
    }
    (rest.starts_with('(') || rest.starts_with(',') && gap.contains(['"', '\''])).then_some((1, true))
}

/// Where a string ends that began with this mark.
fn string_end(text: &str, mark: &str) -> usize {
    if mark.len() > 1 {
        return text.find(mark).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if !is_escaped && text[at..].starts_with(mark) {
            return at;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// How many bytes at the begin are of such signs, `most` at most.
fn prefix(text: &str, is_part: impl Fn(char) -> bool, most: usize) -> usize {
    text.char_indices()
        .take(most)
        .take_while(|(_, c)| is_part(*c))
        .map(|(at, c)| at + c.len_utf8())
        .last()
        .unwrap_or(0)
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';' | '&' | '}' | ']' | ')' | '"' | '\'' | '`' | '\\' | '|')
}

/// The length of a value without quotation marks.
fn unquoted_end(text: &str, begin: usize, name_end: usize, value: usize, to_line_end: bool) -> usize {
    let after = &text[value..];
    // A block in YAML: everything that follows.
    if to_line_end && after.starts_with(['|', '>']) {
        return after.len();
    }
    let before = text[..begin].chars().last();
    let starts_it = text[..begin].chars().all(|c| matches!(c, '-' | '/'));
    // Options and variables that begin an argument have the rest of it as their value.
    if starts_it && !to_line_end {
        return after.len();
    }
    let first_word = after.split(char::is_whitespace).next().unwrap_or_default();
    let to_line_end = to_line_end
        || is_scheme(first_word)
        || text[begin..name_end].to_ascii_lowercase().contains("extraheader");
    if to_line_end {
        let enclosing = before.filter(|c| matches!(c, '"' | '\'' | '`'));
        let is_flow = text[..begin].contains('{');
        return after
            .find(|c| c == '\n' || Some(c) == enclosing || is_flow && matches!(c, ',' | '}'))
            .unwrap_or(after.len());
    }
    // Between delimiters of one kind the others may be part of the value.
    let stop = match before {
        Some(c @ (',' | ';' | '&')) => {
            after.find(|next: char| next == c || next.is_whitespace() || matches!(next, '"' | '\''))
        }
        Some('?' | '#') => {
            after.find(|next: char| matches!(next, '&' | ';' | '#' | '"' | '\'') || next.is_whitespace())
        }
        Some('{') => after.find([',', '}']),
        _ => after.find(|next: char| next.is_whitespace() || matches!(next, '"' | '\'' | '`')),
    };
    stop.unwrap_or(after.len())
}
