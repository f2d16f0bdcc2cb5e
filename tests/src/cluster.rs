//! A cluster of real processes over a real etcd.

use serde_json::Value;
use springald_client::Client;

use crate::etcd::{Etcd, EtcdOptions};
use crate::http::Http;
use crate::process::Process;
use crate::wait::{SETTLE_DEADLINE, START_DEADLINE, eventually, same};

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Number of schedulers, at least 1.
    pub schedulers: usize,
    /// Number of executors to begin with.
    pub executors: usize,
    /// Slots of each executor.
    pub slots: u32,
    /// Memory of each executor, as `512MiB`.
    pub memory: &'static str,
    /// More settings for all schedulers, as `scheduler.max_jobs=50`.
    pub scheduler_settings: Vec<&'static str>,
    /// More settings for all executors, as `executor.exchange_memory_percent=1`.
    pub executor_settings: Vec<&'static str>,
    /// More settings for all processes, as `cluster.etcd_user=springald`.
    pub settings: Vec<String>,
    /// The etcd below it.
    pub etcd: EtcdOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            schedulers: 1,
            executors: 1,
            slots: 1,
            memory: "512MiB",
            scheduler_settings: vec![],
            executor_settings: vec![],
            settings: vec![],
            etcd: EtcdOptions::default(),
        }
    }
}

/// A scheduler process.
pub struct Scheduler {
    /// The process.
    pub process: Process,
    /// Flight SQL, `grpc://host:port`.
    pub flight_sql: String,
    /// Its REST interface.
    pub rest: Http,
    /// Its metrics.
    pub telemetry: Http,
}

impl Scheduler {
    /// A new session.
    ///
    /// # Panics
    /// If it cannot be had.
    pub async fn client(&self) -> Client {
        Client::connect(&self.flight_sql).await.expect("a session")
    }
}

/// An executor process.
pub struct Executor {
    /// The process.
    pub process: Process,
    /// Its id in the cluster.
    pub id: String,
    /// Its metrics.
    pub telemetry: Http,
}

/// Schedulers and executors over one etcd.
pub struct Cluster {
    /// The schedulers.
    pub schedulers: Vec<Scheduler>,
    /// The executors that were not ended.
    pub executors: Vec<Executor>,
    /// The etcd below it.
    pub etcd: Etcd,
    options: ClusterOptions,
    started: usize,
}

impl Cluster {
    /// Starts a cluster of default options; see [`Self::start_with`].
    ///
    /// # Panics
    /// As [`Self::start_with`].
    pub async fn start(schedulers: usize, executors: usize) -> Option<Self> {
        Self::start_with(ClusterOptions { schedulers, executors, ..ClusterOptions::default() }).await
    }

    /// Starts a cluster and waits until every executor is connected to every scheduler. `None`, after saying so, when
    /// there is no etcd.
    ///
    /// # Panics
    /// If a process does not start.
    pub async fn start_with(options: ClusterOptions) -> Option<Self> {
        let etcd = Etcd::start_with(options.etcd.clone()).await?;
        Some(Self::over(etcd, options).await)
    }

    /// Starts a cluster over an etcd that runs, as [`Self::start_with`] does.
    ///
    /// # Panics
    /// If a process does not start.
    pub async fn over(etcd: Etcd, options: ClusterOptions) -> Self {
        let mut cluster = Self { schedulers: vec![], executors: vec![], started: 0, etcd, options };
        for number in 0..cluster.options.schedulers {
            let scheduler = cluster.start_scheduler(number).await;
            cluster.schedulers.push(scheduler);
        }
        let mut processes: Vec<Process> = (0..cluster.options.executors).map(|_| cluster.spawn_executor(&[])).collect();
        for process in processes.drain(..) {
            cluster.take_in(process).await;
        }
        cluster
    }

    /// The scheduler `number`, from 0.
    ///
    /// # Panics
    /// If there is none.
    pub fn scheduler(&self, number: usize) -> &Scheduler {
        self.schedulers.get(number).expect("a scheduler with this number")
    }

