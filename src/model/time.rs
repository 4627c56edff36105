//! Points in time and spans, as they stand in policy, index, statements and lists.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds. Arithmetic saturates;
/// the last representable instant is in the year 2262. Shown as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Nanoseconds in a second.
    const NS: i64 = 1_000_000_000;
    /// The last second that can be stated: times that stand for "for ever" are clamped to it.
    pub const MAX: Timestamp = Timestamp(i64::MAX / Self::NS * Self::NS);

    /// From whole seconds and nanoseconds since the epoch; saturates.
    #[must_use]
    pub fn from_parts(seconds: i64, nanos: u32) -> Self {
        let ns = seconds.saturating_mul(Self::NS).saturating_add(i64::from(nanos));
        Timestamp(ns).min(Self::MAX)
    }

    /// This time and `span` later, in UTC; at most [`Timestamp::MAX`]. Months and years are those of the calendar: the same
    /// day and time of day, or, where the month has no such day, the beginning of the next one.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        let Some(start) = self.plus_months(span.months) else { return Self::MAX };
        let ns = i64::try_from(span.rest.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(start.0.saturating_add(ns)).min(Self::MAX)
    }

    fn plus_months(self, months: u32) -> Option<Self> {
        if months == 0 {
            return Some(self);
        }
        let time =
            jiff::Timestamp::from_nanosecond(i128::from(self.0)).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let span = jiff::Span::new().try_months(i64::from(months)).ok()?;
        let mut later = time.checked_add(span).ok()?;
        // A day that the month does not have is taken for its last one, which would be too short.
        if later.day() < time.day() {
            later = later.tomorrow().ok()?.start_of_day().ok()?;
        }
        i64::try_from(later.timestamp().as_nanosecond()).ok().map(|ns| Timestamp(ns).min(Self::MAX))
    }

    /// How much later this is than `earlier`; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant, or the next whole second: retention is stated in whole seconds, never too short.
    #[must_use]
    pub fn ceil_to_second(self) -> Self {
        let rest = self.0.rem_euclid(Self::NS);
        if rest == 0 { self } else { Timestamp(self.0.saturating_add(Self::NS - rest)).min(Self::MAX) }
    }

    /// Whole seconds since the epoch, rounded down, and the rest in nanoseconds.
    #[must_use]
    pub fn to_parts(self) -> (i64, u32) {
        let nanos = self.0.rem_euclid(Self::NS);
        (self.0.div_euclid(Self::NS), u32::try_from(nanos).unwrap_or(0))
    }

    /// RFC 3339 in UTC, with as many digits of a second as it needs.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Parses RFC 3339 with an offset or `Z`.
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let time: jiff::Timestamp = text.parse()?;
        Ok(i64::try_from(time.as_nanosecond()).map_or(Self::MAX, Timestamp).min(Self::MAX))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A time of a file as its file system keeps it: seconds since the epoch (may be negative) and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileTime {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// The rest, 0 to 999,999,999.
    pub nanos: u32,
}

impl FileTime {
    /// As a timestamp, clamped to what that can hold.
    #[must_use]
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_parts(self.seconds, self.nanos)
    }
}

impl fmt::Display for FileTime {
    /// RFC 3339 in UTC; outside the years 0 to 9999, the seconds since the epoch as `@seconds.nanos`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        match jiff::Timestamp::from_nanosecond(ns) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "@{}.{:09}", self.seconds, self.nanos),
        }
    }
}

/// The text is no time as [`FileTime`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as \"2026-07-01T12:00:00Z\", found {0:?}")]
pub struct FileTimeError(pub String);

impl FromStr for FileTime {
    type Err = FileTimeError;

    fn from_str(text: &str) -> Result<Self, FileTimeError> {
        let error = || FileTimeError(text.to_owned());
        if let Some(rest) = text.strip_prefix('@') {
            let (seconds, nanos) = rest.split_once('.').ok_or_else(error)?;
            let seconds = seconds.parse().map_err(|_| error())?;
            let nanos = nanos.parse().ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(error)?;
            return Ok(FileTime { seconds, nanos });
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| error())?;
        let ns = time.as_nanosecond();
        let seconds = i64::try_from(ns.div_euclid(1_000_000_000)).map_err(|_| error())?;
        let nanos = u32::try_from(ns.rem_euclid(1_000_000_000)).map_err(|_| error())?;
        Ok(FileTime { seconds, nanos })
    }
}

impl serde::Serialize for FileTime {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for FileTime {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time as policy states it: `500ms`, `10s`, `5m`, `12h`, `30d`, `2w`, `6mo`, `7y`, or a sum of these
/// from large to small (`1y6mo`, `1d12h`). A day is 86,400 s, a week 7 days. Months and years are those of the calendar,
/// counted from the moment to which they are added ([`Timestamp::plus`]): 7y is never less than seven years. Where no
/// such moment is known they count as their longest, 31 and 366 days.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Span {
    /// Calendar months.
    pub months: u32,
    /// What comes on top of them.
    pub rest: Duration,
}

impl Span {
    /// A length of time without months and years.
    #[must_use]
    pub const fn of(rest: Duration) -> Self {
        Span { months: 0, rest }
    }

    /// The longest that it can be.
    #[must_use]
    pub fn longest(self) -> Duration {
        let days = u64::from(self.months / 12) * 366 + u64::from(self.months % 12) * 31;
        self.rest.saturating_add(Duration::from_secs(days * 86_400))
    }
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Span {
    /// By the longest that they can be.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.longest().cmp(&other.longest()).then(self.months.cmp(&other.months))
    }
}

/// The text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a length of time such as \"10s\", \"30d\", \"6mo\" or \"7y\" (units ms, s, m, h, d, w, mo, y), found {0:?}"
)]
pub struct SpanError(pub String);

