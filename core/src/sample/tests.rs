//! Samples of files, by SQL.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};

use super::*;

/// Files of each table.
const FILES: i64 = 3;
/// Rows of each file.
const FILE_ROWS: i64 = 5000;

/// A directory with the tables' files.
struct Files(tempfile::TempDir);

impl Files {
    /// Writes the tables `c` (CSV) and `p` (Parquet) with the columns `id`, which is unique, and `one`, which is 1.
    async fn write() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let context = SessionContext::new();
        for kind in ["c", "p"] {
            std::fs::create_dir(directory.path().join(kind)).expect("a directory");
        }
        for file in 0..FILES {
            let mut text = "id,one\n".to_owned();
            (0..FILE_ROWS).for_each(|row| writeln!(text, "{},1", file * FILE_ROWS + row).expect("a line"));
            let csv = directory.path().join(format!("c/{file}.csv"));
            std::fs::write(&csv, text).expect("written");
            let rows = context.read_csv(csv.to_string_lossy().as_ref(), CsvReadOptions::new()).await.expect("read");
            let parquet = directory.path().join(format!("p/{file}.parquet"));
            let parquet = parquet.to_string_lossy();
            let written = rows.write_parquet(&parquet, DataFrameWriteOptions::new(), None);
            written.await.expect("written");
        }
        Self(directory)
    }

    /// A session with the tables.
    async fn session(&self, batch_size: usize, partitions: usize) -> SessionContext {
        let config = SessionConfig::new().with_batch_size(batch_size).with_target_partitions(partitions);
        let config = config.with_repartition_file_min_size(1);
        let builder = SessionStateBuilder::new().with_config(config).with_default_features();
        let context = SessionContext::new_with_state(register(builder).build());
        let path = |kind: &str| format!("{}/", self.0.path().join(kind).display());
        context.register_csv("c", path("c"), CsvReadOptions::new()).await.expect("registered");
        context.register_parquet("p", path("p"), ParquetReadOptions::default()).await.expect("registered");
        context
    }
}

async fn planned(context: &SessionContext, sql: &str, seed: u64) -> Result<Arc<dyn ExecutionPlan>> {
    let state = context.state();
    let logical = state.create_logical_plan(sql).await?;
    state.create_physical_plan(&fix_seeds(logical, seed)?).await
}

async fn rows(context: &SessionContext, sql: &str, seed: u64) -> Vec<RecordBatch> {
    let plan = planned(context, sql, seed).await.expect(sql);
    collect(plan, context.task_ctx()).await.expect(sql)
}

/// The values of the first column.
async fn ids(context: &SessionContext, sql: &str, seed: u64) -> BTreeSet<i64> {
    let mut ids = BTreeSet::new();
    for batch in rows(context, sql, seed).await {
        let column = datafusion::arrow::compute::cast(batch.column(0), &DataType::Int64).expect("numbers");
        let column = column.as_any().downcast_ref::<Int64Array>().expect("numbers");
        ids.extend(column.values());
    }
    ids
}

async fn count(context: &SessionContext, sql: &str, seed: u64) -> i64 {
    let found = ids(context, sql, seed).await;
    found.into_iter().next().expect("one row")
}

#[tokio::test]
async fn same_seed_gives_same_rows_whatever_the_batches() {
    let files = Files::write().await;
    for (table, method) in [("c", "BERNOULLI"), ("p", "BERNOULLI"), ("c", "SYSTEM"), ("p", "SYSTEM")] {
        let sql = format!("SELECT id FROM {table} TABLESAMPLE {method} (50) REPEATABLE (7)");
        let first = ids(&files.session(8192, 1).await, &sql, 1).await;
        assert!(!first.is_empty() && first.len() < (FILES * FILE_ROWS) as usize, "{sql}: {}", first.len());
        for (batch_size, partitions) in [(1, 2), (7, 5), (100, 3), (8192, 16)] {
            let again = ids(&files.session(batch_size, partitions).await, &sql, 2).await;
            assert_eq!(first, again, "{sql}, batches of {batch_size} rows, {partitions} partitions");
        }
        let other = sql.replace("(7)", "(8)");
        assert_ne!(first, ids(&files.session(8192, 1).await, &other, 1).await, "{other}");
    }
}

