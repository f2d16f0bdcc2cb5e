//! The catalog, from statements to planned queries, on an embedded store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::object_stores;
use tempfile::TempDir;

use super::{Catalog, DEFAULT_SCHEMA, DdlOutcome, TableName};
use crate::server::base_session;
use crate::store::StateStore;
use crate::store::embedded::EmbeddedStore;

const PATIENCE: Duration = Duration::from_secs(10);

/// Gives 1 and 2 if NULL is smaller than all values.
const NULLS_FIRST: &str =
    "SELECT row_number() OVER (ORDER BY y) AS x FROM (VALUES (NULL, 1), (5, 2)) AS t (y, n) ORDER BY n";

/// A scheduler, as far as the catalog can tell.
struct Node {
    catalog: Arc<Catalog>,
    context: SessionContext,
}

impl Node {
    async fn new(store: &Arc<dyn StateStore>) -> Self {
        let catalog = Catalog::open(Arc::clone(store)).await.expect("catalog");
        let state = base_session(&catalog, object_stores::registry()).expect("session");
        Self { catalog, context: SessionContext::new_with_state(state) }
    }

    async fn alone() -> Self {
        Self::new(&store()).await
    }

    fn state(&self) -> SessionState {
        self.context.state()
    }

    async fn ddl(&self, sql: &str) -> Result<DdlOutcome> {
        match self.state().create_logical_plan(sql).await? {
            LogicalPlan::Ddl(ddl) => self.catalog.apply(&ddl, &self.state(), "me", sql).await,
            other => panic!("not DDL: {other}"),
        }
    }

    async fn done(&self, sql: &str) {
        assert!(self.ddl(sql).await.expect(sql).changed, "{sql} changed nothing");
    }

    async fn rows(&self, sql: &str) -> Result<String> {
        let batches = self.context.sql(sql).await?.collect().await?;
        let table = pretty_format_batches(&batches).expect("table").to_string();
        let lines: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).skip(1).collect();
        Ok(lines.join("\n"))
    }

    async fn refused(&self, sql: &str) -> Error {
        self.ddl(sql).await.expect_err(sql)
    }
}

fn store() -> Arc<dyn StateStore> {
    Arc::new(EmbeddedStore::in_memory().expect("store"))
}

/// The store in a directory, once those who had it open have let go of it.
async fn reopened(directory: &Path) -> Arc<dyn StateStore> {
    let since = Instant::now();
    loop {
        match EmbeddedStore::open(&directory.join("state.redb")) {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn write_parquet(path: &Path, column: &str, values: ArrayRef) -> PathBuf {
    let batch = RecordBatch::try_from_iter([(column, values)]).expect("batch");
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    let mut writer = ArrowWriter::try_new(fs::File::create(path).expect("file"), batch.schema(), None).expect("writer");
    writer.write(&batch).expect("write");
    writer.close().expect("close");
    path.to_owned()
}

fn numbers(path: &Path, values: &[i64]) -> PathBuf {
    write_parquet(path, "a", Arc::new(Int64Array::from(values.to_vec())))
}

fn external(name: &str, location: &Path) -> String {
    format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}'", location.display())
}

#[tokio::test]
async fn given_files_of_every_format_a_table_over_them_answers() {
    let (node, dir) = (Node::alone().await, directory());
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("x.csv"), "a;b\n1;x\n2;y\n").expect("csv");
    fs::write(at("x.jsonl"), "{\"a\":1}\n{\"a\":2}\n").expect("ndjson");
    numbers(&dir.path().join("x.parquet"), &[1, 2]);
    let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).expect("batch");
    let file = fs::File::create(at("x.arrow")).expect("arrow file");
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batch.schema()).expect("writer");
    writer.write(&batch).expect("write");
    writer.finish().expect("finish");

    node.done(&external("p", &dir.path().join("x.parquet"))).await;
    node.done(&format!("CREATE EXTERNAL TABLE c STORED AS CSV LOCATION '{}' OPTIONS (delimiter ';')", at("x.csv")))
        .await;
    node.done(&format!("CREATE EXTERNAL TABLE j STORED AS NDJSON LOCATION 'file://{}'", at("x.jsonl"))).await;
    node.done(&format!("CREATE EXTERNAL TABLE r STORED AS ARROW LOCATION '{}'", at("x.arrow"))).await;
    for table in ["p", "c", "j", "r"] {
        assert_eq!(node.rows(&format!("SELECT sum(a) FROM {table}")).await.expect(table), "| 3        |", "{table}");
    }
}

