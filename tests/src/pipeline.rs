//! The way of events without Vector: its programs, run by the compiler that it has (`springald-vrl`), between the real servers.
//!
//! ```text
//! lines ──edge.vrl──▶ JetStream, with Nats-Msg-Id ──pulled, acknowledged──▶ aggregator.vrl ──▶ ClickHouse
//! ```
//!
//! What Vector adds is not here, and not tested by it: files and checkpoints, buffers, batches, retries.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use springald_deploy::clickhouse::Server;
use springald_deploy::nats::{Client, ask};

use crate::process::beside_tests;
use crate::workspace;

/// The stream and the consumer of `deploy/nats`.
const STREAM: &str = "SPRINGALD_EVENTS";
const CONSUMER: &str = "aggregators";

/// What became of a line.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It goes on, as this.
    Passed(Value),
    /// It goes aside, with the reason.
    Refused(String),
}

/// Runs a program of `vector/vrl` on lines.
///
/// # Panics
/// If the program does not compile, or `springald-vrl` was not built: `make vrl`.
pub fn run_program(name: &str, lines: &[String]) -> Vec<Checked> {
    run(&[], name, lines)
}

fn run(flags: &[&str], name: &str, lines: &[String]) -> Vec<Checked> {
    let runner = beside_tests("../debug/springald-vrl");
    let mut child = Command::new(runner)
        .args(flags)
        .arg(workspace().join("vector/vrl").join(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("springald-vrl starts");
    let mut input = child.stdin.take().expect("it has an input");
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    // On its own, as neither side's pipe holds all of it.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("springald-vrl ends");
    writer.join().expect("the writer ends").expect("springald-vrl reads everything");
    assert!(output.status.success(), "{name}: {}", output.status);
    let answers = String::from_utf8(output.stdout).expect("text");
    let answers = answers.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    answers
        .map(|answer| match answer.get("passed") {
            Some(event) => Checked::Passed(event.clone()),
            None => Checked::Refused(answer["refused"].as_str().unwrap_or_default().to_owned()),
        })
        .collect()
}

/// The edge: checks lines and publishes what passes, as often as `times`. Returns the reasons of the others.
///
/// # Panics
/// If JetStream does not take a message.
pub async fn publish(nats: &mut Client, lines: &[String], times: usize) -> Vec<String> {
    let mut refused = vec![];
    for checked in run_program("edge.vrl", lines) {
        let mut event = match checked {
            Checked::Passed(event) => event,
            Checked::Refused(reason) => {
                refused.push(reason);
                continue;
            }
        };
        let route = event.as_object_mut().and_then(|event| event.remove("_route")).expect("a way to go");
        let part = |name: &str| route[name].as_str().expect("a part of the subject").to_owned();
        let subject = format!("springald.{}.{}.{}", part("cluster"), part("service"), part("level"));
        let id = event["event_id"].as_str().expect("an id").to_owned();
        for _ in 0..times {
            let answer =
                nats.request(&subject, Some(&id), event.to_string().as_bytes()).await.expect("an acknowledgement");
            let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(answer["stream"], STREAM, "{answer}");
        }
    }
    refused
}

/// Messages that the stream has.
///
/// # Panics
/// If there is no stream.
pub async fn messages(nats: &mut Client) -> u64 {
    let info = ask(nats, &format!("STREAM.INFO.{STREAM}"), &json!({})).await.expect("an answer").expect("the stream");
    info["state"]["messages"].as_u64().expect("a number")
}

/// An aggregator: takes all that the consumer has, checks it, writes it, and acknowledges it. Returns the reasons of what was
/// refused.
///
/// # Panics
/// If NATS or ClickHouse refuse something.
pub async fn aggregate(nats: &mut Client, clickhouse: &Server) -> Vec<String> {
    let mut refused = vec![];
    loop {
        let pull = json!({"batch": 500, "no_wait": true}).to_string();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
        let pulled = nats.request_many(&subject, None, pull.as_bytes(), 500).await.expect("an answer");
        if pulled.is_empty() {
            return refused;
        }
        let lines: Vec<String> =
            pulled.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect();
        let (mut rows, mut reduced) = (String::new(), vec![]);
        for checked in run_program("aggregator.vrl", &lines) {
            match checked {
                Checked::Refused(reason) => refused.push(reason),
                Checked::Passed(row) if row["reduced"] == true => reduced.push(row.to_string()),
                Checked::Passed(mut row) => {
                    row.as_object_mut().expect("an object").remove("reduced");
                    rows.push_str(&format!("{row}\n"));
                }
            }
        }
        insert(clickhouse, "events", rows).await;
        insert(clickhouse, "event_reductions", reductions(&reduced)).await;
        for message in pulled {
            nats.publish(&message.reply, b"+ACK").await.expect("the acknowledgement is sent");
        }
    }
}

/// Each reduced event as a reduction of its own; Vector's `reduce` puts those of a minute together.
fn reductions(rows: &[String]) -> String {
    run(&["--events"], "reduce.vrl", rows)
        .into_iter()
        .map(|checked| match checked {
            Checked::Passed(mut part) => {
                part["sequences"] = json!([part["sequences"]]);
                format!("{part}\n")
            }
            Checked::Refused(reason) => panic!("{reason}"),
        })
        .collect()
}

async fn insert(clickhouse: &Server, table: &str, rows: String) {
    if !rows.is_empty() {
        clickhouse.insert("springald", table, rows).await.unwrap_or_else(|error| panic!("{error}"));
    }
}