#[tokio::test]
async fn percentage_of_rows_is_kept() {
    let context = Files::write().await;
    let context = (context.session(1000, 4).await, context);
    let all = FILES * FILE_ROWS;
    for table in ["c", "p", "(SELECT * FROM p)", "(SELECT id + 1 FROM c WHERE id >= 0)"] {
        for (percent, least, most) in
            [("0", 0, 0), ("0.0", 0, 0), ("100", all, all), ("20", 2800, 3200), ("0.5", 40, 115)]
        {
            for seed in 0..4 {
                let sql = format!("SELECT count(*) FROM {table} TABLESAMPLE BERNOULLI ({percent})");
                let kept = count(&context.0, &sql, seed).await;
                assert!((least..=most).contains(&kept), "{sql}, seed {seed}: {kept}");
            }
        }
    }
}

#[tokio::test]
async fn equal_rows_are_sampled_independently() {
    let files = Files::write().await;
    let context = files.session(500, 4).await;
    for table in ["c", "p"] {
        let sql = format!("SELECT count(*) FROM (SELECT one FROM {table} TABLESAMPLE (50))");
        let kept = count(&context, &sql, 3).await;
        assert!((7200..7800).contains(&kept), "{sql}: {kept}");
    }
    // The rows of different files, too: with the same numbers they would be kept or dropped together.
    let sql = "SELECT id FROM c TABLESAMPLE BERNOULLI (50)";
    let kept = ids(&context, sql, 3).await;
    let alike = (0..FILE_ROWS).filter(|row| kept.contains(row) == kept.contains(&(row + FILE_ROWS))).count();
    assert!((2300..2700).contains(&alike), "{alike} of {FILE_ROWS}");
}

#[tokio::test]
async fn system_sample_keeps_whole_blocks() {
    let files = Files::write().await;
    let context = files.session(300, 2).await;
    let kept = ids(&context, "SELECT id FROM p TABLESAMPLE SYSTEM (50) REPEATABLE (1)", 0).await;
    assert!(!kept.is_empty() && kept.len() < (FILES * FILE_ROWS) as usize, "{}", kept.len());
    for file in 0..FILES {
        for block in 0..FILE_ROWS.div_euclid(1024) {
            let first = file * FILE_ROWS + block * 1024;
            let of_block = kept.range(first..first + 1024).count();
            assert!([0, 1024].contains(&of_block), "block {block} of file {file}: {of_block} rows");
        }
    }
}

#[tokio::test]
async fn filter_and_limit_stay_above_the_sample() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    for table in ["c", "p"] {
        let sample = format!("SELECT id FROM {table} TABLESAMPLE BERNOULLI (30) REPEATABLE (5)");
        let all = ids(&context, &sample, 0).await;
        let sql = format!("{sample} WHERE id % 7 = 3 AND id > 4000");
        let expected: BTreeSet<i64> = all.iter().copied().filter(|id| id % 7 == 3 && *id > 4000).collect();
        assert_eq!(ids(&context, &sql, 0).await, expected, "{sql}");
        let sql = format!("SELECT a.id FROM ({sample}) a JOIN {table} b ON a.id = b.id WHERE b.id < 500");
        let expected: BTreeSet<i64> = all.iter().copied().filter(|id| *id < 500).collect();
        assert_eq!(ids(&context, &sql, 0).await, expected, "{sql}");
        let few = ids(&context, &format!("{sample} LIMIT 20"), 0).await;
        assert!(few.len() == 20 && few.is_subset(&all), "{few:?}");
        let sql = format!("SELECT count(*) FROM {table} TABLESAMPLE BERNOULLI (30) REPEATABLE (5)");
        assert_eq!(count(&context, &sql, 0).await, all.len() as i64, "{sql}");
    }
}

