//! Queries of all kinds: the plan that arrives equals the one that was sent, and gives the same rows.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::physical_expr::ScalarFunctionExpr;

use super::*;

#[tokio::test]
async fn plans_of_queries_arrive_equal() {
    let session = Session::new().await;
    let queries = [
        "SELECT id, v + 1 AS w FROM t WHERE v > 5 AND s LIKE 's1%'",
        "SELECT g, count(*), sum(v), avg(f), min(s), max(id) FROM t GROUP BY g",
        "SELECT count(DISTINCT g), count(*) FILTER (WHERE v IS NOT NULL) FROM t",
        "SELECT g, k, count(*) FROM t GROUP BY GROUPING SETS ((g), (k), ())",
        "SELECT g, k, grouping(g), sum(v) FROM t GROUP BY ROLLUP (g, k)",
        "SELECT count(*) FROM t GROUP BY GROUPING SETS (())",
        "SELECT count(*) FROM t GROUP BY GROUPING SETS ((), ())",
        "SELECT array_agg(s ORDER BY id DESC), first_value(s ORDER BY id), last_value(v ORDER BY g, id) FROM t",
        "SELECT g, first_value(v ORDER BY id) FROM t GROUP BY g ORDER BY g",
        "SELECT g FROM t GROUP BY g LIMIT 3",
        "SELECT DISTINCT g, k FROM t",
        "SELECT id, s FROM t ORDER BY v DESC NULLS LAST, id LIMIT 7 OFFSET 2",
        "SELECT * FROM t ORDER BY id",
        "SELECT a.id, b.s FROM t a JOIN t b ON a.id = b.v",
        "SELECT a.id, b.s FROM t a LEFT JOIN t b ON a.id = b.v AND a.g > b.g",
        "SELECT a.id FROM t a FULL JOIN t b ON a.id = b.id + 50 WHERE a.id IS NULL OR b.id IS NULL",
        "SELECT count(*) FROM t a, t b WHERE a.id < b.v",
        "SELECT count(*) FROM t a CROSS JOIN t b",
        "SELECT id FROM t WHERE id IN (SELECT v FROM t WHERE g = 2)",
        "SELECT id FROM t WHERE id NOT IN (SELECT v FROM t)",
        "SELECT id FROM t x WHERE EXISTS (SELECT 1 FROM t y WHERE y.v = x.id AND y.g < x.g)",
        "SELECT id FROM t WHERE v > (SELECT avg(v) FROM t)",
        "SELECT id, (SELECT max(v) FROM t) - v FROM t",
        "SELECT id FROM t UNION ALL SELECT v FROM t",
        "SELECT g FROM t UNION SELECT k FROM t",
        "SELECT g FROM t INTERSECT SELECT k FROM t",
        "SELECT g FROM t EXCEPT SELECT k FROM t",
        "SELECT unnest([id, g]), s FROM t WHERE id < 5",
        "SELECT unnest(l), unnest(r) FROM (SELECT [[id], [g, k]] AS l, struct(id AS x, s AS y) AS r FROM t)",
        "SELECT CASE g WHEN 1 THEN 'a' WHEN 2 THEN s ELSE NULL END, coalesce(v, -1), -f, NOT (g = 1) FROM t",
        "SELECT arrow_cast(v, 'Decimal128(20, 3)'), try_cast(s AS INT), CAST(g AS VARCHAR) FROM t",
        "SELECT id IN (1, 2, 3), s IN ('s1', NULL), s ILIKE 'S%', s ~ '1$', g BETWEEN 1 AND 3 FROM t",
        "SELECT 1 AS one, NULL AS nothing, [1, 2] AS list, named_struct('x', 1, 'y', 'z') AS record",
        "SELECT value FROM generate_series(1, 20, 3)",
        "SELECT count(*) FROM generate_series(1, 20)",
        "SELECT value FROM range(20, 1, -4) ORDER BY value DESC",
        "SELECT value FROM generate_series(NULL, 3)",
        "SELECT value FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-03', INTERVAL '1' DAY)",
        "SELECT value FROM generate_series(DATE '2024-01-01', DATE '2024-03-01', INTERVAL '1' MONTH)",
        "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS x(a, b) ORDER BY a DESC",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT * FROM r",
        "WITH RECURSIVE r AS (SELECT 1 AS n, 2 AS m UNION SELECT n + 1, m FROM r WHERE n < 5) SELECT m, n FROM r",
        "WITH RECURSIVE r AS (SELECT min(id) AS n FROM t UNION ALL SELECT t.id FROM r JOIN t ON t.id = r.n + 9)
            SELECT count(*) FROM r",
    ];
    for query in queries {
        session.assert_kept(query).await;
    }
}

