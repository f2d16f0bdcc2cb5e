//! `springald cluster`: what it starts is there, what is missing is named, and what it ends is gone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use springald_client::Client;
use springald_deploy::cluster::{Service, State};
use springald_tests::Http;
use springald_tests::process::binary;
use springald_tests::servers::nats_program;
use springald_tests::wait::{SETTLE_DEADLINE, eventually};
use tempfile::TempDir;

/// Runs a command on the cluster in `directory`. `NAME=path` of `programs` says where a program is.
fn cluster(directory: &Path, arguments: &[&str], programs: &BTreeMap<&str, String>) -> Output {
    let mut command = Command::new(binary());
    command.arg("cluster").args(arguments).arg("--directory").arg(directory).envs(programs);
    command.output().expect("springald starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whatever a test does, what it started is ended.
struct Ended(TempDir);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.0.path().join("state.json").exists() {
            cluster(self.0.path(), &["down", "--wait", "5"], &BTreeMap::new());
        }
    }
}

/// True if the process is gone, or has ended and only waits for its parent.
fn has_ended(service: &Service) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.pid));
    stat.ok().is_none_or(|stat| stat.contains(") Z "))
}

/// Kills the processes whose names begin so.
async fn kill_all(directory: &Path, named: &str) {
    let state = State::expected(directory).expect("the state");
    for service in state.services.iter().filter(|service| service.name.starts_with(named)) {
        let kill = format!("kill -KILL {}", service.pid);
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success(), "{}", service.name);
        eventually(&format!("{} has ended", service.name), SETTLE_DEADLINE, async || {
            if has_ended(service) { Ok(()) } else { Err("it lives".to_owned()) }
        })
        .await;
    }
}

/// Logs have the events, of which there are as many lines as are wanted.
fn logs_have_the_events(directory: &Path, programs: &BTreeMap<&str, String>) {
    for (name, event) in [("scheduler-1", "scheduler.started"), ("executor-1", "executor.started")] {
        let logs = out(&cluster(directory, &["logs", name, "-n", "1000"], programs));
        assert!(logs.starts_with(&format!("== {name} (")), "{logs}");
        let found = logs.lines().filter(|line| line.contains(&format!(r#""event":"{event}""#))).count();
        assert_eq!(found, 1, "{event}: {logs}");
        let last = out(&cluster(directory, &["logs", name, "-n", "1"], programs));
        assert_eq!(last.lines().filter(|line| line.starts_with('{')).count(), 1, "{last}");
    }
    assert!(!cluster(directory, &["logs", "executor-9"], programs).status.success());
}

/// An executor without a scheduler lives and is not ready; when all of them were lost, they come back together.
async fn schedulers_and_executors_wait_for_each_other(directory: &Path, programs: &BTreeMap<&str, String>) {
    kill_all(directory, "scheduler-").await;
    let state = State::expected(directory).expect("the state");
    let executor = Http::at(&state.known("executor-1").expect("it is there").addresses["telemetry"]);
    eventually("the executor is not ready", SETTLE_DEADLINE, async || {
        let answer = executor.get("/ready").await?;
        let why = answer.status == 503 && answer.body.contains("no control stream to a scheduler");
        if why { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(executor.get("/health").await.expect("an answer").status, 200);

    kill_all(directory, "executor-").await;
    let names = ["restart", "executor-1", "executor-2", "scheduler-1", "scheduler-2"];
    let restart = cluster(directory, &names, programs);
    assert!(restart.status.success(), "{}", errors(&restart));
    assert_eq!(executor.get("/ready").await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_programs_of_this_machine_when_a_cluster_is_started_and_ended_then_all_of_it_is_there_and_gone() {
    if Command::new("etcd").arg("--version").output().is_err() {
        println!("SKIPPED: springald cluster: there is no etcd in the PATH; scripts/setup.sh installs it");
        return;
    }
    let place = Ended(TempDir::new().expect("a temporary directory"));
    let directory = place.0.path();
    let missing = "/nowhere/vector".to_owned();
    let mut programs = BTreeMap::from([
        ("VECTOR_BIN", missing.clone()),
        ("GRAFANA_BIN", missing.clone()),
        ("CLICKHOUSE_BIN", missing),
    ]);
    if nats_program().is_file() {
        programs.insert("NATS_BIN", nats_program().display().to_string());
    }

    let full = cluster(directory, &["up", "--full"], &programs);
    assert!(!full.status.success());
    for named in ["vector: VECTOR_BIN names /nowhere/vector, which is no file", "grafana", "clickhouse"] {
        assert!(errors(&full).contains(named), "{named} is not in {}", errors(&full));
    }

    let up = cluster(directory, &["up", "--schedulers", "2", "--executors", "2", "--memory", "512MiB"], &programs);
    assert!(up.status.success(), "{}\n{}", out(&up), errors(&up));
    assert!(out(&up).contains("vector         left out"), "{}", out(&up));
    let again = cluster(directory, &["up"], &programs);
    assert!(errors(&again).contains("a cluster runs in"), "{}", errors(&again));

    let state = State::expected(directory).expect("the state");
    let url = ["scheduler-1", "scheduler-2"]
        .map(|name| state.known(name).expect("it was started").addresses["flight_sql"].clone());
    let client = Client::connect(&url.join(",")).await.expect("a session");
    client.collect("SELECT 1").await.expect("an answer");
    drop(client);

    let status = cluster(directory, &["status"], &programs);
    assert!(status.status.success() && !out(&status).contains("ended"), "{}", out(&status));
    logs_have_the_events(directory, &programs);

    let restart = cluster(directory, &["restart", "--kill", "executor-2"], &programs);
    assert!(restart.status.success(), "{}", errors(&restart));
    let after = State::expected(directory).expect("the state");
    assert_ne!(
        after.known("executor-2").expect("it is there").pid,
        state.known("executor-2").expect("it was there").pid
    );
    schedulers_and_executors_wait_for_each_other(directory, &programs).await;
    let after = State::expected(directory).expect("the state");

    let down = cluster(directory, &["down", "--delete"], &programs);
    assert!(down.status.success(), "{}\n{}", out(&down), errors(&down));
    for service in &after.services {
        assert!(has_ended(service), "{} is still there", service.name);
    }
    assert!(!directory.join("data").exists() && !directory.join("state.json").exists());
    let status = cluster(directory, &["status"], &programs);
    assert!(errors(&status).contains("no cluster was started in"), "{}", errors(&status));
}

#[test]
fn given_no_etcd_when_a_cluster_is_started_then_the_error_says_so_and_nothing_is_started() {
    let place = Ended(TempDir::new().expect("a temporary directory"));
    let programs = BTreeMap::from([("ETCD_BIN", "/nowhere/etcd".to_owned())]);
    let up = cluster(place.0.path(), &["up"], &programs);
    assert!(!up.status.success() && errors(&up).contains("a cluster needs etcd"), "{}", errors(&up));
    assert!(!place.0.path().join("state.json").exists());
}
