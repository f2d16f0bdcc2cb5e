//! What an engine is asked, and what became of it.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};

use crate::tpch::{Query, Scale, verify};

/// A statement with what is known of its result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    pub sql: String,
    pub check: Check,
}

/// How a result is verified.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Check {
    /// By the committed answer of a TPC-H query.
    Answer { query: u8, scale: Scale },
    /// It is one whole number.
    Count(i64),
}

/// What became of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// From handing over the statement to having all of the result; `None` without a result.
    pub millis: Option<f64>,
    /// Why there is no result, or how it is wrong.
    pub error: Option<String>,
}

impl Statement {
    pub(super) fn query(query: &Query, scale: Scale) -> Self {
        Self { sql: query.sql(scale), check: Check::Answer { query: query.number, scale } }
    }

    /// The outcome of a run that gave `result`.
    pub(super) fn outcome(&self, millis: f64, result: &[RecordBatch]) -> Outcome {
        Outcome { millis: Some(millis), error: self.check.verify(result).err() }
    }
}

impl Outcome {
    pub(super) fn failed(error: impl ToString) -> Self {
        Self { millis: None, error: Some(error.to_string()) }
    }
}

impl Check {
    fn verify(self, result: &[RecordBatch]) -> Result<(), String> {
        match self {
            Self::Answer { query, scale } => {
                let query = Query::get(query).ok_or_else(|| format!("there is no query {query}"))?;
                verify(query, scale, result).map_err(|mismatch| mismatch.to_string())
            }
            Self::Count(expected) => match count(result) {
                Some(found) if found == expected => Ok(()),
                Some(found) => Err(format!("the result is {found} instead of {expected}")),
                None => Err("the result is not one whole number".to_owned()),
            },
        }
    }
}

/// The value of a result with one row and one column.
fn count(result: &[RecordBatch]) -> Option<i64> {
    let mut filled = result.iter().filter(|batch| batch.num_rows() > 0);
    let (Some(batch), None) = (filled.next(), filled.next()) else { return None };
    let [column] = batch.columns() else { return None };
    match column.as_primitive_opt::<Int64Type>()?.values().as_ref() {
        [value] => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    fn batch(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("count", column)]).expect("one column")
    }

    fn error(check: Check, result: &[RecordBatch]) -> Option<String> {
        Statement { sql: String::new(), check }.outcome(1.0, result).error
    }

    #[test]
    fn given_a_count_then_only_that_number_verifies() {
        assert_eq!(error(Check::Count(25), &[batch(&[]), batch(&[25])]), None);
        let wrong = error(Check::Count(25), &[batch(&[24])]);
        assert_eq!(wrong.as_deref(), Some("the result is 24 instead of 25"));
        for odd in [vec![], vec![batch(&[25, 25])], vec![batch(&[25]), batch(&[25])]] {
            assert_eq!(error(Check::Count(25), &odd).as_deref(), Some("the result is not one whole number"));
        }
    }

    #[test]
    fn given_a_query_then_its_result_is_compared_with_the_answer_and_the_time_is_kept() {
        let scale = "0.01".parse().expect("a scale");
        let statement = Statement::query(Query::get(1).expect("query 1"), scale);
        let outcome = statement.outcome(3.5, &[batch(&[1])]);
        assert_eq!(outcome.millis, Some(3.5));
        assert_eq!(outcome.error.as_deref(), Some("the result has 1 rows instead of 4"));
    }

    #[test]
    fn given_statements_and_outcomes_then_they_pass_between_processes_as_json() {
        let statement = Statement::query(Query::get(6).expect("query 6"), "1".parse().expect("a scale"));
        let text = serde_json::to_string(&statement).expect("JSON");
        let read: Statement = serde_json::from_str(&text).expect("a statement");
        assert!(matches!(read.check, Check::Answer { query: 6, scale } if scale.to_string() == "1"), "{text}");
        let outcome = Outcome::failed("no");
        let text = serde_json::to_string(&outcome).expect("JSON");
        assert_eq!(serde_json::from_str::<Outcome>(&text).expect("an outcome"), outcome);
    }
}
