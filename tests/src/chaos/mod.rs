//! Chaos: a cluster under load whose processes are killed, stopped and cut off, one after another.
//!
//! ```text
//! Load: streams of TPC-H queries, every answer compared ──▶ schedulers ⇄ executors, over a three-member etcd
//! every few seconds: a fault at a random node; some seconds later it is made good
//! at the end: all is made good, all queries end, and nothing is left
//! ```

mod cluster;
mod load;
mod net;
mod node;
mod random;
mod report;
mod resources;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use springald_bench::tpch::Scale;
use springald_client::Client;
use tokio::time::{Instant, sleep_until};

pub use report::Report;

use cluster::Cluster;
use load::Load;
use node::{Ailment, Node, Role};
use random::Random;
use report::{Harm, Loss};
use resources::Baseline;

use crate::etcd;

/// How long to wait after the last query until nothing may be left: results that nobody confirmed go after a while.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);

/// What is done to the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Minutes of faults.
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// Time between two faults, as 5s.
    #[arg(long, default_value = "5s", value_parser = seconds)]
    pub fault_every: Duration,
    /// TPC-H scale factor.
    #[arg(long, default_value = "1")]
    pub scale: Scale,
    /// Concurrent streams of queries.
    #[arg(long, default_value_t = 3)]
    pub streams: usize,
    /// Schedulers.
    #[arg(long, default_value_t = 3)]
    pub schedulers: usize,
    /// Executors.
    #[arg(long, default_value_t = 4)]
    pub executors: usize,
    /// Slots of each executor.
    #[arg(long, default_value_t = 1)]
    pub slots: u32,
    /// Memory of each executor.
    #[arg(long, default_value = "1GiB")]
    pub memory: String,
    /// Repeats the choices of an earlier run.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these faults, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<String>,
    /// Also writes the report to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// `5s` or `5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches('s').parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    role: Role,
    act: fn(&mut Node),
    /// So many nodes of the role stay healthy.
    spare: usize,
    /// Needs links that can be cut.
    link: bool,
}

const FAULTS: [Fault; 10] = [
    Fault { name: "kill_scheduler", role: Role::Scheduler, act: Node::kill, spare: 1, link: false },
    Fault { name: "kill_executor", role: Role::Executor, act: Node::kill, spare: 2, link: false },
    Fault { name: "stop_scheduler", role: Role::Scheduler, act: Node::pause, spare: 1, link: false },
    Fault { name: "stop_executor", role: Role::Executor, act: Node::pause, spare: 2, link: false },
    Fault { name: "cut_scheduler", role: Role::Scheduler, act: Node::cut, spare: 1, link: true },
    Fault { name: "cut_executor", role: Role::Executor, act: Node::cut, spare: 2, link: true },
    Fault { name: "restart_scheduler", role: Role::Scheduler, act: Node::terminate, spare: 1, link: false },
    Fault { name: "restart_executor", role: Role::Executor, act: Node::terminate, spare: 2, link: false },
    Fault { name: "kill_etcd", role: Role::Etcd, act: Node::kill, spare: 2, link: false },
    Fault { name: "stop_etcd", role: Role::Etcd, act: Node::pause, spare: 2, link: false },
];

/// Runs it. `None`, after saying so, when there is no etcd.
///
/// # Panics
/// If the cluster does not start, or the data cannot be made.
pub async fn run(options: &Options) -> Option<Report> {
    if !etcd::is_installed() {
        return None;
    }
    let seed = options.seed.unwrap_or_else(|| Utc::now().timestamp_micros() as u64);
    println!("seed {seed}");
    let mut cluster = Cluster::start(options.schedulers, options.executors, options.slots, &options.memory).await;
    let baseline = Baseline::of(&cluster.nodes);
    let client = Client::connect(&cluster.urls).await.expect("a session");
    crate::tpch::create_tables(&client, options.scale).await;
    drop(client);
    let load = Load::start(&cluster.urls, options.scale, options.streams, seed).await;
    let harm = torment(&mut cluster, options, seed).await;
    let tally = load.end().await;
    let left = match cluster.idle(IDLE_DEADLINE).await {
        Ok(()) => settled(async || baseline.compare(&cluster.nodes), IDLE_DEADLINE).await.err(),
        Err(left) => Some(left),
    };
    Some(Report::new(&cluster, harm, &tally, left, (options.minutes, seed)))
}

/// Looks until nothing is left, or time is up. The error says what is.
async fn settled(look: impl AsyncFn() -> Result<(), String>, deadline: Duration) -> Result<(), String> {
    let end = Instant::now() + deadline;
    loop {
        let seen = look().await;
        if seen.is_ok() || Instant::now() >= end {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Does harm for the time given, and makes it good again.
async fn torment(cluster: &mut Cluster, options: &Options, seed: u64) -> Harm {
    let mut random = Random::new(seed);
    let mut harm = Harm::default();
    let chosen = |fault: &&Fault| options.faults.is_empty() || options.faults.iter().any(|name| name == fault.name);
    let faults: Vec<&Fault> = FAULTS.iter().filter(chosen).filter(|fault| cluster.has_links || !fault.link).collect();
    let mut healing: Vec<(Instant, usize)> = vec![];
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.minutes * 60.0);
    let mut next = start + options.fault_every;
    loop {
        let heal = healing.iter().map(|(at, _)| *at).min();
        let due = heal.map_or(next, |heal| heal.min(next));
        sleep_until(due.min(end)).await;
        let now = Instant::now();
        healing.retain(|(at, node)| {
            let heals = *at <= now;
            if heals {
                cluster.nodes[*node].heal();
            }
            !heals
        });
        if now >= end {
            break;
        }
        if now < next {
            continue;
        }
        next += options.fault_every;
        let Some(fault) = (!faults.is_empty()).then(|| faults[random.below(faults.len())]) else { continue };
        let healthy = cluster.healthy(fault.role);
        // Both are drawn in any case, so that a seed repeats its choices as far as can be.
        let (victim, millis) = (random.below(healthy.len().max(1)), 1_000 + random.below(6_000));
        if healthy.len() <= fault.spare {
            continue;
        }
        let victim = healthy[victim];
        let node = &mut cluster.nodes[victim];
        println!("{:>6.1} s: {} at {} for {} ms", (now - start).as_secs_f64(), fault.name, node.name, millis);
        if fault.role == Role::Scheduler {
            let started = node.process().events().into_iter().find(|event| event["message"] == "scheduler started");
            let id = started.and_then(|event| event["scheduler_id"].as_str().map(str::to_owned));
            let at = Utc::now();
            harm.losses.extend(id.map(|scheduler_id| Loss { scheduler_id, at, back_at: None }));
        }
        (fault.act)(node);
        if fault.role == Role::Scheduler
            && node.ailment != Some(Ailment::Dead)
            && let Some(loss) = harm.losses.last_mut()
        {
            loss.back_at = Some(loss.at + TimeDelta::milliseconds(millis as i64));
        }
        *harm.faults.entry(fault.name).or_default() += 1;
        healing.push((now + Duration::from_millis(millis as u64), victim));
    }
    for (_, node) in healing {
        cluster.nodes[node].heal();
    }
    harm
}
