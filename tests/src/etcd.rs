//! A real etcd for a test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::http::Http;
use crate::wait::{START_DEADLINE, eventually};

/// Ports that were free may be taken by another before etcd listens on them.
const ATTEMPTS: usize = 5;

/// One etcd member with a data directory of its own. Killed when dropped.
pub struct Etcd {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Etcd {
    /// Starts etcd from the `PATH`; `None`, after saying so, when there is none.
    ///
    /// # Panics
    /// If there is one and it does not start.
    pub async fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::spawn();
            if etcd.is_ready().await {
                return Some(etcd);
            }
            println!(
                "etcd ended at its start:\n{}",
                fs::read_to_string(etcd.directory.path().join("log")).unwrap_or_default()
            );
        }
        panic!("etcd could not be started in {ATTEMPTS} attempts");
    }

    /// The client URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn spawn() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
        let log = File::create(directory.path().join("log")).expect("a file for the log");
        let child = Command::new("etcd")
            .args(["--name", "test", "--initial-cluster", &format!("test={peer}")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd can be started");
        Self { child, port, directory }
    }

    /// Waits until it has a leader; false if it ends instead.
    async fn is_ready(&mut self) -> bool {
        let http = Http::at(&format!("127.0.0.1:{}", self.port));
        eventually("etcd", START_DEADLINE, async || {
            if self.child.try_wait().expect("a child of this process").is_some() {
                return Ok(false);
            }
            let answer = http.get("/health").await?;
            if answer.body.contains(r#""health":"true""#) { Ok(true) } else { Err(answer.body) }
        })
        .await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if there is an etcd on the `PATH`; says so when there is none.
pub fn is_installed() -> bool {
    match Command::new("etcd").arg("--version").stdout(Stdio::null()).status() {
        Ok(_) => true,
        Err(error) => {
            println!("SKIPPED: there is no etcd on the PATH ({error}); install etcd 3.4 or newer to run this");
            false
        }
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
