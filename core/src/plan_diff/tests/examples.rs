//! Plans of equal queries are equal, those of other queries differ.

use datafusion::prelude::SessionConfig;

use super::fixture::{Fixture, assert_differs, assert_equal, config, plan};
use crate::plan_diff::difference;

/// Queries whose plans have all kinds of operators and expressions.
pub(super) const QUERIES: &[&str] = &[
    "SELECT id, v * 2 + 1 AS w FROM t WHERE g <> 1 AND NOT (g IN (4, 5, 6, 7, v)) AND s LIKE 'name%' ORDER BY w DESC LIMIT 3",
    "SELECT g, count(*), sum(v), avg(v) FROM t GROUP BY g HAVING count(*) > 2",
    "SELECT g, count(DISTINCT s) FILTER (WHERE v > 1), first_value(s ORDER BY id DESC) FROM t GROUP BY g",
    "SELECT g, s, count(*) FROM t GROUP BY GROUPING SETS ((g), (g, s), ())",
    "SELECT count(*) FROM t GROUP BY GROUPING SETS (())",
    "SELECT min(id), max(v) FROM t",
    "SELECT DISTINCT g FROM t ORDER BY g LIMIT 5",
    "SELECT t.id, u.v FROM t JOIN u ON t.id = u.id WHERE u.g > 0",
    "SELECT t.id, u.v FROM t JOIN u ON t.id = u.id AND t.v < u.v ORDER BY u.v LIMIT 4",
    "SELECT t.id, u.v FROM t LEFT JOIN u ON t.id = u.id",
    "SELECT t.id, u.v FROM t FULL JOIN u ON t.v < u.v",
    "SELECT * FROM t CROSS JOIN u",
    "SELECT id FROM t WHERE id IN (SELECT id FROM u)",
    "SELECT id FROM t WHERE id NOT IN (SELECT id FROM u)",
    "SELECT id FROM t WHERE v > (SELECT avg(v) FROM u) AND v < (SELECT max(v) FROM u)",
    "SELECT id, lag(v) OVER (ORDER BY id), count(*) OVER (ORDER BY id DESC) FROM t",
    "SELECT id, row_number() OVER (PARTITION BY g ORDER BY id), rank() OVER (PARTITION BY g ORDER BY v) FROM t",
    "SELECT sum(v) OVER (PARTITION BY g ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t",
    "SELECT last_value(v) IGNORE NULLS OVER (ORDER BY id), count(*) FILTER (WHERE v > 1) OVER () FROM t",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY g ORDER BY id) r FROM t) WHERE r < 3",
    "SELECT id FROM t UNION ALL SELECT id FROM u UNION SELECT a FROM sorted",
    "SELECT DISTINCT a FROM sorted ORDER BY a LIMIT 9",
    "SELECT a, count(*) FROM sorted GROUP BY a ORDER BY a",
    "SELECT b, a FROM sorted WHERE b = 1 ORDER BY a",
    "SELECT unnest(make_array(id, g)) FROM t",
    "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT * FROM n JOIN t ON x = id",
    "SELECT * FROM generate_series(1, 10) WHERE value > 3",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(x, y) JOIN t ON x = id",
    "SELECT g, s FROM c WHERE id > 3 ORDER BY id LIMIT 2 OFFSET 1",
    "SELECT g, s FROM j WHERE s IS NOT NULL",
    "SELECT CASE g WHEN 1 THEN 'a' WHEN 2 THEN s ELSE NULL END, CASE WHEN v > 1 THEN 1 END, -v, NOT (g = 1) FROM t",
    "SELECT TRY_CAST(s AS INT), CAST(v AS DECIMAL(10, 2)), g IN (1, 2, 7), s IS NULL, arrow_cast(v, 'Float16') FROM t",
    "SELECT date_trunc('day', at), now() FROM t WHERE at < now()",
    "SELECT arrow_cast(1.5, 'Float16'), CAST('NaN' AS DOUBLE), -0.0, INTERVAL '1' DAY, X'00ff', NULL FROM t",
    "EXPLAIN SELECT id FROM t",
    "EXPLAIN ANALYZE SELECT id FROM t",
    "SELECT 1",
    "SELECT id FROM t WHERE false",
];

/// Settings under which operators are planned that are not planned else; with the first three, all of them are.
pub(super) fn configs() -> Vec<SessionConfig> {
    let merge_joins = config().set_bool("datafusion.optimizer.prefer_hash_join", false);
    let piecewise = config().set_bool("datafusion.optimizer.enable_piecewise_merge_join", true);
    let pushed = config().set_bool("datafusion.execution.parquet.pushdown_filters", true);
    let top_k = config().set_bool("datafusion.optimizer.enable_window_topn", true);
    vec![config(), merge_joins, piecewise, pushed, top_k, SessionConfig::new().with_target_partitions(1)]
}

#[tokio::test]
async fn query_planned_twice_is_equal() {
    let fixture = Fixture::new().await;
    for config in configs() {
        let sessions = [fixture.session(config.clone()).await, fixture.session(config).await];
        for sql in QUERIES {
            // Planned anew, `now` is another time.
            if !sql.contains("now()") {
                let plans = (plan(&sessions[0], sql).await, plan(&sessions[1], sql).await);
                assert_equal(&plans.0, &plans.1);
            }
        }
    }
}

#[tokio::test]
async fn plan_with_rebuilt_operators_is_equal() {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    use datafusion::physical_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
    let fixture = Fixture::new().await;
    for sql in QUERIES {
        let plan = fixture.plan(sql).await;
        let rebuilt = std::sync::Arc::clone(&plan).transform_up(|node| {
            let children = node.children().into_iter().cloned().collect();
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
            node.replace_children(children, options).map(Transformed::yes)
        });
        assert_equal(&plan, &rebuilt.expect("rebuilds").data);
    }
}

#[tokio::test]
async fn plans_of_other_queries_differ() {
    let fixture = Fixture::new().await;
    let session = fixture.session(config()).await;
    let mut plans = vec![];
    for sql in QUERIES {
        plans.push(plan(&session, sql).await);
    }
    for (index, left) in plans.iter().enumerate() {
        for right in &plans[index + 1..] {
            assert!(difference(left, right).expect("is readable").is_some());
        }
    }
}

#[tokio::test]
async fn lambda_planned_twice_is_equal() {
    let fixture = Fixture::new().await;
    let config = config().set_str("datafusion.sql_parser.dialect", "duckdb");
    let sessions = [fixture.session(config.clone()).await, fixture.session(config).await];
    let sql = |number: u8| format!("SELECT array_transform(make_array(id, g), x -> x + {number}) FROM t");
    let plans = (plan(&sessions[0], &sql(1)).await, plan(&sessions[1], &sql(1)).await);
    assert_equal(&plans.0, &plans.1);
    assert_differs(&plans.0, &plan(&sessions[1], &sql(2)).await, &["projection/expr[0]", "literal: Int64"]);
}
