//! Answers as text, and their comparison.
//!
//! Both sides are brought to the layouts that Flight SQL sends (plain strings, no dictionaries). Rows are compared as a
//! multiset, and the sort columns of a top-level `ORDER BY` in sequence.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Text of NULL, which no value of a script has.
const NULL: &str = "∅";

/// Largest relative difference of floating-point numbers: sums depend on the order of their addition.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Difference of floating-point numbers below which they are equal, whatever their size.
const FLOAT_EPSILON: f64 = 1e-12;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, type and metadata as text.
    pub text: String,
    /// Values have floating-point numbers, perhaps within lists and structs.
    pub has_floats: bool,
}

/// The result of a query, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Rows in the order in which they came.
    pub rows: Vec<Vec<String>>,
}

/// What the order of a query's rows means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Indices of the leading sort columns of the top-level `ORDER BY`, as far as they are in the result.
    pub keys: Vec<usize>,
}

/// Kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Other rows: a wrong answer.
    Rows,
    /// The same rows in an order that the query excludes.
    Order,
    /// Other column names, types or metadata.
    Schema,
    /// The server fails, DataFusion does not.
    ServerError,
    /// DataFusion fails, the server does not.
    DataFusionError,
    /// The server does not answer in time, DataFusion does.
    Timeout,
    /// The server is gone.
    Crash,
}

impl Class {
    /// Name in reports and in the list of expected differences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Order => "order",
            Self::Schema => "schema",
            Self::ServerError => "server-error",
            Self::DataFusionError => "datafusion-error",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The answer with these batches, all of `schema`.
    pub fn new(schema: &Schema, batches: &[RecordBatch]) -> Self {
        let columns = schema.fields().iter().map(column).collect();
        let rows = batches.iter().flat_map(rows_of).collect();
        Self { columns, rows }
    }

    fn float_columns(&self) -> Vec<bool> {
        self.columns.iter().map(|column| column.has_floats).collect()
    }
}

/// Compares two answers. `Err` with the kind of the difference and what it is.
///
/// # Errors
/// The first difference: of columns, of rows, of their order.
pub fn compare(expected: &Answer, found: &Answer, order: &Order) -> Result<(), (Class, String)> {
    compare_columns(expected, found)?;
    compare_rows(&expected.rows, &found.rows, &expected.float_columns()).map_err(|text| (Class::Rows, text))?;
    compare_order(expected, found, order)
}

/// Compares the answers of a query whose `LIMIT` may leave out any rows: those found must be as many, all be among
/// `unlimited`, and have the same sort columns.
///
/// # Errors
/// As [`compare`].
pub fn compare_limited(
    expected: &Answer,
    found: &Answer,
    unlimited: &Answer,
    order: &Order,
) -> Result<(), (Class, String)> {
    compare_columns(expected, found)?;
    if expected.rows.len() != found.rows.len() {
        return Err((Class::Rows, counts(&expected.rows, &found.rows)));
    }
    let floats = expected.float_columns();
    let (missing, _) = unmatched(&found.rows, &unlimited.rows, &floats);
    if let Some(row) = missing.first() {
        return Err((Class::Rows, format!("a row that no LIMIT can give: {}", shown(row))));
    }
    compare_order(expected, found, order)
}

fn compare_columns(expected: &Answer, found: &Answer) -> Result<(), (Class, String)> {
    let texts = |answer: &Answer| answer.columns.iter().map(|column| column.text.clone()).collect::<Vec<_>>();
    if expected.columns == found.columns {
        return Ok(());
    }
    let (expected, found) = (texts(expected), texts(found));
    let first = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    let text = match first {
        Some((expected, found)) => format!("expected column {expected}; got {found}"),
        None => format!("expected {} columns; got {}", expected.len(), found.len()),
    };
    Err((Class::Schema, text))
}

fn compare_rows(expected: &[Vec<String>], found: &[Vec<String>], floats: &[bool]) -> Result<(), String> {
    let (missing, extra) = unmatched(expected, found, floats);
    match (missing.first(), extra.first()) {
        (None, None) => Ok(()),
        (missing_row, extra_row) => {
            let mut text = counts(expected, found);
            if let Some(row) = missing_row {
                text.push_str(&format!("; {} missing, as {}", missing.len(), shown(row)));
            }
            if let Some(row) = extra_row {
                text.push_str(&format!("; {} unexpected, as {}", extra.len(), shown(row)));
            }
            Err(text)
        }
    }
}

fn counts(expected: &[Vec<String>], found: &[Vec<String>]) -> String {
    format!("expected {} rows; got {}", expected.len(), found.len())
}

/// Rows of the one that have no counterpart in the other, for both.
fn unmatched<'a>(
    one: &'a [Vec<String>],
    other: &'a [Vec<String>],
    floats: &[bool],
) -> (Vec<&'a Vec<String>>, Vec<&'a Vec<String>>) {
    let mut counts: HashMap<&Vec<String>, i64> = HashMap::new();
    for row in one {
        *counts.entry(row).or_default() += 1;
    }
    for row in other {
        *counts.entry(row).or_default() -= 1;
    }
    let mut left: Vec<&Vec<String>> = Vec::new();
    let mut right: Vec<&Vec<String>> = Vec::new();
    for (row, count) in counts {
        let side = if count > 0 { &mut left } else { &mut right };
        side.extend(std::iter::repeat_n(row, count.unsigned_abs() as usize));
    }
    left.sort();
    right.sort();
    if floats.contains(&true) {
        remove_close(&mut left, &mut right, floats);
    }
    (left, right)
}

