//! How things look: sizes, times, colours, tables.

use std::fmt::Write as _;
use std::io::IsTerminal;

use crate::model::{State, Timestamp};

/// A size for people: `512 B`, `1.2 KiB`, `34.0 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths, rounded half up: no floating point, so that 1023.96 KiB is not shown as 1024.0 KiB.
    let (mut unit, mut tenths) = (0, (u128::from(bytes) * 10 + 512) / 1024);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        unit += 1;
        tenths = (u128::from(bytes) * 10 + (1u128 << (10 * (unit + 1) - 1))) >> (10 * (unit + 1));
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A point in time for people, in UTC to the minute: `2026-07-01 12:00Z`.
#[must_use]
pub fn minute(time: Timestamp) -> String {
    formatted(time, "%Y-%m-%d %H:%MZ")
}

/// A point in time for people, in UTC to the second: `2026-07-01 12:00:07Z`.
#[must_use]
pub fn second(time: Timestamp) -> String {
    formatted(time, "%Y-%m-%d %H:%M:%SZ")
}

fn formatted(time: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.0)) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => time.to_string(),
    }
}

/// How far away a time is: `in 29 d`, `5 h ago`, `now`. Rounded down, so that no more is promised than is left.
#[must_use]
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    let (span, future) = if time >= now { (time.since(now), true) } else { (now.since(time), false) };
    let seconds = span.as_secs();
    let (number, unit) = match seconds {
        0 => return "now".to_owned(),
        1..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        172_800..63_072_000 => (seconds / 86_400, "d"),
        _ => (seconds / 31_536_000, "y"),
    };
    if future { format!("in {number} {unit}") } else { format!("{number} {unit} ago") }
}

/// `n` things: `1 file`, `2 files`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Colours, if they are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Colours only on a terminal that has them, and not against `NO_COLOR` (no-color.org).
    #[must_use]
    pub fn on_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Paint(wanted && std::io::stdout().is_terminal())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Headings.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What somebody should look at.
    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What is wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A state's word, or another text in the state's colour.
    #[must_use]
    pub fn state(self, state: Option<State>, text: &str) -> String {
        match state {
            Some(State::Sealed) => self.good(text),
            Some(State::Expired) => self.warn(text),
            Some(State::Torn) => self.bad(text),
            Some(State::Open | State::Settling) => self.with("36", text),
            None => text.to_owned(),
        }
    }
}

/// The terminal's width in columns, if standard output is one.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Lines of `name  value`, the names padded to one width.
#[must_use]
pub fn fields(indent: &str, fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{indent}{name:width$}  {value}");
        text
    })
}

/// A row's cell: the text, and the state whose colour it has.
pub type Cell = (String, Option<State>);

/// A table whose rows come one after the other: the first ones are kept until the widths of the columns are
/// known, later ones are written as they come.
pub struct Table<const N: usize> {
    head: [&'static str; N],
    /// Columns whose text stands to the right.
    right: [bool; N],
    widths: Option<[usize; N]>,
    kept: Vec<[Cell; N]>,
    paint: Paint,
    terminal: Option<usize>,
}

/// Rows kept until the widths are settled.
const KEPT: usize = 1000;

impl<const N: usize> Table<N> {
    /// A table with these headings.
    #[must_use]
    pub fn new(head: [&'static str; N], right: [bool; N], paint: Paint, terminal: Option<usize>) -> Self {
        Table { head, right, widths: None, kept: Vec::new(), paint, terminal }
    }

    /// Adds a row; answers the text that can be written by now.
    pub fn row(&mut self, row: [Cell; N]) -> String {
        if let Some(widths) = &self.widths {
            return self.line(&row, widths);
        }
        self.kept.push(row);
        if self.kept.len() < KEPT { String::new() } else { self.settle() }
    }

    /// No more rows come; answers the rest of the text. Empty for a table without rows.
    pub fn finish(mut self) -> String {
        if self.widths.is_none() && !self.kept.is_empty() { self.settle() } else { String::new() }
    }

    fn settle(&mut self) -> String {
        let mut widths = [0; N];
        for (column, width) in widths.iter_mut().enumerate() {
            let texts = self.kept.iter().map(|row| row[column].0.chars().count());
            *width = texts.max().unwrap_or(0).max(self.head[column].len());
        }
        // On a terminal the first column gives way; what is longer has a line of its own.
        if let Some(terminal) = self.terminal {
            let others: usize = widths[1..].iter().map(|width| width + 2).sum();
            widths[0] = widths[0].min(terminal.saturating_sub(others).max(20));
        }
        self.widths = Some(widths);
        let head = self.head.map(|text| (text.to_owned(), None));
        let mut text = self.paint.bold(self.line(&head, &widths).trim_end());
        text.push('\n');
        for row in std::mem::take(&mut self.kept) {
            text.push_str(&self.line(&row, &widths));
        }
        text
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N]) -> String {
        let mut line = String::with_capacity(128);
        let mut spaces = 0;
        for (column, (text, state)) in row.iter().enumerate() {
            let length = text.chars().count();
            let pad = widths[column].saturating_sub(length);
            if self.right[column] {
                spaces += pad;
            }
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', spaces));
                spaces = 0;
                line.push_str(&self.paint.state(*state, text));
            }
            if !self.right[column] {
                spaces += pad;
            }
            spaces += 2;
            if column == 0 && length > widths[0] && self.terminal.is_some() {
                line.push('\n');
                spaces = widths[0] + 2;
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown: Vec<_> = [0, 1023, 1024, 1536, 1_048_524, 1_048_576, 5 << 30, u64::MAX].map(size).into();
        let expected =
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "5.0 GiB", "16.0 EiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times() {
        let now = Timestamp::from_parts(1_780_000_000, 0);
        let at = |seconds: i64| relative(Timestamp::from_parts(1_780_000_000 + seconds, 0), now);
        let day = 86_400;
        let spans = [0, 1, -119, 120, 7199, 7200, 2 * day - 1, 30 * day - 1, -30 * day, 7 * 365 * day];
        let expected = [
            "now",
            "in 1 s",
            "119 s ago",
            "in 2 min",
            "in 119 min",
            "in 2 h",
            "in 47 h",
            "in 29 d",
            "30 d ago",
            "in 7 y",
        ];
        assert_eq!(spans.map(at), expected);
        assert_eq!(minute(now), "2026-05-28 20:26Z");
        assert_eq!(second(now), "2026-05-28 20:26:40Z");
    }

    #[test]
    fn tables_align_and_long_paths_give_way_on_a_terminal() {
        let row = |path: &str, size: &str| {
            [(path.to_owned(), None), (size.to_owned(), None), (String::new(), None)]
        };
        let mut table = Table::new(["PATH", "SIZE", "X"], [false, true, false], Paint(false), None);
        assert_eq!(table.row(row("a", "1 B")) + &table.row(row("long/name", "12 KiB")), "");
        assert_eq!(table.finish(), "PATH         SIZE  X\na             1 B\nlong/name  12 KiB\n");
        let mut table = Table::new(["PATH", "SIZE", "X"], [false, true, false], Paint(false), Some(10));
        table.row(row(&"p".repeat(25), "1 B"));
        let text = table.finish();
        assert_eq!(text.lines().nth(1), Some("p".repeat(25).as_str()));
        assert_eq!(text.lines().nth(2).map(str::trim), Some("1 B"));
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        assert_eq!(Paint(false).state(Some(State::Sealed), "sealed"), "sealed");
        assert_eq!(Paint(true).state(Some(State::Sealed), "sealed"), "\x1b[32msealed\x1b[0m");
    }
}
