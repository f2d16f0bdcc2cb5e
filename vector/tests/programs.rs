//! The VRL programs, compiled and run on samples of events: what goes on, as what, and what goes aside.
//!
//! `samples/events.jsonl` has lines as processes write them, and broken ones; `edge.jsonl` and `rows.jsonl` have what becomes of
//! each. `UPDATE_SAMPLES=1` writes these anew.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use springald_vector::{Outcome, Program};

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
}

fn program(name: &str) -> Program {
    Program::load(&folder().join("vrl").join(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn samples() -> Vec<String> {
    read(&folder().join("samples/events.jsonl")).lines().map(str::to_owned).collect()
}

/// An event as the contract wants it, with these fields instead.
fn line(changes: &Value) -> String {
    let mut event = json!({
        "v": 1, "event_id": "s-1-7", "sequence": 7, "ts": "2026-11-25T08:00:00.123456Z", "level": "info",
        "service": "scheduler", "instance": "s-1", "cluster": "c", "event": "job.submitted", "message": "taken",
        "target": "springald_scheduler",
    });
    for (name, value) in changes.as_object().expect("changes") {
        match value {
            Value::Null => event.as_object_mut().expect("an object").remove(name),
            value => event.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    event.to_string()
}

fn edge(line: &str) -> Outcome {
    program("edge.vrl").run(json!({"message": line, "host": "h", "file": "/var/log/springald/s.jsonl"}))
}

fn passed(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Passed(event) => event,
        Outcome::Refused(reason) => panic!("refused: {reason}"),
    }
}

/// What goes to JetStream: the event without what is for the subject.
fn message(mut event: Value) -> Value {
    event.as_object_mut().expect("an object").remove("_route");
    json!({"message": event.to_string(), "subject": "springald.c.scheduler.info"})
}

#[test]
fn given_the_samples_when_they_pass_edge_and_aggregator_then_they_become_what_is_committed() {
    let (mut edge, mut aggregator) = (program("edge.vrl"), program("aggregator.vrl"));
    let (mut events, mut rows) = (vec![], vec![]);
    for line in samples() {
        let outcome = edge.run(json!({"message": line, "host": "h", "file": "/var/log/springald/s.jsonl"}));
        events.push(shown(&outcome));
        if let Outcome::Passed(event) = outcome {
            rows.push(shown(&aggregator.run(message(event))));
        }
    }
    assert!(rows.iter().any(|row| row["passed"]["event"] == "job.finished"), "the samples have the end of a job");
    assert!(events.iter().any(|event| event["refused"].is_string()), "the samples have a broken line");
    held("edge.jsonl", &events);
    held("rows.jsonl", &rows);
}

/// The outcome without the times of this run.
fn shown(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Passed(event) => {
            let mut event = event.clone();
            for name in ["edge_ts", "aggregator_ts"] {
                if event.get(name).is_some() {
                    event[name] = "now".into();
                }
            }
            json!({"passed": event})
        }
        Outcome::Refused(reason) => json!({"refused": reason}),
    }
}

fn held(name: &str, found: &[Value]) {
    let path = folder().join("samples").join(name);
    let text: String = found.iter().map(|value| format!("{value}\n")).collect();
    if std::env::var_os("UPDATE_SAMPLES").is_some() {
        fs::write(&path, &text).expect("the samples can be written");
    }
    for (number, (found, wanted)) in text.lines().zip(read(&path).lines()).enumerate() {
        assert_eq!(found, wanted, "{name}, line {}: UPDATE_SAMPLES=1 if that is meant", number + 1);
    }
    assert_eq!(text.lines().count(), read(&path).lines().count(), "{name}: lines");
}

#[test]
fn given_lines_that_break_the_contract_when_at_the_edge_then_they_go_aside_with_the_reason() {
    for (line, reason) in [
        (String::new(), "parse_json"),
        ("{\"v\":1".to_owned(), "parse_json"),
        ("[1]".to_owned(), "expected object"),
        (line(&json!({"v": 2})), "v: "),
        (line(&json!({"v": null})), "v: "),
        (line(&json!({"sequence": 0, "event_id": "s-1-0"})), "sequence"),
        (line(&json!({"sequence": "7"})), "expected integer"),
        (line(&json!({"event_id": "s-1-8"})), "event_id"),
        (line(&json!({"instance": "a b", "event_id": "a b-7"})), "instance"),
        (line(&json!({"ts": "2026-11-25 08:00:00"})), "ts: "),
        (line(&json!({"ts": "2026-11-25T08:00:00.123456+01:00"})), "ts: "),
        (line(&json!({"ts": "2026-13-25T08:00:00.123456Z"})), "timestamp"),
        (line(&json!({"level": "INFO"})), "level"),
        (line(&json!({"cluster": ""})), "not empty"),
        (line(&json!({"service": null})), "expected string"),
        (line(&json!({"event": "Job Submitted"})), "event: "),
        (line(&json!({"message": 1})), "message"),
    ] {
        match edge(&line) {
            Outcome::Refused(found) => assert!(found.contains(reason), "{line}\n{found}\nshould name {reason:?}"),
            Outcome::Passed(event) => panic!("{line}\nwent on as {event}"),
        }
    }
}

#[test]
fn given_names_with_meaning_for_nats_when_at_the_edge_then_the_subject_has_none_and_the_event_is_as_it_was() {
    let event = passed(edge(&line(&json!({"cluster": "a.b >*", "service": "x".repeat(100)}))));
    assert_eq!(event["_route"]["cluster"], "a_b___");
    assert_eq!(event["_route"]["service"].as_str().map(str::len), Some(64));
    assert_eq!(event["_route"]["level"], "info");
    assert_eq!(event["cluster"], "a.b >*");
}

#[test]
fn given_an_event_when_it_becomes_a_row_then_fields_without_a_column_are_kept_as_json() {
    let own = json!({"job_id": "j", "stage_id": 2, "task_id": 0, "attempt": 1, "rows": 5, "profile": {"stages": []}});
    let row = passed(program("aggregator.vrl").run(message(passed(edge(&line(&own))))));
    assert_eq!(
        (&row["job_id"], &row["stage_id"], &row["task_id"], &row["attempt"]),
        (&json!("j"), &json!(2), &json!(0), &json!(1))
    );
    let fields: Value = serde_json::from_str(row["fields"].as_str().expect("JSON as text")).expect("JSON");
    assert_eq!(fields, json!({"rows": 5, "profile": {"stages": []}}));
    assert_eq!((&row["user"], &row["edge_host"]), (&json!(""), &json!("h")));
    assert_eq!(row["ts"], "2026-11-25T08:00:00.123456Z", "no digit of the time is lost");
}

#[test]
fn given_messages_that_clickhouse_would_refuse_when_at_the_aggregator_then_they_go_to_the_dead_letters() {
    let mut aggregator = program("aggregator.vrl");
    for (change, reason) in [
        (json!({"stage_id": -1}), "stage_id"),
        (json!({"stage_id": "2"}), "expected integer"),
        (json!({"task_id": 4294967296_u64}), "task_id"),
        (json!({"attempt": 1.5}), "expected integer"),
        (json!({"job_id": 7}), "expected string"),
        (json!({"ts": "2400-01-01T00:00:00.000000Z"}), "ts: "),
        (json!({"edge_ts": "yesterday"}), "timestamp"),
        (json!({"v": 3}), "v: "),
        (json!({"message": null}), "expected string"),
    ] {
        match aggregator.run(json!({"message": line(&change)})) {
            Outcome::Refused(found) => assert!(found.contains(reason), "{change}\n{found}\nshould name {reason:?}"),
            Outcome::Passed(row) => panic!("{change}\nbecame {row}"),
        }
    }
    assert!(matches!(aggregator.run(json!({"message": "no JSON"})), Outcome::Refused(_)));
}

#[test]
fn given_events_of_all_levels_when_sampled_then_only_debug_and_trace_are_thinned_and_their_numbers_are_kept() {
    let (mut aggregator, mut reduce) = (program("aggregator.vrl"), program("reduce.vrl"));
    for (level, wanted) in [("error", 0), ("warn", 0), ("info", 0), ("debug", 90), ("trace", 90)] {
        let mut reduced = vec![];
        for sequence in 1..=100 {
            let id = format!("s-1-{sequence}");
            let event = line(&json!({"level": level, "sequence": sequence, "event_id": id}));
            let row = passed(aggregator.run(json!({"message": event})));
            if row["reduced"] == true {
                let part = passed(reduce.run(row));
                assert_eq!((&part["minute"], &part["events"]), (&json!("2026-11-25T08:00:00Z"), &json!(1)));
                reduced.push(part["sequences"].as_u64().expect("a number"));
            }
        }
        assert_eq!(reduced.len(), wanted, "{level}");
        assert!(reduced.iter().all(|sequence| sequence % 10 != 0), "{level}: one in ten stays");
    }
}
