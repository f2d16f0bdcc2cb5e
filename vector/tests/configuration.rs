//! `edge.yaml` and `aggregator.yaml`, as far as can be told without Vector; and with it, where there is one (`VECTOR_BIN`, or in
//! the PATH).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_yaml::Value;
use springald_vector::Program;

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn config(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The components of one kind, by name.
fn components(config: &Value, kind: &str) -> Vec<(String, Value)> {
    let parts = config[kind].as_mapping().expect("a section").iter();
    parts.map(|(name, part)| (name.as_str().expect("a name").to_owned(), part.clone())).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const CONFIGS: [&str; 2] = ["edge.yaml", "aggregator.yaml"];

#[test]
fn given_both_configurations_then_every_program_is_used_and_compiles_and_so_do_the_conditions() {
    let mut used = BTreeSet::new();
    for name in CONFIGS {
        for (transform, part) in components(&config(name), "transforms") {
            if let Some(file) = part["file"].as_str() {
                let file = file.strip_prefix("/etc/vector/vrl/").expect("programs are in one folder");
                Program::load(&folder().join("vrl").join(file)).unwrap_or_else(|error| panic!("{error}"));
                used.insert(file.to_owned());
            }
            for (route, condition) in part["route"].as_mapping().into_iter().flatten() {
                let name = format!("{name}: {transform}.{}", text(route));
                Program::compile(&name, text(condition)).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
    let all = fs::read_dir(folder().join("vrl")).expect("the programs");
    let all: BTreeSet<String> =
        all.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(used, all, "programs that are used, and those that are there");
}

#[test]
fn given_both_configurations_then_every_input_is_an_output_and_nothing_ends_nowhere() {
    for name in CONFIGS {
        let config = config(name);
        let mut outputs = BTreeSet::new();
        for (source, _) in components(&config, "sources") {
            outputs.insert(source);
        }
        for (transform, part) in components(&config, "transforms") {
            match part["route"].as_mapping() {
                Some(routes) => {
                    outputs.extend(routes.iter().map(|(route, _)| format!("{transform}.{}", text(route))));
                    assert_eq!(part["reroute_unmatched"], Value::Bool(false));
                }
                None => drop(outputs.insert(transform.clone())),
            }
            if text(&part["type"]) == "remap" {
                let set = |name: &str| part[name] == Value::Bool(true);
                assert!(set("drop_on_error") && set("drop_on_abort") && set("reroute_dropped"), "{name}: {transform}");
                outputs.insert(format!("{transform}.dropped"));
            }
        }
        let mut inputs = BTreeSet::new();
        for kind in ["transforms", "sinks"] {
            for (_, part) in components(&config, kind) {
                inputs.extend(part["inputs"].as_sequence().expect("inputs").iter().map(|input| text(input).to_owned()));
            }
        }
        assert_eq!(inputs, outputs, "{name}: inputs and outputs");
    }
}

#[test]
fn given_the_routes_then_every_row_takes_exactly_one() {
    let routes = config("aggregator.yaml")["transforms"]["sampled"]["route"].clone();
    let conditions = routes.as_mapping().expect("routes").iter();
    let mut conditions: Vec<Program> = conditions
        .map(|(name, condition)| {
            Program::compile(text(name), text(condition)).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect();
    for reduced in [true, false] {
        let row = serde_json::json!({"reduced": reduced});
        assert_eq!(conditions.iter_mut().filter_map(|condition| condition.holds(&row).then_some(())).count(), 1);
    }
}

#[test]
fn given_sinks_that_must_not_lose_then_they_acknowledge_and_wait_on_a_full_buffer() {
    for (name, sink) in
        [("edge.yaml", "jetstream"), ("aggregator.yaml", "events"), ("aggregator.yaml", "event_reductions")]
    {
        let part = config(name)["sinks"][sink].clone();
        assert_eq!(part["acknowledgements"]["enabled"], Value::Bool(true), "{name}: {sink}");
        assert_eq!((text(&part["buffer"]["type"]), text(&part["buffer"]["when_full"])), ("disk", "block"));
        // Vector takes no smaller one on disk.
        assert!(part["buffer"]["max_size"].as_u64().is_some_and(|size| size >= 268_435_488), "{name}: {sink}");
    }
    let jetstream = config("edge.yaml")["sinks"]["jetstream"].clone();
    assert_eq!(text(&jetstream["jetstream"]["headers"]["message_id"]), "{{ event_id }}");
    let subject = "springald.{{ _route.cluster }}.{{ _route.service }}.{{ _route.level }}";
    assert_eq!(text(&jetstream["subject"]), subject);
}

#[test]
fn given_the_stream_then_aggregators_pull_from_it_and_its_subjects_are_those_of_the_edge() {
    let file = |name: &str| -> serde_json::Value {
        serde_json::from_str(&read(&format!("../deploy/nats/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let (stream, consumer) = (file("stream.json"), file("consumer.json"));
    let source = config("aggregator.yaml")["sources"]["stream"].clone();
    assert_eq!(text(&source["jetstream"]["stream"]), stream["name"]);
    assert_eq!(text(&source["jetstream"]["consumer"]), consumer["durable_name"]);
    assert_eq!(stream["subjects"][0], "springald.>");
    assert_eq!(consumer["filter_subject"], "springald.>");
}

#[test]
fn given_a_row_then_it_has_the_columns_of_its_table_and_no_others() {
    let sql = read("../deploy/clickhouse/migrations/001_events.sql");
    let inside = sql.split("\n(\n").nth(1).and_then(|rest| rest.split("\n)\n").next()).expect("columns");
    let columns = inside.lines().map(str::trim).filter(|line| !line.starts_with("INDEX"));
    let columns = columns.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "inserted_at");
    let mut wanted: BTreeSet<String> = columns.map(str::to_owned).collect();
    wanted.insert("reduced".to_owned());
    let event = r#"{"v":1,"event_id":"s-7","sequence":7,"ts":"2026-11-25T08:00:00.123456Z","level":"info","service":"scheduler",
        "instance":"s","cluster":"c","event":"job.submitted","message":"taken"}"#;
    let mut program = Program::load(&folder().join("vrl/aggregator.vrl")).unwrap_or_else(|error| panic!("{error}"));
    let springald_vector::Outcome::Passed(row) = program.run(serde_json::json!({"message": event})) else {
        panic!("refused")
    };
    let found: BTreeSet<String> = row.as_object().expect("a row").keys().cloned().collect();
    assert_eq!(found, wanted);
    let except = config("aggregator.yaml")["sinks"]["events"]["encoding"]["except_fields"].clone();
    assert_eq!(except, Value::Sequence(vec!["reduced".into()]));
}

#[test]
fn given_the_unit_tests_of_vector_when_the_compiler_runs_them_then_they_hold() {
    for name in CONFIGS {
        let transforms = config(name)["transforms"].clone();
        let tests = config(&format!("unit/{name}"))["tests"].clone();
        for test in tests.as_sequence().expect("tests") {
            let (input, output) = (&test["inputs"][0], &test["outputs"][0]);
            let transform = text(&input["insert_at"]);
            let file = text(&transforms[transform]["file"]).replace("/etc/vector/vrl", "vrl");
            let mut program = Program::load(&folder().join(file)).unwrap_or_else(|error| panic!("{error}"));
            let event = serde_json::to_value(&input["log_fields"]).expect("JSON");
            let (result, from) = match program.run(event.clone()) {
                springald_vector::Outcome::Passed(event) => (event, transform.to_owned()),
                springald_vector::Outcome::Refused(_) => (event, format!("{transform}.dropped")),
            };
            assert_eq!(text(&output["extract_from"]), from, "{name}: {}", text(&test["name"]));
            let condition = text(&output["conditions"][0]["source"]);
            let mut holds = Program::compile(name, condition).unwrap_or_else(|error| panic!("{error}"));
            assert!(holds.holds(&result), "{name}: {}: {condition}\n{result}", text(&test["name"]));
        }
    }
}

#[test]
fn given_a_vector_when_it_validates_and_tests_both_configurations_then_they_pass() {
    let vector = std::env::var_os("VECTOR_BIN").map_or_else(|| PathBuf::from("vector"), PathBuf::from);
    if Command::new(&vector).arg("--version").output().is_err() {
        println!(
            "SKIPPED: vector validate and vector test: there is no {} (VECTOR_BIN, or in the PATH)",
            vector.display()
        );
        return;
    }
    let data = std::env::temp_dir().join(format!("springald-vector-{}", std::process::id()));
    fs::create_dir_all(&data).expect("a folder");
    for name in CONFIGS {
        let programs = folder().join("vrl").display().to_string();
        let text =
            read(name).replace("/etc/vector/vrl", &programs).replace("/var/lib/vector", &data.display().to_string());
        let path = data.join(name);
        fs::write(&path, text).expect("the configuration can be written");
        // Not its environment: no NATS and no ClickHouse need run.
        let output =
            Command::new(&vector).args(["validate", "--no-environment"]).arg(&path).output().expect("it starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}:\n{said}");
    }
    fs::remove_dir_all(&data).expect("the folder can be deleted");
}
