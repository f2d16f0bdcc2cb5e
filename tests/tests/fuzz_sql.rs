//! Differential fuzzing of SQL: a fixed part of it, and all cases that differed once. More: `make fuzz-sql`.

use springald_tests::fuzz_sql::{self, Options, Report};
use springald_tests::workspace;

fn assert_clean(report: &Report) {
    let found: Vec<String> = report.differences.iter().map(|found| found.to_text()).collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_that_differed_once_have_datafusions_answers() {
    fuzz_sql::silence_datafusion();
    let report = fuzz_sql::replay(&workspace().join("tests/fuzz_sql/regressions.sql")).await.expect("the cases run");
    assert_clean(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_datafusions_answers() {
    fuzz_sql::silence_datafusion();
    let options =
        Options { seed: Some(1), queries: 400, first: 0, minutes: None, jobs: 4, shrink: 3, json: None, sql: None };
    assert_clean(&fuzz_sql::run(&options).await);
}
