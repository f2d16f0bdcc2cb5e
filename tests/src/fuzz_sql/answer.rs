//! Answers of engines, in a form in which equal ones are equal, and their differences.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;
use springald_client::ClientError;

/// Largest number of rows that are compared.
pub(crate) const MAX_ROWS: usize = 20_000;

/// Relative and absolute tolerance of floating-point values, for aggregates whose last bits depend on the order of rows.
const TOLERANCE: f64 = 1e-6;

/// Rows of a difference that are shown.
const SHOWN_ROWS: usize = 6;

/// Outcome of a query.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Rows(Answer),
    Failed(Failure),
    /// More than [`MAX_ROWS`] rows, or no end in time.
    TooLarge,
}

/// Columns and rows of a result.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    columns: Vec<(String, DataType)>,
    rows: Vec<Vec<String>>,
}

/// Error of a query.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

/// Kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The statement cannot be planned, or is not supported.
    Refused,
    /// Evaluating a row failed.
    Execution,
    /// A defect of an engine.
    Internal,
    /// Anything else: memory, a lost connection, a timeout.
    Other,
}

/// Difference between two outcomes of the same query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub kind: DifferenceKind,
    pub text: String,
}

/// Kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DifferenceKind {
    /// Other rows.
    Rows,
    /// The same rows in another order, where the order is defined.
    Order,
    /// Other column names or types.
    Columns,
    /// An error instead of an answer.
    Error,
    /// An answer instead of an error.
    NoError,
    /// An internal error where the query's own error is expected.
    InternalError,
}