#[tokio::test]
async fn given_a_directory_only_files_of_the_format_count_and_new_ones_are_seen() {
    let (node, dir) = (Node::alone().await, directory());
    numbers(&dir.path().join("1.parquet"), &[1]);
    fs::write(dir.path().join("_SUCCESS"), "").expect("marker");
    node.done(&external("t", dir.path())).await;
    assert_eq!(node.rows("SELECT sum(a) AS s FROM t").await.expect("one file"), "| 1 |");
    numbers(&dir.path().join("2.parquet"), &[2]);
    assert_eq!(node.rows("SELECT sum(a) AS s FROM t").await.expect("two files"), "| 3 |");
}

#[tokio::test]
async fn given_a_directory_or_glob_in_a_bucket_new_and_changed_objects_are_seen_at_every_scheduler() {
    let (store, dir, bucket) = (store(), directory(), Arc::new(InMemory::new()));
    let put = async |name: &str, values: &[i64]| {
        let file = fs::read(numbers(&dir.path().join("file"), values)).expect("written");
        bucket.put(&format!("dir/{name}.parquet").into(), file.into()).await.expect("put");
    };
    put("1", &[1]).await;
    let nodes = [Node::new(&store).await, Node::new(&store).await];
    for node in &nodes {
        let bucket = Arc::clone(&bucket) as Arc<dyn ObjectStore>;
        node.state().runtime_env().register_object_store(&"s3://bucket".parse().expect("a URL"), bucket);
    }
    nodes[0].done("CREATE EXTERNAL TABLE d STORED AS PARQUET LOCATION 's3://bucket/dir/'").await;
    nodes[0].done("CREATE EXTERNAL TABLE g STORED AS PARQUET LOCATION 's3://bucket/dir/*.parquet'").await;
    const STEPS: [(&str, &[i64], i64); 3] = [("1", &[1], 1), ("2", &[2], 3), ("1", &[5, 6], 13)];
    for (name, values, sum) in STEPS {
        put(name, values).await;
        for (node, table) in nodes.iter().flat_map(|node| [(node, "d"), (node, "g")]) {
            let seen = node.rows(&format!("SELECT sum(a) AS s FROM {table}")).await.expect("a sum");
            assert_eq!(seen, format!("| {sum} |"), "{table}");
        }
    }
}

#[tokio::test]
async fn given_globs_and_several_locations_all_their_files_are_read() {
    let (node, dir) = (Node::alone().await, directory());
    for (name, value) in [("x/a1.parquet", 1), ("x/a2.parquet", 2), ("x/b.parquet", 4), ("y/c.parquet", 8)] {
        numbers(&dir.path().join(name), &[value]);
    }
    let root = dir.path().display();
    node.done(&external("g", &dir.path().join("x/a*.parquet"))).await;
    node.done(&format!("CREATE EXTERNAL TABLE m STORED AS PARQUET LOCATION ('{root}/x/b.parquet', '{root}/y')")).await;
    assert_eq!(node.rows("SELECT sum(a) AS s FROM g").await.expect("glob"), "| 3 |");
    assert_eq!(node.rows("SELECT sum(a) AS s FROM m").await.expect("several"), "| 12 |");
}

#[tokio::test]
async fn given_hive_partitions_their_columns_are_found_and_prune_files() {
    let (node, dir) = (Node::alone().await, directory());
    numbers(&dir.path().join("year=2024/1.parquet"), &[1]);
    numbers(&dir.path().join("year=2025/1.parquet"), &[2]);
    node.done(&external("found", dir.path())).await;
    assert_eq!(node.rows("SELECT a FROM found WHERE year = '2025'").await.expect("found"), "| 2 |");
    let declared = format!(
        "CREATE EXTERNAL TABLE declared (a BIGINT, year INT) STORED AS PARQUET PARTITIONED BY (year) LOCATION '{}'",
        dir.path().display()
    );
    node.done(&declared).await;
    let plan = node.rows("EXPLAIN SELECT a FROM declared WHERE year = 2024").await.expect("plan");
    assert!(plan.contains("year=2024") && !plan.contains("year=2025"), "{plan}");
    assert_eq!(
        node.rows("SELECT a, year + 1 AS n FROM declared WHERE year < 2025").await.expect("typed"),
        "| 1 | 2025 |"
    );
}

