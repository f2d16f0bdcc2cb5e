//! The client programs of `client/examples`: Python, Go, Java and Rust, each with the library that people use there.
//!
//! What they need is installed by `scripts/setup.sh`; their libraries come from the languages' own registries at fixed
//! versions and are kept in the user's cache. A language that is not installed is left out, and said so.
//!
//! And what all of them can rely on, though they know nothing of Springald.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::Ticket;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::{StreamExt, TryStreamExt};
use springald_tests::cluster::Scheduler;
use springald_tests::process::beside_tests;
use springald_tests::{Cluster, tpch};
use tokio::process::Command;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Longest time for building or running a program; the first time, libraries are downloaded.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn given_a_cluster_when_the_client_programs_run_then_each_verifies_all_22_queries() {
    let Some(cluster) = Cluster::start(2, 3).await else { return };
    tpch::create_tables(&cluster.scheduler(0).client().await, tpch::scale("0.01")).await;
    let [first, second] = [0, 1].map(|number| cluster.scheduler(number).flight_sql.clone());
    rust(&first).await;
    python(&second).await;
    go(&first).await;
    java(&second).await;
    cluster.idle().await;
}

async fn rust(url: &str) {
    let program = beside_tests(&format!("examples/tpch{}", std::env::consts::EXE_SUFFIX));
    verified("Rust", Command::new(program).arg(url).args(files())).await;
}

async fn python(url: &str) {
    if !is_there("Python", "python3", &["-c", "import ensurepip, venv"]).await {
        return;
    }
    let environment = cache("python");
    let interpreter = environment.join("bin").join("python");
    if !interpreter.exists() {
        succeeded("Python", Command::new("python3").args(["-m", "venv"]).arg(&environment)).await;
    }
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]);
    succeeded("Python", pip.current_dir(example("python"))).await;
    let mut program = Command::new(&interpreter);
    verified("Python", program.args(["-B", "tpch.py", url]).args(files()).current_dir(example("python"))).await;
}

async fn go(url: &str) {
    // Where there is no Go, or an old one, the setup puts one here.
    let own = cache("go").join("bin").join("go");
    let go = if own.exists() { own } else { PathBuf::from("go") };
    if !is_there("Go", &go, &["version"]).await {
        return;
    }
    let program = cache("go-example").join("tpch");
    let mut build = Command::new(&go);
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    succeeded("Go", build.current_dir(example("go"))).await;
    verified("Go", Command::new(program).arg(url).args(files())).await;
}

async fn java(url: &str) {
    if !is_there("Java", "javac", &["-version"]).await || !is_there("Java", "mvn", &["-v"]).await {
        return;
    }
    let address = url.strip_prefix("grpc://").expect("the harness gives this scheme");
    let [queries, answers] = files();
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "compile", "exec:exec"]);
    maven.arg(format!("-DbuildDirectory={}", cache("java").display()));
    maven.arg(format!("-Durl=jdbc:arrow-flight-sql://{address}?useEncryption=false"));
    maven.arg(format!("-Dqueries={}", queries.display())).arg(format!("-Danswers={}", answers.display()));
    verified("Java", maven.current_dir(example("java"))).await;
}

// === running programs ===

/// False, after saying so, if a tool cannot be run.
async fn is_there(language: &str, tool: impl AsRef<Path>, probe: &[&str]) -> bool {
    let tool = tool.as_ref();
    let found = Command::new(tool).args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if found.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return true;
    }
    let reason = found.map_or_else(|error| error.to_string(), |status| status.to_string());
    println!("SKIPPED: {language}: {} is missing ({reason}); scripts/setup.sh installs it", tool.display());
    false
}

/// Runs a client program.
async fn verified(language: &str, command: &mut Command) {
    let output = succeeded(language, command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{language}: {text}");
    let wanted = "tables: customer, lineitem, nation, orders, part, partsupp, region, supplier\n22 of 22 verified";
    assert!(text.contains(wanted), "{language}: {text}");
}

async fn succeeded(language: &str, command: &mut Command) -> Output {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PROGRAM_DEADLINE, running).await.expect("it ends in time").expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{language}: {command:?}: {}\n{out}\n{errors}", output.status);
    output
}

