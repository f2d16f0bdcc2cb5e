//! Springald as its users run it: a scheduler and executors, each a process of this program, over an etcd; or, for the
//! embedded store, one `standalone` process.
//!
//! ```text
//! etcd ◀── scheduler ◀── executor 1 … executor N
//!              ▲ Flight SQL
//!            Client
//! ```
//!
//! The processes take the caller's settings (`SPRINGALD_…` in the environment), so that those can be measured too.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use springald_client::Client;

use super::etcd;
use super::options::BenchOptions;
use super::process::{Launch, Process};
use super::statement::{Outcome, Statement};
use crate::error::{BenchError, Result};
use crate::{demo, rest};

/// Name of the cluster, in an etcd of its own.
const CLUSTER: &str = "bench";

/// What a process needs so that its addresses can be read from its log.
const COMMON: [&str; 6] =
    ["--telemetry-port", "0", "--set", "telemetry.log_format=json", "--set", "telemetry.log_file="];

/// Free ports for the services of a scheduler.
const PORTS: [&str; 6] = ["--flight-sql-port", "0", "--control-port", "0", "--rest-port", "0"];

/// Connections between executors and schedulers, of all executors in a process.
const CONNECTED: &str = "springald_executor_schedulers_connected";

/// Where the cluster's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// In the one process.
    Embedded,
    /// In etcd.
    Etcd,
}

/// Which events the processes write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// Those of a cluster whose operator has set nothing.
    AsUsual,
    /// None but those that tell its addresses.
    None,
}

impl Events {
    fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::AsUsual => ["--log", "info"],
            Self::None => ["--log", "off,springald_scheduler::server=info"],
        }
    }
}

/// A running cluster with a session.
pub(super) struct Cluster {
    client: Client,
    /// In the order in which they are to end: executors, the scheduler, etcd.
    processes: Vec<Process>,
}

impl Cluster {
    /// Starts a cluster and waits until all its executors take tasks.
    pub(super) async fn start(store: Store, events: Events, options: &BenchOptions) -> Result<Self> {
        match store {
            Store::Embedded => Self::start_standalone(events, options).await,
            Store::Etcd => Self::start_cluster(events, options).await,
        }
    }

    /// Makes a table of a Parquet file, or of the directory of them.
    pub(super) async fn register(&self, name: &str, path: &Path) -> Result<()> {
        demo::register_table(&self.client, name, path).await
    }

    /// Runs a statement; the time is the client's.
    pub(super) async fn run(&mut self, statement: &Statement, limit: Duration) -> Outcome {
        match demo::run_once(&self.client, &statement.sql, limit).await {
            Ok(run) => statement.outcome(run.millis, &run.batches),
            Err(error) => {
                let ended = self.processes.iter_mut().find_map(|process| process.check_running().err());
                Outcome::failed(ended.map_or(error.clone(), |ended| format!("{error} ({ended})")))
            }
        }
    }

    /// Its processes, etcd among them.
    pub(super) fn processes(&self) -> &[Process] {
        &self.processes
    }

    async fn start_standalone(events: Events, options: &BenchOptions) -> Result<Self> {
        let launch = Launch::own("standalone")?.args(["standalone"]).args(COMMON).args(PORTS);
        let launch = launch.args(events.arguments()).args(["--executors", &options.executors.to_string()]);
        let mut process = resources(launch, options).start()?;
        let addresses = Addresses::of(&mut process).await?;
        wait_for_executors(&mut process, &addresses.rest, options.executors).await?;
        Ok(Self { client: addresses.connect().await?, processes: vec![process] })
    }

    async fn start_cluster(events: Events, options: &BenchOptions) -> Result<Self> {
        let (etcd, url) = etcd::start().await?;
        let place = ["--etcd", &url, "--cluster", CLUSTER];
        let launch = Launch::own("scheduler")?.args(["scheduler"]).args(place).args(COMMON).args(PORTS);
        let mut scheduler = launch.args(events.arguments()).start()?;
        let addresses = Addresses::of(&mut scheduler).await?;
        let mut processes = Vec::new();
        for number in 1..=options.executors {
            let launch = Launch::own(format!("executor {number}"))?.args(["executor"]).args(place).args(COMMON);
            let launch = launch.args(events.arguments()).args(["--exchange-port", "0"]);
            processes.push(resources(launch, options).start()?);
        }
        let ready = wait_for_executors(&mut scheduler, &addresses.rest, options.executors).await;
        for executor in &mut processes {
            executor.check_running()?;
        }
        ready?;
        processes.extend([scheduler, etcd]);
        Ok(Self { client: addresses.connect().await?, processes })
    }
}

/// Where a scheduler is.
struct Addresses {
    flight_sql: String,
    rest: String,
}

impl Addresses {
    /// As the process logs them when it has started.
    async fn of(process: &mut Process) -> Result<Self> {
        let what = "the start of the scheduler";
        let event = process.wait_for(what, |process| std::future::ready(process.event("scheduler started"))).await?;
        let address = |field: &str| {
            let address = event.get(field).and_then(Value::as_str);
            address.ok_or_else(|| BenchError::engine(process.name(), format!("it logged no address of {field}")))
        };
        Ok(Self {
            flight_sql: format!("grpc://{}", address("flight_sql")?),
            rest: format!("http://{}", address("rest")?),
        })
    }

    async fn connect(&self) -> Result<Client> {
        Client::connect(&self.flight_sql).await.map_err(BenchError::client("connecting to the cluster"))
    }
}

fn resources(launch: Launch, options: &BenchOptions) -> Launch {
    let launch = launch.args(["--slots", &options.slots.to_string()]).directory("--spill-dir", "spill");
    match &options.memory {
        Some(memory) => launch.args(["--memory", memory]),
        None => launch,
    }
}

/// Waits until REST lists the executors and each is connected to the scheduler.
async fn wait_for_executors(scheduler: &mut Process, rest_url: &str, count: u16) -> Result<()> {
    let what = format!("{count} executors");
    scheduler
        .wait_for(&what, |_| async { (connected_executors(rest_url).await? >= f64::from(count)).then_some(()) })
        .await
}

/// Connections between the executors that REST lists and schedulers, by the executors' own metrics.
async fn connected_executors(rest_url: &str) -> Option<f64> {
    let list: Vec<Value> = serde_json::from_slice(&rest::body(rest_url, "/api/v1/executors").await.ok()?).ok()?;
    // Executors in one process share its metrics.
    let telemetry: BTreeSet<&str> =
        list.iter().filter_map(|executor| executor.get("telemetry_address")?.as_str()).collect();
    let mut connected = 0.0;
    for address in telemetry {
        let body = rest::body(&format!("http://{address}"), "/metrics").await.ok()?;
        connected += metric(&String::from_utf8_lossy(&body), CONNECTED)?;
    }
    Some(connected)
}

/// The value of a metric without labels, in Prometheus' text format.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_metrics_then_one_is_found_by_its_whole_name() {
        let text = "# TYPE a gauge\na_b 3\na{x=\"1\"} 4\na 5\n";
        assert_eq!((metric(text, "a"), metric(text, "a_b"), metric(text, "b")), (Some(5.0), Some(3.0), None));
    }
}
