//! `springald pipeline setup`: the stream in NATS and the tables in ClickHouse, made or brought up to date. It can be run at any
//! time, and again.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::clickhouse::{self, Schema, Server};
use crate::{Error, Result, nats};

/// Time between two tries to reach a server that starts.
const PAUSE: Duration = Duration::from_millis(250);

/// What to set up, and where.
#[derive(Args, Clone, Debug)]
pub struct SetupOptions {
    /// NATS server; several of one cluster separated by commas. Without it, NATS is left alone.
    #[arg(long, value_name = "nats://HOST:PORT")]
    pub nats: Option<String>,
    /// Copies that NATS keeps of the events: 1, or 3 in a cluster of three servers and more.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub replicas: u32,
    /// ClickHouse's HTTP interface. Without it, ClickHouse is left alone.
    #[arg(long, value_name = "http://[USER:PASSWORD@]HOST:PORT")]
    pub clickhouse: Option<String>,
    /// Name of the ClickHouse cluster, for replicated and sharded tables.
    #[arg(long, value_name = "NAME")]
    pub clickhouse_cluster: Option<String>,
    /// Seconds to wait for servers that cannot be reached yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// Sets up what is named; returns what was done, in words.
///
/// # Errors
/// If a server cannot be reached in time, or refuses.
pub async fn run(options: &SetupOptions) -> Result<Vec<String>> {
    if options.nats.is_none() && options.clickhouse.is_none() {
        return Err(Error::Invalid("nothing to set up: give --nats, --clickhouse, or both".to_owned()));
    }
    if let Some(name) = options.clickhouse_cluster.as_deref().filter(|name| !is_plain(name)) {
        return Err(Error::Invalid(format!("--clickhouse-cluster {name:?}: letters, digits, '_' and '-' only")));
    }
    let deadline = Instant::now() + Duration::from_secs(options.wait);
    let mut done = vec![];
    if let Some(url) = &options.nats {
        let made = patiently(deadline, async || nats::setup(url, options.replicas).await).await?;
        done.push(format!(
            "NATS: stream and consumer {}",
            if made == nats::Made::Created { "created" } else { "up to date" }
        ));
    }
    if let Some(url) = &options.clickhouse {
        let schema = Schema { database: "springald".to_owned(), cluster: options.clickhouse_cluster.clone() };
        let server = Server::at(url)?;
        let migrated = patiently(deadline, async || clickhouse::migrate(&server, &schema).await).await?;
        done.push(match migrated.applied.as_slice() {
            [] => format!("ClickHouse: {} migrations, all applied before", migrated.earlier),
            new => format!("ClickHouse: applied {}", new.join(", ")),
        });
    }
    Ok(done)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Tries again while the server cannot be reached, until the deadline.
async fn patiently<T>(deadline: Instant, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    loop {
        match attempt().await {
            Err(Error::Unreachable { .. }) if Instant::now() < deadline => sleep(PAUSE).await,
            done => return done,
        }
    }
}