    /// Starts one more executor and waits until all schedulers know it.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add_executor(&mut self) -> &Executor {
        self.add_executor_with(&[]).await
    }

    /// Starts one more executor, with settings of its own, and waits until all schedulers know it.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add_executor_with(&mut self, settings: &[String]) -> &Executor {
        let process = self.spawn_executor(settings);
        self.take_in(process).await;
        self.executors.last().expect("it was taken in just now")
    }

    /// Tells the oldest executor to end, and waits for its end.
    ///
    /// # Panics
    /// If there is none, or it does not end with status 0.
    pub async fn stop_executor(&mut self) {
        let mut executor = self.executors.remove(0);
        executor.process.stop().await;
    }

    /// Kills the oldest executor.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_executor(&mut self) {
        self.executors.remove(0).process.kill();
    }

    /// Kills a scheduler; what is left of it can still be asked for its events.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn kill_scheduler(&mut self, number: usize) -> Scheduler {
        let mut scheduler = self.schedulers.remove(number);
        scheduler.process.kill();
        scheduler
    }

    /// Tells a scheduler to end, waits for its end, and starts another one in its place, which clients find at the same
    /// address.
    ///
    /// # Panics
    /// If there is none with this number, it does not end with status 0, or the other one does not start.
    pub async fn restart_scheduler(&mut self, number: usize) {
        let mut earlier = self.schedulers.remove(number);
        earlier.process.stop().await;
        let port = earlier.flight_sql.rsplit(':').next().expect("a port").to_owned();
        let scheduler = self.start_scheduler_at(number, &port).await;
        self.schedulers.insert(number, scheduler);
        let all = self.schedulers.len();
        for executor in &self.executors {
            eventually("the executor is connected to all schedulers", START_DEADLINE, async || {
                let connected = executor.telemetry.metric("springald_executor_schedulers_connected").await?;
                same("connections", connected as usize, all)
            })
            .await;
        }
    }

    /// A session with the first scheduler that goes on at the others.
    ///
    /// # Panics
    /// If it cannot be had.
    pub async fn client_of_all(&self) -> Client {
        let urls: Vec<&str> = self.schedulers.iter().map(|scheduler| scheduler.flight_sql.as_str()).collect();
        Client::connect(&urls.join(",")).await.expect("a session")
    }

    /// The sum of a metric over all executors; those that have none, because it has a label and was never counted, add
    /// nothing.
    ///
    /// # Errors
    /// Why one did not answer.
    pub async fn total(&self, metric: &str) -> Result<f64, String> {
        let mut total = 0.0;
        for executor in &self.executors {
            total += match executor.telemetry.metric(metric).await {
                Err(why) if why.starts_with("there is no metric") => 0.0,
                value => value?,
            };
        }
        Ok(total)
    }

    /// The live executors, as REST of the first scheduler shows them.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn listed_executors(&self) -> Result<Vec<Value>, String> {
        let list = self.scheduler(0).rest.json("/api/v1/executors").await?;
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// Waits until no scheduler has a job that waits or runs, and no executor holds or does anything.
    ///
    /// # Panics
    /// If that does not come about in time.
    pub async fn idle(&self) {
        for scheduler in &self.schedulers {
            eventually("no jobs wait or run", SETTLE_DEADLINE, async || scheduler.rest.no_live_jobs().await).await;
        }
        for executor in &self.executors {
            executor.telemetry.idle().await;
        }
    }

    async fn start_scheduler(&self, number: usize) -> Scheduler {
        self.start_scheduler_at(number, "0").await
    }

    async fn start_scheduler_at(&self, number: usize, flight_sql_port: &str) -> Scheduler {
        let etcd = self.etcd.url();
        let mut arguments = vec!["scheduler", "--etcd", &etcd, "--cluster", "test"];
        arguments.extend([
            "--flight-sql-port",
            flight_sql_port,
            "--control-port",
            "0",
            "--rest-port",
            "0",
            "--telemetry-port",
            "0",
        ]);
        for setting in &self.options.scheduler_settings {
            arguments.extend(["--set", setting]);
        }
        for setting in &self.options.settings {
            arguments.extend(["--set", setting]);
        }
        let mut process = Process::start(&format!("scheduler {number}"), &owned(&arguments));
        let started = process.event("scheduler started").await;
        let address = |name: &str| started[name].as_str().expect("an address").to_owned();
        let (flight_sql, rest) = (format!("grpc://{}", address("flight_sql")), Http::at(&address("rest")));
        let id = address("scheduler_id");
        let telemetry = eventually("the scheduler is listed", START_DEADLINE, async || {
            let list = rest.json("/api/v1/schedulers").await?;
            let own = list.as_array().into_iter().flatten().find(|scheduler| scheduler["id"] == id.as_str());
            let telemetry = own.and_then(|scheduler| scheduler["telemetry_address"].as_str());
            telemetry.map(Http::at).ok_or_else(|| list.to_string())
        })
        .await;
        Scheduler { process, flight_sql, rest, telemetry }
    }

    fn spawn_executor(&mut self, settings: &[String]) -> Process {
        let (etcd, slots) = (self.etcd.url(), self.options.slots.to_string());
        let mut arguments = vec!["executor", "--etcd", &etcd, "--cluster", "test", "--slots", &slots];
        arguments.extend(["--memory", self.options.memory, "--exchange-port", "0", "--telemetry-port", "0"]);
        for setting in &self.options.executor_settings {
            arguments.extend(["--set", setting]);
        }
        for setting in &self.options.settings {
            arguments.extend(["--set", setting]);
        }
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        self.started += 1;
        Process::start(&format!("executor {}", self.started), &owned(&arguments))
    }

    /// Waits until an executor that was started is connected everywhere.
    async fn take_in(&mut self, mut process: Process) {
        let started = process.event("executor started").await;
        let id = started["executor_id"].as_str().expect("an id").to_owned();
        let telemetry = eventually("the executor is listed", START_DEADLINE, async || {
            let list = self.listed_executors().await?;
            let own = list.iter().find(|executor| executor["id"] == id.as_str());
            let address = own.and_then(|executor| executor["telemetry_address"].as_str());
            address.map(Http::at).ok_or_else(|| format!("{list:?}"))
        })
        .await;
        eventually("the executor is connected to all schedulers", START_DEADLINE, async || {
            let connected = telemetry.metric("springald_executor_schedulers_connected").await?;
            same("connections", connected as usize, self.schedulers.len())
        })
        .await;
        self.executors.push(Executor { process, id, telemetry });
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}
