//! `springald sql`, as scripts use it: what is on which output, and the exit codes.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use springald_tests::process::binary;
use springald_tests::wait::{SETTLE_DEADLINE, eventually};
use springald_tests::{Standalone, tpch};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time for one run of the shell.
const SHELL_DEADLINE: Duration = Duration::from_secs(60);

const ROWS: &str = "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS rows (n, t) ORDER BY n";

#[tokio::test(flavor = "multi_thread")]
async fn given_each_format_then_the_result_alone_is_on_standard_output() {
    let server = Standalone::start(&[]).await;
    let table = "\
┌───┬────────┐
│ n ┆ t      │
╞═══╪════════╡
│ 1 ┆ a      │
│ 2 ┆ <null> │
└───┴────────┘
(2 rows)
";
    let vertical = "─ row 1 ─\nn │ 1\nt │ a\n─ row 2 ─\nn │ 2\nt │ <null>\n(2 rows)\n";
    let json = "{\"n\":1,\"t\":\"a\"}\n{\"n\":2,\"t\":null}\n";
    for (format, wanted) in [("table", table), ("csv", "n,t\n1,a\n2,\n"), ("json", json), ("vertical", vertical)] {
        let output = run(&server, &["-c", ROWS, "--format", format], "").await;
        assert_eq!(text(&output.stdout), wanted);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
    let timed = run(&server, &["-c", ROWS, "--format", "csv", "--no-header", "--timing"], "").await;
    assert_eq!(text(&timed.stdout), "1,a\n2,\n");
    let took = text(&timed.stderr).strip_prefix("(2 rows, ").and_then(|rest| rest.strip_suffix(" s)\n"));
    assert!(took.is_some_and(is_seconds), "{}", text(&timed.stderr));
}

/// True for a number of seconds with milliseconds, as `0.012`.
fn is_seconds(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(whole, millis)| is_number(whole) && is_number(millis) && millis.len() == 3)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_statements_of_options_a_file_and_standard_input_then_all_run_in_one_session() {
    let server = Standalone::start(&[]).await;
    let options = ["--format", "csv", "-c", "CREATE VIEW v AS SELECT ';' AS x; SELECT x FROM v", "-c", "\\d v"];
    let output = run(&server, &options, "").await;
    assert_eq!(text(&output.stdout), "x\n;\ncolumn_name,data_type,is_nullable\nx,Utf8,NO\n");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("script.sql");
    fs::write(&file, "-- a script\n\\format json\nSELECT 1 AS a;\nSELECT $$;$$ AS b").expect("a file");
    let output = run(&server, &["-f", file.to_str().expect("a path that is text")], "").await;
    assert_eq!(text(&output.stdout), "{\"a\":1}\n{\"b\":\";\"}\n");

    for arguments in [vec!["--format", "csv"], vec!["--format", "csv", "-f", "-"]] {
        let output = run(&server, &arguments, "SELECT 1 AS a;\n\\d\n\\q\nSELECT 2;").await;
        assert_eq!(text(&output.stdout), "a\n1\ncatalog,schema,name,type\nspringald,public,v,VIEW\n");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_statement_that_fails_then_those_before_it_ran_those_after_it_not_and_the_code_is_1() {
    let server = Standalone::start(&[]).await;
    let script = "SELECT 1 AS a;\n\nSELECT nope;\nCREATE VIEW late AS SELECT 1;\n";
    let output = run(&server, &["--format", "csv"], script).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), "a\n1\n"));
    let error = text(&output.stderr);
    assert!(error.starts_with("standard input, statement at line 3: error: [SPRINGALD_INVALID]"), "{error}");
    assert!(error.contains("nope"), "{error}");
    assert!(server.client().await.tables().await.expect("tables").is_empty());

    let while_running = run(&server, &["-c", "SELECT 1 / x FROM (VALUES (1), (0)) AS rows (x)"], "").await;
    assert_eq!(while_running.status.code(), Some(1));
    assert!(text(&while_running.stderr).to_lowercase().contains("divide by zero"), "{}", text(&while_running.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_wrong_usage_or_no_server_then_the_code_says_which() {
    // The discard service's port: nothing listens there.
    let nowhere = "grpc://127.0.0.1:9";
    for (arguments, code) in [
        (vec!["--url", nowhere, "-c", "SELECT 1"], 3),
        (vec!["--url", "https://localhost", "-c", "SELECT 1"], 2),
        (vec!["--url", nowhere, "-f", "/no/such/file.sql"], 2),
        (vec!["--url", nowhere, "-c", "SELECT 1", "-f", "x.sql"], 2),
        (vec!["--url", nowhere, "--format", "xml"], 2),
    ] {
        let output = shell(&arguments, "").await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
    let server = Standalone::start(&[]).await;
    let output = run(&server, &["-c", "\\nonsense"], "").await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_running_query_when_interrupted_then_it_is_cancelled() {
    let server = Standalone::start(&[]).await;
    tpch::create_tables(&server.client().await, tpch::scale("0.01")).await;
    let child = command(&["--url", &server.flight_sql, "-c", tpch::SLOW]).spawn().expect("the shell");
    let job = eventually("the query runs", SETTLE_DEADLINE, async || {
        let running = server.rest.jobs(Some("running")).await?;
        running.first().and_then(|job| job["id"].as_str().map(str::to_owned)).ok_or_else(|| "no job".to_owned())
    })
    .await;
    let interrupt = format!("kill -INT {}", child.id().expect("it runs"));
    let sent = Command::new("sh").args(["-c", &interrupt]).status().await.expect("a shell");
    assert!(sent.success(), "{interrupt}: {sent}");
    let output = ended(child).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "cancelled\n"));
    server.rest.job_in_state(&job, "cancelled").await;
    server.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_reader_that_has_seen_enough_then_the_shell_ends_quietly() {
    let server = Standalone::start(&[]).await;
    tpch::create_tables(&server.client().await, tpch::scale("0.01")).await;
    let query = "SELECT l_orderkey, l_comment FROM lineitem";
    for format in ["table", "csv", "json", "vertical"] {
        let mut child =
            command(&["--url", &server.flight_sql, "-c", query, "--format", format]).spawn().expect("shell");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        assert!(lines.next_line().await.expect("a line").is_some());
        drop(lines);
        let output = ended(child).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{format}");
    }
    server.telemetry.idle().await;
}

// === running the shell ===

async fn run(server: &Standalone, arguments: &[&str], input: &str) -> Output {
    let mut all = vec!["--url", server.flight_sql.as_str()];
    all.extend(arguments);
    shell(&all, input).await
}

async fn shell(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments).spawn().expect("the shell");
    let mut stdin = child.stdin.take().expect("standard input");
    // A shell that ends early does not read it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    ended(child).await
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("sql").args(arguments).env_remove("SPRINGALD_URL").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ended(child: tokio::process::Child) -> Output {
    let output = timeout(SHELL_DEADLINE, child.wait_with_output()).await;
    output.expect("the shell ends in time").expect("the shell runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}
