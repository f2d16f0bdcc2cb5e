//! `deploy/compose`, read as a container engine reads it: no image without a version, no file that is missing, no port twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::{Mapping, Value};
use springald_tests::process::binary;
use springald_tests::workspace;

fn folder() -> PathBuf {
    workspace().join("deploy/compose")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file, with `<<` merged in.
fn compose() -> Value {
    merged(serde_yaml::from_str(&read(&folder().join("compose.yaml"))).expect("YAML"))
}

fn merged(value: Value) -> Value {
    let Value::Mapping(mapping) = value else { return value };
    let mut all = Mapping::new();
    if let Some(Value::Mapping(base)) = mapping.get(&"<<".into()).cloned().map(merged) {
        all.extend(base);
    }
    for (key, value) in mapping {
        if text(&key) != "<<" {
            all.insert(key, merged(value));
        }
    }
    Value::Mapping(all)
}

fn services(compose: &Value) -> Vec<(String, Value)> {
    let services = compose["services"].as_mapping().expect("services").iter();
    services.map(|(name, service)| (text(name).to_owned(), service.clone())).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().map(|one| text(one).to_owned()).collect()
}

/// True for a service that ends when it is done.
fn ends(service: &Value) -> bool {
    ["no", "on-failure"].contains(&text(&service["restart"]))
}

#[test]
fn given_the_services_then_images_have_versions_and_those_that_stay_have_health_checks() {
    for (name, service) in services(&compose()) {
        let (_, tag) =
            text(&service["image"]).rsplit_once(':').unwrap_or_else(|| panic!("{name}: an image with a version"));
        assert!(
            tag.starts_with(|first: char| first.is_ascii_digit() || first == 'v') && tag.contains('.'),
            "{name}: {tag}"
        );
        // Our own image has its check in the Dockerfile.
        let own = text(&service["image"]).starts_with("springald:");
        let disabled = service["healthcheck"]["disable"] == Value::Bool(true);
        assert_eq!(disabled, ends(&service), "{name}: what ends has no check");
        assert!(own || disabled || service["healthcheck"]["test"].is_sequence(), "{name}: a health check");
    }
}

#[test]
fn given_the_services_then_files_and_volumes_are_there_and_no_port_is_taken_twice() {
    let compose = compose();
    let declared: BTreeSet<&str> =
        compose["volumes"].as_mapping().expect("volumes").iter().map(|(name, _)| text(name)).collect();
    let (mut used, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services(&compose) {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source").to_owned();
            match source.chars().next() {
                Some('.') => assert!(folder().join(&source).exists(), "{name}: {source} is missing"),
                Some('/') => {}
                _ => drop(used.insert(source)),
            }
        }
        for port in texts(&service["ports"]) {
            let parts: Vec<&str> = port.split(':').collect();
            let [address, outside, _] = parts.as_slice() else { panic!("{name}: {port}: address:port:port") };
            assert_eq!(*address, "127.0.0.1", "{name}: open to this machine only");
            assert!(ports.insert((*outside).to_owned()), "{name}: port {outside} is taken");
        }
    }
    assert_eq!(
        used.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        declared,
        "volumes that are used, and declared"
    );
}

#[test]
fn given_the_services_then_they_wait_for_others_that_can_be_waited_for() {
    let compose = compose();
    let all = services(&compose);
    for (name, service) in &all {
        for (other, how) in service["depends_on"].as_mapping().into_iter().flatten() {
            let found = all.iter().find(|(known, _)| known == text(other));
            let (_, other) = found.unwrap_or_else(|| panic!("{name} waits for {other:?}, which is no service"));
            let wanted = if ends(other) { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(text(&how["condition"]), wanted, "{name}");
        }
    }
}

#[test]
fn given_the_configuration_files_then_hosts_in_them_are_services() {
    let names: BTreeSet<String> = services(&compose()).into_iter().map(|(name, _)| name).collect();
    let root = workspace();
    for (file, hosts) in [
        ("vector/edge.yaml", &["nats"][..]),
        ("vector/aggregator.yaml", &["nats", "clickhouse"]),
        (
            "deploy/prometheus/prometheus.yml",
            &["scheduler-1", "scheduler-2", "edge", "aggregator", "etcd", "clickhouse"],
        ),
        ("deploy/grafana/provisioning/datasources/springald.yml", &["prometheus", "clickhouse"]),
        ("deploy/compose/haproxy.cfg", &["scheduler-1", "scheduler-2"]),
    ] {
        let text = read(&root.join(file));
        for host in hosts {
            assert!(text.contains(host), "{file} names {host}");
            assert!(names.contains(*host), "{host} of {file} is a service");
        }
    }
}

#[test]
fn given_the_commands_of_springald_then_the_binary_takes_them() {
    let mut seen = 0;
    for (name, service) in services(&compose()) {
        let command = texts(&service["command"]);
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let arguments = match arguments.as_slice() {
            [role @ ("scheduler" | "executor"), rest @ ..] => {
                [&[*role], rest, &["--bind", "127.0.0.1", "--generate-config"]].concat()
            }
            // Whatever stands before it must be known for help to be given.
            ["springald", rest @ ..] => [rest, &["--help"]].concat(),
            _ => continue,
        };
        let output = Command::new(binary()).args(&arguments).env_clear().output().expect("springald starts");
        assert!(output.status.success(), "{name}: {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        seen += 1;
    }
    assert!(seen >= 5, "schedulers, executors, tables, setup");
}

#[test]
fn given_the_dockerfile_then_it_is_pinned_and_runs_as_nobody_special_and_ends_by_a_signal() {
    let dockerfile = read(&folder().join("Dockerfile"));
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let image = line.split_whitespace().next().expect("an image");
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no version"));
        assert!(tag.contains(|digit: char| digit.is_ascii_digit()), "{image}");
    }
    let last = dockerfile.rsplit("\nFROM ").next().expect("the last stage");
    for wanted in ["USER springald", "STOPSIGNAL SIGTERM", "HEALTHCHECK", "ENTRYPOINT"] {
        assert!(last.contains(wanted), "{wanted}");
    }
    let entrypoint = folder().join("entrypoint.sh");
    let checked = Command::new("sh").arg("-n").arg(&entrypoint).status().expect("a shell");
    assert!(checked.success());
    assert!(read(&entrypoint).contains("exec springald"), "the process gets the container's signals");
}

#[test]
fn given_a_container_engine_when_it_reads_the_file_then_it_takes_it() {
    let there = Command::new("docker").args(["compose", "version"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: docker compose config: there is no docker with compose");
        return;
    }
    let output = Command::new("docker")
        .args(["compose", "-f"])
        .arg(folder().join("compose.yaml"))
        .args(["config", "--quiet"])
        .output();
    let output = output.expect("docker starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