#[tokio::test]
async fn seed_is_that_of_the_statement_and_the_place() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    let sql = "SELECT id FROM p TABLESAMPLE BERNOULLI (10)";
    let first = ids(&context, sql, 1).await;
    assert_eq!(first, ids(&context, sql, 1).await);
    assert_ne!(first, ids(&context, sql, 2).await);
    let join = "SELECT count(*) FROM p a TABLESAMPLE (10) JOIN p b TABLESAMPLE (10) ON a.id = b.id";
    assert!((90..220).contains(&count(&context, join, 1).await), "two samples are independent");
    let shared = "WITH s AS (SELECT id FROM p TABLESAMPLE BERNOULLI (10)) \
                  SELECT count(*) - (SELECT count(*) FROM s) FROM s a JOIN s b ON a.id = b.id";
    assert_eq!(count(&context, shared, 1).await, 0, "references to one query share its sample");
}

#[tokio::test]
async fn every_place_and_spelling_is_planned() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    let expected = ids(&context, "SELECT id FROM c TABLESAMPLE BERNOULLI (10) REPEATABLE (3)", 0).await;
    for sql in [
        "SELECT x.id FROM c AS x TABLESAMPLE BERNOULLI (10) REPEATABLE (3)",
        "SELECT a FROM c AS x (a, b) TABLESAMPLE BERNOULLI (10 PERCENT) REPEATABLE (3)",
        "SELECT id FROM c TABLESAMPLE (10.0) SEED (3)",
        "SELECT id FROM c SAMPLE ROW (+10) REPEATABLE (3)",
        "SELECT c.id FROM c TABLESAMPLE BERNOULLI (10) REPEATABLE (3)",
        "SELECT id FROM (SELECT * FROM c) AS x TABLESAMPLE BERNOULLI (10) REPEATABLE (3)",
        "WITH c AS (SELECT * FROM c) SELECT id FROM c TABLESAMPLE BERNOULLI (10) REPEATABLE (3)",
        "SELECT id FROM p WHERE id IN (SELECT id FROM c TABLESAMPLE BERNOULLI (10) REPEATABLE (3))",
        "SELECT u.id FROM p u, LATERAL (SELECT id FROM c TABLESAMPLE BERNOULLI (10) REPEATABLE (3)) v WHERE u.id = v.id",
    ] {
        assert_eq!(ids(&context, sql, 9).await, expected, "{sql}");
    }
    let values = "SELECT count(*) FROM (VALUES (1), (2), (3)) AS t (a) TABLESAMPLE BERNOULLI (100)";
    assert_eq!(count(&context, values, 0).await, 3);
}

#[tokio::test]
async fn alias_may_follow_the_sample() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    let expected = ids(&context, "SELECT id FROM c TABLESAMPLE (10) REPEATABLE (3)", 0).await;
    context.sql("SET datafusion.sql_parser.dialect = 'hive'").await.expect("set");
    let sql = "SELECT x.id FROM c TABLESAMPLE (10) REPEATABLE (3) AS x";
    assert_eq!(ids(&context, sql, 0).await, expected, "{sql}");
}

