//! The server under test, and its sessions: one for each mode, and one that makes tables.

use std::sync::Arc;

use clap::ValueEnum;
use springald_client::{Client, ClientError};
use tokio::time::timeout;

use super::engine::{Outcome, STATEMENT_TIMEOUT};
use super::rows::Answer;
use crate::{Cluster, ClusterOptions, Standalone};

/// Slots of each executor.
const SLOTS: u32 = 2;

/// Settings with which a session's queries are planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Mode {
    /// As the server is configured: small queries run on one executor.
    Default,
    /// In stages, with small build sides broadcast.
    Broadcast,
    /// In stages, without broadcast.
    Staged,
    /// In stages, without broadcast, with batches of three rows.
    Tiny,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Default, Self::Broadcast, Self::Staged, Self::Tiny];

    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Broadcast => "broadcast",
            Self::Staged => "staged",
            Self::Tiny => "tiny",
        }
    }

    fn settings(self) -> &'static [&'static str] {
        const ALL: [&str; 4] = [
            "SET springald.whole_query_bytes = '0B'",
            "SET springald.partitions = 5",
            "SET springald.broadcast_bytes = '0B'",
            "SET springald.batch_size = 3",
        ];
        match self {
            Self::Default => &[],
            Self::Broadcast => ALL.split_at(2).0,
            Self::Staged => ALL.split_at(3).0,
            Self::Tiny => &ALL,
        }
    }
}

/// The processes of a server.
pub enum Server {
    /// All roles in one process.
    Standalone(Box<Standalone>),
    /// A scheduler and executors, so that exchanges go over the network.
    Cluster(Box<Cluster>),
}

impl Server {
    /// Starts a scheduler with so many executors; all in one process for 0, or where there is no etcd.
    ///
    /// # Panics
    /// If a process does not start.
    pub async fn start(executors: usize) -> Self {
        if executors > 0 {
            let options = ClusterOptions { executors, slots: SLOTS, memory: "1GiB", ..ClusterOptions::default() };
            if let Some(cluster) = Cluster::start_with(options).await {
                return Self::Cluster(Box::new(cluster));
            }
        }
        Self::Standalone(Box::new(Standalone::start(&["--slots", "2"]).await))
    }

    /// Address of Flight SQL.
    pub fn url(&self) -> &str {
        match self {
            Self::Standalone(standalone) => &standalone.flight_sql,
            Self::Cluster(cluster) => &cluster.scheduler(0).flight_sql,
        }
    }

    /// True while all its processes run.
    pub fn is_running(&mut self) -> bool {
        match self {
            Self::Standalone(standalone) => standalone.process.is_running(),
            Self::Cluster(cluster) => {
                cluster.schedulers.iter_mut().all(|scheduler| scheduler.process.is_running())
                    && cluster.executors.iter_mut().all(|executor| executor.process.is_running())
            }
        }
    }

    /// A new session with the settings of `mode`.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn session(&self, mode: Mode) -> Result<Session, ClientError> {
        let client = Client::connect(self.url()).await?;
        for setting in mode.settings() {
            client.collect(setting).await?;
        }
        Ok(Session { client: Arc::new(client) })
    }
}

/// A session with the server.
#[derive(Clone)]
pub struct Session {
    client: Arc<Client>,
}

impl Session {
    /// Runs a statement or a query.
    pub async fn run(&self, sql: &str) -> Outcome {
        let answered = timeout(STATEMENT_TIMEOUT, async {
            let stream = self.client.query(sql).await?;
            let schema = Arc::clone(stream.schema());
            Ok::<_, ClientError>(Answer::new(&schema, &stream.collect_all().await?))
        });
        match answered.await {
            Ok(Ok(answer)) => Outcome::Answer(answer),
            Ok(Err(error)) => Outcome::Error { code: error.code().to_owned(), message: error.to_string() },
            Err(_) => Outcome::Timeout,
        }
    }

    /// Runs a statement whose result does not matter.
    ///
    /// # Errors
    /// Its outcome, if it fails or takes too long.
    pub async fn execute(&self, sql: &str) -> Result<(), Outcome> {
        match self.run(sql).await {
            Outcome::Answer(_) => Ok(()),
            failed => Err(failed),
        }
    }

    /// Names of all tables and views, quoted, with their kind.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tables(&self) -> Result<Vec<(String, bool)>, ClientError> {
        let tables = self.client.tables().await?;
        let tables = tables.into_iter().filter_map(|table| {
            let schema = table.schema.filter(|schema| schema != "information_schema")?;
            Some((format!("{}.{}", quoted(&schema), quoted(&table.name)), table.kind.contains("VIEW")))
        });
        Ok(tables.collect())
    }
}

/// A name as a quoted identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
