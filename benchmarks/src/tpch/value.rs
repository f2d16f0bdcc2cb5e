//! One cell of a result, whichever engine computed it, and when two of them are the same answer.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, Int64Type};
use arrow::error::ArrowError;

/// Relative difference up to which two floating-point results are the same answer.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Days from 0001-01-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_BEFORE_EPOCH: i64 = 719_162;

/// The type of a column of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers.
    Integer,
    /// Exact decimals.
    Decimal,
    /// Floating point.
    Float,
    /// Text.
    Text,
    /// Calendar dates.
    Date,
}

impl Kind {
    /// The kind named in the header of an answer file.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => Kind::Integer,
            "decimal" => Kind::Decimal,
            "float" => Kind::Float,
            "string" => Kind::Text,
            "date" => Kind::Date,
            _ => return None,
        })
    }

    /// True if an engine may answer a column of this kind with `data_type`. Engines differ in what they make of
    /// averages and quotients of decimals: DuckDB a float, DataFusion a decimal.
    pub(super) fn accepts(self, data_type: &DataType) -> bool {
        let text =
            |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        match (self, data_type) {
            (Kind::Text, DataType::Dictionary(_, value)) => text(value),
            (Kind::Text, other) => text(other),
            (Kind::Date, other) => *other == DataType::Date32,
            (Kind::Integer, other) => other.is_integer() || matches!(other, DataType::Decimal128(_, 0)),
            (Kind::Decimal, other) => matches!(other, DataType::Decimal128(..)),
            (Kind::Float, other) => other.is_floating() || matches!(other, DataType::Decimal128(..)),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `digits` × 10^-`scale`; whole numbers have scale 0.
    Number {
        /// All digits, as a whole number.
        digits: i128,
        /// How many of them are after the point.
        scale: u8,
    },
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// Days since 1970-01-01.
    Date(i32),
}

impl Value {
    /// Reads the text of an answer file. Empty is NULL: no TPC-H answer holds empty text.
    pub(super) fn parse(kind: Kind, text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Value::Null);
        }
        match kind {
            Kind::Integer | Kind::Decimal => parse_number(text),
            Kind::Float => text.parse().ok().map(Value::Float),
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Date => parse_date(text).map(Value::Date),
        }
    }

    /// The cells of a column of a type that [`Kind::accepts`].
    pub(super) fn column(column: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
        fn cells<T>(values: impl Iterator<Item = Option<T>>, cell: impl Fn(T) -> Value) -> Vec<Value> {
            values.map(|value| value.map_or(Value::Null, &cell)).collect()
        }
        let whole = |digits: i64| Value::Number { digits: digits.into(), scale: 0 };
        Ok(match column.data_type() {
            DataType::Decimal128(_, scale) => {
                let scale = u8::try_from(*scale).map_err(|_| ArrowError::CastError("negative scale".to_owned()))?;
                cells(column.as_primitive::<Decimal128Type>().iter(), |digits| Value::Number { digits, scale })
            }
            DataType::Date32 => cells(column.as_primitive::<Date32Type>().iter(), Value::Date),
            other if other.is_floating() => {
                cells(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().iter(), Value::Float)
            }
            other if other.is_integer() => {
                cells(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().iter(), whole)
            }
            _ => {
                let text = cast(column, &DataType::Utf8)?;
                cells(text.as_string::<i32>().iter(), |text| Value::Text(text.to_owned()))
            }
        })
    }

    /// True if `actual` is the same answer as `self`, the reference.
    ///
    /// Whole numbers, decimals, text and dates must be equal; decimals as numbers, whatever their scales. Floats may
    /// differ by 1e-9 relative. A decimal stands for a float if it is that near, or less than one unit in its last
    /// place away: DataFusion computes averages and quotients of decimals as decimals with a fixed number of digits, and
    /// cuts off the rest.
    pub fn is_answered_by(&self, actual: &Value) -> bool {
        match (self, actual) {
            (Value::Number { .. }, Value::Number { .. }) => self.normal() == actual.normal(),
            (Value::Float(expected), Value::Float(actual)) => near(*expected, *actual),
            (Value::Float(expected), Value::Number { digits, scale }) => {
                let unit = 10f64.powi(-i32::from(*scale));
                let actual = *digits as f64 * unit;
                near(*expected, actual) || (expected - actual).abs() < unit
            }
            _ => self == actual,
        }
    }

    /// The number without zeros at its end.
    fn normal(&self) -> Self {
        match self {
            Value::Number { digits, scale } => {
                let (mut digits, mut scale) = (*digits, *scale);
                while scale > 0 && digits % 10 == 0 {
                    digits /= 10;
                    scale -= 1;
                }
                Value::Number { digits, scale }
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Number { digits, scale: 0 } => digits.fmt(f),
            Value::Number { digits, scale } => {
                let places = usize::from(*scale);
                let text = format!("{:0>width$}", digits.unsigned_abs(), width = places + 1);
                let (whole, fraction) = text.split_at(text.len() - places);
                write!(f, "{}{whole}.{fraction}", if *digits < 0 { "-" } else { "" })
            }
            Value::Float(value) => value.fmt(f),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Date(days) => write!(f, "day {days} since 1970-01-01"),
        }
    }
}

