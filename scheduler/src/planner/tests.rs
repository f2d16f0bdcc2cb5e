//! Plans of queries over small files, as people read them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use springald_core::sample;
use springald_core::settings::QuerySettings;

use super::*;

const CLUSTER: ClusterShape = ClusterShape { executors: 2, total_slots: 2, largest_slots: 1 };

/// `customer (c_key, c_group)`, `orders (o_key, o_customer, o_day)` and `line (l_order, l_part, l_price)` as files.
async fn tables(directory: &tempfile::TempDir) -> SessionContext {
    let builder = SessionStateBuilder::new().with_default_features();
    let context = SessionContext::new_with_state(sample::register(builder).build());
    let numbers =
        |of: fn(i64) -> i64, rows: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(of))) };
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|row| format!("group {}", row % 5))));
    let customer = [("c_key", numbers(|row| row, 100)), ("c_group", texts)];
    let orders = [
        ("o_key", numbers(|row| row, 1000)),
        ("o_customer", numbers(|row| row % 100, 1000)),
        ("o_day", numbers(|row| row % 30, 1000)),
    ];
    let line = [
        ("l_order", numbers(|row| row % 1000, 5000)),
        ("l_part", numbers(|row| row % 77, 5000)),
        ("l_price", numbers(|row| row, 5000)),
    ];
    for (name, batch) in [
        ("customer", RecordBatch::try_from_iter(customer)),
        ("orders", RecordBatch::try_from_iter(orders)),
        ("line", RecordBatch::try_from_iter(line)),
    ] {
        let path = directory.path().join(name).display().to_string();
        let frame = context.read_batch(batch.expect("a batch")).expect("a frame");
        frame.write_parquet(&path, DataFrameWriteOptions::new(), None).await.expect("written");
        context.register_parquet(name, &path, ParquetReadOptions::default()).await.expect("registered");
    }
    context
}

/// The stages of a query that is to be distributed without broadcasts.
async fn stages(sql: &str, runtime_filters: bool) -> Vec<PlannedStage> {
    planned(sql, |options| options.runtime_filters = runtime_filters).await
}

async fn planned(sql: &str, adjust: impl FnOnce(&mut QueryOptions)) -> Vec<PlannedStage> {
    let directory = tempfile::tempdir().expect("a directory");
    let context = tables(&directory).await;
    let mut options = QueryOptions::new(&QuerySettings::default(), &Default::default()).expect("valid");
    (options.whole_query_bytes, options.broadcast_bytes) = (0, 0);
    adjust(&mut options);
    let state = context.state();
    let logical = state.create_logical_plan(sql).await.expect("parses");
    let logical = state.optimize(&logical).expect("optimizes");
    let planned = plan(&logical, &state, &options, CLUSTER).await.expect("plans");
    match planned.run {
        Run::Stages(stages) => stages,
        Run::Local { .. } => panic!("{sql} runs in the scheduler"),
    }
}

/// For each stage: what it filters by runtime filters, and the keys that it writes.
async fn filters(sql: &str) -> Vec<String> {
    let interesting = |text: &str| {
        let line = text.trim();
        match line.strip_prefix("RuntimeFilterExec: ") {
            Some(filter) => Some(filter.to_owned()),
            None => line.split_once(", keys=").map(|(_, keys)| format!("writes {keys}")),
        }
    };
    let describe = |stage: PlannedStage| {
        let found: Vec<String> = stage.text.lines().filter_map(interesting).collect();
        (!found.is_empty()).then(|| format!("{}: {}", stage.spec.id, found.join("; ")))
    };
    stages(sql, true).await.into_iter().filter_map(describe).collect()
}

#[tokio::test]
async fn given_joins_in_a_row_then_each_build_side_filters_the_next_scan() {
    let sql = "SELECT c_key, sum(l_price) FROM customer, orders, line \
        WHERE c_group = 'group 1' AND c_key = o_customer AND l_order = o_key GROUP BY c_key";
    let found = filters(sql).await;
    assert_eq!(
        found,
        [
            "1: writes [c_key]",
            "2: [o_customer] in keys of stage 1",
            "3: writes [o_key]",
            "4: [l_order] in keys of stage 3",
        ]
    );
    let without = stages(sql, false).await;
    assert!(without.iter().all(|stage| !stage.text.contains("RuntimeFilter") && !stage.text.contains("keys=")));
    let with = stages(sql, true).await;
    let waits: Vec<Vec<u32>> =
        with.iter().map(|stage| stage.spec.inputs.iter().map(|input| input.stage.0).collect()).collect();
    assert_eq!(waits, [vec![], vec![1], vec![1, 2], vec![3], vec![3, 4], vec![5]]);
    assert_eq!((with[0].spec.key_partitions, without[0].spec.key_partitions), (1, 0));
}