#[tokio::test]
async fn given_parquet_statistics_a_count_reads_no_rows() {
    let (node, dir) = (Node::alone().await, directory());
    node.done(&external("t", &numbers(&dir.path().join("t.parquet"), &[1, 2, 3]))).await;
    let plan = node.rows("EXPLAIN SELECT count(*) FROM t").await.expect("plan");
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{plan}");
    assert_eq!(node.rows("SELECT count(*) AS n FROM t").await.expect("count"), "| 3 |");
}

#[tokio::test]
async fn given_a_table_made_at_one_scheduler_the_other_finds_it_at_once_and_sees_it_go() {
    let (store, dir) = (store(), directory());
    let (one, other) = (Node::new(&store).await, Node::new(&store).await);
    let file = numbers(&dir.path().join("t.parquet"), &[7]);
    one.done(&external("t", &file)).await;
    assert_eq!(other.rows("SELECT a FROM t").await.expect("read through"), "| 7 |");
    assert_eq!(other.refused(&external("t", &file)).await.code(), ErrorCode::AlreadyExists);
    assert!(!other.ddl(&external("IF NOT EXISTS t", &file)).await.expect("exists").changed);
    one.done("DROP TABLE t").await;
    let since = Instant::now();
    while !other.catalog.tables(DEFAULT_SCHEMA).is_empty() {
        assert!(since.elapsed() < PATIENCE, "the dropped table is still listed");
        tokio::task::yield_now().await;
    }
    let error = other.rows("SELECT a FROM t").await.expect_err("dropped");
    assert_eq!((error.code(), error.message().contains("'springald.public.t' not found")), (ErrorCode::Invalid, true));
}

