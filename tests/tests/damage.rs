//! Spilled data that is damaged while a query needs it, and a disk that takes no more: what is missing is made again, and
//! the answer is right.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use springald_client::Client;
use springald_tests::cluster::Executor;
use springald_tests::wait::{ANSWER_DEADLINE, SETTLE_DEADLINE, eventually};
use springald_tests::{Cluster, ClusterOptions, tpch};
use tempfile::TempDir;

/// Almost all rows of `lineitem` go through the exchange, and the stage that reads them takes seconds.
const HASHES: &str = "SELECT count(*) AS n, max(sha512(repeat(l_comment, 100))) AS hash \
    FROM (SELECT DISTINCT l_orderkey, l_linenumber, l_comment FROM lineitem)";
const ROWS: &str = "SELECT l_orderkey, l_linenumber, l_comment FROM lineitem WHERE l_orderkey % 3 = 0";
const LOST: &str = "the output of a task is lost: what was spilled of it is damaged";

/// Executors that hardly keep anything of the exchange in memory.
async fn cluster() -> Option<(Cluster, Client)> {
    let options = ClusterOptions {
        executors: 2,
        memory: "128MiB",
        executor_settings: vec!["executor.exchange_memory_percent=1"],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_with(options).await?;
    let client = cluster.client_of_all().await;
    tpch::create_tables(&client, tpch::scale("0.1")).await;
    tpch::distribute_everything(&client).await;
    Some((cluster, client))
}

/// Damages all files that an executor has spilled so far: a third each is overwritten in part, cut short and deleted.
fn damage(executor: &Executor) {
    let files = executor.process.spilled_files();
    assert!(!files.is_empty(), "nothing was spilled");
    for (number, path) in files.iter().enumerate() {
        // What is gone meanwhile is needed no longer.
        let Ok(file) = OpenOptions::new().write(true).open(path) else { continue };
        let middle = file.metadata().expect("a file").len() / 2;
        match number % 3 {
            0 => file.write_all_at(b"overwritten", middle).expect("writable"),
            1 => file.set_len(middle).expect("can be cut"),
            _ => drop(fs::remove_file(path)),
        }
    }
}

/// The damage was met, and said.
async fn noticed(cluster: &Cluster) {
    let reads = cluster.total("springald_executor_exchange_damaged_reads_total").await.expect("metrics");
    let events = cluster.executors.iter().flat_map(|executor| executor.process.events());
    let events = events.filter(|event| event["message"] == LOST).count();
    println!("{reads} reads met the damage");
    assert!(reads >= 1.0 && events >= 1, "{reads} reads, {events} events");
}

fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).expect("a table").to_string();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn given_spilled_input_that_is_damaged_while_a_stage_reads_it_then_it_is_made_again_and_the_answer_is_right() {
    let Some((cluster, client)) = cluster().await else { return };
    client.collect("SET springald.partitions = '16'").await.expect("the setting is known");
    let expected = rows(&client.collect(HASHES).await.expect("undisturbed"));
    let stream = client.query(HASHES).await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    let reader = tokio::spawn(stream.collect_all());
    let rest = cluster.scheduler(0).rest.clone();
    eventually("the second stage reads", SETTLE_DEADLINE, async || {
        let job = rest.job(&job).await?;
        let done = job["stages"][1]["tasks_done"].as_u64().unwrap_or_default();
        if done >= 1 { Ok(()) } else { Err(job.to_string()) }
    })
    .await;
    damage(&cluster.executors[0]);
    let ended = tokio::time::timeout(ANSWER_DEADLINE, reader).await.expect("it is answered in time");
    assert_eq!(rows(&ended.expect("the reader ends").expect("it is answered")), expected);
    noticed(&cluster).await;
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_result_that_is_damaged_while_it_waits_then_it_is_made_again_and_each_row_comes_once() {
    let Some((cluster, client)) = cluster().await else { return };
    let expected = rows(&client.collect(ROWS).await.expect("undisturbed"));
    let waiting = client.query(ROWS).await.expect("taken");
    let job = waiting.job_id().expect("an id").to_owned();
    cluster.scheduler(0).rest.job_in_state(&job, "succeeded").await;
    damage(&cluster.executors[0]);
    let answer = waiting.collect_all().await.expect("it is made again");
    let answer = rows(&answer);
    assert!(answer == expected, "{} lines, not {}", answer.len(), expected.len());
    noticed(&cluster).await;
    cluster.idle().await;
}

/// A disk that is soon full. Gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, after saying so, where none can be made.
    fn mount() -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(directory.path());
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        println!("SKIPPED: a small disk cannot be mounted here; run this as root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left then is for the next start of the machine.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_executor_whose_disk_is_full_then_its_tasks_are_done_elsewhere() {
    let Some(disk) = SmallDisk::mount() else { return };
    let Some((mut cluster, client)) = cluster().await else { return };
    client.collect("SET springald.partitions = '16'").await.expect("the setting is known");
    let expected = rows(&client.collect(HASHES).await.expect("undisturbed"));
    let spill_dir = format!("executor.spill_dir={}", disk.0.path().display());
    let executor = cluster.add_executor_with(&[spill_dir]).await;
    let telemetry = executor.telemetry.clone();
    assert_eq!(rows(&client.collect(HASHES).await.expect("answered")), expected);
    let failed = telemetry.metric(r#"springald_executor_tasks_total{outcome="failed"}"#).await.expect("metrics");
    println!("{failed} tasks have failed where the disk is full");
    assert!(failed >= 1.0);
    cluster.idle().await;
}