#[tokio::test]
async fn windows_arrive_equal() {
    let session = Session::new().await;
    let queries = [
        "SELECT id, v, lag(v) OVER (ORDER BY id), count(*) OVER (ORDER BY id DESC) FROM t",
        "SELECT id, lead(v, 2, -1) IGNORE NULLS OVER (PARTITION BY g ORDER BY id) FROM t",
        "SELECT id, lag(v) IGNORE NULLS OVER (ORDER BY id), sum(v) OVER (ORDER BY id DESC) FROM t",
        "SELECT id, first_value(v) IGNORE NULLS OVER (ORDER BY id), last_value(v) OVER (ORDER BY id DESC) FROM t",
        "SELECT id, nth_value(v, 3) OVER (PARTITION BY g ORDER BY id ROWS BETWEEN 2 PRECEDING AND 3 FOLLOWING) FROM t",
        "SELECT id, row_number() OVER (PARTITION BY g ORDER BY id), rank() OVER (ORDER BY g),
            dense_rank() OVER (ORDER BY k DESC), percent_rank() OVER (ORDER BY g), cume_dist() OVER (ORDER BY g),
            ntile(4) OVER (ORDER BY id) FROM t",
        "SELECT id, sum(v) OVER (PARTITION BY g ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),
            avg(f) OVER (ORDER BY id RANGE BETWEEN 3 PRECEDING AND 2 FOLLOWING),
            count(v) OVER (ORDER BY g GROUPS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING) FROM t",
        "SELECT count(*) FILTER (WHERE v IS NOT NULL) OVER () FROM t",
        "SELECT id, sum(v) FILTER (WHERE g > 2 AND s LIKE 's1%') OVER (PARTITION BY k ORDER BY id),
            sum(v) FILTER (WHERE g < 3) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING),
            sum(v) FILTER (WHERE abs(g - 3) < 2) OVER (PARTITION BY k ORDER BY id DESC) FROM t",
        "SELECT id, row_number() OVER (PARTITION BY g ORDER BY id) FROM t WHERE g = 3",
        "SELECT id, sum(id) OVER (ORDER BY s) FROM t ORDER BY s LIMIT 5",
        "SELECT DISTINCT count(DISTINCT k) OVER (PARTITION BY g) FROM t",
        "SELECT id, array_agg(v) OVER (ORDER BY id ROWS 2 PRECEDING), max(s) OVER (PARTITION BY g) FROM t",
        "SELECT q.k, rank() OVER (PARTITION BY q.b ORDER BY q.k)
            FROM (SELECT id, k, g AS b FROM t ORDER BY id LIMIT 40) q
            WHERE q.b > 1",
    ];
    for query in queries {
        session.assert_kept(query).await;
    }
}

/// The second window cannot be reversed, so that the first is evaluated in reverse on its rows.
#[tokio::test]
async fn reversed_window_reads_previous_row() {
    let session = Session::new().await;
    let query = "SELECT id, lag(id) OVER (ORDER BY id DESC) AS l, row_number() OVER (ORDER BY id) AS n FROM t
        WHERE id BETWEEN 10 AND 12";
    let (plan, there) = session.sent(query).await;
    assert_same(&plan, &there);
    let windows = format!("{there:?}");
    assert!(windows.contains("is_reversed: true, ignore_nulls: false }"), "{}", text(&there));
    let rows = session.sorted(&there).await.join("\n");
    assert!(rows.contains("| 10 | 11 | 1 |") && rows.contains("| 11 | 12 | 2 |"), "{rows}");
}

#[tokio::test]
async fn lambda_arrives_equal() {
    let session = Session::new().await;
    session.rows("SET datafusion.sql_parser.dialect = 'DuckDB'").await;
    session.assert_kept("SELECT array_transform([1, 2, g], x -> x * 2) FROM t").await;
}

/// Without the filters of the logical plan, the FILTER of a window function cannot be read.
#[tokio::test]
async fn window_filter_without_logical_plan_is_refused() {
    let session = Session::new().await;
    let (plan, _) = session.plan("SELECT count(*) FILTER (WHERE v > 1) OVER () FROM t").await;
    let error = encode_plan(plan).expect_err("has a filter").strip_backtrace();
    assert!(error.contains("WindowAggExec") && error.contains("FILTER"), "{error}");
}

#[tokio::test]
async fn plans_with_other_settings_arrive_equal() {
    let settings = [
        "SET datafusion.optimizer.prefer_hash_join = false",
        "SET datafusion.optimizer.enable_piecewise_merge_join = true",
        "SET datafusion.execution.parquet.pushdown_filters = true",
        "SET datafusion.optimizer.repartition_joins = false",
        "SET datafusion.execution.batch_size = 7",
        "SET datafusion.execution.collect_statistics = true",
    ];
    let queries = [
        "SELECT a.id, b.s FROM t a JOIN t b ON a.id = b.v AND a.g > b.g WHERE a.k = 1",
        "SELECT count(*) FROM t a JOIN t b ON a.id < b.v",
        "SELECT id FROM t WHERE id IN (SELECT v FROM t) AND s > 's2' ORDER BY id LIMIT 3",
    ];
    for setting in settings {
        let session = Session::new().await;
        session.rows(setting).await;
        for query in queries {
            session.assert_kept(query).await;
        }
    }
}

/// A function's time zone is that of the session that planned it, whichever decodes it.
#[tokio::test]
async fn function_keeps_time_zone_of_session() {
    let session = Session::new().await;
    session.rows("SET datafusion.execution.time_zone = '+05:00'").await;
    let (plan, _) = session.plan("SELECT to_timestamp_seconds(id) AS x FROM t").await;
    let bytes = encode_plan(Arc::clone(&plan)).expect("encodes");
    let there = decode_plan(&bytes, &Session::new().await.context.task_ctx()).expect("decodes");
    assert_same(&plan, &there);
    let functions = [&plan, &there].map(|plan| {
        let mut functions = vec![];
        plan.apply_expressions(&mut |expression| {
            if let Some(function) = expression.downcast_ref::<ScalarFunctionExpr>() {
                functions.push(function.fun().clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .expect("visits");
        functions
    });
    assert_eq!(functions[0].len(), 1, "{}", text(&plan));
    assert_eq!(functions[0], functions[1]);
}
