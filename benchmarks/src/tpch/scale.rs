//! The TPC-H scale factor: how much data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Scale factor, from 0.001 to 1000: scale 1 is about 1 GB of text, 6 million rows of `lineitem`.
///
/// Shown, and compared with names of directories, as the shortest decimal text: `0.01`, `1`, `10`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Scale(f64);

/// A scale factor that is not a number, or out of range.
#[derive(Debug, thiserror::Error)]
#[error("scale {0:?} is not a number from 0.001 to 1000")]
pub struct InvalidScale(String);

impl Scale {
    const SMALLEST: f64 = 0.001;
    const LARGEST: f64 = 1000.0;

    /// The scale `factor`, if it is in range.
    ///
    /// # Errors
    /// [`InvalidScale`] if it is not.
    pub fn new(factor: f64) -> Result<Self, InvalidScale> {
        if (Self::SMALLEST..=Self::LARGEST).contains(&factor) {
            Ok(Self(factor))
        } else {
            Err(InvalidScale(factor.to_string()))
        }
    }

    /// The factor as a number.
    pub fn factor(self) -> f64 {
        self.0
    }

    /// Name of a directory with data or answers of this scale: `sf0.01`, `sf1`.
    pub fn directory_name(self) -> String {
        format!("sf{self}")
    }

    /// Query 11's parameter, 0.0001 / scale, as SQL text without an exponent.
    pub(super) fn query_11_fraction(self) -> String {
        let text = format!("{:.12}", 0.0001 / self.0);
        text.trim_end_matches('0').to_owned()
    }
}

impl TryFrom<f64> for Scale {
    type Error = InvalidScale;

    fn try_from(factor: f64) -> Result<Self, InvalidScale> {
        Self::new(factor)
    }
}

impl FromStr for Scale {
    type Err = InvalidScale;

    fn from_str(text: &str) -> Result<Self, InvalidScale> {
        text.parse().ok().and_then(|factor| Self::new(factor).ok()).ok_or_else(|| InvalidScale(text.to_owned()))
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whole scales as whole numbers.
impl Serialize for Scale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as u64;
        if whole as f64 == self.0 { serializer.serialize_u64(whole) } else { serializer.serialize_f64(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_usual_scales_then_names_and_fractions_are_plain_decimals() {
        for (text, directory, fraction) in [
            ("0.01", "sf0.01", "0.01"),
            ("0.1", "sf0.1", "0.001"),
            ("1", "sf1", "0.0001"),
            ("1.0", "sf1", "0.0001"),
            ("10", "sf10", "0.00001"),
            ("100", "sf100", "0.000001"),
        ] {
            let scale: Scale = text.parse().expect(text);
            assert_eq!(scale.directory_name(), directory);
            assert_eq!(scale.query_11_fraction(), fraction);
        }
    }

    #[test]
    fn given_scales_out_of_range_then_they_are_refused() {
        for text in ["0", "-1", "nan", "inf", "1001", "1e-9", "big", ""] {
            assert!(text.parse::<Scale>().is_err(), "{text:?} was accepted");
        }
    }
}
