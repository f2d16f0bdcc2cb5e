//! Sessions over small files, and ways to change plans.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use tempfile::TempDir;

use crate::plan_diff::difference;

pub(super) type Plan = Arc<dyn ExecutionPlan>;

/// Tables `t` and `u` (Parquet, three files each), `sorted` (Parquet, in order of `a`), `c` (CSV) and `j` (JSON).
pub(super) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let context = SessionContext::new();
        for (table, first) in [("t", 0), ("u", 5)] {
            for file in 0..3 {
                let rows = format!(
                    "SELECT value + {first} + {file} * 10 AS id, value % 3 AS g, CAST(value AS DOUBLE) / 2 AS v,
                     concat('name', value) AS s, to_timestamp(value * 100000) AS at FROM range(0, 10)"
                );
                write(&context, &directory.path().join(format!("{table}/{file}.parquet")), &rows).await;
            }
        }
        for file in 0..2 {
            let rows = format!("SELECT value + {file} * 10 AS a, value % 2 AS b FROM range(0, 10) ORDER BY a");
            write(&context, &directory.path().join(format!("sorted/{file}.parquet")), &rows).await;
        }
        let rows = "SELECT value AS id, value % 4 AS g, concat('c', value) AS s FROM range(0, 20)";
        write(&context, &directory.path().join("c/0.csv"), rows).await;
        write(&context, &directory.path().join("j/0.json"), rows).await;
        Self { directory }
    }

    /// Returns a session that shares nothing with others.
    pub(super) async fn session(&self, config: SessionConfig) -> SessionContext {
        let context = SessionContext::new_with_config(config);
        let path = |table: &str| self.directory.path().join(table).to_str().expect("a path").to_owned() + "/";
        for table in ["t", "u"] {
            let options = ParquetReadOptions::default();
            context.register_parquet(table, path(table), options).await.expect("registers");
        }
        let order = vec![vec![datafusion::prelude::col("a").sort(true, false)]];
        let options = ParquetReadOptions::default().file_sort_order(order);
        context.register_parquet("sorted", path("sorted"), options).await.expect("registers");
        context.register_csv("c", path("c"), CsvReadOptions::default()).await.expect("registers");
        context.register_json("j", path("j"), JsonReadOptions::default()).await.expect("registers");
        context
    }

    pub(super) async fn plan(&self, sql: &str) -> Plan {
        plan(&self.session(config()).await, sql).await
    }
}

/// The configuration of sessions that plan for several partitions.
pub(super) fn config() -> SessionConfig {
    let config = SessionConfig::new().with_target_partitions(4).with_information_schema(true);
    config.set_usize("datafusion.optimizer.hash_join_single_partition_threshold", 0)
}

async fn write(context: &SessionContext, file: &Path, rows: &str) {
    let file = file.to_str().expect("a path");
    let sql = format!("COPY ({rows}) TO '{file}'");
    context.sql(&sql).await.expect("plans").collect().await.expect("writes");
}

pub(super) async fn plan(context: &SessionContext, sql: &str) -> Plan {
    let frame = context.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    frame.create_physical_plan().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Returns the plan with each operator replaced for which `change` returns another. Fails if there is none.
pub(super) fn changed(plan: &Plan, change: impl Fn(&Plan) -> Option<Plan>) -> Plan {
    let result = Arc::clone(plan).transform_up(|node| {
        Ok(match change(&node) {
            Some(other) => Transformed::yes(other),
            None => Transformed::no(node),
        })
    });
    let result = result.expect("replaces");
    assert!(result.transformed, "nothing was changed in\n{}", shown(plan));
    result.data
}

/// Returns the first operator, from the root, that satisfies the predicate.
pub(super) fn found(plan: &Plan, predicate: impl Fn(&Plan) -> bool + Copy) -> Plan {
    fn search(plan: &Plan, predicate: impl Fn(&Plan) -> bool + Copy) -> Option<Plan> {
        if predicate(plan) {
            return Some(Arc::clone(plan));
        }
        plan.children().into_iter().find_map(|child| search(child, predicate))
    }
    search(plan, predicate).unwrap_or_else(|| panic!("not found in\n{}", shown(plan)))
}

pub(super) fn shown(plan: &Plan) -> String {
    datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string()
}

/// Asserts that the plans differ, and that the text names these parts; both ways.
#[track_caller]
pub(super) fn assert_differs(left: &Plan, right: &Plan, parts: &[&str]) {
    for (left, right) in [(left, right), (right, left)] {
        let text = difference(left, right).expect("is readable").expect("differs");
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}

#[track_caller]
pub(super) fn assert_equal(left: &Plan, right: &Plan) {
    let difference = difference(left, right).unwrap_or_else(|error| panic!("{error}\n{}", shown(left)));
    assert!(difference.is_none(), "{difference:?}\n{}", shown(left));
}
