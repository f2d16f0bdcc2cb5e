//! What a run of queries found, for people and for programs.

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::error::Result;
use crate::figures::{median, time};
use crate::rest::JobFigures;
use crate::tpch::Scale;

/// Result of a run. As JSON:
/// `{"scale":1,"queries":[{"query":1,"rows":4,"millis":[12.3],"verified":true,"error":null,…},…],"total_millis":…}`.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Scale of the data.
    pub scale: Scale,
    /// One entry per query, in the order in which they ran.
    pub queries: Vec<QueryReport>,
    /// Sum of the queries' median times, in milliseconds.
    pub total_millis: f64,
}

/// Result of one query.
#[derive(Clone, Debug, Serialize)]
pub struct QueryReport {
    /// 1 to 22.
    pub query: u8,
    /// Rows of the result; none if there was no result.
    pub rows: Option<u64>,
    /// Time of each run that gave a result, in milliseconds, from sending the statement to the last batch.
    pub millis: Vec<f64>,
    /// True if every run gave the committed answer.
    pub verified: bool,
    /// Why it is not verified.
    pub error: Option<String>,
    /// Size of the last run's job, where the scheduler's REST interface told it.
    #[serde(flatten)]
    pub figures: Option<JobFigures>,
}

impl QueryReport {
    /// Median time of the runs, in milliseconds; 0 without a run.
    pub fn median_millis(&self) -> f64 {
        median(&self.millis).unwrap_or_default()
    }
}

impl DemoReport {
    /// The report of `queries` at `scale`.
    pub fn new(scale: Scale, queries: Vec<QueryReport>) -> Self {
        let total_millis = queries.iter().map(QueryReport::median_millis).sum();
        Self { scale, queries, total_millis }
    }

    /// How many queries are verified.
    pub fn verified(&self) -> usize {
        self.queries.iter().filter(|query| query.verified).count()
    }

    /// True if there was a query, and all are verified.
    pub fn all_verified(&self) -> bool {
        !self.queries.is_empty() && self.verified() == self.queries.len()
    }

    /// Exit status of the process: 0 if all queries are verified, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.all_verified())
    }

    /// The report as JSON, in several lines.
    ///
    /// # Errors
    /// If a time is not a number.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The report as a table for a terminal, with the errors below it.
    pub fn to_text(&self) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(["query", "rows", "time", "stages", "tasks", "exchanged", "verified"]);
        for query in &self.queries {
            table.add_row(cells(query));
        }
        for column in table.column_iter_mut().take(6) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{table}\n");
        for query in &self.queries {
            if let Some(error) = &query.error {
                // Writing to a String does not fail.
                let _ = writeln!(text, "query {}: {error}", query.query);
            }
        }
        let (verified, all) = (self.verified(), self.queries.len());
        let _ =
            write!(text, "TPC-H scale {}: {verified} of {all} verified, total {}", self.scale, time(self.total_millis));
        text
    }
}

fn cells(query: &QueryReport) -> Vec<Cell> {
    let dash = || "–".to_owned();
    let figure = |of: fn(&JobFigures) -> String| query.figures.as_ref().map_or_else(dash, of);
    let verdict = if query.verified { Cell::new("yes").fg(Color::Green) } else { Cell::new("NO").fg(Color::Red) };
    vec![
        Cell::new(query.query),
        Cell::new(query.rows.map_or_else(dash, |rows| rows.to_string())),
        Cell::new(if query.millis.is_empty() { dash() } else { time(query.median_millis()) }),
        Cell::new(figure(|figures| figures.stages.to_string())),
        Cell::new(figure(|figures| figures.tasks.to_string())),
        Cell::new(figure(|figures| HumanBytes(figures.bytes_exchanged).to_string())),
        verdict,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(number: u8, millis: &[f64], error: Option<&str>) -> QueryReport {
        QueryReport {
            query: number,
            rows: Some(4),
            millis: millis.to_vec(),
            verified: error.is_none(),
            error: error.map(str::to_owned),
            figures: Some(JobFigures { stages: 2, tasks: 5, bytes_exchanged: 2048 }),
        }
    }

    fn report(queries: Vec<QueryReport>) -> DemoReport {
        DemoReport::new("1".parse().expect("scale"), queries)
    }

    #[test]
    fn given_verified_queries_then_the_exit_code_is_0_and_json_is_as_documented() {
        let report = report(vec![query(1, &[12.5], None), query(2, &[3.0, 1.0, 2.0], None)]);
        assert_eq!((report.exit_code(), report.total_millis), (0, 14.5));
        let json: serde_json::Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        let first = serde_json::json!({"query": 1, "rows": 4, "millis": [12.5], "verified": true, "error": null,
            "stages": 2, "tasks": 5, "bytes_exchanged": 2048});
        assert_eq!(json["queries"][0], first);
        assert_eq!((&json["scale"], &json["total_millis"]), (&serde_json::json!(1), &serde_json::json!(14.5)));
    }

    #[test]
    fn given_a_wrong_answer_or_none_at_all_then_the_exit_code_is_1() {
        let failed = report(vec![query(1, &[12.0], None), query(7, &[], Some("the result has 3 rows instead of 4"))]);
        assert_eq!(failed.exit_code(), 1);
        let text = failed.to_text();
        assert!(text.contains("query 7: the result has 3 rows instead of 4"), "{text}");
        assert!(text.contains("1 of 2 verified, total 12 ms"), "{text}");
        assert_eq!(report(Vec::new()).exit_code(), 1);
    }
}
