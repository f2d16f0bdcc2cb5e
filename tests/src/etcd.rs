//! A real etcd for a test: one member or several, which can be killed, stopped and started again.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::wait::{START_DEADLINE, eventually};

/// Ports that were free may be taken by another before etcd listens on them.
const ATTEMPTS: usize = 5;

/// How an etcd is made.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Number of members.
    pub members: usize,
    /// Clients speak TLS with it; what it needs for that is in the flags.
    pub tls: bool,
    /// More flags for every member.
    pub flags: Vec<String>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self { members: 1, tls: false, flags: vec![] }
    }
}

/// An etcd whose members have data directories of their own. Killed when dropped.
pub struct Etcd {
    members: Vec<Member>,
    options: EtcdOptions,
}

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// Health is told here, without TLS.
    health_port: u16,
    directory: TempDir,
    running: Option<Child>,
}

impl Etcd {
    /// Starts one member; see [`Self::start_with`].
    ///
    /// # Panics
    /// As [`Self::start_with`].
    pub async fn start() -> Option<Self> {
        Self::start_with(EtcdOptions::default()).await
    }

    /// Starts etcd from the `PATH`; `None`, after saying so, when there is none.
    ///
    /// # Panics
    /// If there is one and it does not start.
    pub async fn start_with(options: EtcdOptions) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        for _ in 0..ATTEMPTS {
            let mut etcd = Self::prepare(options.clone());
            (0..options.members).for_each(|number| etcd.spawn(number));
            if etcd.is_ready().await {
                return Some(etcd);
            }
            println!("etcd ended at its start:\n{}", etcd.logs());
        }
        panic!("etcd could not be started in {ATTEMPTS} attempts");
    }

    /// The client URLs of all members, separated by commas.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        let urls: Vec<String> =
            self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.client_port)).collect();
        urls.join(",")
    }

    /// The member `number`, from 0, as a server of JSON. Not with TLS.
    ///
    /// # Panics
    /// If there is none.
    pub fn http(&self, number: usize) -> Http {
        Http::at(&format!("127.0.0.1:{}", self.members[number].client_port))
    }

    /// Kills a member, as a crash would.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].running.take() {
            // It fails only when the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills all members.
    pub fn kill_all(&mut self) {
        (0..self.members.len()).for_each(|number| self.kill(number));
    }

    /// Starts those members again that were killed, on their data, and waits until there is a leader.
    ///
    /// # Panics
    /// If they do not start.
    pub async fn restart(&mut self) {
        for number in 0..self.members.len() {
            if self.members[number].running.is_none() {
                self.spawn(number);
            }
        }
        assert!(self.is_ready().await, "etcd ended:\n{}", self.logs());
    }

    /// Sends a signal to all members, as `STOP`.
    ///
    /// # Panics
    /// If one does not run.
    pub fn signal_all(&self, name: &str) {
        for member in &self.members {
            let child = member.running.as_ref().expect("it runs");
            let kill = format!("kill -{name} {}", child.id());
            let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
            assert!(sent.success(), "{kill}: {sent}");
        }
    }

    /// Number of the member that leads.
    ///
    /// # Panics
    /// If none comes to lead in time.
    pub async fn leader(&self) -> usize {
        eventually("etcd has a leader", START_DEADLINE, async || self.leads_now().await).await
    }

    /// Makes another member lead. One that is busy may not take over at the first word.
    ///
    /// # Panics
    /// If none does in time.
    pub async fn move_leader(&self) {
        let before = self.leader().await;
        eventually("another member leads", START_DEADLINE, async || {
            let leader = self.leads_now().await?;
            if leader != before {
                return Ok(());
            }
            let next = (leader + 1) % self.members.len();
            let target = self.status(next).await?["header"]["member_id"].clone();
            let transfer = json!({"targetID": target});
            let moved = self.http(leader).post("/v3/maintenance/transfer-leadership", &transfer).await?;
            Err(format!("member {before} has led up to now, and says {moved}"))
        })
        .await;
    }

    async fn leads_now(&self) -> Result<usize, String> {
        for number in 0..self.members.len() {
            if let Ok(status) = self.status(number).await
                && status["leader"] == status["header"]["member_id"]
                && status["leader"].is_string()
            {
                return Ok(number);
            }
        }
        Err("nobody leads".to_owned())
    }

    async fn status(&self, number: usize) -> Result<Value, String> {
        self.http(number).post("/v3/maintenance/status", &json!({})).await
    }

    fn prepare(options: EtcdOptions) -> Self {
        let members = (0..options.members)
            .map(|number| Member {
                name: format!("m{number}"),
                client_port: free_port(),
                peer_port: free_port(),
                health_port: free_port(),
                directory: TempDir::new().expect("a temporary directory"),
                running: None,
            })
            .collect();
        Self { members, options }
    }

    fn spawn(&mut self, number: usize) {
        let peers: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        let scheme = if self.options.tls { "https" } else { "http" };
        let member = &mut self.members[number];
        let client = format!("{scheme}://127.0.0.1:{}", member.client_port);
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let health = format!("http://127.0.0.1:{}", member.health_port);
        let log = File::options().create(true).append(true).open(member.directory.path().join("log"));
        let child = Command::new("etcd")
            .args(["--name", &member.name, "--initial-cluster", &peers.join(",")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &health])
            .arg("--data-dir")
            .arg(member.directory.path().join("data"))
            .args(&self.options.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a file for the log"))
            .spawn()
            .expect("etcd can be started");
        member.running = Some(child);
    }

    /// Waits until every member has a leader; false if one ends instead.
    async fn is_ready(&mut self) -> bool {
        for member in &mut self.members {
            let http = Http::at(&format!("127.0.0.1:{}", member.health_port));
            let child = member.running.as_mut().expect("it was started");
            let ready = eventually("etcd has a leader", START_DEADLINE, async || {
                if child.try_wait().expect("a child of this process").is_some() {
                    return Ok(false);
                }
                let answer = http.get("/health").await?;
                if answer.body.contains(r#""health":"true""#) { Ok(true) } else { Err(answer.body) }
            })
            .await;
            if !ready {
                return false;
            }
        }
        true
    }

    fn logs(&self) -> String {
        let log = |member: &Member| fs::read_to_string(member.directory.path().join("log")).unwrap_or_default();
        self.members.iter().map(log).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// A time that no lease of these tests outlives, when etcd does not hear of its holder: that of the default settings, and
/// what etcd takes to notice.
pub const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(5);

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
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
