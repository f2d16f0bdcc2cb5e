//! Servers that events and metrics go to: NATS, ClickHouse's engine, Prometheus. Each with a directory of its own, on free
//! ports, and ended when dropped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use springald_deploy::clickhouse::{Schema, Server, migrate};
use springald_deploy::files;
use tempfile::TempDir;

use crate::http::Http;
use crate::wait::{START_DEADLINE, eventually};

/// Ports that were free may be taken by another before a server listens on them.
const ATTEMPTS: usize = 5;

/// What a server says of a port that another has; as systems do, in their own capitals.
const TAKEN: &str = "address already in use";

/// Where `scripts/setup.sh` puts what no package has.
fn cache() -> PathBuf {
    dirs::cache_dir().expect("a cache directory of the user").join("springald").join("pipeline")
}

/// Where the NATS server is, if there is one.
pub fn nats_program() -> PathBuf {
    cache().join("bin/nats-server")
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A process with a directory and a log.
struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    fn start(directory: TempDir, command: &mut Command) -> Self {
        let log = File::create(directory.path().join("log")).expect("a file for the log");
        let errors = log.try_clone().expect("the same file");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it: by a signal that it can answer to, or not.
    async fn end(&mut self, kill: bool) {
        let signal = if kill { "KILL" } else { "TERM" };
        let command = format!("kill -{signal} {}", self.child.id());
        // It fails only when the process has ended already.
        let _ = Command::new("sh").args(["-c", &command]).status();
        eventually("the process ends", START_DEADLINE, async || {
            let status = self.child.try_wait().expect("a child of this process");
            status.map(drop).ok_or_else(|| "it runs".to_owned())
        })
        .await;
    }

    /// Waits until it answers; `None`, after saying so, if it ends instead because another has one of its ports.
    ///
    /// # Panics
    /// If it ends for another reason, or does not answer in time.
    async fn ready(mut self, what: &str, http: &Http, path: &str) -> Option<Self> {
        let ready = eventually(what, START_DEADLINE, async || {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                let log = self.log();
                assert!(log.to_lowercase().contains(TAKEN), "{what}: ended with {status}:\n{log}");
                println!("{what} ended at its start:\n{log}");
                return Ok(false);
            }
            let answer = http.get(path).await?;
            if answer.status == 200 { Ok(true) } else { Err(format!("{answer:?}")) }
        })
        .await;
        ready.then_some(self)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("── log of process {} ──\n{}", self.child.id(), self.log());
        }
    }
}

/// What `start` starts; on other ports if those that it has chosen are taken.
async fn on_free_ports<T>(what: &str, start: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(started) = start().await {
            return started;
        }
    }
    panic!("{what} could not be started in {ATTEMPTS} attempts");
}

fn skipped(what: &str, path: &Path) {
    println!("SKIPPED: {what}: {} is missing; scripts/setup.sh installs it", path.display());
}

/// A NATS server with JetStream, as `deploy/nats/nats.conf` says.
pub struct Nats {
    daemon: Daemon,
    port: u16,
}

impl Nats {
    /// Starts one; `None`, after saying so, where there is none.
    ///
    /// # Panics
    /// If there is one and it does not start.
    pub async fn start() -> Option<Self> {
        let program = nats_program();
        if !program.is_file() {
            skipped("NATS", &program);
            return None;
        }
        Some(on_free_ports("NATS", async || Self::spawn(&program).await).await)
    }

    async fn spawn(program: &Path) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let (port, http) = (free_port(), free_port());
        let store = directory.path().join("jetstream").display().to_string();
        let (client, monitor) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{http}"));
        let replaced = [("0.0.0.0:4222", client.as_str()), ("0.0.0.0:8222", &monitor), ("/data/jetstream", &store)];
        let config = directory.path().join("nats.conf");
        fs::write(&config, files::render(files::NATS, &replaced).expect("the file names these")).expect("a file");
        let daemon = Daemon::start(directory, Command::new(program).arg("--config").arg(config));
        let daemon = daemon.ready("NATS", &Http::at(&monitor), "/healthz").await?;
        Some(Self { daemon, port })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

/// ClickHouse's engine behind its HTTP interface: `tests/clickhouse/server.py`.
pub struct ClickHouse {
    daemon: Daemon,
    data: TempDir,
    port: u16,
    /// To ask it.
    pub server: Server,
    url: String,
}

impl ClickHouse {
    /// Starts one without tables; `None`, after saying so, where there is none.
    ///
    /// # Panics
    /// If there is one and it does not start.
    pub async fn start() -> Option<Self> {
        let python = cache().join("python/bin/python");
        if !python.is_file() {
            skipped("ClickHouse (chdb)", &python);
            return None;
        }
        let data = TempDir::new().expect("a temporary directory");
        let (daemon, port) = on_free_ports("ClickHouse", async || {
            let port = free_port();
            Some((Self::spawn(&python, &data, port).await?, port))
        })
        .await;
        let url = format!("http://127.0.0.1:{port}");
        Some(Self { daemon, data, port, server: Server::at(&url).expect("an address"), url })
    }

    async fn spawn(python: &Path, data: &TempDir, port: u16) -> Option<Daemon> {
        let script = crate::workspace().join("tests/clickhouse/server.py");
        let mut command = Command::new(python);
        command.arg("-B").arg(script).arg(data.path()).arg(port.to_string());
        let daemon = Daemon::start(TempDir::new().expect("a temporary directory"), &mut command);
        daemon.ready("ClickHouse", &Http::at(&format!("127.0.0.1:{port}")), "/ping").await
    }

    /// Ends it, or kills it, and starts it again with what it had.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restart(&mut self, kill: bool) {
        self.daemon.end(kill).await;
        let daemon = Self::spawn(&cache().join("python/bin/python"), &self.data, self.port).await;
        self.daemon = daemon.expect("nobody has taken its port");
    }

    /// Starts one with all tables.
    ///
    /// # Panics
    /// As [`Self::start`], or if a migration fails.
    pub async fn with_tables() -> Option<Self> {
        let clickhouse = Self::start().await?;
        migrate(&clickhouse.server, &schema()).await.expect("the migrations apply");
        Some(clickhouse)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The rows of a query.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn rows(&self, sql: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let text =
            self.server.query(sql, "JSONEachRow", parameters).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
        text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
    }
}

/// The tables of one server.
pub fn schema() -> Schema {
    Schema { database: "springald".to_owned(), cluster: None }
}

/// A Prometheus with a configuration of its own.
pub struct Prometheus {
    _daemon: Daemon,
    /// To ask it.
    pub http: Http,
}

impl Prometheus {
    /// Starts one with `configuration` and the rules of `deploy/prometheus`; `None`, after saying so, where there is none.
    ///
    /// # Panics
    /// If there is one and it does not start.
    pub async fn start(configuration: &str) -> Option<Self> {
        let program = Path::new("/usr/bin/prometheus");
        if !program.is_file() {
            skipped("Prometheus", program);
            return None;
        }
        Some(on_free_ports("Prometheus", async || Self::spawn(program, configuration).await).await)
    }

    async fn spawn(program: &Path, configuration: &str) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, configuration).expect("a file");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let http = Http::at(&address);
        let daemon = Daemon::start(directory, &mut command).ready("Prometheus", &http, "/-/ready").await?;
        Some(Self { _daemon: daemon, http })
    }
}