// === where things are ===

fn workspace() -> PathBuf {
    // Asked at run time: a target directory that checkouts share keeps what another one has compiled.
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&tests).parent().expect("the workspace is above this crate").to_owned()
}

fn example(language: &str) -> PathBuf {
    workspace().join("client").join("examples").join(language)
}

/// The queries and their answers.
fn files() -> [PathBuf; 2] {
    let benchmarks = workspace().join("benchmarks");
    [benchmarks.join("queries"), benchmarks.join("answers").join("sf0.01")]
}

/// A directory that is kept between runs, so that the second one is quick and downloads nothing.
fn cache(name: &str) -> PathBuf {
    dirs::cache_dir().expect("a cache directory of the user").join("springald").join("clients").join(name)
}

// === clients that cannot resume ===

/// More bytes than wait anywhere between an executor and a client that does not read on.
const LARGE: &str = "SELECT l_orderkey, l_linenumber, l_comment FROM lineitem";

/// A client as any library has one: it knows Flight SQL, and nothing of Springald.
async fn plain(scheduler: &Scheduler) -> FlightSqlServiceClient<Channel> {
    let url = scheduler.flight_sql.replace("grpc://", "http://");
    let channel = Endpoint::from_shared(url).expect("an address").connect().await.expect("connected");
    FlightSqlServiceClient::new(channel)
}

/// Takes a query; gives the ticket for its result.
async fn ticket(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Ticket {
    let info = client.execute(sql.to_owned(), None).await.expect("taken");
    info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone()).expect("a ticket")
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_that_cannot_resume_when_its_connection_breaks_at_the_end_then_the_ticket_can_be_redeemed_again()
{
    let Some(cluster) = Cluster::start(2, 1).await else { return };
    tpch::create_tables(&cluster.scheduler(0).client().await, tpch::scale("0.01")).await;
    let ticket = ticket(&mut plain(cluster.scheduler(0)).await, "SELECT n_nationkey, n_name FROM nation").await;
    // Through the scheduler that owns the job, and through the other one. The last byte was sent each time.
    for number in [1, 0, 1, 0] {
        let mut client = plain(cluster.scheduler(number)).await;
        let mut stream = client.do_get(ticket.clone()).await.expect("redeemed");
        let mut rows = 0;
        while rows < 25 {
            rows += stream.next().await.expect("more rows").expect("a batch").num_rows();
        }
    }
    let mut client = plain(cluster.scheduler(1)).await;
    let rows: Vec<RecordBatch> = client.do_get(ticket).await.expect("redeemed").try_collect().await.expect("all of it");
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 25);
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_that_cannot_resume_when_the_jobs_scheduler_is_lost_then_the_error_says_to_redeem_the_ticket_again()
 {
    let Some(mut cluster) = Cluster::start(2, 2).await else { return };
    tpch::create_tables(&cluster.scheduler(0).client().await, tpch::scale("0.1")).await;
    let ticket = ticket(&mut plain(cluster.scheduler(0)).await, LARGE).await;
    let mut client = plain(cluster.scheduler(1)).await;
    let mut stream = client.do_get(ticket.clone()).await.expect("redeemed");
    stream.next().await.expect("rows").expect("a batch");
    cluster.kill_scheduler(0);
    let broken = loop {
        match stream.next().await.expect("it breaks off before its end") {
            Ok(_) => {}
            Err(FlightError::Tonic(status)) => break status,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(broken.code(), Code::Unavailable, "{broken}");
    assert!(broken.message().contains("redeem the ticket again"), "{broken}");
    let rows: Vec<RecordBatch> = client.do_get(ticket).await.expect("redeemed").try_collect().await.expect("all of it");
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 600_572);
    cluster.idle().await;
}