/// What a unit counts: milliseconds, or calendar months.
#[derive(Clone, Copy)]
enum Unit {
    Millis(u64),
    Months(u32),
}

/// Units by falling length.
const UNITS: [(&str, Unit); 8] = [
    ("y", Unit::Months(12)),
    ("mo", Unit::Months(1)),
    ("w", Unit::Millis(7 * 86_400_000)),
    ("d", Unit::Millis(86_400_000)),
    ("h", Unit::Millis(3_600_000)),
    ("m", Unit::Millis(60_000)),
    ("s", Unit::Millis(1000)),
    ("ms", Unit::Millis(1)),
];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.to_owned());
        let (mut rest, mut months, mut total, mut next) = (text.trim(), 0u32, 0u64, 0);
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let at = UNITS.iter().position(|unit| unit.0 == &rest[..letters]).ok_or_else(error)?;
            if at < next {
                return Err(error());
            }
            next = at + 1;
            match UNITS[at].1 {
                Unit::Millis(unit) => {
                    total =
                        number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
                }
                Unit::Months(unit) => {
                    let number = u32::try_from(number).map_err(|_| error())?;
                    let more = number.checked_mul(unit).and_then(|more| months.checked_add(more));
                    months = more.ok_or_else(error)?;
                }
            }
            rest = &rest[letters..];
        }
        Ok(Span { months, rest: Duration::from_millis(total) })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut months, mut rest) = (self.months, u64::try_from(self.rest.as_millis()).unwrap_or(u64::MAX));
        if months == 0 && rest == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in UNITS.into_iter().filter(|unit| unit.0 != "w") {
            match unit {
                Unit::Months(unit) if months >= unit => {
                    write!(f, "{}{name}", months / unit)?;
                    months %= unit;
                }
                Unit::Millis(unit) if rest >= unit => {
                    write!(f, "{}{name}", rest / unit)?;
                    rest %= unit;
                }
                Unit::Months(_) | Unit::Millis(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_parse_and_print() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30d", 30 * 86_400_000), ("1d12h", 129_600_000)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::of(Duration::from_millis(ms)));
            assert_eq!(span.to_string(), text);
        }
        for text in ["7y", "6mo", "1y6mo", "2y1d12h", "18m"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("18mo".parse::<Span>().unwrap().to_string(), "1y6mo");
        let span = |text: &str| text.parse::<Span>().unwrap();
        assert!(span("12mo") == span("1y") && span("1mo") > span("30d"));
        for bad in [
            "6mo1y",
            "1m6mo",
            "1y1y",
            "",
            "d",
            "10",
            "10x",
            "1h1d",
            "-1d",
            "1.5d",
            "99999999999999999999y",
            "1d 2",
            "1dé",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (from, span, until) in [
            ("2026-11-27T10:00:00Z", "7y", "2033-11-27T10:00:00Z"),
            ("2024-02-29T00:00:00Z", "1y", "2025-03-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "4y", "2028-02-29T00:00:00Z"),
            ("2026-01-31T23:59:59Z", "1mo", "2026-03-01T00:00:00Z"),
            ("2026-01-31T12:00:00Z", "6mo", "2026-07-31T12:00:00Z"),
            ("2026-08-31T12:00:00Z", "6mo", "2027-03-01T00:00:00Z"),
            ("2026-12-15T12:00:00.5Z", "1mo1d", "2027-01-16T12:00:00.5Z"),
        ] {
            assert_eq!(at(from).plus(span.parse().unwrap()), at(until), "{from} and {span}");
        }
        // From every day of leap and other years: never less than the calendar says, and by less than a day more.
        for day in 0..3000 {
            let from = Timestamp(at("2023-01-01T07:08:09Z").0 + day * 86_400_000_000_000);
            for years in [1u32, 2, 7, 30] {
                let until = from.plus(Span { months: 12 * years, rest: Duration::ZERO });
                let (a, b) = (from.to_string(), until.to_string());
                let year: u32 = a[..4].parse().unwrap();
                let wanted = format!("{:04}{}", year + years, &a[4..]);
                if a[4..].starts_with("-02-29") && !(year + years).is_multiple_of(4) {
                    assert_eq!(b, format!("{:04}-03-01T00:00:00Z", year + years), "{a}");
                } else {
                    assert_eq!(b, wanted, "{a}");
                }
                assert!(until.since(from) <= Span { months: 12 * years, rest: Duration::ZERO }.longest());
            }
        }
    }

    #[test]
    fn times_round_trip_and_saturate() {
        let time = Timestamp::from_parts(1_700_000_000, 5);
        assert_eq!(time.to_rfc3339(), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(time.to_rfc3339().parse::<Timestamp>().unwrap(), time);
        assert_eq!(time.ceil_to_second(), Timestamp::from_parts(1_700_000_001, 0));
        assert_eq!(time.plus("9999y".parse().unwrap()), Timestamp::MAX);
        assert_eq!(Timestamp::from_parts(i64::MAX, 0), Timestamp::MAX);
        assert_eq!(Timestamp(-1).to_parts(), (-1, 999_999_999));
        assert_eq!(FileTime { seconds: i64::MAX, nanos: 0 }.to_string(), "@9223372036854775807.000000000");
        for seconds in [0, -1, 1_700_000_000, i64::MAX, i64::MIN, -400_000_000_000] {
            let time = FileTime { seconds, nanos: 7 };
            assert_eq!(time.to_string().parse::<FileTime>().unwrap(), time);
        }
    }
}
