//! What etcd does to the cluster: it is away, has another leader, has no room, asks who you are.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use springald_client::{Client, ClientError};
use springald_tests::etcd::{Etcd, EtcdOptions, LONGER_THAN_A_LEASE};
use springald_tests::wait::{SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, ClusterOptions, Process, tpch};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A query in stages, whose answer is 300.
const SUM: &str = "SELECT sum(n_nationkey) AS n FROM nation";
/// Metric of the tasks that an executor has run to their ends.
const TASKS_RUN: &str = r#"springald_executor_tasks_total{outcome="succeeded"}"#;

/// Work in many tasks, whose answer depends on every row: with 900 repeats, longer than an outage of etcd.
fn hashes(repeats: u32) -> String {
    format!(
        "SELECT l_returnflag, l_linestatus, count(*) AS n, max(sha512(repeat(l_comment, {repeats}))) AS hash \
         FROM lineitem GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus"
    )
}

async fn with_tables(cluster: &Cluster, scale: &str) -> Client {
    let client = cluster.client_of_all().await;
    tpch::create_tables(&client, tpch::scale(scale)).await;
    tpch::distribute_everything(&client).await;
    client
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).expect("a table").to_string()
}

fn members(members: usize) -> EtcdOptions {
    EtcdOptions { members, ..EtcdOptions::default() }
}

async fn sum(client: &Client) -> Result<String, ClientError> {
    client.collect(SUM).await.map(|batches| text(&batches))
}

/// The sum of a metric over all schedulers.
async fn at_schedulers(cluster: &Cluster, metric: &str) -> u64 {
    let mut sum = 0.0;
    for scheduler in &cluster.schedulers {
        sum += scheduler.telemetry.metric(metric).await.expect("metrics");
    }
    sum as u64
}

/// Waits until all processes are in the store.
async fn all_listed(cluster: &Cluster) {
    let rest = cluster.scheduler(0).rest.clone();
    for (path, there) in
        [("/api/v1/schedulers", cluster.schedulers.len()), ("/api/v1/executors", cluster.executors.len())]
    {
        eventually("all processes are listed", SETTLE_DEADLINE, async || {
            same(path, rest.json(path).await?.as_array().map(Vec::len), Some(there))
        })
        .await;
    }
}

/// Every task of every job has run once.
async fn nothing_was_done_twice(cluster: &Cluster) {
    let jobs = cluster.scheduler(0).rest.jobs(None).await.expect("jobs");
    let stages = jobs.iter().filter_map(|job| job["stages"].as_array()).flatten();
    let tasks: u64 = stages.filter_map(|stage| stage["tasks"].as_u64()).sum();
    assert_eq!(cluster.total(TASKS_RUN).await.expect("metrics") as u64, tasks, "tasks were run again");
}

/// A client that reads a result.
type Reader = JoinHandle<Result<Vec<RecordBatch>, ClientError>>;

/// To be checked when the outage is over: what comes after it takes its own time.
fn is_in_the_middle(reader: &Reader) {
    assert!(!reader.is_finished(), "the outage was to fall into the middle of the query");
}

