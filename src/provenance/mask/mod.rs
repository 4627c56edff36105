//! Command lines without the secrets that people put there.
//!
//! Each detector looks at the text by itself and marks the bytes to hide; what one marks, no other can uncover. `line`
//! reads words and options with the table of programs, `pairs` reads names with values in any notation, `urls` reads
//! addresses, `shapes` reads tokens, random text and private keys. What is hidden is a guess that errs on the side of
//! hiding: a word too many costs little, a secret too few costs much. The caller bounds the text,
//! and with it the time that a detector can take.

mod line;
mod names;
mod pairs;
mod programs;
mod shapes;
mod urls;

use std::ops::Range;

/// What stands in a secret's place.
const MASK: &str = "***";

/// The arguments with secrets replaced by `***`.
#[must_use]
pub fn mask(arguments: &[String]) -> Vec<String> {
    let mut line = line::Line::default();
    let mut masked: Vec<String> = arguments
        .iter()
        .map(|argument| {
            let mut hidden = Hidden::default();
            line.argument(argument, &mut hidden);
            hidden.apply(argument)
        })
        .collect();
    // What is printed into a pipe may be the next command's password.
    let mut printed = None;
    for (at, argument) in arguments.iter().enumerate() {
        match argument.as_str() {
            "echo" | "printf" => printed = Some(at + 1),
            "|" => {
                if let Some(words) = printed.take().and_then(|from| masked.get_mut(from..at)) {
                    words.fill(MASK.to_owned());
                }
            }
            _ => {}
        }
    }
    masked
}

/// One value that is no command line, with secrets replaced by `***`. A whole commit's or content's digest stays.
#[must_use]
pub fn mask_value(text: &str) -> String {
    let mut hidden = Hidden::default();
    in_any_text(text, shapes::Random::Long, &mut hidden);
    hidden.apply(text)
}

/// A path, with tokens of known services and what stands in addresses replaced. Random names of folders stay.
#[must_use]
pub(super) fn mask_path(text: &str) -> String {
    let mut hidden = Hidden::default();
    shapes::tokens(text, shapes::Random::Never, &mut hidden);
    urls::find(text, &mut hidden);
    hidden.apply(text)
}

/// One variable's value, by its name too.
pub(super) fn mask_variable(name: &str, value: &str) -> String {
    if names::is_secret(name) { MASK.to_owned() } else { mask_value(value) }
}

/// What needs to know nothing of the text around.
fn in_any_text(text: &str, random: shapes::Random, hidden: &mut Hidden) {
    shapes::private_keys(text, hidden);
    shapes::tokens(text, random, hidden);
    urls::find(text, hidden);
    pairs::find(text, hidden);
}

/// The bytes to hide, as ranges in any order.
#[derive(Debug, Default)]
struct Hidden(Vec<Range<usize>>);

impl Hidden {
    fn hide(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// The text with each run of hidden bytes replaced.
    fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|range| range.start);
        let (mut out, mut shown_from) = (String::with_capacity(text.len()), 0);
        let mut ranges = self.0.into_iter().peekable();
        while let Some(mut range) = ranges.next() {
            while let Some(next) = ranges.next_if(|next| next.start <= range.end) {
                range.end = range.end.max(next.end);
            }
            out.push_str(text.get(shown_from..range.start).unwrap_or_default());
            out.push_str(MASK);
            shown_from = range.end;
        }
        out.push_str(text.get(shown_from..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_it() {
        let pieces = [
            "",
            "=",
            ":",
            "://",
            "://@",
            "a://b:c@",
            "?=&",
            "--=",
            "é ü",
            "' '",
            "a  b",
            "-u",
            "Bearer ",
            "password=",
            "\"",
            "\\\"",
            "{",
            "[",
            "-----BEGIN PRIVATE KEY-----",
            "é=é",
            "token=é'é",
            "-pé",
            "-",
            "--",
            "<<<",
            "|",
            "echo é |",
            "a:é@b",
            "password: |\n",
            "%3D",
            "eyJ",
            "ghp_",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let text = format!("{first}{second}{third}");
                    let _ = mask(&[format!("mysql {first}"), text.clone(), second.to_owned(), text.clone()]);
                    let _ = mask_value(&text);
                }
            }
        }
    }

    #[test]
    fn the_time_is_bounded() {
        // 64 times what the caller lets through in one argument. What is quadratic takes minutes.
        for piece in [
            "password=",
            "://a:b@",
            "\"'",
            "-----BEGIN ",
            "a1B2c3D4",
            "{[",
            "sh -c 'sh -c \"",
            "aA1/",
            "x:y@",
        ] {
            let text = piece.repeat(512 * 64 / piece.len());
            let began = std::time::Instant::now();
            let _ = mask(&["mysql".to_owned(), text.clone()]);
            let _ = mask_value(&text);
            assert!(began.elapsed().as_secs() < 20, "{piece}: {:?}", began.elapsed());
        }
    }
}
