//! Compares a result with the committed answer.
//!
//! Rows are compared as a sequence, as far as ORDER BY fixes it: rows that agree in all ORDER BY columns form a group,
//! within which any order is right. A LIMIT could cut through such a group, and then more than one answer would be
//! right; `answers/generate.py` refuses to write such an answer, so at the scales with answers there is none.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::answers::{Answer, scales_with_answers};
use super::value::{Kind, Value};
use super::{Query, Scale};
use crate::error::BenchError;

/// How a result differs from the answer.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// There is nothing to compare with.
    #[error("no committed answers for scale {scale}; there are some for {}", list(available))]
    NoAnswers {
        /// The scale asked for.
        scale: Scale,
        /// Those that have answers.
        available: Vec<Scale>,
    },
    /// The result has another number of columns.
    #[error("the result has {actual} columns instead of {expected}")]
    Columns {
        /// Columns of the reference.
        expected: usize,
        /// Columns of the result.
        actual: usize,
    },
    /// A column has a type that cannot hold the answer.
    #[error("column {column} is {actual}, which does not stand for {expected:?}")]
    Type {
        /// Name of the column in the reference.
        column: String,
        /// Its kind there.
        expected: Kind,
        /// Its type in the result.
        actual: DataType,
    },
    /// The result has another number of rows.
    #[error("the result has {actual} rows instead of {expected}")]
    Rows {
        /// Rows of the reference.
        expected: usize,
        /// Rows of the result.
        actual: usize,
    },
    /// A cell is wrong.
    #[error("row {row}, column {column}: {actual} instead of {expected}")]
    Cell {
        /// From 1.
        row: usize,
        /// Name of the column in the reference.
        column: String,
        /// What the reference has.
        expected: Value,
        /// What the result has.
        actual: Value,
    },
    /// Of rows that may come in any order, one is missing.
    #[error("rows {first} to {last} lack a row ({})", row(missing))]
    Group {
        /// First row of the group, from 1.
        first: usize,
        /// Last row of the group.
        last: usize,
        /// The row of the reference that is not among them.
        missing: Vec<Value>,
    },
    /// The answer or the result could not be read.
    #[error(transparent)]
    Unreadable(#[from] BenchError),
    /// A column of the result could not be converted.
    #[error("reading the result: {0}")]
    Convert(#[from] ArrowError),
}

fn list(scales: &[Scale]) -> String {
    scales.iter().map(Scale::to_string).collect::<Vec<_>>().join(", ")
}

fn row(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// Compares the result of `query` over data of `scale` with the committed answer.
///
/// Whole numbers, decimals, text, dates and the order of rows must be exact, floats to 1e-9 relative; see
/// [`Value::is_answered_by`] for decimals that stand for floats. Names of columns are not compared.
///
/// # Errors
/// The first difference found, or that there is no answer.
pub fn verify(query: &Query, scale: Scale, result: &[RecordBatch]) -> Result<(), Mismatch> {
    let Some(answer) = Answer::load(query, scale)? else {
        return Err(Mismatch::NoAnswers { scale, available: scales_with_answers() });
    };
    compare(&answer, query.order_by, result)
}

fn compare(answer: &Answer, order_by: &[usize], result: &[RecordBatch]) -> Result<(), Mismatch> {
    let rows: usize = result.iter().map(RecordBatch::num_rows).sum();
    if rows != answer.rows.len() {
        return Err(Mismatch::Rows { expected: answer.rows.len(), actual: rows });
    }
    let mut actual = Vec::with_capacity(rows);
    for batch in result {
        check_types(answer, batch)?;
        let columns = batch.columns().iter().map(Value::column).collect::<Result<Vec<_>, _>>()?;
        actual.extend(
            (0..batch.num_rows())
                .map(|row| -> Vec<Value> { columns.iter().filter_map(|column| column.get(row).cloned()).collect() }),
        );
    }
    groups(&answer.rows, order_by).try_for_each(|group| compare_group(answer, &actual, group))
}

fn check_types(answer: &Answer, batch: &RecordBatch) -> Result<(), Mismatch> {
    if batch.num_columns() != answer.columns.len() {
        return Err(Mismatch::Columns { expected: answer.columns.len(), actual: batch.num_columns() });
    }
    for (expected, column) in answer.columns.iter().zip(batch.columns()) {
        if !expected.kind.accepts(column.data_type()) {
            let (column, actual) = (expected.name.clone(), column.data_type().clone());
            return Err(Mismatch::Type { column, expected: expected.kind, actual });
        }
    }
    Ok(())
}

/// Ranges of rows that agree in the columns `order_by`.
fn groups<'a>(rows: &'a [Vec<Value>], order_by: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
    let tied = |a: &[Value], b: &[Value]| order_by.iter().all(|column| a.get(*column) == b.get(*column));
    let mut start = 0;
    rows.chunk_by(move |a, b| tied(a, b)).map(move |group| {
        let range = start..start + group.len();
        start = range.end;
        range
    })
}

/// Finds for each row of the reference a row of its own in the result's part of the same group.
fn compare_group(answer: &Answer, actual: &[Vec<Value>], group: Range<usize>) -> Result<(), Mismatch> {
    let expected = answer.rows.get(group.clone()).unwrap_or_default();
    let mut open: Vec<&Vec<Value>> = actual.get(group.clone()).unwrap_or_default().iter().collect();
    if let ([expected], [actual]) = (expected, open.as_slice()) {
        return compare_row(answer, group.start, expected, actual);
    }
    for row in expected {
        let is_answer = |candidate: &&Vec<Value>| row.iter().zip(*candidate).all(|(e, a)| e.is_answered_by(a));
        let Some(position) = open.iter().position(is_answer) else {
            return Err(Mismatch::Group { first: group.start + 1, last: group.end, missing: row.clone() });
        };
        open.swap_remove(position);
    }
    Ok(())
}

fn compare_row(answer: &Answer, row: usize, expected: &[Value], actual: &[Value]) -> Result<(), Mismatch> {
    for ((column, expected), actual) in answer.columns.iter().zip(expected).zip(actual) {
        if !expected.is_answered_by(actual) {
            let (expected, actual) = (expected.clone(), actual.clone());
            return Err(Mismatch::Cell { row: row + 1, column: column.name.clone(), expected, actual });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tpch::answers::Column;
    use arrow::array::{ArrayRef, Int32Array, StringArray, StringViewArray};

    /// Reference with columns `k` and `s`, ordered by `k`.
    fn answer(rows: &[(i128, &str)]) -> Answer {
        let columns = vec![
            Column { name: "k".to_owned(), kind: Kind::Integer },
            Column { name: "s".to_owned(), kind: Kind::Text },
        ];
        let row = |(digits, text): &(i128, &str)| {
            vec![Value::Number { digits: *digits, scale: 0 }, Value::Text((*text).to_owned())]
        };
        Answer { columns, rows: rows.iter().map(row).collect() }
    }

    fn batch(rows: &[(i32, &str)]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0)));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.1)));
        RecordBatch::try_from_iter([("k", keys), ("s", texts)]).expect("batch")
    }

    #[test]
    fn given_ties_then_their_order_is_free_and_all_other_order_is_not() {
        let answer = answer(&[(1, "a"), (2, "b"), (2, "c"), (3, "d")]);
        let swapped = [batch(&[(1, "a"), (2, "c")]), batch(&[(2, "b"), (3, "d")])];
        compare(&answer, &[0], &swapped).expect("ties are free, and so are the bounds of batches");
        let error = compare(&answer, &[0], &[batch(&[(2, "b"), (1, "a"), (2, "c"), (3, "d")])]).expect_err("order");
        assert!(matches!(error, Mismatch::Cell { row: 1, .. }), "{error}");
    }

    #[test]
    fn given_a_duplicate_in_place_of_a_row_then_it_is_found() {
        let answer = answer(&[(2, "b"), (2, "c")]);
        let error = compare(&answer, &[0], &[batch(&[(2, "b"), (2, "b")])]).expect_err("duplicate");
        assert_eq!(error.to_string(), "rows 1 to 2 lack a row (2, \"c\")");
    }

    #[test]
    fn given_other_shapes_then_they_are_refused() {
        let answer = answer(&[(1, "a")]);
        assert!(matches!(compare(&answer, &[0], &[]), Err(Mismatch::Rows { expected: 1, actual: 0 })));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let one = RecordBatch::try_from_iter([("k", text.clone())]).expect("batch");
        assert!(matches!(compare(&answer, &[0], &[one]), Err(Mismatch::Columns { expected: 2, actual: 1 })));
        let typed = RecordBatch::try_from_iter([("k", text.clone()), ("s", text)]).expect("batch");
        assert!(matches!(compare(&answer, &[0], &[typed]), Err(Mismatch::Type { .. })));
    }

    #[test]
    fn given_a_scale_without_answers_then_the_error_names_those_that_have() {
        let query = Query::get(6).expect("query 6");
        let error = verify(query, "3".parse().expect("scale"), &[]).expect_err("no answers");
        assert_eq!(error.to_string(), "no committed answers for scale 3; there are some for 0.01, 0.1, 1, 10");
    }
}
