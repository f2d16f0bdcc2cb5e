//! A real etcd for a test: started from the `PATH` on free ports of 127.0.0.1, killed when it is dropped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::interval;

use super::etcd::{EtcdOptions, EtcdStore};

/// How long etcd may take to answer after it was started.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Ports that were free may be taken by another before etcd listens on them.
const START_ATTEMPTS: usize = 5;

/// One etcd member with a data directory of its own.
pub(crate) struct TestEtcd {
    directory: TempDir,
    scheme: &'static str,
    client_port: u16,
    peer_port: u16,
    flags: Vec<String>,
    running: Option<Child>,
}

impl TestEtcd {
    /// Starts etcd; `None`, after saying so, when there is no etcd on the `PATH`.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// Starts etcd with more flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Option<Self> {
        Self::start_as("http", flags).await
    }

    /// Starts an etcd that speaks TLS, with flags for its certificates.
    pub(crate) async fn start_with_tls(flags: &[&str]) -> Option<Self> {
        Self::start_as("https", flags).await
    }

    async fn start_as(scheme: &'static str, flags: &[&str]) -> Option<Self> {
        if let Err(error) = Command::new("etcd").arg("--version").stdout(Stdio::null()).status() {
            println!("SKIPPED: there is no etcd on the PATH ({error}); install etcd 3.4 or newer to run this test");
            return None;
        }
        for attempt in 1..=START_ATTEMPTS {
            let mut etcd = Self {
                directory: TempDir::new().expect("a temporary directory"),
                scheme,
                client_port: free_port(),
                peer_port: free_port(),
                flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
                running: None,
            };
            match etcd.run().await {
                Ok(()) => return Some(etcd),
                Err(status) => println!("etcd ended with {status} (attempt {attempt}):\n{}", etcd.log()),
            }
        }
        panic!("etcd could not be started");
    }

    /// The client URL.
    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    /// Options for this etcd, with the prefix of cluster `cluster`.
    pub(crate) fn options(&self, cluster: &str) -> EtcdOptions {
        EtcdOptions::new(vec![self.url()], format!("/springald/{cluster}/"))
    }

    /// A store on this etcd, below the prefix of cluster `cluster`.
    pub(crate) async fn store(&self, cluster: &str) -> EtcdStore {
        EtcdStore::connect(self.options(cluster)).await.expect("connected to the etcd that was started")
    }

    /// Kills etcd as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It fails only when the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts etcd again on its data, with the same URL.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        if let Err(status) = self.run().await {
            panic!("etcd ended with {status}:\n{}", self.log());
        }
    }

    /// Starts the process and waits until it is ready; the status if it ends instead.
    async fn run(&mut self) -> Result<(), ExitStatus> {
        let log = File::create(self.log_file()).expect("the log file can be written");
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        let child = Command::new("etcd")
            .args(["--name", "test", "--initial-cluster", &format!("test={peer}")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            // One member elects itself at once, and leases as short as 1 s are granted.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd can be started");
        let child = self.running.insert(child);
        let deadline = Instant::now() + START_DEADLINE;
        let mut poll = interval(Duration::from_millis(20));
        while !is_ready(self.scheme, self.client_port).await {
            if let Some(status) = child.try_wait().expect("etcd is a child of this process") {
                self.running = None;
                return Err(status);
            }
            assert!(Instant::now() < deadline, "etcd was not ready within {START_DEADLINE:?}");
            poll.tick().await;
        }
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for TestEtcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Plain etcd says on `/health` when it has a leader; with TLS, listening is all that can be seen without certificates.
async fn is_ready(scheme: &str, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    if scheme == "https" {
        return true;
    }
    let request = b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.contains(r#""health":"true""#)
}