#[tokio::test]
async fn unsupported_parameters_are_refused() {
    let files = Files::write().await;
    let context = files.session(1000, 1).await;
    for (clause, part) in [
        ("TABLESAMPLE BERNOULLI (101)", "from 0 to 100, not 101"),
        ("TABLESAMPLE BERNOULLI (-1)", "from 0 to 100, not -1"),
        ("TABLESAMPLE BERNOULLI (1e999)", "from 0 to 100, not inf"),
        ("TABLESAMPLE BERNOULLI (NULL)", "written out, not NULL"),
        ("TABLESAMPLE SYSTEM ('10')", "written out, not '10'"),
        ("TABLESAMPLE SYSTEM (5 + 5)", "written out, not 5 + 5"),
        ("TABLESAMPLE SYSTEM ($1)", "written out, not $1"),
        ("TABLESAMPLE (10 ROWS)", "ORDER BY random() LIMIT 10"),
        ("TABLESAMPLE (BUCKET 1 OUT OF 4)", "BUCKET"),
        ("SAMPLE 0.1", "write TABLESAMPLE BERNOULLI"),
        ("TABLESAMPLE (10) REPEATABLE (1.5)", "needs an integer"),
    ] {
        let sql = format!("SELECT * FROM c {clause}");
        let error = planned(&context, &sql, 0).await.expect_err(&sql).to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[tokio::test]
async fn sample_of_stored_rows_is_repeatable() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    for (sql, expected) in [
        ("SELECT * FROM c TABLESAMPLE (10)", true),
        ("SELECT * FROM (SELECT id + 1 FROM c WHERE one = 1) TABLESAMPLE (10)", true),
        ("SELECT * FROM (VALUES (1), (2)) AS t TABLESAMPLE (10)", true),
        ("SELECT * FROM (SELECT id, count(*) FROM c GROUP BY id) TABLESAMPLE (10)", false),
        ("SELECT * FROM (SELECT * FROM c LIMIT 10) TABLESAMPLE (10)", false),
        ("SELECT * FROM (SELECT c.id FROM c JOIN p ON c.id = p.id) TABLESAMPLE (10)", false),
    ] {
        let plan = planned(&context, sql, 0).await.expect(sql);
        let mut found = None;
        find(&plan, &mut found);
        assert_eq!(found, Some(expected), "{sql}: {}", displayable(plan.as_ref()).indent(false));
    }
}

/// Whether the sample in a plan is repeatable.
fn find(plan: &Arc<dyn ExecutionPlan>, found: &mut Option<bool>) {
    if let Some(sample) = plan.downcast_ref::<SampleExec>() {
        *found = Some(sample.is_repeatable());
    }
    plan.children().into_iter().for_each(|child| find(child, found));
}

#[tokio::test]
async fn statistics_are_estimates_of_the_sample() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    // Exact statistics would answer it without running it.
    let sql = "SELECT count(*), min(id), max(id) FROM p TABLESAMPLE BERNOULLI (10) REPEATABLE (1)";
    let shown = pretty_format_batches(&rows(&context, sql, 0).await).expect("shown").to_string();
    assert!(!shown.contains("15000"), "{shown}");
    let plan = planned(&context, "SELECT id FROM p TABLESAMPLE BERNOULLI (10)", 0).await.expect("planned");
    let shown = displayable(plan.as_ref()).set_show_statistics(true).indent(false).to_string();
    assert!(shown.contains("Rows=Inexact(1500)"), "{shown}");
}

#[tokio::test]
async fn seed_that_is_not_fixed_is_an_error() {
    let files = Files::write().await;
    let context = files.session(1000, 1).await;
    let logical = context.state().create_logical_plan("SELECT * FROM c TABLESAMPLE (10)").await.expect("parsed");
    let error = context.state().create_physical_plan(&logical).await.expect_err("no seed").to_string();
    assert!(error.contains("seed"), "{error}");
}

#[tokio::test]
async fn decoded_sample_gives_the_same_rows() {
    let files = Files::write().await;
    let context = files.session(1000, 4).await;
    for method in ["BERNOULLI", "SYSTEM"] {
        for table in ["c", "p"] {
            let sql = format!("SELECT id FROM {table} TABLESAMPLE {method} (33.3)");
            let plan = planned(&context, &sql, 5).await.expect("planned");
            let bytes = crate::codec::encode_plan(Arc::clone(&plan)).expect("encoded");
            let decoded = crate::codec::decode_plan(&bytes, &context.task_ctx()).expect("decoded");
            let rows_of = async |plan| collect(plan, context.task_ctx()).await.expect("run");
            assert_eq!(crate::plan_diff::difference(&plan, &decoded).expect("read"), None, "{sql}");
            assert_eq!(sorted(&rows_of(plan).await), sorted(&rows_of(decoded).await), "{sql}");
        }
    }
}

/// The lines that show the rows, in order.
fn sorted(rows: &[RecordBatch]) -> Vec<String> {
    let shown = pretty_format_batches(rows).expect("shown").to_string();
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}
