//! DataFusion in one process gives the committed answers: generator, queries, answers and comparison fit together,
//! without a cluster in between.
//!
//! `TPCH_SCALES=1,10 TPCH_DATA=dir` checks other scales, with data kept in `dir/sf<scale>`.

use std::env;
use std::path::{Path, PathBuf};

use datafusion::prelude::{ParquetReadOptions, SessionContext};
use springald_bench::tpch::{QUERIES, Scale, Table, generate, verify};

async fn tables(data: &Path) -> SessionContext {
    let context = SessionContext::new();
    for table in Table::ALL {
        let path = data.join(table.name());
        let path = path.to_str().expect("a path that is text");
        context.register_parquet(table.name(), path, ParquetReadOptions::default()).await.expect("the table is there");
    }
    context
}

#[tokio::test]
async fn given_generated_data_when_another_engine_runs_the_queries_then_all_22_are_verified() {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let root = env::var_os("TPCH_DATA").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let scales = env::var("TPCH_SCALES").unwrap_or_else(|_| "0.01,0.1".to_owned());
    let mut wrong = Vec::new();
    for scale in scales.split(',') {
        let scale: Scale = scale.parse().expect("TPCH_SCALES");
        let data = root.join(scale.directory_name());
        generate(&data, scale, &|_| ()).expect("generated");
        let context = tables(&data).await;
        for query in &QUERIES {
            let result = context.sql(&query.sql(scale)).await.expect("planned").collect().await.expect("ran");
            if let Err(mismatch) = verify(query, scale, &result) {
                wrong.push(format!("scale {scale}, query {}: {mismatch}", query.number));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
