//! The cluster that is tormented: a three-member etcd, schedulers and executors, each on a host of its own.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::net::{Host, Net, Ports};
use super::node::{Node, Role};
use crate::http::Http;
use crate::wait::{START_DEADLINE, eventually};

const NAME: &str = "chaos";
const ETCD_MEMBERS: usize = 3;
/// A query that was submitted twice, because the first answer was lost, leaves a result that nobody fetches; for so long.
const RETENTION: &str = "scheduler.result_retention=30s";
/// What must be gone from the store when nothing runs.
const TRANSIENT_KEYS: [&str; 4] = ["jobs/owner/", "jobs/plan/", "jobs/outcomes/", "jobs/cancel/"];

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Flight SQL of all schedulers, whichever of them live.
    pub(crate) urls: String,
    pub(crate) has_links: bool,
    /// REST of the schedulers, in their order.
    pub(crate) rests: Vec<Http>,
    /// Metrics of the executors, in their order.
    pub(crate) telemetries: Vec<Http>,
    etcds: Vec<Http>,
    // After the processes in it.
    _net: Net,
}

impl Cluster {
    pub(crate) async fn start(schedulers: usize, executors: usize, slots: u32, memory: &str) -> Self {
        let net = Net::new(ETCD_MEMBERS + schedulers + executors);
        let mut nodes = vec![];
        // All ports are chosen before anything takes one.
        let (mut ports, first_executor) = (Ports::default(), ETCD_MEMBERS + schedulers);
        let members = places(&net, 0..ETCD_MEMBERS, &mut ports, [2379, 2380]);
        let scheduler_places = places(&net, ETCD_MEMBERS..first_executor, &mut ports, [50050, 50051, 8080, 9100]);
        let executor_places = places(&net, first_executor..first_executor + executors, &mut ports, [50052, 9100]);
        drop(ports);
        let peers: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(number, (host, [_, peer]))| format!("m{number}=http://{}:{peer}", host.address))
            .collect();
        let clients: Vec<String> =
            members.iter().map(|(host, [client, _])| format!("{}:{client}", host.address)).collect();
        for (number, (host, [client, peer])) in members.iter().enumerate() {
            let (client, peer) =
                (format!("http://{}:{client}", host.address), format!("http://{}:{peer}", host.address));
            nodes.push(Node::start(Role::Etcd, format!("etcd {number}"), host.clone(), |data| {
                let name = format!("m{number}");
                let data = data.join("data").display().to_string();
                let flags = [
                    ("name", name.as_str()),
                    ("data-dir", &data),
                    ("initial-cluster", &peers.join(",")),
                    ("listen-client-urls", &client),
                    ("advertise-client-urls", &client),
                    ("listen-peer-urls", &peer),
                    ("initial-advertise-peer-urls", &peer),
                ];
                flags.iter().flat_map(|(flag, value)| [format!("--{flag}"), (*value).to_owned()]).collect()
            }));
        }
        let etcds: Vec<Http> = clients.iter().map(|address| Http::at(address)).collect();
        for etcd in &etcds {
            eventually("etcd has a leader", START_DEADLINE, async || {
                let health = etcd.get("/health").await?;
                if health.body.contains(r#""health":"true""#) { Ok(()) } else { Err(health.body) }
            })
            .await;
        }
        let etcd_urls = clients.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>().join(",");
        let (mut urls, mut rests, mut telemetries) = (vec![], vec![], vec![]);
        for (number, (host, [flight, control, rest, telemetry])) in scheduler_places.into_iter().enumerate() {
            urls.push(format!("grpc://{}:{flight}", host.address));
            rests.push(Http::at(&format!("{}:{rest}", host.address)));
            let ports = [
                ("--flight-sql-port", flight),
                ("--control-port", control),
                ("--rest-port", rest),
                ("--telemetry-port", telemetry),
            ];
            let mut arguments = common("scheduler", &etcd_urls, &host, &ports);
            arguments.extend(["--set".to_owned(), RETENTION.to_owned()]);
            nodes.push(Node::start(Role::Scheduler, format!("scheduler {number}"), host, |_| arguments.clone()));
        }
        for (number, (host, [exchange, telemetry])) in executor_places.into_iter().enumerate() {
            telemetries.push(Http::at(&format!("{}:{telemetry}", host.address)));
            let ports = [("--exchange-port", exchange), ("--telemetry-port", telemetry)];
            let mut arguments = common("executor", &etcd_urls, &host, &ports);
            arguments.extend(["--slots".to_owned(), slots.to_string(), "--memory".to_owned(), memory.to_owned()]);
            nodes.push(Node::start(Role::Executor, format!("executor {number}"), host, |_| arguments.clone()));
        }
        let has_links = net.has_links;
        let mut cluster = Self { nodes, urls: urls.join(","), has_links, rests, telemetries, etcds, _net: net };
        cluster.ready().await;
        cluster
    }

