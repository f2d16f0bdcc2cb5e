//! Many clients at the same time: all are answered, and nothing stays behind.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use springald_client::Client;
use springald_tests::wait::{SETTLE_DEADLINE, eventually};
use springald_tests::{Cluster, ClusterOptions, tpch};
use tokio::task::JoinSet;

const CLIENTS: usize = 100;
const QUERIES_EACH: usize = 20;

/// Sockets that a scheduler may keep for later: to executors whose results it has read.
const SOCKETS_KEPT: usize = 8;

/// Of executors with 256 MiB each: their memory, a third above it, and the program itself.
const MAX_EXECUTOR_MEMORY: u64 = 512 << 20;
const MAX_SCHEDULER_MEMORY: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn given_a_hundred_clients_with_small_queries_then_all_answers_are_right_and_nothing_is_left_behind() {
    let options = ClusterOptions { schedulers: 2, executors: 2, memory: "256MiB", ..ClusterOptions::default() };
    let Some(cluster) = Cluster::start_with(options).await else { return };
    tpch::create_tables(&cluster.scheduler(0).client().await, tpch::scale("0.01")).await;
    let before: Vec<usize> = cluster.schedulers.iter().map(|scheduler| scheduler.process.sockets()).collect();

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = cluster.scheduler(number % 2).client().await;
        clients.spawn(async move { work(number, client).await });
    }
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client.expect("the client ends").expect("every answer is right");
    }
    assert_eq!(answers, CLIENTS * QUERIES_EACH);

    cluster.idle().await;
    for (scheduler, before) in cluster.schedulers.iter().zip(before) {
        eventually("connections of clients are closed", SETTLE_DEADLINE, async || {
            let open = scheduler.process.sockets();
            if open <= before + SOCKETS_KEPT { Ok(()) } else { Err(format!("{open} sockets; before: {before}")) }
        })
        .await;
        let peak = scheduler.process.peak_memory();
        assert!(peak < MAX_SCHEDULER_MEMORY, "a scheduler had {} MiB", peak >> 20);
    }
    for executor in &cluster.executors {
        let peak = executor.process.peak_memory();
        assert!(peak < MAX_EXECUTOR_MEMORY, "an executor had {} MiB", peak >> 20);
    }
}

/// One client's queries: over no data, over one file, with a join, and TPC-H's query 6; every other client has its own
/// cut into stages. Gives the number of right answers.
async fn work(number: usize, client: Client) -> Result<usize, String> {
    if number % 4 < 2 {
        tpch::distribute_everything(&client).await;
    }
    for round in 0..QUERIES_EACH {
        let (sql, right) = match round % 5 {
            0 => (format!("SELECT {number} + {round}"), (number + round).to_string()),
            1 => ("SELECT count(*) FROM nation".to_owned(), "25".to_owned()),
            2 => ("SELECT count(*) FROM nation JOIN region ON n_regionkey = r_regionkey".to_owned(), "25".to_owned()),
            3 => ("SELECT sum(n_nationkey) FROM nation WHERE n_nationkey < 10".to_owned(), "45".to_owned()),
            _ => {
                tpch::run(&client, tpch::scale("0.01"), &[6])
                    .await
                    .map_err(|wrong| format!("client {number}: {wrong}"))?;
                continue;
            }
        };
        let result = client.collect(&sql).await.map_err(|error| format!("client {number}: {sql}: {error}"))?;
        if only_value(&result).as_deref() != Some(right.as_str()) {
            return Err(format!("client {number}: {sql}: {result:?}"));
        }
    }
    Ok(QUERIES_EACH)
}

/// The value of a result of one row and one column.
fn only_value(result: &[RecordBatch]) -> Option<String> {
    let mut batches = result.iter().filter(|batch| batch.num_rows() > 0);
    let (batch, None) = (batches.next()?, batches.next()) else { return None };
    let is_one = batch.num_rows() == 1 && batch.num_columns() == 1;
    is_one.then(|| array_value_to_string(batch.column(0), 0).ok()).flatten()
}
