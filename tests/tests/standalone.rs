//! `springald standalone`: what it keeps, and where.

use springald_tests::{Standalone, tpch};

#[tokio::test(flavor = "multi_thread")]
async fn given_a_data_directory_when_restarted_then_tables_views_and_jobs_are_still_there() {
    let scale = tpch::scale("0.01");
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("data");
    let arguments =
        ["--data-dir", directory.to_str().expect("a path that is text"), "--executors", "2", "--slots", "1"];

    let mut first = Standalone::start(&arguments).await;
    let client = first.client().await;
    tpch::create_tables(&client, scale).await;
    client.collect("CREATE VIEW europe AS SELECT * FROM nation WHERE n_regionkey = 3").await.expect("a view");
    let tables = client.tables().await.expect("tables");
    let jobs = first.rest.jobs(None).await.expect("jobs").len();
    drop(client);
    first.process.stop().await;

    let second = Standalone::start(&arguments).await;
    let client = second.client().await;
    assert_eq!(client.tables().await.expect("tables"), tables);
    assert_eq!(second.rest.jobs(None).await.expect("jobs").len(), jobs);
    let view = client.collect("SELECT n_name FROM europe").await.expect("the view's rows");
    assert_eq!(view.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 5);
    tpch::verify(&client, scale).await;
    second.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_no_data_directory_when_restarted_then_it_begins_anew() {
    let mut first = Standalone::start(&[]).await;
    let client = first.client().await;
    client.collect("CREATE VIEW one AS SELECT 1 AS x").await.expect("a view");
    first.process.stop().await;
    let second = Standalone::start(&[]).await;
    let error = second.client().await.collect("SELECT * FROM one").await.expect_err("there is no such view");
    assert_eq!(error.code(), "SPRINGALD_INVALID", "{error}");
}