fn near(expected: f64, actual: f64) -> bool {
    (expected - actual).abs() <= FLOAT_TOLERANCE * expected.abs().max(actual.abs())
}

/// `-12.340` as digits and scale.
fn parse_number(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let digits = format!("{whole}{fraction}").parse().ok()?;
    plain.then_some(Value::Number { digits, scale: u8::try_from(fraction.len()).ok()? })
}

/// `1995-03-15` as days since 1970-01-01.
fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year and months have a fixed pattern.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Day 0 of this count is 0000-03-01, which is 306 days before 0001-01-01.
    i32::try_from(days - 306 - DAYS_BEFORE_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Value {
        Value::parse(Kind::Decimal, text).expect(text)
    }

    #[test]
    fn given_dates_then_they_are_days_since_1970() {
        for (text, days) in [("1970-01-01", 0), ("1969-12-31", -1), ("1995-03-15", 9204), ("2000-02-29", 11016)] {
            assert_eq!(Value::parse(Kind::Date, text), Some(Value::Date(days)), "{text}");
        }
        assert_eq!(Value::parse(Kind::Date, "1995-13-01"), None);
        assert_eq!(Value::parse(Kind::Date, "yesterday"), None);
    }

    #[test]
    fn given_decimals_then_scale_does_not_matter_and_every_digit_does() {
        assert!(number("12.3400").is_answered_by(&number("12.34")));
        assert!(number("12").is_answered_by(&Value::Number { digits: 1200, scale: 2 }));
        assert!(!number("12.34").is_answered_by(&number("12.3401")));
        assert!(!number("1").is_answered_by(&Value::Null));
        assert!(number("-0.05").is_answered_by(&Value::Number { digits: -5, scale: 2 }));
        assert_eq!(number("-0.05").to_string(), "-0.05");
    }

    #[test]
    fn given_a_float_reference_then_a_decimal_may_only_lack_digits() {
        let reference = Value::Float(25.507_588_24);
        assert!(reference.is_answered_by(&number("25.507588")));
        assert!(!reference.is_answered_by(&number("25.507586")));
        assert!(reference.is_answered_by(&Value::Float(25.507_588_240_01)));
        assert!(!reference.is_answered_by(&Value::Float(25.507_588_3)));
        assert!(!reference.is_answered_by(&Value::Text("25.50758824".to_owned())));
    }

    #[test]
    fn given_damaged_cells_then_they_are_not_numbers() {
        for text in ["1.2.3", "1.-2", "abc", "1e5", "."] {
            assert_eq!(Value::parse(Kind::Decimal, text), None, "{text:?}");
        }
    }
}
