//! A mistake in a policy, told in one line with its place.

use std::ops::Range;

/// A mistake in a `policy.toml`: `FILE:LINE:COL: what was found; expected what`, always one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {found}; expected {expected}")]
pub struct PolicyError {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
}

/// A policy's text and name, to turn byte spans into places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub text: &'a str,
    pub file: &'a str,
}

impl Source<'_> {
    /// The error at the start of `span` (bytes).
    pub fn error(
        &self,
        span: &Range<usize>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> PolicyError {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        PolicyError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            found: one_line(found.into()),
            expected: one_line(expected.into()),
        }
    }

    /// A syntax error of the TOML parser, in our form.
    pub fn syntax(&self, error: &toml::de::Error) -> PolicyError {
        let span = error.span().unwrap_or(0..0);
        match error.message().split_once(", expected ") {
            Some((found, expected)) => self.error(&span, found, expected),
            None => self.error(&span, error.message(), "valid TOML"),
        }
    }
}

fn one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// The known word nearest to `word`, if it is near enough to be a slip of the finger.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, best) = known.iter().map(|key| (distance(word, key), *key)).min()?;
    (distance <= 1 + best.chars().count() / 4).then_some(best)
}

/// Edits (insert, delete, replace a character) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_lines_from_one() {
        let source = Source { text: "a\néé = x\n", file: "p" };
        let at = |byte: usize| {
            let error = source.error(&(byte..byte), "f", "e");
            (error.line, error.column)
        };
        assert_eq!(
            [at(0), at(1), at(2), at(6), at(7), at(999)],
            [(1, 1), (1, 2), (2, 1), (2, 3), (2, 4), (3, 1)]
        );
        assert_eq!(at(3), (2, 1), "inside a character: its start");
        assert_eq!(source.error(&(0..0), "a\nb", "c").to_string(), "p:1:1: a b; expected c");
    }

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["retention", "settle", "settle_empty", "min", "max", "match"];
        assert_eq!(nearest("retension", &known), Some("retention"));
        assert_eq!(nearest("settel", &known), Some("settle"));
        assert_eq!(nearest("Match", &known), Some("match"));
        assert_eq!(nearest("glob", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
