//! What a loss costs: one long query, timed alone, with its scheduler killed half-way, and with one of its executors killed
//! half-way.

use std::time::{Duration, Instant};

use arrow::util::pretty::pretty_format_batches;
use serde_json::{Value, json};
use springald_client::Client;

use super::Options;
use super::cluster::Cluster;
use super::node::Role;
use crate::etcd;
use crate::wait::eventually;

const EXECUTORS: usize = 3;
/// Tasks of the query's first stage, which does all the work.
const TASKS: u64 = 24;
/// Half a minute of work at scale 1 on two cores, whose answer depends on every row.
const QUERY: &str = "SELECT l_returnflag, l_linestatus, count(*) AS n, max(sha512(repeat(l_comment, 190))) AS hash \
    FROM lineitem GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus";
/// Longer than the query takes, on a slow machine.
const DEADLINE: Duration = Duration::from_secs(300);
/// Time between two looks at its progress: each costs the schedulers work that is taken from the query.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a takeover may cost: the lease's time to live, and two seconds.
const TAKEOVER_ALLOWED_MILLIS: u64 = 3_000 + 2_000;
/// What the loss of one of three executors may cost, as a factor.
const EXECUTOR_LOSS_ALLOWED: f64 = 1.6;

/// The times of one query.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Milliseconds when nothing was lost.
    pub undisturbed: u64,
    /// Milliseconds when its scheduler was killed half-way.
    pub scheduler_killed: u64,
    /// Tasks that ran more often than once then.
    pub tasks_run_again: u64,
    /// Milliseconds when one of its three executors was killed half-way.
    pub executor_killed: u64,
}

impl Measured {
    /// True if both losses cost no more than is promised.
    pub fn is_within_limits(&self) -> bool {
        self.scheduler_killed <= self.undisturbed + TAKEOVER_ALLOWED_MILLIS
            && self.tasks_run_again == 0
            && self.executor_killed as f64 <= self.undisturbed as f64 * EXECUTOR_LOSS_ALLOWED
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "undisturbed_millis": self.undisturbed,
            "scheduler_killed_millis": self.scheduler_killed,
            "scheduler_killed_extra_millis": self.scheduler_killed as i64 - self.undisturbed as i64,
            "tasks_run_again": self.tasks_run_again,
            "executor_killed_millis": self.executor_killed,
            "executor_killed_factor": self.executor_killed as f64 / self.undisturbed as f64,
            "within_limits": self.is_within_limits(),
        })
    }
}

/// Measures it. `None`, after saying so, when there is no etcd.
///
/// # Panics
/// If the cluster does not start, or the query is not answered, or not always with the same answer.
pub async fn measure(options: &Options) -> Option<Measured> {
    if !etcd::is_installed() {
        return None;
    }
    let mut cluster = Cluster::start(options.schedulers, EXECUTORS, options.slots, &options.memory).await;
    let client = Client::connect(&cluster.urls).await.expect("a session");
    crate::tpch::create_tables(&client, options.scale).await;
    crate::tpch::distribute_everything(&client).await;
    client.collect(&format!("SET springald.partitions = '{TASKS}'")).await.expect("the setting is known");

    let (_, expected, first) = run(&mut cluster, &client, None).await;
    let (_, answer, undisturbed) = run(&mut cluster, &client, None).await;
    assert_eq!(answer, expected);
    println!("undisturbed: {undisturbed} ms (the first time {first} ms)");

    let before = tasks_run(&cluster).await;
    let (tasks, answer, scheduler_killed) = run(&mut cluster, &client, Some(Role::Scheduler)).await;
    assert_eq!(answer, expected, "with its scheduler killed");
    let tasks_run_again = tasks_run(&cluster).await - before - tasks;
    println!("with its scheduler killed half-way: {scheduler_killed} ms; tasks that ran again: {tasks_run_again}");
    mend(&mut cluster).await;

    let (_, answer, executor_killed) = run(&mut cluster, &client, Some(Role::Executor)).await;
    assert_eq!(answer, expected, "with an executor killed");
    println!("with one of {EXECUTORS} executors killed half-way: {executor_killed} ms");
    Some(Measured { undisturbed, scheduler_killed, tasks_run_again, executor_killed })
}

/// Runs the query, and kills its scheduler or an executor half-way. Gives the number of its tasks, its answer, and the
/// milliseconds that it took.
async fn run(cluster: &mut Cluster, client: &Client, kill: Option<Role>) -> (u64, String, u64) {
    let started = Instant::now();
    let stream = client.query(QUERY).await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    let reader = tokio::spawn(stream.collect_all());
    if let Some(role) = kill {
        let owner = eventually("half of the query is done", DEADLINE, async || half_done(cluster, &job).await).await;
        let victim = match role {
            Role::Scheduler => cluster.nodes.iter().position(|node| node.id().as_ref() == Some(&owner)),
            _ => cluster.healthy(role).first().copied(),
        };
        let victim = &mut cluster.nodes[victim.expect("a process to kill")];
        println!("{:>6.1} s: killing {}", started.elapsed().as_secs_f64(), victim.name);
        victim.kill();
    }
    let answer = tokio::time::timeout(DEADLINE, reader).await.expect("answered in time");
    let answer = answer.expect("the reader ends").expect("answered");
    let millis = started.elapsed().as_millis() as u64;
    let tasks = eventually("the job's record", DEADLINE, async || {
        let job = job_at_any(cluster, &job).await?;
        let stages = job["stages"].as_array().cloned().unwrap_or_default();
        let tasks: u64 = stages.iter().filter_map(|stage| stage["tasks"].as_u64()).sum();
        if job["state"] == "succeeded" && tasks > 0 { Ok(tasks) } else { Err(job.to_string()) }
    })
    .await;
    (tasks, pretty_format_batches(&answer).expect("a table").to_string(), millis)
}

/// The id of the scheduler that runs the job, once half of its first stage is done.
async fn half_done(cluster: &Cluster, job: &str) -> Result<String, String> {
    for rest in &cluster.rests {
        let Ok(job) = rest.job(job).await else { continue };
        let done = job["stages"][0]["tasks_done"].as_u64().unwrap_or_default();
        let owner = job["scheduler"].as_str();
        // Others know the record only, which does not tell of progress.
        if let Some(owner) = owner
            && done >= TASKS / 2
        {
            return Ok(owner.to_owned());
        }
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Err("not yet".to_owned())
}

async fn job_at_any(cluster: &Cluster, job: &str) -> Result<Value, String> {
    let mut last = Err("there is no scheduler".to_owned());
    for rest in &cluster.rests {
        last = rest.job(job).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The tasks that executors have run to their ends.
async fn tasks_run(cluster: &Cluster) -> u64 {
    let mut sum = 0.0;
    for telemetry in &cluster.telemetries {
        // None before the first.
        sum += telemetry.metric(r#"springald_executor_tasks_total{outcome="succeeded"}"#).await.unwrap_or_default();
    }
    sum as u64
}

/// Starts again what was killed.
async fn mend(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(|node| node.heal());
    cluster.ready().await;
}
