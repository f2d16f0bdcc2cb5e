//! What to start, with which files: decided before anything is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::UpOptions;
use super::programs::Programs;
use super::up::Ports;
use crate::files::{self, render, texts};
use crate::{Result, http};

/// Name of the cluster in etcd, in events and in metrics.
const CLUSTER: &str = "local";

/// A process to start.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub events: Option<PathBuf>,
    pub health: String,
    pub addresses: BTreeMap<String, String>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Folders to make.
    pub folders: Vec<PathBuf>,
    /// Files to write.
    pub files: Vec<(PathBuf, String)>,
    /// What starts first: the stores.
    pub first: Vec<Planned>,
    /// What starts when the stores are set up.
    pub second: Vec<Planned>,
    /// The NATS server, `nats://…`.
    pub nats: Option<String>,
    /// ClickHouse, `http://…`.
    pub clickhouse: Option<String>,
}

/// Makes the plan, part by part.
struct Planner<'a> {
    options: &'a UpOptions,
    directory: &'a Path,
    ports: &'a mut Ports,
    plan: Plan,
    etcd: String,
    clickhouse_metrics: Option<String>,
    rest: Vec<String>,
    metrics: Vec<(&'static str, String)>,
}

impl Plan {
    /// Decides everything; touches nothing but free ports.
    pub(super) fn new(
        options: &UpOptions,
        directory: &Path,
        springald: &Path,
        programs: &Programs,
        ports: &mut Ports,
    ) -> Result<Self> {
        let folders = ["config", "data", "events", "logs"].map(|name| directory.join(name)).to_vec();
        let plan = Self { folders, ..Self::default() };
        let mut planner = Planner {
            options,
            directory,
            ports,
            plan,
            etcd: String::new(),
            clickhouse_metrics: None,
            rest: vec![],
            metrics: vec![],
        };
        if let Some(program) = &programs.etcd {
            planner.etcd(program)?;
        }
        if let Some(program) = &programs.nats {
            planner.nats(program, programs.nats_syncs)?;
        }
        match (&options.clickhouse, &programs.clickhouse) {
            (Some(url), _) => planner.plan.clickhouse = Some(url.trim_end_matches('/').to_owned()),
            (None, Some(program)) => planner.clickhouse(program)?,
            (None, None) => {}
        }
        planner.springald(springald)?;
        if let Some(program) = &programs.vector {
            planner.vector(program)?;
        }
        let prometheus = programs.prometheus.as_deref().map(|program| planner.prometheus(program)).transpose()?;
        if let Some(program) = &programs.grafana {
            planner.grafana(program, prometheus.as_deref())?;
        }
        Ok(planner.plan)
    }
}

