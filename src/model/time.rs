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

    /// This time and `span` later; at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        let ns = i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(ns)).min(Self::MAX)
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

/// A length of time as policy states it: `500ms`, `10s`, `5m`, `12h`, `30d`, `2w`, `7y`, or a sum of these
/// from large to small (`1d12h`). A day is 86,400 s, a week 7 days, a year 365 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(pub Duration);

/// The text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a length of time such as \"10s\", \"30d\" or \"7y\" (units ms, s, m, h, d, w, y), found {0:?}"
)]
pub struct SpanError(pub String);

/// Units by falling length, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.to_owned());
        let (mut rest, mut total, mut last) = (text.trim(), 0u64, u64::MAX);
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = UNITS.iter().find(|unit| unit.0 == &rest[..letters]).ok_or_else(error)?;
            if unit.1 >= last {
                return Err(error());
            }
            last = unit.1;
            total = number.checked_mul(unit.1).and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
            rest = &rest[letters..];
        }
        Ok(Span(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, ms) in UNITS.into_iter().filter(|unit| unit.0 != "w") {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
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
            assert_eq!(span.0, Duration::from_millis(ms));
            assert_eq!(span.to_string(), text);
        }
        for bad in ["", "d", "10", "10x", "1h1d", "-1d", "1.5d", "99999999999999999999y", "1d 2", "1dé"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
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
