//! Golden plans: the stages of the TPC-H queries and of harder shapes, as people read them in `tests/plans`.
//!
//! `UPDATE_PLANS=1` writes the files anew; what changed is for review.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;
use springald_bench::tpch::QUERIES;
use springald_client::Client;
use springald_tests::{Standalone, tpch, workspace};

/// Writes `orders_sorted (o_orderkey, o_custkey)` as three files that say that they are sorted by the first column.
fn write_sorted_files(directory: &Path) {
    let sorted = vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }];
    let properties = WriterProperties::builder().set_sorting_columns(Some(sorted)).build();
    for file in 0..3 {
        let keys = Int64Array::from_iter_values((0..1000).map(|row| (row * 3 + file) / 2));
        let customers = Int64Array::from_iter_values((0..1000).map(|row| row * 7 % 50));
        let columns: [(&str, ArrayRef); 2] = [("o_orderkey", Arc::new(keys)), ("o_custkey", Arc::new(customers))];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let output = File::create(directory.join(format!("{file}.parquet"))).expect("a file");
        let mut writer = ArrowWriter::try_new(output, batch.schema(), Some(properties.clone())).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("written");
    }
}

fn folder() -> PathBuf {
    workspace().join("tests/plans")
}

/// Names and statements of `shapes.sql`: a comment with the name above each.
fn shapes() -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join("shapes.sql")).expect("the shapes");
    let lines: Vec<&str> = text.lines().collect();
    let pair = |pair: &[&str]| {
        let name = pair[0].strip_prefix("-- ").expect("a name").to_owned();
        (name, pair[1].trim_end_matches(';').to_owned())
    };
    lines.chunks(2).map(pair).collect()
}

/// The stages of a query, without what depends on the place of its files.
async fn stages(client: &Client, sql: &str) -> String {
    let rows = client.collect(&format!("EXPLAIN {sql}")).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let texts = rows.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| {
            let text = |column: usize| array_value_to_string(batch.column(column), row).expect("a text");
            (text(0), text(1))
        })
    });
    let plan = texts.into_iter().find(|(kind, _)| kind == "distributed_plan").expect("a distributed plan").1;
    plan.lines().map(without_files).collect::<Vec<_>>().join("\n") + "\n"
}

/// The line with the number of file groups instead of the files.
fn without_files(line: &str) -> String {
    const FIELD: &str = "file_groups={";
    let Some((before, groups)) = line.split_once(FIELD) else { return line.trim_end().to_owned() };
    let (count, rest) = groups.split_once(':').expect("a number of groups");
    let after = rest.split_once("]}").expect("an end of the groups").1;
    format!("{before}{FIELD}{count}}}{after}").trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_those_that_were_reviewed() {
    let standalone = Standalone::start(&["--executors", "2", "--slots", "1"]).await;
    let client = standalone.client().await;
    let scale = tpch::scale("0.01");
    tpch::create_tables(&client, scale).await;
    let sorted = tempfile::tempdir().expect("a temporary directory");
    write_sorted_files(sorted.path());
    let location = sorted.path().display();
    let create = format!("CREATE EXTERNAL TABLE orders_sorted STORED AS PARQUET LOCATION '{location}/'");
    client.collect(&create).await.expect("a table of sorted files");
    tpch::distribute_everything(&client).await;
    for setting in ["springald.partitions = 4", "springald.broadcast_bytes = '32KiB'"] {
        client.collect(&format!("SET {setting}")).await.expect("a setting");
    }
    let queries = QUERIES.iter().map(|query| (format!("q{:02}", query.number), query.sql(scale)));
    let shapes = shapes().into_iter().map(|(name, sql)| (format!("shapes/{name}"), sql));
    let mut different = vec![];
    for (name, sql) in queries.chain(shapes) {
        let path = folder().join(format!("{name}.txt"));
        let plan = stages(&client, &sql).await;
        if std::env::var_os("UPDATE_PLANS").is_some() {
            fs::write(&path, &plan).expect("a plan can be written");
        }
        let reviewed = fs::read_to_string(&path).unwrap_or_default();
        if plan != reviewed {
            different.push(format!("{}:\n{plan}", path.display()));
        }
    }
    assert!(different.is_empty(), "plans changed; review them with UPDATE_PLANS=1:\n{}", different.join("\n"));
}