    /// Waits until every executor is connected to every scheduler.
    pub(crate) async fn ready(&mut self) {
        let schedulers = self.rests.len();
        for (number, telemetry) in self.telemetries.iter().enumerate() {
            eventually(
                &format!("executor {number} is connected to all schedulers"),
                Duration::from_secs(60),
                async || {
                    let connected = telemetry.metric("springald_executor_schedulers_connected").await? as usize;
                    if connected >= schedulers { Ok(()) } else { Err(format!("{connected}")) }
                },
            )
            .await;
        }
    }

    /// The nodes of a role that nothing is wrong with.
    pub(crate) fn healthy(&self, role: Role) -> Vec<usize> {
        let healthy = self.nodes.iter().enumerate().filter(|(_, node)| node.role == role && node.ailment.is_none());
        healthy.map(|(number, _)| number).collect()
    }

    /// All nodes of a role.
    pub(crate) fn all(&self, role: Role) -> Vec<usize> {
        let all = self.nodes.iter().enumerate().filter(|(_, node)| node.role == role);
        all.map(|(number, _)| number).collect()
    }

    /// Has a scheduler tell an executor to drain; false if none does.
    pub(crate) async fn drain(&mut self, executor: usize) -> bool {
        let Some(id) = self.nodes[executor].id() else { return false };
        let schedulers = self.all(Role::Scheduler);
        let path = format!("/api/v1/executors/{id}/drain");
        for (number, rest) in schedulers.iter().zip(&self.rests) {
            if self.nodes[*number].ailment.is_none() && rest.post_status(&path, &json!({})).await == Ok(202) {
                self.nodes[executor].leaves();
                return true;
            }
        }
        false
    }

    /// Copies the logs of all processes into a directory, each node's in the order of its lives.
    pub(crate) fn keep_logs(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        self.nodes.iter().try_for_each(|node| {
            let name = node.name.replace(' ', "-");
            std::fs::write(directory.join(format!("{name}.jsonl")), node.log())
        })
    }

    /// Waits until nothing is left of all that ran. The error says what is.
    pub(crate) async fn idle(&self, deadline: Duration) -> Result<(), String> {
        super::settled(async || self.is_idle().await, deadline).await
    }

    async fn is_idle(&self) -> Result<(), String> {
        for rest in &self.rests {
            rest.no_live_jobs().await?;
        }
        for (number, telemetry) in self.telemetries.iter().enumerate() {
            telemetry.is_idle().await.map_err(|left| format!("executor {number}: {left}"))?;
        }
        let etcd = self.etcds.first().ok_or("there is no etcd")?;
        for prefix in TRANSIENT_KEYS {
            let key = format!("/springald/{NAME}/{prefix}");
            let mut end = key.clone().into_bytes();
            end.last_mut().into_iter().for_each(|last| *last += 1);
            let range = json!({"key": BASE64_STANDARD.encode(&key), "range_end": BASE64_STANDARD.encode(end), "count_only": true});
            let answer: Value = etcd.post("/v3/kv/range", &range).await?;
            // Left out where it is zero.
            if let Some(count) = answer["count"].as_str() {
                return Err(format!("{count} keys below {key}"));
            }
            if answer["header"].is_null() {
                return Err(format!("etcd answers {answer}"));
            }
        }
        Ok(())
    }
}

/// These hosts, each with ports for what usually has the ports `usual`.
fn places<const N: usize>(net: &Net, hosts: Range<usize>, ports: &mut Ports, usual: [u16; N]) -> Vec<(Host, [u16; N])> {
    let place = |host: Host| (host.clone(), usual.map(|usual| host.port(ports, usual)));
    hosts.map(|number| net.host(number)).map(place).collect()
}

fn common(role: &str, etcd: &str, host: &Host, ports: &[(&str, u16)]) -> Vec<String> {
    let mut arguments: Vec<String> = [role, "--etcd", etcd, "--cluster", NAME].map(str::to_owned).into();
    for (flag, port) in ports {
        arguments.extend([(*flag).to_owned(), port.to_string()]);
    }
    let address = &host.address;
    for setting in [format!("{role}.bind={address}"), format!("telemetry.bind={address}")] {
        arguments.extend(["--set".to_owned(), setting]);
    }
    arguments
}
