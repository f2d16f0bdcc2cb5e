//! Secrets that are planted everywhere come out nowhere.

use std::fs;

use springald_client::{Client, ClientError};
use springald_tests::{Etcd, Process, Standalone, tpch};

/// Stands in every secret.
const PLANTED: &str = "pl4nted";

/// Everything that is shown, with where it was.
#[derive(Default)]
struct Shown(Vec<(String, String)>);

impl Shown {
    fn add(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn has_no_secret(&self) {
        for (place, text) in &self.0 {
            let lines: Vec<&str> = text.lines().filter(|line| line.to_lowercase().contains(PLANTED)).collect();
            assert!(lines.is_empty(), "a secret in {place}: {lines:#?}");
        }
    }
}

fn error_of<T>(answer: Result<T, ClientError>) -> String {
    let error = answer.err().expect("an error");
    format!("{error} {error:?}")
}

/// Statements with a secret that are carried out.
fn taken(file: &str) -> Vec<String> {
    vec![
        format!(
            "CREATE EXTERNAL TABLE with_options (a INT) STORED AS CSV LOCATION '{file}' \
             OPTIONS ('format.has_header' 'true') -- password '{PLANTED}'"
        ),
        format!("SELECT 'password' AS a, /* token = '{PLANTED}' */ 1 AS b"),
        format!("EXPLAIN SELECT * FROM with_options WHERE a = 1 -- secret='{PLANTED}'"),
    ]
}

/// Statements with a secret that are refused, in many ways.
fn refused(file: &str) -> Vec<String> {
    let options = |options: &str| {
        format!("CREATE EXTERNAL TABLE s3 STORED AS PARQUET LOCATION 's3://no-such-bucket/x/' OPTIONS ({options})")
    };
    vec![
        options(&format!("'aws.access_key_id' 'AKIA{PLANTED}', 'aws.secret_access_key' '{PLANTED}'")),
        options(&format!("aws.session_token '{PLANTED}'")),
        options(&format!("'aws.secret_access_key' /* c */ '{PLANTED}'")),
        options(&format!("'aws.secret_access_key' '{PLANTED}' 'aws.region' 'x'")),
        options(&format!("'aws.secret_access_key' '{PLANTED}")),
        format!("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION 'http://ann:{PLANTED}@127.0.0.1:9/x.csv'"),
        format!("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION 'http://127.0.0.1:9/x.csv?X-Amz-Signature={PLANTED}'"),
        format!("CREATE EXTERNAL TABLE u STORED AS CSV LOCATION 'nonsense://ann:{PLANTED}@h/x.csv'"),
        format!("CREATE EXTERNAL TABLE u STORED AS NONSENSE LOCATION '{file}' OPTIONS ('password' '{PLANTED}')"),
        format!("SET springald.password = '{PLANTED}'"),
        format!("SELECT nonsense FROM with_options WHERE password = '{PLANTED}'"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn given_planted_secrets_then_events_rest_metrics_and_errors_show_none() {
    let mut shown = Shown::default();
    let log = "telemetry.log=info,springald=trace,datafusion=debug,object_store=debug,h2=debug,hyper=debug,tonic=debug";
    let mut standalone = Standalone::start(&["--set", log]).await;
    let url = standalone.flight_sql.replace("grpc://", &format!("http://ann:{PLANTED}@"));
    let client = Client::connect(&url).await.expect("a session, with a password that nobody checks");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.csv");
    fs::write(&file, "a\n1\n").expect("written");
    let file = file.to_str().expect("text");

    for sql in taken(file) {
        let batches = client.collect(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        shown.add(&sql, format!("{batches:?}"));
    }
    for sql in refused(file) {
        shown.add(&format!("the error of {}", sql.replace(PLANTED, "…")), error_of(client.collect(&sql).await));
    }
    // Nothing listens on port 1.
    let wrong = format!("http://ann:{PLANTED}@127.0.0.1:1");
    shown.add("the error of connecting", error_of(Client::connect(&wrong).await));

    for path in ["/api/v1/jobs", "/api/v1/schedulers", "/api/v1/executors", "/api/v1/discovery/prometheus"] {
        shown.add(path, standalone.rest.get(path).await.expect("an answer").body);
    }
    for job in standalone.rest.jobs(None).await.expect("jobs") {
        let id = job["id"].as_str().expect("an id");
        shown.add("a job", standalone.rest.job(id).await.expect("the job").to_string());
    }
    shown.add("metrics", standalone.telemetry.get("/metrics").await.expect("an answer").body);
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    let definitions = "SELECT * FROM information_schema.views";
    shown.add("information_schema", format!("{:?}", client.collect(definitions).await.expect("rows")));
    drop(client);
    standalone.process.stop().await;
    let events = standalone.process.log();
    assert!(events.contains("job.refused") && events.contains("***"), "there is something to look through:\n{events}");
    shown.add("events", events);
    shown.add("standard error", standalone.process.errors());
    shown.has_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn given_secrets_in_the_settings_then_a_process_that_cannot_start_shows_none() {
    let Some(etcd) = Etcd::start().await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let password = directory.path().join("password");
    fs::write(&password, PLANTED).expect("written");
    let password_file = format!("cluster.etcd_password_file={}", password.display());
    let mut shown = Shown::default();
    // Nothing listens on port 1.
    let dead = format!("http://ann:{PLANTED}@127.0.0.1:1");
    for url in [etcd.url(), etcd.url().replace("http://", &format!("http://ann:{PLANTED}@")), dead] {
        let arguments: Vec<String> = ["scheduler", "--etcd", &url, "--telemetry-port", "0", "--flight-sql-port", "0"]
            .into_iter()
            .chain([
                "--control-port",
                "0",
                "--rest-port",
                "0",
                "--set",
                "cluster.connect_deadline=1s",
                "--log",
                "debug",
            ])
            .chain(["--set", "cluster.etcd_user=ann", "--set", &password_file])
            .map(str::to_owned)
            .collect();
        let mut process = Process::start("scheduler", &arguments);
        // This etcd asks nobody who they are, and one that is given a user there is an error or none.
        process.ended_or_started("scheduler started").await;
        process.kill();
        shown.add(&format!("events with {}", url.replace(PLANTED, "…")), process.log());
        shown.add(&format!("standard error with {}", url.replace(PLANTED, "…")), process.errors());
    }
    assert!(shown.0.iter().any(|(_, text)| text.contains("process.failed")), "{:?}", shown.0);
    shown.has_no_secret();
}