#[tokio::test]
async fn given_an_aggregation_below_the_probe_side_then_its_input_is_filtered() {
    let found = filters(
        "SELECT o_key, total FROM orders JOIN (SELECT l_order, sum(l_price) AS total FROM line GROUP BY l_order) \
         ON l_order = o_key WHERE o_day = 3",
    )
    .await;
    assert_eq!(found, ["1: writes [o_key]", "2: [l_order] in keys of stage 1"]);
}

#[tokio::test]
async fn given_rows_that_must_stay_or_a_build_side_with_all_keys_then_nothing_is_filtered() {
    for sql in [
        // All of both sides.
        "SELECT count(*) FROM orders JOIN line ON l_order = o_key",
        // Rows of the larger side without a match stay.
        "SELECT o_key, l_price FROM (SELECT * FROM orders WHERE o_day = 3) RIGHT JOIN line ON l_order = o_key",
    ] {
        assert_eq!(filters(sql).await, Vec::<String>::new(), "{sql}");
    }
}

#[tokio::test]
async fn given_a_limit_below_the_probe_side_then_the_filter_stays_above_it() {
    let sql = "SELECT o_key, l_price FROM orders JOIN (SELECT * FROM line ORDER BY l_price LIMIT 4000) ON l_order = o_key \
        WHERE o_day = 3";
    let text: String = stages(sql, true).await.into_iter().map(|stage| stage.text).collect();
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
    assert!(place("RuntimeFilterExec: [l_order]") < place("fetch=4000"), "{text}");
}

#[tokio::test]
async fn given_a_view_that_is_read_twice_then_its_stages_run_once() {
    let sql = "WITH sums AS (SELECT l_part, sum(l_price) AS total FROM line GROUP BY l_part) \
        SELECT a.l_part FROM sums a JOIN sums b ON a.l_part = b.l_part AND a.total < b.total";
    let scans = |stages: Vec<PlannedStage>| -> usize {
        stages.iter().map(|stage| stage.text.matches("DataSourceExec").count()).sum()
    };
    assert_eq!(scans(stages(sql, true).await), 1);
    let random = "WITH some AS (SELECT l_part, l_price * random() AS p FROM line) \
        SELECT a.l_part FROM some a JOIN some b ON a.l_part = b.l_part AND a.p < b.p";
    assert_eq!(scans(stages(random, true).await), 2);
}

#[tokio::test]
async fn given_groups_of_which_few_remain_then_they_are_found_first_and_filter_what_is_joined() {
    let sql = "SELECT o_customer, sum(l_price) FROM orders, line WHERE o_key = l_order AND o_key IN \
        (SELECT l_order FROM line GROUP BY l_order HAVING sum(l_price) > 12000) GROUP BY o_customer";
    let found = filters(sql).await;
    assert_eq!(found, ["2: writes [l_order]", "3: [l_order] in keys of stage 2"]);
}

#[tokio::test]
async fn given_a_small_side_that_is_broadcast_then_it_filters_the_side_of_a_join_below() {
    let sql = "SELECT c_group, count(*) FROM orders JOIN line ON l_order = o_key JOIN customer ON o_customer = c_key \
        WHERE c_group = 'group 1' AND l_part > 0 GROUP BY c_group";
    let stages = planned(sql, |options| options.broadcast_bytes = 3000).await;
    let text: Vec<&str> = stages.iter().map(|stage| stage.text.as_str()).collect();
    let text = text.join("\n");
    assert!(
        text.contains("CollectLeft") && text.contains("RuntimeFilterExec: [o_customer] in keys of stage 1"),
        "{text}"
    );
}

#[tokio::test]
async fn given_a_join_that_answers_for_a_small_left_side_then_what_stands_above_it_sees_all_of_it() {
    for sql in [
        "SELECT count(*) FROM customer LEFT JOIN orders ON c_key = o_customer",
        "SELECT count(*) FROM customer FULL JOIN orders ON c_key = o_customer",
        "SELECT count(*) FROM customer WHERE c_key IN (SELECT o_customer FROM orders)",
        "SELECT count(*) FROM customer WHERE NOT EXISTS (SELECT 1 FROM orders WHERE o_customer = c_key)",
        "SELECT c_group, o_day FROM customer LEFT JOIN orders ON c_key = o_customer ORDER BY c_group, o_day",
        "SELECT c_group, o_day FROM customer LEFT JOIN orders ON c_key = o_customer LIMIT 7",
    ] {
        let stages = planned(sql, |options| options.broadcast_bytes = 1 << 20).await;
        let last = stages.last().expect("a stage");
        assert_eq!((last.spec.tasks(), last.spec.output_partitions), (1, 1), "{sql}:\n{}", last.text);
        let joined: Vec<&PlannedStage> = stages.iter().filter(|stage| stage.text.contains("HashJoinExec")).collect();
        let in_one_task = |stage: &&PlannedStage| stage.spec.whole.is_none() && stage.spec.tasks() == 1;
        assert!(joined.iter().all(in_one_task) && joined[0].text.contains("mode=Partitioned"), "{sql}: {stages:?}");
    }
}