/// Removes pairs of rows that differ only in the last digits of floating-point numbers.
fn remove_close(left: &mut Vec<&Vec<String>>, right: &mut Vec<&Vec<String>>, floats: &[bool]) {
    left.retain(|row| match right.iter().position(|other| is_close_row(row, other, floats)) {
        Some(position) => {
            right.remove(position);
            false
        }
        None => true,
    });
}

fn is_close_row(one: &[String], other: &[String], floats: &[bool]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).zip(floats).all(|((a, b), has_floats)| a == b || (*has_floats && is_close(a, b)))
}

/// True if two texts differ only in numbers that are nearly the same.
fn is_close(one: &str, other: &str) -> bool {
    let is_number_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    let tokens = |text: &str| -> Vec<String> {
        let mut tokens: Vec<String> = vec![];
        let mut was_number = None;
        for c in text.chars() {
            let number = is_number_part(c);
            match tokens.last_mut() {
                Some(last) if was_number == Some(number) => last.push(c),
                _ => tokens.push(c.to_string()),
            }
            was_number = Some(number);
        }
        tokens
    };
    let (one, other) = (tokens(one), tokens(other));
    one.len() == other.len()
        && one.iter().zip(&other).all(|(a, b)| {
            a == b
                || match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(a), Ok(b)) => (a - b).abs() <= FLOAT_EPSILON.max(FLOAT_TOLERANCE * a.abs().max(b.abs())),
                    _ => false,
                }
        })
}

fn compare_order(expected: &Answer, found: &Answer, order: &Order) -> Result<(), (Class, String)> {
    let floats = expected.float_columns();
    for (position, (expected, found)) in expected.rows.iter().zip(&found.rows).enumerate() {
        for key in &order.keys {
            let (Some(a), Some(b)) = (expected.get(*key), found.get(*key)) else { continue };
            let has_floats = floats.get(*key).copied().unwrap_or_default();
            if a != b && !(has_floats && is_close(a, b)) {
                let text = format!("row {}, sort column {key}: expected {a}; got {b}", position + 1);
                return Err((Class::Order, text));
            }
        }
    }
    Ok(())
}

/// A row in a report.
pub fn shown(row: &[String]) -> String {
    const MAX_CHARACTERS: usize = 240;
    let text = format!("({})", row.join(" | "));
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

// === from Arrow ===

fn column(field: &FieldRef) -> Column {
    let mut metadata: Vec<_> = field.metadata().iter().collect();
    metadata.sort();
    let mut text = format!("{} {}", field.name(), plain_type(field.data_type()));
    if !metadata.is_empty() {
        text.push_str(&format!(" {metadata:?}"));
    }
    Column { text, has_floats: field.data_type().to_string().contains("Float") }
}

/// The type as Flight SQL sends it.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The field without what rows do not show: nullability and metadata within types.
fn plain_field(field: &FieldRef) -> FieldRef {
    Field::new(field.name(), plain_type(field.data_type()), true).into()
}

fn rows_of(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null(NULL);
    let formatters: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect();
    let text = |column: usize, row: usize| match &formatters[column] {
        Ok(formatter) => formatter.value(row).try_to_string().unwrap_or_else(|error| format!("[{error}]")),
        Err(_) => debug_text(&batch.columns()[column].slice(row, 1)),
    };
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| text(column, row)).collect()).collect()
}

/// Text of a value of a type that Arrow cannot show.
fn debug_text(value: &dyn Array) -> String {
    format!("{value:?}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(has_floats: bool, rows: &[&[&str]]) -> Answer {
        let column = Column { text: "a".to_owned(), has_floats };
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        Answer { columns: vec![column; rows.first().map_or(1, Vec::len)], rows }
    }

    fn class(found: Result<(), (Class, String)>) -> Option<Class> {
        found.err().map(|(class, _)| class)
    }

    #[test]
    fn rows_in_another_order_are_equal_without_sort_columns() {
        let (one, other) = (answer(false, &[&["1"], &["2"]]), answer(false, &[&["2"], &["1"]]));
        assert_eq!(class(compare(&one, &other, &Order::default())), None);
        assert_eq!(class(compare(&one, &other, &Order { keys: vec![0] })), Some(Class::Order));
    }

    #[test]
    fn rows_that_repeat_are_counted() {
        let (one, other) = (answer(false, &[&["1"], &["1"]]), answer(false, &[&["1"]]));
        assert_eq!(class(compare(&one, &other, &Order::default())), Some(Class::Rows));
    }

    #[test]
    fn floats_are_compared_with_a_tolerance() {
        let (one, other) = (answer(true, &[&["[0.3, 1e3]"]]), answer(true, &[&["[0.30000000000000004, 1e3]"]]));
        assert_eq!(class(compare(&one, &other, &Order::default())), None);
        let other = answer(true, &[&["[0.31, 1e3]"]]);
        assert_eq!(class(compare(&one, &other, &Order::default())), Some(Class::Rows));
    }

    #[test]
    fn limited_rows_may_be_any_of_the_unlimited_ones() {
        let unlimited = answer(false, &[&["1", "a"], &["1", "b"], &["2", "c"]]);
        let order = Order { keys: vec![0] };
        let expected = answer(false, &[&["1", "a"]]);
        let check = |row: &[&str]| class(compare_limited(&expected, &answer(false, &[row]), &unlimited, &order));
        assert_eq!(check(&["1", "b"]), None);
        assert_eq!(check(&["2", "c"]), Some(Class::Order));
        assert_eq!(check(&["3", "d"]), Some(Class::Rows));
    }
}
