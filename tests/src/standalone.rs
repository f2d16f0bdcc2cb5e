//! `springald standalone`: all roles in one process.

use springald_client::Client;

use crate::http::Http;
use crate::process::Process;
use crate::wait::{START_DEADLINE, eventually};

/// A running `springald standalone`, on free ports.
pub struct Standalone {
    /// The process.
    pub process: Process,
    /// Flight SQL, `grpc://host:port`.
    pub flight_sql: String,
    /// Its REST interface.
    pub rest: Http,
    /// Its metrics.
    pub telemetry: Http,
}

impl Standalone {
    /// Starts it with these arguments beside those for free ports, and waits until it can take queries.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut process = Process::start("standalone", &self::arguments(arguments));
        let started = process.event("scheduler started").await;
        let address = |name: &str| started[name].as_str().expect("an address").to_owned();
        let rest = Http::at(&address("rest"));
        eventually("standalone is ready", START_DEADLINE, async || {
            let answer = rest.get("/ready").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
        let schedulers = rest.json("/api/v1/schedulers").await.expect("the list of schedulers");
        let telemetry = schedulers[0]["telemetry_address"].as_str().expect("the address of the metrics");
        Self { process, flight_sql: format!("grpc://{}", address("flight_sql")), telemetry: Http::at(telemetry), rest }
    }

    /// A new session.
    ///
    /// # Panics
    /// If it cannot be had.
    pub async fn client(&self) -> Client {
        Client::connect(&self.flight_sql).await.expect("a session")
    }
}

/// The arguments of a standalone process on free ports; `more` come last, so that they win.
pub fn arguments(more: &[&str]) -> Vec<String> {
    const FREE_PORTS: [&str; 9] =
        ["standalone", "--flight-sql-port", "0", "--control-port", "0", "--rest-port", "0", "--telemetry-port", "0"];
    let has = |flag: &str| more.contains(&flag);
    let pairs = FREE_PORTS[1..].chunks(2).filter(|pair| !has(pair[0])).flatten();
    [FREE_PORTS[0]].iter().chain(pairs).chain(more).map(|argument| (*argument).to_owned()).collect()
}
