//! A cluster of real processes: every scheduler answers everything, and executors come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use springald_client::Client;
use springald_tests::wait::{SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, tpch};

/// How long a few more queries may take while executors come and go.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn given_two_schedulers_when_tables_are_created_through_one_then_both_answer_all_queries() {
    let Some(cluster) = Cluster::start(2, 3).await else { return };
    let scale = tpch::scale("0.01");
    let (first, second) = (cluster.scheduler(0).client().await, cluster.scheduler(1).client().await);
    tpch::create_tables(&first, scale).await;
    let tables = first.tables().await.expect("tables");
    eventually("the other scheduler knows the tables", SETTLE_DEADLINE, async || {
        same("tables", second.tables().await.map_err(|error| error.to_string())?, tables.clone())
    })
    .await;
    tpch::verify(&first, scale).await;
    tpch::verify(&second, scale).await;
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_queries_cut_into_stages_when_run_through_both_schedulers_then_all_are_right_and_both_list_all_jobs() {
    let Some(cluster) = Cluster::start(2, 3).await else { return };
    let scale = tpch::scale("0.1");
    let clients = [cluster.scheduler(0).client().await, cluster.scheduler(1).client().await];
    tpch::create_tables(&clients[0], scale).await;
    for client in &clients {
        tpch::distribute_everything(client).await;
        tpch::verify(client, scale).await;
    }
    cluster.idle().await;

    let mut lists = Vec::new();
    for scheduler in &cluster.schedulers {
        lists.push(scheduler.rest.jobs(Some("succeeded")).await.expect("jobs"));
    }
    let ids = |jobs: &[serde_json::Value]| jobs.iter().map(|job| job["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&lists[0]), ids(&lists[1]));
    let queries =
        lists[0].iter().filter(|job| job["sql"].as_str().is_some_and(|sql| sql.contains("select"))).collect::<Vec<_>>();
    assert_eq!(queries.len(), 44);
    assert!(queries.iter().all(|job| job["stages"].as_array().is_some_and(|stages| stages.len() > 1)), "{queries:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_queries_that_run_when_executors_come_end_and_crash_then_every_answer_is_right() {
    let Some(mut cluster) = Cluster::start(2, 2).await else { return };
    let clients = [cluster.scheduler(0).client().await, cluster.scheduler(1).client().await];
    tpch::create_tables(&clients[0], tpch::scale("0.1")).await;
    let load = Load::start(clients).await;

    load.progress().await;
    cluster.add_executor().await;
    load.progress().await;
    cluster.stop_executor().await;
    load.progress().await;
    cluster.add_executor().await;
    cluster.kill_executor();
    load.progress().await;
    cluster.kill_executor();
    load.progress().await;

    load.finish().await;
    eventually("executors that have ended are not listed", SETTLE_DEADLINE, async || {
        same("executors", cluster.listed_executors().await?.len(), 1)
    })
    .await;
    cluster.idle().await;
}

/// Queries that go on and on, through several clients at the same time.
struct Load {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Queries with joins, large exchanges and several stages.
    const QUERIES: [u8; 6] = [3, 5, 9, 10, 18, 21];

    async fn start(clients: [Client; 2]) -> Self {
        let (answered, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut workers = Vec::new();
        for client in clients {
            tpch::distribute_everything(&client).await;
            let (answered, over) = (Arc::clone(&answered), Arc::clone(&over));
            workers.push(tokio::spawn(async move {
                let mut queries = Self::QUERIES.iter().cycle();
                while let (Some(query), false) = (queries.next(), over.load(Ordering::Relaxed)) {
                    tpch::run(&client, tpch::scale("0.1"), &[*query]).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Self { answered, over, workers }
    }

    /// Waits until some more queries were answered.
    async fn progress(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("more queries are answered", PROGRESS_DEADLINE, async || {
            let now = self.answered.load(Ordering::Relaxed);
            // A worker that has ended has met a wrong answer.
            let ended = self.workers.iter().any(tokio::task::JoinHandle::is_finished);
            if now >= before + 6 || ended { Ok(()) } else { Err(format!("{} more", now - before)) }
        })
        .await;
    }

    /// # Panics
    /// If an answer was wrong.
    async fn finish(self) {
        self.over.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("the worker ends").expect("every answer is right");
        }
    }
}