/// A query that takes longer than the outage is answered.
async fn outlives(cluster: &mut Cluster, client: &Client, outage: impl AsyncFnOnce(&mut Cluster, &Reader)) {
    let stream = client.query(&hashes(900)).await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    let reader = tokio::spawn(stream.collect_all());
    let rest = cluster.scheduler(0).rest.clone();
    eventually("the query runs", SETTLE_DEADLINE, async || {
        let job = rest.job(&job).await?;
        if job["stages"][0]["tasks_done"].as_u64() > Some(0) { Ok(()) } else { Err(job.to_string()) }
    })
    .await;
    outage(cluster, &reader).await;
    let answer = reader.await.expect("the reader ends").expect("answered");
    let expected: i64 = 600_572;
    let rows: i64 = text(&answer).lines().filter_map(|line| line.split('|').nth(3)?.trim().parse::<i64>().ok()).sum();
    assert_eq!(rows, expected, "{}", text(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_etcd_that_is_away_for_longer_than_leases_live_then_queries_go_on_and_nothing_is_done_twice() {
    let options = ClusterOptions { schedulers: 2, executors: 2, etcd: members(3), ..ClusterOptions::default() };
    let Some(mut cluster) = Cluster::start_with(options).await else { return };
    let client = with_tables(&cluster, "0.1").await;
    client.collect("SET springald.partitions = '16'").await.expect("the setting is known");
    let nations = sum(&client).await.expect("answered");

    println!("all members are killed, and come back with their data: leases live on");
    outlives(&mut cluster, &client, async |cluster, reader| {
        cluster.etcd.kill_all();
        let (other, started) = (client.clone(), Instant::now());
        let waiting = tokio::spawn(async move { sum(&other).await });
        tokio::time::sleep(LONGER_THAN_A_LEASE).await;
        cluster.etcd.restart().await;
        is_in_the_middle(reader);
        assert_eq!(waiting.await.expect("it ends").expect("it has waited"), nations);
        assert!(started.elapsed() >= LONGER_THAN_A_LEASE);
    })
    .await;
    all_listed(&cluster).await;
    cluster.idle().await;
    nothing_was_done_twice(&cluster).await;

    println!("all members are stopped, and go on: all leases end at once");
    let short = client.query(SUM).await.expect("taken before");
    cluster.scheduler(0).rest.job_in_state(short.job_id().expect("an id"), "succeeded").await;
    outlives(&mut cluster, &client, async |cluster, reader| {
        cluster.etcd.signal_all("STOP");
        // It has ended when its scheduler loses it: its end must not be taken for its loss.
        assert_eq!(text(&short.collect_all().await.expect("needs no etcd")), nations);
        tokio::time::sleep(LONGER_THAN_A_LEASE).await;
        cluster.etcd.signal_all("CONT");
        is_in_the_middle(reader);
        assert_eq!(sum(&client).await.expect("answered when it is back"), nations);
    })
    .await;
    all_listed(&cluster).await;
    assert_eq!(at_schedulers(&cluster, "springald_scheduler_tasks_lost_total").await, 0, "an executor was given up");
    cluster.idle().await;
    nothing_was_done_twice(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_etcd_that_stays_away_or_has_no_room_then_new_queries_are_refused_with_the_reason() {
    let options = ClusterOptions {
        scheduler_settings: vec!["scheduler.commit_timeout=1s"],
        etcd: EtcdOptions { flags: flags(&["--quota-backend-bytes", "4194304"]), ..EtcdOptions::default() },
        ..ClusterOptions::default()
    };
    let Some(mut cluster) = Cluster::start_with(options).await else { return };
    let client = with_tables(&cluster, "0.1").await;
    let nations = sum(&client).await.expect("answered");

    cluster.etcd.kill_all();
    let error = sum(&client).await.expect_err("it cannot be made durable");
    assert_eq!(error.code(), "SPRINGALD_UNAVAILABLE", "{error}");
    for part in ["not accepted", "scheduler.commit_timeout", &cluster.etcd.url()] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    cluster.etcd.restart().await;
    eventually("queries are taken again", SETTLE_DEADLINE, async || {
        same("answer", sum(&client).await.map_err(|error| error.to_string())?, nations.clone())
    })
    .await;

    let running = tokio::spawn(client.query(&hashes(60)).await.expect("taken").collect_all());
    fill(&cluster.etcd).await;
    let error = sum(&client).await.expect_err("there is no room");
    assert_eq!(error.code(), "SPRINGALD_RESOURCES_EXHAUSTED", "{error}");
    for part in ["NOSPACE", "compact and defragment", "disarm"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    running.await.expect("the reader ends").expect("what runs needs no room to go on");
    make_room(&cluster.etcd).await;
    assert_eq!(sum(&client).await.expect("there is room"), nations);
    cluster.idle().await;
}

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Writes until etcd has no room left.
async fn fill(etcd: &Etcd) {
    let http = etcd.http(0);
    let value = BASE64_STANDARD.encode(vec![7; 400_000]);
    for number in 0..64 {
        let put = json!({"key": BASE64_STANDARD.encode(format!("fill/{number}")), "value": value});
        let answer = http.post("/v3/kv/put", &put).await.expect("answered");
        if answer["error"].as_str().is_some_and(|error| error.contains("space exceeded")) {
            return;
        }
    }
    panic!("etcd has taken everything");
}

/// What the error says: removes what filled it, compacts, defragments, disarms.
async fn make_room(etcd: &Etcd) {
    let http = etcd.http(0);
    let post = async |path: &str, body: Value| {
        let answer = http.post(path, &body).await.expect("answered");
        assert!(answer["error"].is_null(), "{path}: {answer}");
        answer
    };
    let (key, end) = (BASE64_STANDARD.encode("fill/"), BASE64_STANDARD.encode("fill0"));
    let removed = post("/v3/kv/deleterange", json!({"key": key, "range_end": end})).await;
    post("/v3/kv/compaction", json!({"revision": removed["header"]["revision"], "physical": true})).await;
    post("/v3/maintenance/defragment", json!({})).await;
    let alarms = post("/v3/maintenance/alarm", json!({"action": "GET"})).await;
    for alarm in alarms["alarms"].as_array().expect("alarms") {
        let disarm = json!({"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]});
        post("/v3/maintenance/alarm", disarm).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_another_leader_or_a_member_less_then_no_query_notices() {
    let options = ClusterOptions { schedulers: 2, executors: 2, etcd: members(3), ..ClusterOptions::default() };
    let Some(mut cluster) = Cluster::start_with(options).await else { return };
    let client = with_tables(&cluster, "0.1").await;
    let running = tokio::spawn(async move {
        let mut rounds = 0;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(6) || rounds == 0 {
            tpch::run(&client, tpch::scale("0.1"), &[1, 6, 12, 14]).await?;
            rounds += 1;
        }
        Ok::<_, String>(rounds)
    });
    cluster.etcd.move_leader().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.etcd.move_leader().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leader = cluster.etcd.leader().await;
    cluster.etcd.kill(leader);
    let rounds = running.await.expect("the client ends").expect("all answers are right");
    println!("{rounds} rounds");
    cluster.etcd.restart().await;
    assert_eq!(at_schedulers(&cluster, "springald_scheduler_jobs_taken_over_total").await, 0, "a lease was lost");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_history_that_was_compacted_while_a_scheduler_did_not_look_then_it_reads_all_anew() {
    let Some(mut cluster) = Cluster::start(2, 1).await else { return };
    let client = with_tables(&cluster, "0.1").await;
    let late = cluster.scheduler(1).client().await;
    cluster.scheduler(1).process.signal("STOP");
    // Its watches break, so that what happens meanwhile does not wait in their connections.
    cluster.etcd.kill_all();
    cluster.etcd.restart().await;
    let first = Client::connect(&cluster.scheduler(0).flight_sql).await.expect("a session");
    first.collect("CREATE VIEW europe AS SELECT n_name FROM nation WHERE n_regionkey = 3").await.expect("created");
    let http = cluster.etcd.http(0);
    let now = http.post("/v3/kv/range", &json!({"key": "AA=="})).await.expect("answered");
    let compacted = http.post("/v3/kv/compaction", &json!({"revision": now["header"]["revision"]})).await;
    assert!(compacted.expect("answered")["error"].is_null());
    cluster.scheduler(1).process.signal("CONT");
    eventually("the view is known", SETTLE_DEADLINE, async || {
        let answer = late.collect("SELECT count(*) AS n FROM europe").await.map_err(|error| error.to_string())?;
        if text(&answer).contains("| 5 |") { Ok(()) } else { Err(text(&answer)) }
    })
    .await;
    eventually("its watches have begun anew", SETTLE_DEADLINE, async || {
        let again = "a watch of the state store ended; watching anew";
        let events = cluster.scheduler(1).process.events();
        let mut anew = events.iter().filter(|event| event["message"] == again).map(Value::to_string);
        if anew.any(|event| event.contains("compacted")) { Ok(()) } else { Err("no".to_owned()) }
    })
    .await;
    assert_eq!(sum(&client).await.expect("answered"), sum(&late).await.expect("answered"));
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_etcd_with_users_and_tokens_that_expire_then_the_cluster_works_and_a_wrong_password_is_named() {
    let options = EtcdOptions { flags: flags(&["--auth-token-ttl", "1"]), ..EtcdOptions::default() };
    let Some(etcd) = Etcd::start_with(options).await else { return };
    let http = etcd.http(0);
    // A user who may touch nothing but Springald's keys.
    let permission = json!({
        "permType": "READWRITE",
        "key": BASE64_STANDARD.encode("/springald/"), "range_end": BASE64_STANDARD.encode("/springald0"),
    });
    for (path, body) in [
        ("user/add", json!({"name": "root", "password": "secret"})),
        ("role/add", json!({"name": "root"})),
        ("user/grant", json!({"user": "root", "role": "root"})),
        ("user/add", json!({"name": "springald", "password": "correct"})),
        ("role/add", json!({"name": "springald"})),
        ("role/grant", json!({"name": "springald", "perm": permission})),
        ("user/grant", json!({"user": "springald", "role": "springald"})),
        ("enable", json!({})),
    ] {
        let answer = http.post(&format!("/v3/auth/{path}"), &body).await.expect("answered");
        assert!(answer["error"].is_null(), "{path}: {answer}");
    }
    let directory = TempDir::new().expect("a directory");
    let file = |name: &str, password: &str| {
        let path = directory.path().join(name);
        fs::write(&path, password).expect("written");
        format!("cluster.etcd_password_file={}", path.display())
    };
    let user = "cluster.etcd_user=springald".to_owned();

    let url = etcd.url();
    let error = refused(&url, &[user.clone(), file("wrong", "guessed")]).await;
    assert!(error.contains("SPRINGALD_INVALID") && error.contains("check the etcd user"), "{error}");
    let error = refused(&url, &[]).await;
    assert!(error.contains("check the etcd user"), "{error}");

    let settings = vec![user, file("right", "correct\n")];
    let cluster = Cluster::over(etcd, ClusterOptions { settings, ..ClusterOptions::default() }).await;
    let client = with_tables(&cluster, "0.1").await;
    for _ in 0..2 {
        assert!(sum(&client).await.expect("answered").contains("300"));
        // Longer than tokens live when nobody uses them.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    cluster.idle().await;
}

/// The last words of a scheduler that etcd does not let in.
async fn refused(etcd: &str, settings: &[String]) -> String {
    let mut arguments = flags(&["scheduler", "--etcd", etcd, "--cluster", "test", "--telemetry-port", "0"]);
    for port in ["--flight-sql-port", "--control-port", "--rest-port"] {
        arguments.extend(flags(&[port, "0"]));
    }
    settings.iter().for_each(|setting| arguments.extend(["--set".to_owned(), setting.clone()]));
    let mut process = Process::start("scheduler that is not let in", &arguments);
    let status = process.ended(SETTLE_DEADLINE).await;
    assert!(!status.success(), "it was let in");
    process.errors()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_etcd_with_mutual_tls_then_the_cluster_works_and_a_missing_authority_is_named() {
    let directory = TempDir::new().expect("a directory");
    write_certificates(directory.path());
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let options = EtcdOptions {
        tls: true,
        flags: flags(&["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca]),
        ..EtcdOptions::default()
    };
    let Some(etcd) = Etcd::start_with(options).await else { return };
    let error = refused(&etcd.url(), &[]).await;
    assert!(error.contains("cluster.etcd_ca_file"), "{error}");
    let settings = vec![
        format!("cluster.etcd_ca_file={ca}"),
        format!("cluster.etcd_cert_file={}", path("client.pem")),
        format!("cluster.etcd_key_file={}", path("client.key")),
    ];
    let error = refused(&etcd.url(), settings.get(..2).expect("two")).await;
    assert!(error.contains("cluster.etcd_key_file"), "{error}");
    let cluster = Cluster::over(etcd, ClusterOptions { settings, ..ClusterOptions::default() }).await;
    let client = with_tables(&cluster, "0.1").await;
    assert!(sum(&client).await.expect("answered").contains("300"));
    cluster.idle().await;
}

/// An authority, and certificates that it has signed for etcd on 127.0.0.1 and for a client.
fn write_certificates(directory: &Path) {
    let write = |name: &str, pem: String| fs::write(directory.join(name), pem).expect("written");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    write("ca.pem", ca.pem());
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        write(&format!("{name}.pem"), params.signed_by(&key, &ca).expect("signed").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_query_that_is_too_large_for_etcd_then_it_is_refused_with_its_size() {
    let Some(cluster) = Cluster::start(1, 1).await else { return };
    let client = with_tables(&cluster, "0.1").await;
    // As long as a statement may be, and hardly smaller when it is compressed.
    let mut state = 1u32;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'A' + (state >> 24) as u8 % 58)
    });
    let long: String = letters.filter(char::is_ascii_alphabetic).take(1_000_000).collect();
    let error = client.collect(&format!("SELECT count(*) AS n FROM nation WHERE n_name = '{long}'")).await;
    let error = error.expect_err("over the limit");
    assert_eq!(error.code(), "SPRINGALD_RESOURCES_EXHAUSTED", "{error}");
    assert!(error.to_string().contains("too large for the state store"), "{error}");
    assert!(sum(&client).await.expect("answered").contains("300"));
    cluster.idle().await;
}
