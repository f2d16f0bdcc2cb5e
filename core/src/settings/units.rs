//! Settings with units: sizes written `4GiB`, times written `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use foundations::settings::Settings;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A number of bytes: `1024`, `64KiB`, `3.5GiB`, `2GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `mib` × 2^20 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The size as a number of bytes in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let trimmed = text.trim();
        let lower = trimmed.to_ascii_lowercase();
        let (number, unit) = SIZE_UNITS
            .iter()
            .find_map(|(suffix, unit)| {
                lower.strip_suffix(&suffix.to_ascii_lowercase()).map(|number| (number.trim().to_owned(), *unit))
            })
            .unwrap_or((lower.clone(), 1));
        let bytes = number.parse::<f64>().ok().map(|number| number * unit as f64);
        match bytes {
            Some(bytes) if bytes.is_finite() && (0.0..=9e18).contains(&bytes) => Ok(Self(bytes as u64)),
            _ => Err(Error::invalid(format!("{text:?} is not a size: write for example 512MiB, 4GiB or 1000000"))),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS[..4].iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match unit {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A span of time: `250ms`, `30s`, `5m`, `2h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// `seconds` seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// `millis` milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.trim().to_ascii_lowercase();
        let parsed = TIME_UNITS.iter().find_map(|(suffix, unit)| {
            let number = lower.strip_suffix(suffix)?.trim().parse::<f64>().ok()?;
            (number.is_finite() && (0.0..=1e12).contains(&number)).then_some(number * *unit as f64)
        });
        match parsed {
            Some(millis) => Ok(Self(Duration::from_millis(millis as u64))),
            None => Err(Error::invalid(format!("{text:?} is not a time: write for example 250ms, 30s, 5m or 2h"))),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let unit = TIME_UNITS.iter().rev().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
        match unit {
            Some((suffix, unit)) => write!(f, "{}{suffix}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// YAML gives numbers as numbers and everything else as text; both are accepted.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Number(u64),
    Text(String),
}

impl TryFrom<Text> for ByteSize {
    type Error = Error;

    fn try_from(text: Text) -> Result<Self, Error> {
        match text {
            Text::Number(bytes) => Ok(Self(bytes)),
            Text::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Text> for Span {
    type Error = Error;

    fn try_from(text: Text) -> Result<Self, Error> {
        match text {
            Text::Number(number) => {
                Err(Error::invalid(format!("{number} is not a time: add a unit, for example {number}s")))
            }
            Text::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl Settings for ByteSize {}
impl Settings for Span {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_sizes_with_units_when_parsed_then_bytes() {
        for (text, bytes) in [("0", 0), ("64KiB", 65536), ("3GiB", 3 << 30), ("1.5 gib", 3 << 29), ("2MB", 2_000_000)] {
            assert_eq!(text.parse::<ByteSize>().expect(text), ByteSize(bytes));
        }
        for bad in ["", "GiB", "-1GiB", "1XB", "1e300GiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn given_a_value_when_written_and_read_then_the_same() {
        for size in [ByteSize(1), ByteSize(1536), ByteSize::mib(3), ByteSize(5 << 30)] {
            assert_eq!(size.to_string().parse::<ByteSize>().expect("round trip"), size);
        }
        for span in [Span::millis(1), Span::millis(1500), Span::seconds(90), Span::seconds(7200)] {
            assert_eq!(span.to_string().parse::<Span>().expect("round trip"), span);
        }
    }

    #[test]
    fn given_a_time_without_unit_when_parsed_then_refused() {
        assert!("30".parse::<Span>().is_err());
    }
}