impl Answer {
    pub(crate) fn new(schema: &Schema, batches: &[RecordBatch]) -> Self {
        let fields = schema.fields().iter();
        let columns = fields.map(|field| (field.name().clone(), wire_type(field.data_type()))).collect();
        let rows_of = |batch: &RecordBatch| {
            let batch = batch.clone();
            (0..batch.num_rows()).map(move |row| batch.columns().iter().map(|column| cell(column, row)).collect())
        };
        Self { columns, rows: batches.iter().flat_map(rows_of).collect() }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn is_float(&self, column: usize) -> bool {
        self.columns[column].1.is_floating()
    }

    /// The rows in an order that does not depend on floating-point values more than it must.
    fn sorted(&self) -> Vec<&Vec<String>> {
        let key = |row: &Vec<String>| {
            let (floats, others): (Vec<_>, Vec<_>) =
                row.iter().enumerate().partition(|(column, _)| self.is_float(*column));
            let others: Vec<String> = others.into_iter().map(|(_, cell)| cell.clone()).collect();
            let floats: Vec<OrderedFloat> = floats.into_iter().map(|(_, cell)| OrderedFloat::parse(cell)).collect();
            (others, floats)
        };
        let mut keyed: Vec<_> = self.rows.iter().map(|row| (key(row), row)).collect();
        keyed.sort_by(|left, right| left.0.cmp(&right.0));
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    fn are_equal(&self, left: &[String], right: &[String]) -> bool {
        let cells = left.iter().zip(right).enumerate();
        cells.into_iter().all(|(column, (left, right))| left == right || self.is_float(column) && is_close(left, right))
    }
}

/// Floating-point cell; NULL and NaN have a place, too.
#[derive(PartialEq)]
struct OrderedFloat(f64);

impl OrderedFloat {
    fn parse(cell: &str) -> Self {
        Self(cell.parse().unwrap_or(f64::NEG_INFINITY))
    }
}

impl Eq for OrderedFloat {}

impl PartialOrd for OrderedFloat {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedFloat {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn is_close(left: &str, right: &str) -> bool {
    let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) else { return false };
    (left - right).abs() <= TOLERANCE * left.abs().max(right.abs()).max(1.0)
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Failure of DataFusion in this process.
    pub(crate) fn of_local(error: &DataFusionError) -> Self {
        let message = error.strip_backtrace();
        let kind = match error.find_root() {
            _ if message.contains("panicked") => FailureKind::Internal,
            DataFusionError::Internal(_) => FailureKind::Internal,
            DataFusionError::ResourcesExhausted(_) | DataFusionError::IoError(_) => FailureKind::Other,
            DataFusionError::Execution(_) | DataFusionError::ArrowError(..) | DataFusionError::ParquetError(_) => {
                FailureKind::Execution
            }
            _ => FailureKind::Refused,
        };
        Self::new(kind, message)
    }

    /// Failure of a server.
    pub(crate) fn of_server(error: &ClientError) -> Self {
        let kind = match error.code() {
            "SPRINGALD_INVALID" | "SPRINGALD_UNSUPPORTED" | "SPRINGALD_NOT_FOUND" => FailureKind::Refused,
            "SPRINGALD_QUERY" => FailureKind::Execution,
            "SPRINGALD_INTERNAL" => FailureKind::Internal,
            _ => FailureKind::Other,
        };
        Self::new(kind, format!("{}: {error}", error.code()))
    }
}

/// Compares an outcome with the one that is expected. `ordered` are the columns by which the result is ordered.
pub(crate) fn compare(expected: &Outcome, found: &Outcome, ordered: &[usize]) -> Option<Difference> {
    let difference = |kind, text: String| Some(Difference { kind, text });
    match (expected, found) {
        (Outcome::TooLarge, _) => None,
        (Outcome::Rows(_), Outcome::Failed(failure)) => difference(DifferenceKind::Error, failure.message.clone()),
        (Outcome::Failed(failure), Outcome::Rows(answer)) => {
            difference(DifferenceKind::NoError, format!("{} rows instead of: {}", answer.len(), failure.message))
        }
        (_, Outcome::TooLarge) => difference(DifferenceKind::Error, "too many rows, or no end in time".to_owned()),
        (Outcome::Failed(expected), Outcome::Failed(found)) => {
            let is_worse = matches!(found.kind, FailureKind::Internal | FailureKind::Other)
                && !matches!(expected.kind, FailureKind::Internal | FailureKind::Other);
            let text = || format!("{}\ninstead of: {}", found.message, expected.message);
            if is_worse { difference(DifferenceKind::InternalError, text()) } else { None }
        }
        (Outcome::Rows(expected), Outcome::Rows(found)) => compare_rows(expected, found, ordered),
    }
}

fn compare_rows(expected: &Answer, found: &Answer, ordered: &[usize]) -> Option<Difference> {
    if expected.columns != found.columns {
        let text = format!("columns {:?} instead of {:?}", found.columns, expected.columns);
        return Some(Difference { kind: DifferenceKind::Columns, text });
    }
    let (left, right) = (expected.sorted(), found.sorted());
    let is_same = left.len() == right.len() && left.iter().zip(&right).all(|(l, r)| expected.are_equal(l, r));
    if !is_same {
        return Some(Difference { kind: DifferenceKind::Rows, text: rows_text(&left, &right) });
    }
    let key = |row: &Vec<String>| -> Vec<String> {
        ordered.iter().filter_map(|column| row.get(*column)).map(|cell| cell.to_owned()).collect()
    };
    let is_kept = |(left, right): (&Vec<String>, &Vec<String>)| {
        let (left, right) = (key(left), key(right));
        left == right || left.iter().zip(&right).all(|(left, right)| left == right || is_close(left, right))
    };
    if expected.rows.iter().zip(&found.rows).all(is_kept) {
        return None;
    }
    Some(Difference {
        kind: DifferenceKind::Order,
        text: rows_text(&expected.rows.iter().collect::<Vec<_>>(), &found.rows.iter().collect::<Vec<_>>()),
    })
}

/// The first rows in which two sorted results differ.
fn rows_text(expected: &[&Vec<String>], found: &[&Vec<String>]) -> String {
    let shared = expected.iter().zip(found).take_while(|(left, right)| left == right).count();
    let some = |rows: &[&Vec<String>]| {
        let rows = rows.iter().skip(shared).take(SHOWN_ROWS);
        rows.map(|row| format!("  ({})", row.join(", "))).collect::<Vec<_>>().join("\n")
    };
    let (all_expected, all_found) = (expected.len(), found.len());
    format!("expected {all_expected} rows:\n{}\nfound {all_found} rows:\n{}", some(expected), some(found))
}

/// The type as clients see it: the server sends plain text, bytes and values.
fn wire_type(data_type: &DataType) -> DataType {
    let wire_field =
        |field: &FieldRef| FieldRef::new(Field::new(field.name(), wire_type(field.data_type()), field.is_nullable()));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::List(item) => DataType::List(wire_field(item)),
        DataType::LargeList(item) => DataType::LargeList(wire_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(wire_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The text of a value: the same for all NaN, and for both zeros, between which grouping and joins may choose.
fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Float16 => {
            float(f64::from(column.as_primitive::<datafusion::arrow::datatypes::Float16Type>().value(row)))
        }
        DataType::Float32 => {
            float(f64::from(column.as_primitive::<datafusion::arrow::datatypes::Float32Type>().value(row)))
        }
        DataType::Float64 => float(column.as_primitive::<datafusion::arrow::datatypes::Float64Type>().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row)),
        DataType::Map(..) => list(&column.as_map().value(row)),
        DataType::Struct(fields) => {
            let cells = fields.iter().zip(column.as_struct().columns());
            let cells = cells.map(|(field, column)| format!("{}: {}", field.name(), cell(column, row)));
            format!("{{{}}}", cells.collect::<Vec<_>>().join(", "))
        }
        DataType::Dictionary(_, values) => match cast(column, values) {
            Ok(values) => cell(&values, row),
            Err(error) => error.to_string(),
        },
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            format!("'{}'", array_value_to_string(column, row).unwrap_or_default())
        }
        _ => array_value_to_string(column, row).unwrap_or_else(|error| error.to_string()),
    }
}

fn list(values: &dyn Array) -> String {
    format!("[{}]", (0..values.len()).map(|index| cell(values, index)).collect::<Vec<_>>().join(", "))
}

fn float(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        0.0 => "0".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};

    use super::*;

    fn answer(keys: &[i64], values: &[f64]) -> Outcome {
        let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter([("k", keys), ("v", values)]).expect("a batch");
        Outcome::Rows(Answer::new(&batch.schema(), &[batch]))
    }

    fn kind(expected: &Outcome, found: &Outcome, ordered: &[usize]) -> Option<DifferenceKind> {
        compare(expected, found, ordered).map(|difference| difference.kind)
    }

    #[test]
    fn rows_in_another_order_are_equal_unless_ordered() {
        let (left, right) = (answer(&[1, 2], &[0.5, 1.5]), answer(&[2, 1], &[1.5, 0.5]));
        assert_eq!(kind(&left, &right, &[]), None);
        assert_eq!(kind(&left, &right, &[0]), Some(DifferenceKind::Order));
    }

    #[test]
    fn nan_zero_and_last_bits_are_equal() {
        let (left, right) =
            (answer(&[1, 1, 1], &[f64::NAN, -0.0, 0.1]), answer(&[1, 1, 1], &[0.1 + 1e-12, 0.0, -f64::NAN]));
        assert_eq!(kind(&left, &right, &[]), None);
    }

    #[test]
    fn duplicates_count() {
        let (left, right) = (answer(&[1, 1, 2], &[1.0; 3]), answer(&[1, 2, 2], &[1.0; 3]));
        assert_eq!(kind(&left, &right, &[]), Some(DifferenceKind::Rows));
    }

    #[test]
    fn error_on_one_side_is_a_difference() {
        let rows = answer(&[1], &[1.0]);
        let failed = |kind| Outcome::Failed(Failure::new(kind, "why"));
        assert_eq!(kind(&rows, &failed(FailureKind::Refused), &[]), Some(DifferenceKind::Error));
        assert_eq!(kind(&failed(FailureKind::Refused), &rows, &[]), Some(DifferenceKind::NoError));
        assert_eq!(kind(&failed(FailureKind::Refused), &failed(FailureKind::Execution), &[]), None);
        let internal = kind(&failed(FailureKind::Refused), &failed(FailureKind::Internal), &[]);
        assert_eq!(internal, Some(DifferenceKind::InternalError));
    }
}
