//! Processes that cannot start: they say what is in the way, and end.

use std::net::TcpListener;
use std::time::Duration;

use springald_tests::{Process, standalone};

/// Far above the deadlines that the tests set, far below the defaults.
const END_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn given_no_etcd_at_the_url_when_started_then_it_ends_within_the_deadline_and_names_the_url() {
    // Nothing listens on port 1.
    let url = "http://127.0.0.1:1";
    for role in ["scheduler", "executor"] {
        let mut arguments = vec![role, "--etcd", url, "--telemetry-port", "0", "--set", "cluster.connect_deadline=2s"];
        if role == "scheduler" {
            arguments.extend(["--flight-sql-port", "0", "--control-port", "0", "--rest-port", "0"]);
        }
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let mut process = Process::start(role, &arguments);
        let status = process.ended(END_DEADLINE).await;
        assert_eq!(status.code(), Some(1), "{role}");
        let errors = process.errors();
        assert!(errors.contains(url) && errors.contains("SPRINGALD_UNAVAILABLE"), "{role}: {errors}");
        let waiting = process.events().into_iter().any(|event| event["message"] == "waiting for etcd");
        assert!(waiting, "{role} says that it waits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_port_in_use_when_started_then_it_ends_and_names_port_and_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound address").port().to_string();
    for (flag, setting) in [
        ("--flight-sql-port", "scheduler.flight_sql_port"),
        ("--control-port", "scheduler.control_port"),
        ("--rest-port", "scheduler.rest_port"),
        ("--telemetry-port", "telemetry.port"),
    ] {
        let mut process = Process::start("standalone", &standalone::arguments(&[flag, &port]));
        assert_eq!(process.ended(END_DEADLINE).await.code(), Some(1), "{flag}");
        let errors = process.errors();
        assert!(errors.contains(&port) && errors.contains(setting), "{flag}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_setting_that_does_not_exist_when_started_then_it_ends_and_names_it() {
    let mut process = Process::start("standalone", &standalone::arguments(&["--set", "scheduler.max_job=5"]));
    assert_eq!(process.ended(END_DEADLINE).await.code(), Some(1));
    assert!(process.errors().contains("scheduler.max_job"), "{}", process.errors());
}
