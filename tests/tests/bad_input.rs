//! What a first user gets wrong: the answer says what, and where.

use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use springald_tests::{Standalone, tpch};

#[tokio::test(flavor = "multi_thread")]
async fn given_wrong_sql_then_the_message_says_where() {
    let standalone = Standalone::start(&[]).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    for (sql, line, column) in [
        ("SELECT 1 +", 1, 11),
        ("SELEC n_name FROM nation", 1, 1),
        ("SELECT n_name\nFROM nation\nWHERE nosuch = 1", 3, 7),
        ("SELECT *\n  FROM no_such_table", 2, 8),
    ] {
        let error = client.collect(sql).await.expect_err(sql);
        assert_eq!(error.code(), "SPRINGALD_INVALID", "{sql}: {error}");
        let message = error.to_string().to_lowercase().replace(':', "");
        assert!(message.contains(&format!("line {line}")), "{sql}: {error}");
        assert!(message.contains(&format!("column {column}")), "{sql}: {error}");
    }
    assert!(client.collect("SELECT 1").await.is_ok(), "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_files_that_are_missing_or_damaged_then_the_message_names_the_file() {
    let standalone = Standalone::start(&[]).await;
    let client = standalone.client().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let create = |name: &str, path: &Path| {
        format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}'", path.display())
    };

    let missing = directory.path().join("missing.parquet");
    let error = client.collect(&create("missing", &missing)).await.expect_err("no file");
    assert!(error.to_string().contains("missing.parquet"), "{error}");

    let damaged = directory.path().join("damaged.parquet");
    fs::write(&damaged, "this is no Parquet file, whatever its name says").expect("written");
    let error = client.collect(&create("damaged", &damaged)).await.expect_err("not Parquet");
    assert!(error.to_string().contains("damaged.parquet"), "{error}");
    assert!(client.tables().await.expect("tables").is_empty(), "tables that cannot be read are not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_table_whose_file_vanishes_or_is_damaged_then_queries_name_the_file_and_the_process_lives() {
    let standalone = Standalone::start(&[]).await;
    let client = standalone.client().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = tpch::data(tpch::scale("0.01")).await.join("nation/part-0.parquet");
    for name in ["gone", "damaged"] {
        let file = directory.path().join(format!("{name}.parquet"));
        fs::copy(&source, &file).expect("copied");
        let create = format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}'", file.display());
        client.collect(&create).await.expect("a table");
        client.collect(&format!("SELECT sum(n_nationkey) FROM {name}")).await.expect("readable");
    }
    fs::remove_file(directory.path().join("gone.parquet")).expect("removed");
    let damaged = directory.path().join("damaged.parquet");
    let mut bytes = fs::read(&damaged).expect("read");
    let pages = bytes.len() / 2;
    bytes[4..pages].fill(0xAA);
    fs::write(&damaged, bytes).expect("written");

    for name in ["gone", "damaged"] {
        let error = client.collect(&format!("SELECT n_name FROM {name} ORDER BY n_name")).await.expect_err(name);
        assert!(error.to_string().contains(&format!("{name}.parquet")), "{name}: {error}");
        assert!(error.to_string().contains(&format!("public.{name}")), "{name}: {error}");
    }
    assert!(client.collect("SELECT 1").await.is_ok(), "the process lives");
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_statements_that_cannot_be_carried_out_then_they_are_refused_and_the_process_lives() {
    let mut standalone = Standalone::start(&[]).await;
    let client = standalone.client().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("x.csv");
    let copy = format!("COPY (SELECT 1 AS a) TO '{}' STORED AS CSV", file.display());
    for sql in [format!("EXPLAIN ANALYZE {copy}"), copy] {
        let error = client.collect(&sql).await.expect_err(&sql);
        assert_eq!(error.code(), "SPRINGALD_UNSUPPORTED", "{sql}: {error}");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0, "{sql} has written");
    }

    let error = client.collect("SET springald.batch_size = 100000000000000").await.expect_err("far too large");
    assert_eq!(error.code(), "SPRINGALD_INVALID", "{error}");
    assert!(error.to_string().contains("batch_size"), "{error}");

    let deep = format!("SELECT {}1", "1+".repeat(59_999));
    let error = client.collect(&deep).await.expect_err("60000 terms");
    let refusals = ["SPRINGALD_INVALID", "SPRINGALD_UNSUPPORTED", "SPRINGALD_RESOURCES_EXHAUSTED"];
    let message = error.to_string();
    assert!(refusals.contains(&error.code()), "{}: {message:.500}", error.code());
    assert!(standalone.process.is_running());
    client.collect("SELECT 1").await.expect("the process answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_view_over_a_table_that_is_gone_then_the_columns_of_all_others_are_shown() {
    let standalone = Standalone::start(&[]).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    client.collect("CREATE VIEW broken AS SELECT * FROM region").await.expect("a view");
    client.collect("DROP TABLE region").await.expect("dropped");
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'nation'";
    for sql in [columns, "SHOW COLUMNS FROM nation"] {
        let rows = client.collect(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 4, "{sql}: {rows:?}");
    }
    let error = client.collect("SELECT * FROM broken").await.expect_err("its table is gone");
    assert!(error.to_string().contains("region"), "{error}");
}
