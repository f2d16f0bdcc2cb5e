//! An executor that is much slower than the others does not hold up a query.

use std::process::{Child, Command};
use std::time::Instant;

use arrow::util::pretty::pretty_format_batches;
use springald_tests::{Cluster, tpch};

/// Seconds of work in many tasks, whose answer depends on every row: a task that is slowed takes far longer than the
/// two seconds after which it may be tried a second time, on a fast machine too.
const HASHES: &str = "SELECT l_returnflag, count(*) AS n, max(sha512(repeat(l_comment, 120))) AS hash \
    FROM lineitem GROUP BY l_returnflag ORDER BY l_returnflag";

/// Lets a process run for a small part of the time.
struct Slowed(Child, u32);

impl Slowed {
    fn new(process: u32) -> Self {
        let script = format!("while kill -STOP {process}; do sleep 0.48; kill -CONT {process}; sleep 0.02; done");
        let child = Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
        Self(child, process)
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = Command::new("sh").args(["-c", &format!("kill -CONT {}", self.1)]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_slow_executor_when_others_are_idle_then_they_do_its_tasks_and_the_answer_is_right() {
    let Some(mut cluster) = Cluster::start(1, 3).await else { return };
    let client = cluster.client_of_all().await;
    tpch::create_tables(&client, tpch::scale("0.1")).await;
    tpch::distribute_everything(&client).await;
    client.collect("SET springald.partitions = '12'").await.expect("the setting is known");
    let text = |batches: Vec<_>| pretty_format_batches(&batches).expect("a table").to_string();
    let start = Instant::now();
    let expected = text(client.collect(HASHES).await.expect("undisturbed"));
    let undisturbed = start.elapsed();
    let slowed = Slowed::new(cluster.executors[0].process.id());
    let start = Instant::now();
    let answer = text(client.collect(HASHES).await.expect("answered"));
    println!(
        "undisturbed {undisturbed:?}, with one of three executors at a twenty-fifth of its speed {:?}",
        start.elapsed()
    );
    drop(slowed);
    assert_eq!(answer, expected);
    let tried = cluster.schedulers[0].process.event("a slow task is tried a second time").await;
    assert!(tried["job_id"].is_string(), "{tried}");
    cluster.idle().await;
}
