//! `springald standalone`: what it keeps, and where; and queries that its executors answer in stages.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::array_value_to_string;
use springald_client::Client;
use springald_tests::{Standalone, tpch};

/// Rows of each file that [`write_files`] writes.
const ROWS: i64 = 10_000;
/// The nations of all regions, in order.
const NATIONS: &str = "AFRICA,ALGERIA; AFRICA,ETHIOPIA; AFRICA,KENYA; AFRICA,MOROCCO; AFRICA,MOZAMBIQUE; \
    AMERICA,ARGENTINA; AMERICA,BRAZIL; AMERICA,CANADA; AMERICA,PERU; AMERICA,UNITED STATES; \
    ASIA,CHINA; ASIA,INDIA; ASIA,INDONESIA; ASIA,JAPAN; ASIA,VIETNAM; \
    EUROPE,FRANCE; EUROPE,GERMANY; EUROPE,ROMANIA; EUROPE,RUSSIA; EUROPE,UNITED KINGDOM; \
    MIDDLE EAST,EGYPT; MIDDLE EAST,IRAN; MIDDLE EAST,IRAQ; MIDDLE EAST,JORDAN; MIDDLE EAST,SAUDI ARABIA";
/// Joins that also tell of rows without a match, and their answers: each row of those counts once, however many tasks
/// look for its matches.
const JOINS: [(&str, &str); 9] = [
    ("SELECT count(*) FROM region LEFT JOIN nation ON r_regionkey = n_regionkey", "25"),
    ("SELECT count(*) FROM region LEFT JOIN nation ON r_regionkey = n_regionkey + 3", "13"),
    ("SELECT r_name, n_name FROM region LEFT JOIN nation ON r_regionkey = n_regionkey ORDER BY 1, 2", NATIONS),
    ("SELECT count(*) FROM region FULL JOIN nation ON r_regionkey = n_regionkey", "25"),
    ("SELECT count(*) FROM region FULL JOIN nation ON r_regionkey = n_regionkey + 3", "28"),
    ("SELECT r_name, n_name FROM region FULL JOIN nation ON r_regionkey = n_regionkey ORDER BY 1, 2", NATIONS),
    ("SELECT count(*) FROM region WHERE r_regionkey IN (SELECT n_regionkey FROM nation)", "5"),
    ("SELECT count(*) FROM region WHERE NOT EXISTS (SELECT 1 FROM nation WHERE n_regionkey = r_regionkey)", "0"),
    (
        "SELECT r_name FROM region WHERE NOT EXISTS \
         (SELECT 1 FROM nation WHERE n_regionkey = r_regionkey AND n_name LIKE 'A%') ORDER BY r_name",
        "ASIA; EUROPE; MIDDLE EAST",
    ),
];

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
    assert_eq!(view.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
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

#[tokio::test(flavor = "multi_thread")]
async fn given_two_executors_when_queries_are_cut_into_stages_then_joins_limits_and_files_of_every_kind_are_right() {
    let standalone = Standalone::start(&["--executors", "2", "--slots", "1"]).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    for distributed in [false, true] {
        if distributed {
            tpch::distribute_everything(&client).await;
        }
        for (sql, wanted) in JOINS {
            assert_eq!(answer(&client, sql).await, wanted, "{sql}, distributed: {distributed}");
        }
        // Past 32 bits.
        for limit in ["4294967296", "4294967298"] {
            let rows = answer(&client, &format!("SELECT n_name FROM nation LIMIT {limit}")).await;
            assert_eq!(rows.split("; ").count(), 25, "LIMIT {limit}, distributed: {distributed}: {rows}");
        }
    }

    let directory = tempfile::tempdir().expect("a temporary directory");
    write_files(directory.path());
    // Files that can be read in parts are, however small they are; others must not be.
    client.collect("SET datafusion.optimizer.repartition_file_min_size = 1").await.expect("the setting is known");
    for (format, file) in [("CSV", "x.csv.gz"), ("JSON", "x.json.gz"), ("ARROW", "x.arrow")] {
        let location = directory.path().join(file);
        let table = format!("in_{format}");
        let create = format!("CREATE EXTERNAL TABLE {table} STORED AS {format} LOCATION '{}'", location.display());
        client.collect(&create).await.unwrap_or_else(|error| panic!("{create}: {error}"));
        let stream = client.query(&format!("SELECT count(*), sum(a) FROM {table}")).await.expect("taken");
        let job = stream.job_id().expect("an id").to_owned();
        let rows = stream.collect_all().await.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(text(&rows), format!("{ROWS},{}", ROWS * (ROWS - 1) / 2), "{file}");
        assert_eq!(standalone.rest.job(&job).await.expect("the job")["local"], false, "executors read {file}");
    }
    standalone.telemetry.idle().await;
}

/// Files whose column `a` counts up from 0: `x.csv.gz`, `x.json.gz`, and `x.arrow` in Arrow's format for streams.
fn write_files(directory: &Path) {
    let lines = |line: fn(i64) -> String| (0..ROWS).map(line).collect::<String>();
    let csv = lines(|number| format!("{number}\n"));
    let json = lines(|number| format!("{{\"a\":{number}}}\n"));
    for (name, text) in [("x.csv", format!("a\n{csv}")), ("x.json", json)] {
        let path = directory.join(name);
        fs::write(&path, text).expect("written");
        let compressed = Command::new("gzip").arg(&path).status().expect("gzip");
        assert!(compressed.success(), "gzip {name}: {compressed}");
    }
    let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let rows = RecordBatch::try_from_iter([("a", rows)]).expect("a batch");
    let file = File::create(directory.join("x.arrow")).expect("a file");
    let mut writer = StreamWriter::try_new(file, &rows.schema()).expect("a writer");
    let batch = rows.num_rows() / 10;
    for number in 0..10 {
        writer.write(&rows.slice(number * batch, batch)).expect("written");
    }
    writer.finish().expect("written");
}

async fn answer(client: &Client, sql: &str) -> String {
    text(&client.collect(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

/// The rows of an answer: cells separated by commas, rows by semicolons.
fn text(batches: &[RecordBatch]) -> String {
    let text_of = |batch: &RecordBatch, row: usize| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("a value"));
        cells.collect::<Vec<String>>().join(",")
    };
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text_of(batch, row)));
    rows.collect::<Vec<String>>().join("; ")
}