#[tokio::test]
async fn given_many_schedulers_that_create_the_same_table_exactly_one_does() {
    let (store, dir) = (store(), directory());
    let statement = external("t", &numbers(&dir.path().join("t.parquet"), &[1]));
    let attempts = (0..8).map(|_| {
        let (store, statement) = (Arc::clone(&store), statement.clone());
        tokio::spawn(async move { Node::new(&store).await.ddl(&statement).await })
    });
    let mut made = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.expect("no panic") {
            Ok(outcome) => made += usize::from(outcome.changed),
            Err(error) => assert_eq!(error.code(), ErrorCode::AlreadyExists, "{error}"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn given_views_they_follow_their_tables_and_nest_up_to_a_bound() {
    let (node, dir) = (Node::alone().await, directory());
    node.done(&external("t", &numbers(&dir.path().join("t.parquet"), &[1, 2]))).await;
    node.done("CREATE VIEW v (x) AS SELECT a + 1 FROM t").await;
    node.done("CREATE VIEW w AS WITH c AS (SELECT x FROM v) SELECT max(x) AS m FROM c").await;
    assert_eq!(node.rows("SELECT m FROM w").await.expect("nested"), "| 3 |");
    node.done(&external("t2", &numbers(&dir.path().join("t2.parquet"), &[10]))).await;
    node.done("CREATE OR REPLACE VIEW v AS SELECT a AS x FROM t2").await;
    assert_eq!(node.rows("SELECT m FROM w").await.expect("replaced"), "| 10 |");
    assert!(node.refused("CREATE OR REPLACE VIEW v AS SELECT x FROM v").await.message().contains("itself"));
    node.done("CREATE OR REPLACE VIEW v AS SELECT m AS x FROM w").await;
    let error = node.rows("SELECT x FROM v").await.expect_err("a circle");
    assert!(error.message().contains("lead back to themselves"), "{error}");
    node.done("DROP VIEW v").await;
    let error = node.rows("SELECT m FROM w").await.expect_err("a broken view");
    assert!(error.message().contains("view springald.public.w") && error.message().contains(".v'"), "{error}");
}

#[tokio::test]
async fn given_another_default_schema_a_views_tables_must_be_written_with_theirs() {
    let (node, dir) = (Node::alone().await, directory());
    node.done("CREATE SCHEMA s").await;
    node.done(&external("s.t", &numbers(&dir.path().join("t.parquet"), &[5]))).await;
    node.context.sql("SET datafusion.catalog.default_schema = 's'").await.expect("set");
    assert_eq!(node.rows("SELECT a FROM t").await.expect("unqualified"), "| 5 |");
    assert_eq!(node.refused("CREATE VIEW v AS SELECT a FROM t").await.code(), ErrorCode::Unsupported);
    node.done("CREATE VIEW v AS SELECT a FROM s.t").await;
    assert_eq!(node.rows("SELECT a FROM s.v").await.expect("qualified"), "| 5 |");
}

#[tokio::test]
async fn view_means_what_it_did_in_the_session_that_made_it() {
    let node = Node::alone().await;
    for (setting, value, query, expected) in [
        ("datafusion.sql_parser.dialect", "postgresql", "SELECT 2 ^ 3 AS x", "| 8.0 |"),
        (
            "datafusion.sql_parser.parse_float_as_decimal",
            "true",
            "SELECT arrow_typeof(1.10) AS x",
            "| Decimal128(3, 2) |",
        ),
        ("datafusion.sql_parser.default_null_ordering", "nulls_min", NULLS_FIRST, "| 1 |\n| 2 |"),
        (
            "datafusion.execution.time_zone",
            "+02:00",
            "SELECT to_timestamp('2020-01-01') AS x",
            "| 2020-01-01T00:00:00+02:00 |",
        ),
    ] {
        node.context.sql(&format!("SET {setting} = '{value}'")).await.expect("set");
        node.done(&format!("CREATE OR REPLACE VIEW v AS {query}")).await;
        node.context.sql(&format!("RESET {setting}")).await.expect("reset");
        assert_eq!(node.rows("SELECT x FROM v").await.expect(query), expected, "{query}");
    }
}

#[tokio::test]
async fn view_is_kept_as_it_was_written() {
    let node = Node::alone().await;
    node.done("CREATE VIEW v AS SELECT 'a' AS a, - -1 AS b").await;
    assert_eq!(node.rows("SELECT * FROM v").await.expect("both columns"), "| a | 1 |");
}

#[tokio::test]
async fn view_with_ignored_syntax_is_refused() {
    let node = Node::alone().await;
    let error = node.refused("CREATE VIEW v AS SELECT 1 AS a FOR UPDATE").await;
    assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
    assert!(error.message().contains("public.v") && error.message().contains("FOR UPDATE"), "{error}");
    node.done("CREATE VIEW v AS SELECT a FROM (VALUES (1), (2)) AS t (a) TABLESAMPLE BERNOULLI (100) REPEATABLE (1)")
        .await;
    assert_eq!(node.rows("SELECT count(*) AS n FROM v").await.expect("sampled"), "| 2 |");
}

#[tokio::test]
async fn given_schemas_they_hold_tables_and_are_dropped_only_empty_or_with_cascade() {
    let (node, dir) = (Node::alone().await, directory());
    let file = numbers(&dir.path().join("t.parquet"), &[1]);
    assert_eq!(node.refused(&external("s.t", &file)).await.code(), ErrorCode::NotFound);
    node.done("CREATE SCHEMA s").await;
    assert_eq!(node.refused("CREATE SCHEMA s").await.code(), ErrorCode::AlreadyExists);
    assert!(!node.ddl("CREATE SCHEMA IF NOT EXISTS s").await.expect("exists").changed);
    node.done(&external("s.t", &file)).await;
    assert_eq!(node.catalog.schemas(), ["public", "s"]);
    assert!(node.refused("DROP SCHEMA s").await.message().contains("CASCADE"));
    node.done("DROP SCHEMA s CASCADE").await;
    assert!(node.rows("SELECT * FROM s.t").await.is_err());
    assert_eq!(node.catalog.schemas(), ["public"]);
    assert!(!node.ddl("DROP SCHEMA IF EXISTS s").await.expect("gone").changed);
    assert_eq!(node.refused("DROP SCHEMA public").await.code(), ErrorCode::Invalid);
}

#[tokio::test]
async fn given_information_schema_tables_views_and_columns_are_listed() {
    let (node, dir) = (Node::alone().await, directory());
    node.done(&external("t", &numbers(&dir.path().join("t.parquet"), &[1]))).await;
    node.done("CREATE VIEW v AS SELECT a FROM t").await;
    let tables =
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(node.rows(tables).await.expect("tables"), "| t          | BASE TABLE |\n| v          | VIEW       |");
    assert_eq!(node.rows("SHOW COLUMNS FROM v").await.expect("columns").lines().count(), 1);
    let created = node.rows("SHOW CREATE TABLE t").await.expect("definition");
    assert!(created.contains("CREATE EXTERNAL TABLE t"), "{created}");
}

#[tokio::test]
async fn given_a_view_that_is_broken_the_others_are_described_all_the_same() {
    let (node, dir) = (Node::alone().await, directory());
    let file = numbers(&dir.path().join("t.parquet"), &[1]);
    node.done(&external("t", &file)).await;
    node.done(&external("other", &file)).await;
    node.done("CREATE VIEW v AS SELECT * FROM t").await;
    node.done("CREATE VIEW listed AS SELECT table_name, column_name FROM information_schema.columns").await;
    node.done("DROP TABLE t").await;
    let public = "WHERE table_schema = 'public' ORDER BY 1";
    let functions = "SELECT routine_name AS n FROM information_schema.routines WHERE function_type = 'TABLE'";
    for (sql, rows) in [
        (
            format!("SELECT table_name AS n FROM information_schema.tables {public}"),
            "| listed |\n| other  |\n| v      |",
        ),
        (format!("SELECT DISTINCT table_name AS n FROM information_schema.columns {public}"), "| listed |\n| other  |"),
        ("SELECT column_name AS n FROM listed WHERE table_name = 'other'".to_owned(), "| a |"),
        (
            "SELECT definition AS n FROM information_schema.views WHERE table_name = 'v'".to_owned(),
            "| CREATE VIEW v AS SELECT * FROM t |",
        ),
        (format!("{functions} AND routine_name = 'range'"), "| range |"),
    ] {
        assert_eq!(node.rows(&sql).await.expect(&sql), rows, "{sql}");
    }
    for sql in ["SHOW TABLES", "SHOW COLUMNS FROM other", "SHOW CREATE TABLE other", "DESCRIBE other", "SHOW ALL"] {
        assert!(!node.rows(sql).await.expect(sql).is_empty(), "{sql}");
    }
    let error = node.rows("SELECT * FROM v").await.expect_err("broken");
    assert!(error.message().contains("view springald.public.v"), "{error}");
}

#[tokio::test]
async fn given_statements_that_a_catalog_of_files_cannot_follow_they_are_refused_clearly() {
    let (node, dir) = (Node::alone().await, directory());
    let file = numbers(&dir.path().join("t.parquet"), &[1]);
    node.done(&external("t", &file)).await;
    let file = file.display();
    let cases = [
        ("CREATE TABLE m AS SELECT 1".to_owned(), ErrorCode::Unsupported, "CREATE EXTERNAL TABLE"),
        ("CREATE TABLE m (a INT)".to_owned(), ErrorCode::Unsupported, "CREATE EXTERNAL TABLE"),
        ("CREATE DATABASE d".to_owned(), ErrorCode::Unsupported, "one catalog"),
        ("DROP VIEW t".to_owned(), ErrorCode::Invalid, "use DROP TABLE"),
        ("DROP TABLE nothing".to_owned(), ErrorCode::NotFound, "springald.public.nothing"),
        ("CREATE EXTERNAL TABLE x STORED AS AVRO LOCATION '/x'".to_owned(), ErrorCode::Unsupported, "PARQUET"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'data/x.csv'".to_owned(), ErrorCode::Invalid, "absolute"),
        (
            format!("CREATE EXTERNAL TABLE x (a BIGINT) STORED AS PARQUET WITH ORDER (a) LOCATION '{file}'"),
            ErrorCode::Unsupported,
            "WITH ORDER",
        ),
        (
            format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{file}' OPTIONS (aws.access_key_id 'k')"),
            ErrorCode::Invalid,
            "environment",
        ),
        (
            format!("CREATE EXTERNAL TABLE information_schema.x STORED AS PARQUET LOCATION '{file}'"),
            ErrorCode::Invalid,
            "information_schema",
        ),
    ];
    for (sql, code, part) in cases {
        let error = node.refused(&sql).await;
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(part), "{sql}: {error}");
    }
}

#[tokio::test]
async fn given_a_missing_or_corrupt_file_creating_a_table_names_table_and_file() {
    let (node, dir) = (Node::alone().await, directory());
    let missing = dir.path().join("none.parquet");
    let error = node.refused(&external("t", &missing)).await;
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert_names(&error, "springald.public.t", &missing);

    numbers(&dir.path().join("many/1.parquet"), &[1]);
    let corrupt = dir.path().join("many/2.parquet");
    fs::write(&corrupt, "this is not Parquet").expect("corrupt file");
    assert_names(&node.refused(&external("t", &dir.path().join("many"))).await, "springald.public.t", &corrupt);

    fs::create_dir(dir.path().join("empty")).expect("empty directory");
    let error = node.refused(&external("t", &dir.path().join("empty"))).await;
    assert_names(&error, "springald.public.t", &dir.path().join("empty"));
    numbers(&dir.path().join("empty/now.parquet"), &[1]);
    node.done(&external("t", &dir.path().join("empty"))).await;
}

#[tokio::test]
async fn given_a_file_that_vanished_a_query_names_table_and_file() {
    let (node, dir) = (Node::alone().await, directory());
    let file = numbers(&dir.path().join("t.parquet"), &[1]);
    node.done(&external("t", &file)).await;
    fs::remove_file(&file).expect("remove");
    let error = node.rows("SELECT a FROM t").await.expect_err("vanished");
    assert_eq!(error.code(), ErrorCode::Query);
    assert_names(&error, "springald.public.t", &file);
}

#[tokio::test]
async fn given_a_file_that_became_corrupt_a_query_names_table_and_file() {
    let (node, dir) = (Node::alone().await, directory());
    numbers(&dir.path().join("d/1.parquet"), &[1]);
    let file = numbers(&dir.path().join("d/2.parquet"), &[2]);
    node.done(&external("t", &dir.path().join("d"))).await;
    fs::write(&file, "no longer Parquet").expect("overwrite");
    let error = node.rows("SELECT a FROM t").await.expect_err("corrupt");
    assert_names(&error, "springald.public.t", &file);
}

#[tokio::test]
async fn given_a_file_whose_columns_changed_the_failure_names_table_file_and_column() {
    let (node, dir) = (Node::alone().await, directory());
    let file = numbers(&dir.path().join("t.parquet"), &[1]);
    node.done(&external("t", &file)).await;
    write_parquet(&file, "a", Arc::new(StringArray::from(vec!["not a number"])));
    let tables = [TableName { schema: DEFAULT_SCHEMA.to_owned(), name: "t".to_owned() }];
    let plan = node.state().create_logical_plan("SELECT (SELECT max(a) FROM t) AS m").await.expect("plan");
    assert_eq!(Catalog::tables_of(&plan), tables);
    let error = node.rows("SELECT a + 1 FROM t").await.expect_err("changed");
    let error = node.catalog.explain_failure(error, &tables, &node.state()).await;
    assert_names(&error, "springald.public.t", &file);
    assert!(error.message().contains("\"a\" is Utf8"), "{error}");
}

#[tokio::test]
async fn given_a_data_directory_tables_are_there_again_after_a_restart() {
    let (data, dir) = (directory(), directory());
    let first = reopened(data.path()).await;
    let node = Node::new(&first).await;
    node.done(&external("\"Odd/Name\"", &numbers(&dir.path().join("t.parquet"), &[9]))).await;
    drop((node, first));
    let again = Node::new(&reopened(data.path()).await).await;
    assert_eq!(again.rows("SELECT a FROM \"Odd/Name\"").await.expect("restarted"), "| 9 |");
}

fn assert_names(error: &Error, table: &str, file: &Path) {
    let file = file.display().to_string();
    assert!(error.message().contains(table) && error.message().contains(&file), "{table} or {file} is not in: {error}");
}
