//! Results of a run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Length of an error message by which errors are counted.
const MESSAGE_LENGTH: usize = 100;

/// Frequent errors that are reported.
const SHOWN_ERRORS: usize = 25;

/// Difference of a run.
#[derive(Clone, Debug)]
pub struct Found {
    /// Number of the query in the run.
    pub query: u64,
    /// Modes in which the server differs, or `datafusion` if that differs from itself.
    pub engine: &'static str,
    /// Kind of the difference.
    pub kind: String,
    /// The case, as text that `--sql` takes.
    pub case: String,
    /// What differs.
    pub text: String,
    /// True if the case was made smaller.
    pub is_shrunk: bool,
}

/// Report of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seed of the run.
    pub seed: u64,
    /// Queries that were run.
    pub queries: u64,
    /// Queries that all engines answered alike.
    pub agreed: u64,
    /// Queries that all engines refused, or failed in, alike.
    pub failed_alike: u64,
    /// Queries whose answer was too large to be compared.
    pub skipped: u64,
    /// Differences between the server and DataFusion.
    pub differences: Vec<Found>,
    /// Differences between configurations of DataFusion in one process.
    pub own: Vec<Found>,
    /// Reasons of queries that failed alike, with their numbers.
    pub errors: BTreeMap<String, u64>,
    /// Time of the run.
    pub seconds: f64,
}

impl Report {
    /// True if the server never differed from DataFusion.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let found = |found: &[Found]| -> Vec<Value> { found.iter().map(Found::to_json).collect() };
        let mut errors: Vec<(&String, &u64)> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        errors.truncate(SHOWN_ERRORS);
        json!({
            "seed": self.seed,
            "queries": self.queries,
            "agreed": self.agreed,
            "failed_alike": self.failed_alike,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "queries_per_second": self.queries as f64 / self.seconds.max(0.001),
            "difference_count": self.differences.len(),
            "datafusion_own_count": self.own.len(),
            "differences": found(&self.differences),
            "datafusion_own": found(&self.own),
            "errors": errors.iter().map(|(message, count)| json!([count, message])).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn count_error(&mut self, message: &str) {
        let shown: String = message.chars().take(MESSAGE_LENGTH).collect();
        *self.errors.entry(shown).or_default() += 1;
    }
}

impl Found {
    fn to_json(&self) -> Value {
        json!({
            "query": self.query,
            "engine": self.engine,
            "kind": self.kind,
            "case": self.case,
            "text": self.text,
            "shrunk": self.is_shrunk,
        })
    }

    /// The difference for people.
    pub fn to_text(&self) -> String {
        let shrunk = if self.is_shrunk { "" } else { ", not shrunk" };
        let text = self.text.lines().map(|line| format!("--- {line}\n")).collect::<String>();
        format!("--- query {}, {}: {}{shrunk}\n{text}{}", self.query, self.engine, self.kind, self.case)
    }
}