#[tokio::test]
async fn given_a_limit_over_one_partition_below_an_exchange_then_it_stays_one_partition() {
    // The planner knows that 100 rows are few; what cuts the plan does not, once their order is made across stages.
    let sql = "SELECT count(*) FROM orders JOIN (SELECT l_part FROM (SELECT l_part, \
        row_number() OVER (PARTITION BY l_part ORDER BY l_price) AS place FROM \
        (SELECT * FROM (SELECT * FROM line UNION ALL SELECT * FROM line) ORDER BY l_price LIMIT 100)) \
        WHERE place > 1 LIMIT 5) ON l_part = o_customer WHERE o_day = 3";
    let stages = stages(sql, false).await;
    let limited: Vec<&PlannedStage> = stages.iter().filter(|stage| stage.text.contains("fetch=5")).collect();
    assert!(!limited.is_empty() && limited.iter().all(|stage| stage.spec.partitions == 1), "{stages:?}");
}

#[test]
fn given_a_stage_of_too_many_pieces_then_it_is_refused_with_the_setting_to_lower() {
    let stage = |tasks: u32| StageSpec {
        id: StageId(1),
        inputs: vec![],
        partitions: tasks,
        output_partitions: 512,
        key_partitions: 0,
        hashed: true,
        whole: None,
        indeterminate: false,
    };
    check_pieces(&stage(512), CLUSTER).expect("few");
    check_pieces(&stage(20 * 512), ClusterShape { total_slots: 512, ..CLUSTER }).expect("as in a large cluster");
    let error = check_pieces(&stage(20 * 512), CLUSTER).expect_err("five million");
    assert!(error.message().contains("springald.partitions"), "{error}");
}

#[tokio::test]
async fn sample_stays_on_its_scan_below_filters() {
    let sql = "SELECT o_customer, count(*) FROM orders JOIN line TABLESAMPLE BERNOULLI (10) REPEATABLE (1) ON l_order = o_key \
        WHERE o_day = 3 AND l_price > 7 GROUP BY o_customer";
    let stages = stages(sql, true).await;
    assert!(stages.len() > 2, "{}", stages.len());
    let sampling: Vec<_> = stages.iter().filter(|stage| stage.text.contains("SampleExec")).collect();
    let [stage] = sampling.as_slice() else { panic!("{} stages sample", sampling.len()) };
    assert!(!stage.spec.indeterminate, "{}", stage.text);
    let lines: Vec<&str> = stage.text.lines().map(str::trim).collect();
    let place =
        |part: &str| lines.iter().position(|line| line.starts_with(part)).unwrap_or_else(|| panic!("{lines:?}"));
    let sample = place("SampleExec: BERNOULLI 10%, seed=1");
    assert!(lines[sample + 1].starts_with("DataSourceExec"), "{}", stage.text);
    assert!(place("RuntimeFilterExec") < sample && place("FilterExec") < sample, "{}", stage.text);
}

#[tokio::test]
async fn sample_of_exchanged_rows_is_indeterminate() {
    let sql = "SELECT * FROM (SELECT o_key, l_price FROM orders JOIN line ON l_order = o_key) AS j TABLESAMPLE (10)";
    let sql = format!("{sql} REPEATABLE (1)");
    let stages = stages(&sql, true).await;
    let sampling: Vec<_> = stages.iter().filter(|stage| stage.text.contains("SampleExec")).collect();
    assert!(!sampling.is_empty() && sampling.iter().all(|stage| stage.spec.indeterminate));
}

#[tokio::test]
async fn grouping_sets_over_constants_are_not_taken_for_sorted() {
    let grouped = "FROM line WHERE l_part = 7 GROUP BY ROLLUP (l_part, l_order)";
    for sql in
        [format!("SELECT l_part, l_order, count(*) {grouped}"), format!("SELECT l_part {grouped} ORDER BY l_part")]
    {
        let stages = planned(&sql, |_| ()).await;
        let text: String = stages.iter().map(|stage| stage.text.as_str()).collect();
        assert!(text.contains("ClearEquivalencesExec") && !text.contains("ordering_mode"), "{text}");
        assert_eq!(text.contains("SortExec: expr=[l_part@0 ASC NULLS LAST]"), sql.contains("ORDER BY"), "{text}");
    }
}

#[tokio::test]
async fn union_of_constants_sorts_by_all_keys() {
    let branches = "SELECT 2 AS c, l_price AS v FROM line UNION ALL SELECT 1, o_key FROM orders";
    let texts =
        async |sql: &str| -> Vec<String> { planned(sql, |_| ()).await.into_iter().map(|stage| stage.text).collect() };
    let merged = texts(&format!("{branches} ORDER BY c, v LIMIT 2")).await.join("\n");
    assert!(merged.contains("SortExec: TopK(fetch=2), expr=[c@0 ASC NULLS LAST, v@1 ASC NULLS LAST]"), "{merged}");
    let unlimited = texts(&format!("{branches} ORDER BY c, v")).await.join("\n");
    assert!(unlimited.contains("SortExec: expr=[v@1 ASC NULLS LAST]"), "{unlimited}");
}
