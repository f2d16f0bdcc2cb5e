//! Time that a comparison takes; printed, not asserted. `SPRINGALD_PLAN_DIFF_TIMING` is the directory of the queries.

use std::time::Instant;

use datafusion::prelude::{SessionConfig, SessionContext};

use super::fixture::{Plan, assert_equal, plan};
use crate::plan_diff::difference;

const RUNS: u32 = 200;

/// Columns of the TPC-H tables: names, and `i`nteger, `d`ecimal, `s`tring or `t`ime.
const TABLES: &[(&str, &str)] = &[
    ("region", "r_regionkey:i r_name:s r_comment:s"),
    ("nation", "n_nationkey:i n_name:s n_regionkey:i n_comment:s"),
    ("supplier", "s_suppkey:i s_name:s s_address:s s_nationkey:i s_phone:s s_acctbal:d s_comment:s"),
    ("customer", "c_custkey:i c_name:s c_address:s c_nationkey:i c_phone:s c_acctbal:d c_mktsegment:s c_comment:s"),
    ("part", "p_partkey:i p_name:s p_mfgr:s p_brand:s p_type:s p_size:i p_container:s p_retailprice:d p_comment:s"),
    ("partsupp", "ps_partkey:i ps_suppkey:i ps_availqty:i ps_supplycost:d ps_comment:s"),
    (
        "orders",
        "o_orderkey:i o_custkey:i o_orderstatus:s o_totalprice:d o_orderdate:t o_orderpriority:s o_clerk:s \
         o_shippriority:i o_comment:s",
    ),
    (
        "lineitem",
        "l_orderkey:i l_partkey:i l_suppkey:i l_linenumber:i l_quantity:d l_extendedprice:d l_discount:d l_tax:d \
         l_returnflag:s l_linestatus:s l_shipdate:t l_commitdate:t l_receiptdate:t l_shipinstruct:s l_shipmode:s \
         l_comment:s",
    ),
];

async fn session(directory: &str) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(8);
    let config = config.set_usize("datafusion.optimizer.hash_join_single_partition_threshold", 0);
    let context = SessionContext::new_with_config(config);
    for (table, _) in TABLES {
        let path = format!("{directory}/{table}/");
        context.register_parquet(*table, path, Default::default()).await.expect("registers");
    }
    context
}

async fn write_tables(directory: &str) {
    let context = SessionContext::new();
    for (table, columns) in TABLES {
        let expression = |column: &str| {
            let (name, kind) = column.split_once(':').expect("a kind");
            let value = match kind {
                "i" => "value".to_owned(),
                "d" => "CAST(value AS DECIMAL(15, 2))".to_owned(),
                "s" => "concat('text', value)".to_owned(),
                _ => "CAST('1995-01-01' AS DATE)".to_owned(),
            };
            format!("{value} AS {name}")
        };
        let columns = columns.split_whitespace().map(expression).collect::<Vec<_>>().join(", ");
        for file in 0..4 {
            let path = format!("{directory}/{table}/{file}.parquet");
            let sql = format!("COPY (SELECT {columns} FROM range(0, 100)) TO '{path}'");
            context.sql(&sql).await.expect("plans").collect().await.expect("writes");
        }
    }
}

fn operators(plan: &Plan) -> usize {
    1 + plan.children().into_iter().map(operators).sum::<usize>()
}

#[tokio::test]
async fn timing_of_tpch_plans_is_printed() {
    let Ok(queries) = std::env::var("SPRINGALD_PLAN_DIFF_TIMING") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("a path");
    write_tables(directory).await;
    let sessions = [session(directory).await, session(directory).await];
    for query in 1..=22 {
        let text = std::fs::read_to_string(format!("{queries}/q{query:02}.sql")).expect("reads");
        let text = text.replace("{fraction}", "0.0001");
        let sql = text.split(';').find(|sql| sql.to_lowercase().contains("select") && !sql.contains("view "));
        let sql = sql.expect("a query");
        let (left, right) = (plan(&sessions[0], sql).await, plan(&sessions[1], sql).await);
        assert_equal(&left, &right);
        let start = Instant::now();
        for _ in 0..RUNS {
            assert!(difference(&left, &right).expect("is readable").is_none());
        }
        let mean = start.elapsed() / RUNS;
        println!("q{query:02}: {} operators, {mean:?}", operators(&left));
    }
}