impl Planner<'_> {
    fn address(&mut self) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.ports.next()?))
    }

    fn config(&mut self, name: &str, text: String) -> PathBuf {
        let path = self.directory.join("config").join(name);
        self.plan.files.push((path.clone(), text));
        path
    }

    /// A folder for a service's data.
    fn data(&mut self, name: &str) -> PathBuf {
        let path = self.directory.join("data").join(name);
        self.plan.folders.push(path.clone());
        path
    }

    fn etcd(&mut self, program: &Path) -> Result<()> {
        let (client, peer) = (format!("http://{}", self.address()?), format!("http://{}", self.address()?));
        let data = self.data("etcd");
        let mut arguments = strings(&["--name", "etcd", "--data-dir"]);
        arguments.push(data.display().to_string());
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            arguments.extend([flag.to_owned(), client.clone()]);
        }
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            arguments.extend([flag.to_owned(), peer.clone()]);
        }
        arguments.extend(["--initial-cluster".to_owned(), format!("etcd={peer}")]);
        self.plan.first.push(planned("etcd", program, arguments, format!("{client}/health"), &[("client", &client)]));
        self.etcd = client;
        Ok(())
    }

    fn nats(&mut self, program: &Path, syncs: bool) -> Result<()> {
        let (client, http, data) = (self.address()?, self.address()?, self.data("nats"));
        let mut text = render(
            files::NATS,
            &[("0.0.0.0:4222", &client), ("0.0.0.0:8222", &http), ("/data/jetstream", &data.display().to_string())],
        )?;
        if !syncs {
            text = render(&text, &[("  sync_interval: always\n", "")])?;
        }
        let config = self.config("nats.conf", text);
        let (health, url) = (format!("http://{http}/healthz"), format!("nats://{client}"));
        let arguments = vec!["--config".to_owned(), config.display().to_string()];
        self.plan.first.push(planned("nats", program, arguments, health, &[("client", &url), ("http", &http)]));
        self.plan.nats = Some(url);
        Ok(())
    }

    fn clickhouse(&mut self, program: &Path) -> Result<()> {
        let (http, tcp, metrics, data) =
            (self.ports.next()?, self.ports.next()?, self.ports.next()?, self.data("clickhouse"));
        // The one binary has the server's built-in configuration; what differs is given as flags.
        let mut arguments = match program.file_name().is_some_and(|name| name == "clickhouse") {
            true => strings(&["server", "--"]),
            false => strings(&["--"]),
        };
        arguments.extend([
            format!("--path={}/", data.display()),
            format!("--http_port={http}"),
            format!("--tcp_port={tcp}"),
            "--mysql_port=0".to_owned(),
            "--postgresql_port=0".to_owned(),
            "--listen_host=127.0.0.1".to_owned(),
            "--prometheus.endpoint=/metrics".to_owned(),
            format!("--prometheus.port={metrics}"),
        ]);
        let url = format!("http://127.0.0.1:{http}");
        self.plan.first.push(planned("clickhouse", program, arguments, format!("{url}/ping"), &[("http", &url)]));
        self.clickhouse_metrics = Some(format!("127.0.0.1:{metrics}"));
        self.plan.clickhouse = Some(url);
        Ok(())
    }

    fn springald(&mut self, program: &Path) -> Result<()> {
        for number in 1..=self.options.schedulers {
            let (sql, control, rest) = (self.address()?, self.address()?, self.address()?);
            let mut arguments = strings(&["scheduler"]);
            for (flag, address) in [("flight-sql", &sql), ("control", &control), ("rest", &rest)] {
                arguments.extend([format!("--{flag}-port"), port(address).to_owned()]);
            }
            self.process(
                program,
                &format!("scheduler-{number}"),
                arguments,
                &[("flight_sql", &format!("grpc://{sql}")), ("rest", &format!("http://{rest}"))],
            )?;
            self.rest.push(rest);
        }
        for number in 1..=self.options.executors {
            let (exchange, spill) = (self.address()?, self.data(&format!("executor-{number}")));
            let mut arguments =
                strings(&["executor", "--exchange-port", port(&exchange), "--memory", &self.options.memory]);
            arguments.extend(["--slots".to_owned(), self.options.slots.to_string()]);
            arguments.extend(["--spill-dir".to_owned(), spill.display().to_string()]);
            self.process(program, &format!("executor-{number}"), arguments, &[("exchange", &exchange)])?;
        }
        Ok(())
    }

    /// A scheduler or executor.
    fn process(
        &mut self,
        program: &Path,
        name: &str,
        mut arguments: Vec<String>,
        addresses: &[(&str, &String)],
    ) -> Result<()> {
        let telemetry = self.address()?;
        let events = self.directory.join("events").join(format!("{name}.jsonl"));
        arguments.extend(["--etcd".to_owned(), self.etcd.clone(), "--cluster".to_owned(), CLUSTER.to_owned()]);
        arguments.extend(["--telemetry-port".to_owned(), port(&telemetry).to_owned()]);
        arguments.extend(["--set".to_owned(), format!("telemetry.log_file={}", events.display())]);
        let mut addresses = addresses.to_vec();
        addresses.push(("telemetry", &telemetry));
        let planned = planned(name, program, arguments, format!("http://{telemetry}/ready"), &addresses);
        self.plan.second.push(Planned { events: Some(events), ..planned });
        Ok(())
    }

    /// The edge, and an aggregator if there is a table to write to.
    fn vector(&mut self, program: &Path) -> Result<()> {
        let vrl = self.directory.join("config").join("vrl");
        for (name, text) in texts(&files::VRL, "vrl") {
            self.plan.files.push((vrl.join(name), text.to_owned()));
        }
        let Some(nats) = self.plan.nats.clone() else { return Ok(()) };
        let events = self.directory.join("events").display().to_string();
        self.vector_process(
            program,
            "edge",
            files::EDGE,
            &[("nats://nats:4222", &nats), ("/var/log/springald", &events)],
        )?;
        let Some(clickhouse) = self.plan.clickhouse.clone() else { return Ok(()) };
        let replaced = [("nats://nats:4222", nats.as_str()), ("http://clickhouse:8123", &clickhouse)];
        self.vector_process(program, "aggregator", files::AGGREGATOR, &replaced)
    }

    fn vector_process(
        &mut self,
        program: &Path,
        name: &'static str,
        text: &str,
        replaced: &[(&str, &str)],
    ) -> Result<()> {
        let (metrics, data) = (self.address()?, self.data(name).display().to_string());
        let vrl = self.directory.join("config").join("vrl").display().to_string();
        let own = [("/var/lib/vector", data.as_str()), ("/etc/vector/vrl", &vrl), ("0.0.0.0:9598", &metrics)];
        let text = render(&render(text, replaced)?, &own)?;
        let config = self.config(&format!("{name}.yaml"), text);
        let arguments = vec!["--config".to_owned(), config.display().to_string()];
        self.plan.second.push(planned(
            name,
            program,
            arguments,
            format!("http://{metrics}/metrics"),
            &[("metrics", &metrics)],
        ));
        self.metrics.push((name, metrics));
        Ok(())
    }

    /// Returns its address.
    fn prometheus(&mut self, program: &Path) -> Result<String> {
        let (listen, data) = (self.address()?, self.data("prometheus"));
        let rules = self.directory.join("config").join("rules");
        if let Some(folder) = files::PROMETHEUS.get_dir("rules") {
            for (name, text) in texts(folder, "yml") {
                self.plan.files.push((rules.join(name), text.to_owned()));
            }
        }
        let text = self.scraped(&rules)?;
        let config = self.config("prometheus.yml", text);
        let arguments = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={listen}"),
            "--storage.tsdb.retention.time=15d".to_owned(),
        ];
        let url = format!("http://{listen}");
        self.plan.second.push(planned("prometheus", program, arguments, format!("{url}/-/ready"), &[("http", &url)]));
        Ok(url)
    }

    /// What Prometheus scrapes here. What is left out is scraped all the same where it would be: down, as it is.
    fn scraped(&self, rules: &Path) -> Result<String> {
        let text =
            files::PROMETHEUS.get_file("prometheus.yml").and_then(|file| file.contents_utf8()).unwrap_or_default();
        // With one scheduler, the second entry of the discovery names it again, which changes nothing.
        let first = self.rest.first().cloned().unwrap_or_default();
        let second = self.rest.get(1).unwrap_or(&first);
        let metrics = |name: &str| self.metrics.iter().find(|(of, _)| *of == name).map(|(_, address)| address.as_str());
        let etcd = self.etcd.trim_start_matches("http://");
        let mut text = render(
            text,
            &[
                ("scheduler-1:8080", &first),
                ("scheduler-2:8080", second),
                ("etcd:2379", etcd),
                ("/etc/prometheus/rules", &rules.display().to_string()),
            ],
        )?;
        for (name, port, address) in [
            ("edge", "edge:9598", metrics("edge")),
            ("aggregator", "aggregator:9598", metrics("aggregator")),
            ("clickhouse", "clickhouse:9363", self.clickhouse_metrics.as_deref()),
        ] {
            if let Some(address) = address {
                text = render(&text, &[(port, address)])?;
            } else {
                text = without_target(&text, name, port)?;
            }
        }
        Ok(text)
    }

    fn grafana(&mut self, program: &Path, prometheus: Option<&str>) -> Result<()> {
        let (listen, data) = (self.address()?, self.data("grafana"));
        let config = self.directory.join("config").join("grafana");
        let file = |path: &str| files::GRAFANA.get_file(path).and_then(|file| file.contents_utf8()).unwrap_or_default();
        let mut sources = file("provisioning/datasources/springald.yml").to_owned();
        if let Some(prometheus) = prometheus {
            sources = render(&sources, &[("http://prometheus:9090", prometheus)])?;
        }
        if let Some(clickhouse) = &self.plan.clickhouse {
            let url = http::address(clickhouse)?;
            let with_host = format!("host: {}", url.host_str().unwrap_or_default());
            let with_port = format!("port: {}", url.port().unwrap_or(80));
            sources = render(&sources, &[("host: clickhouse", &with_host), ("port: 8123", &with_port)])?;
        }
        let dashboards = config.join("json");
        let provider = file("provisioning/dashboards/springald.yml");
        let provider = render(provider, &[("/var/lib/grafana/dashboards", &dashboards.display().to_string())])?;
        self.plan.files.push((config.join("datasources/springald.yml"), sources));
        self.plan.files.push((config.join("dashboards/springald.yml"), provider));
        if let Some(folder) = files::GRAFANA.get_dir("dashboards") {
            for (name, text) in texts(folder, "json") {
                self.plan.files.push((dashboards.join(name), text.to_owned()));
            }
        }
        // Packages install the rest of Grafana here.
        let home = std::env::var("GRAFANA_HOME").unwrap_or_else(|_| "/usr/share/grafana".to_owned());
        let arguments = vec!["server".to_owned(), format!("--homepath={home}")];
        let url = format!("http://{listen}");
        let mut grafana = planned("grafana", program, arguments, format!("{url}/api/health"), &[("http", &url)]);
        grafana.environment = [
            ("GF_PATHS_DATA", data.display().to_string()),
            ("GF_PATHS_PROVISIONING", config.display().to_string()),
            ("GF_SERVER_HTTP_ADDR", "127.0.0.1".to_owned()),
            ("GF_SERVER_HTTP_PORT", port(&listen).to_owned()),
            ("GF_AUTH_ANONYMOUS_ENABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        self.plan.second.push(grafana);
        Ok(())
    }
}

/// Prometheus' configuration without a target that is not there.
fn without_target(text: &str, name: &str, target: &str) -> Result<String> {
    match name {
        "edge" => render(text, &[(&format!("{target}, "), "")]),
        "aggregator" if text.contains(&format!(", {target}")) => render(text, &[(&format!(", {target}"), "")]),
        _ => render(text, &[(target, "")]),
    }
}

fn planned(
    name: &str,
    program: &Path,
    arguments: Vec<String>,
    health: String,
    addresses: &[(&str, &String)],
) -> Planned {
    let addresses = addresses.iter().map(|(what, address)| ((*what).to_owned(), (*address).clone())).collect();
    let (name, program) = (name.to_owned(), program.to_owned());
    Planned { name, program, arguments, environment: vec![], events: None, health, addresses }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::options::Place;

    fn options() -> UpOptions {
        let place = Place { directory: "/d".into() };
        UpOptions {
            place,
            schedulers: 2,
            executors: 3,
            slots: 1,
            memory: "1GiB".to_owned(),
            clickhouse: None,
            full: false,
            wait: 1,
        }
    }

    fn plan(programs: &Programs) -> Plan {
        let plan = Plan::new(&options(), Path::new("/d"), Path::new("/springald"), programs, &mut Ports::default());
        plan.expect("a plan")
    }

    fn names(planned: &[Planned]) -> Vec<&str> {
        planned.iter().map(|one| one.name.as_str()).collect()
    }

    fn everything() -> Programs {
        let there = |name: &str| Some(PathBuf::from(name));
        Programs {
            etcd: there("/etcd"),
            nats: there("/nats-server"),
            clickhouse: there("/clickhouse"),
            vector: there("/vector"),
            prometheus: there("/prometheus"),
            grafana: there("/grafana"),
            nats_syncs: true,
            missing: BTreeMap::new(),
        }
    }

    #[test]
    fn given_all_programs_when_planned_then_no_name_of_a_container_and_no_path_in_one_is_left() {
        let plan = plan(&everything());
        assert_eq!(names(&plan.first), ["etcd", "nats", "clickhouse"]);
        let wanted = [
            "scheduler-1",
            "scheduler-2",
            "executor-1",
            "executor-2",
            "executor-3",
            "edge",
            "aggregator",
            "prometheus",
            "grafana",
        ];
        assert_eq!(names(&plan.second), wanted);
        let left = [
            "nats:4222",
            "clickhouse:",
            ":9598",
            "prometheus:9090",
            "/var/lib/",
            "/etc/vector",
            "/etc/prometheus",
            "store_dir: /data/",
            "0.0.0.0",
        ];
        for (path, text) in plan.files.iter().filter(|(path, _)| path.extension().is_none_or(|end| end != "json")) {
            let text: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
            for name in left {
                assert!(!text.contains(name), "{}: {name}", path.display());
            }
        }
    }

    #[test]
    fn given_schedulers_and_executors_when_planned_then_the_files_of_their_events_are_known() {
        for one in plan(&everything()).second {
            let ours = one.program == Path::new("/springald");
            let file = format!("/d/events/{}.jsonl", one.name);
            assert_eq!(one.arguments.contains(&format!("telemetry.log_file={file}")), ours, "{}", one.name);
            assert_eq!(one.events, ours.then(|| PathBuf::from(file)), "{}", one.name);
        }
    }

    #[test]
    fn given_no_vector_and_no_clickhouse_when_planned_then_prometheus_does_not_scrape_them() {
        let programs = Programs { vector: None, clickhouse: None, grafana: None, nats_syncs: false, ..everything() };
        let plan = plan(&programs);
        assert_eq!(names(&plan.first), ["etcd", "nats"]);
        let text = |name: &str| &plan.files.iter().find(|(path, _)| path.ends_with(name)).expect("the file").1;
        assert!(!text("nats.conf").contains("\n  sync_interval"));
        let scraped: String = text("prometheus.yml").lines().filter(|line| line.contains("targets:")).collect();
        assert!(!scraped.contains("9598") && !scraped.contains("9363"), "{scraped}");
    }
}
