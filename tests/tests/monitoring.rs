//! Prometheus' rules and Grafana's dashboards, without a cluster: they are right in themselves, and speak of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;
use springald_tests::workspace;

/// Metrics of others that rules and dashboards name: Vector 0.58, etcd, and Prometheus itself.
const OF_OTHERS: [&str; 5] = [
    "up",
    "vector_component_discarded_events_total",
    "vector_component_sent_events_total",
    "vector_buffer_size_bytes",
    // Counted by the transforms of vector/edge.yaml and vector/aggregator.yaml.
    "springald_pipeline_refused_total",
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn deploy() -> PathBuf {
    workspace().join("deploy")
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == ending));
    found.sort();
    found
}

/// The rules of all groups.
fn rules() -> Vec<Value> {
    let mut rules = vec![];
    for path in files(&deploy().join("prometheus/rules"), "yml") {
        let file: Value = serde_yaml::from_str(&read(&path)).expect("YAML");
        for group in file["groups"].as_sequence().expect("groups") {
            rules.extend(group["rules"].as_sequence().expect("rules").iter().cloned());
        }
    }
    rules
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = match Command::new("promtool").args(arguments).args(files).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: promtool: {error}; scripts/setup.sh installs it");
            return;
        }
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}:\n{said}");
}

#[test]
fn given_the_rules_and_the_configuration_when_checked_then_prometheus_takes_them_and_every_alert_fires_when_it_should()
{
    let prometheus = deploy().join("prometheus");
    promtool(&["check", "rules"], &files(&prometheus.join("rules"), "yml"));
    promtool(&["check", "config", "--syntax-only"], &[prometheus.join("prometheus.yml")]);
    promtool(&["test", "rules"], &files(&prometheus.join("tests"), "yml"));
}

#[test]
fn given_the_alerts_then_each_has_a_page_and_a_test_and_no_page_is_of_none() {
    let tests = read(&deploy().join("prometheus/tests/alerts.yml"));
    let mut pages = BTreeSet::new();
    for rule in rules().iter().filter(|rule| rule["alert"].is_string()) {
        let name = rule["alert"].as_str().expect("a name");
        let page = rule["annotations"]["runbook"].as_str().expect("a page");
        let text = read(&workspace().join(page));
        assert!(text.starts_with(&format!("# {name}\n")), "{page} is about {name}");
        assert!(text.contains("## Look") && text.contains("## What helps"), "{page}");
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has no test");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
        pages.insert(workspace().join(page));
    }
    assert_eq!(files(&workspace().join("docs/runbooks"), "md").into_iter().collect::<BTreeSet<_>>(), pages);
}

#[test]
fn given_rules_and_dashboards_then_every_metric_in_them_is_one_of_the_code() {
    let mut known = metrics_of_the_code();
    known.extend(OF_OTHERS.map(str::to_owned));
    known.extend(rules().iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned));
    let mut seen = 0;
    for (place, expression) in expressions() {
        for name in metrics_in(&expression) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(known.contains(&name) || known.contains(base), "{place}: there is no metric {name}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} metrics in rules and dashboards");
}

#[test]
fn given_the_script_of_the_dashboards_when_run_then_it_makes_what_is_committed() {
    let script = deploy().join("grafana/generate.py");
    let output = Command::new("python3").arg("-B").arg(script).arg("--check").output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Expressions of rules and panels, with where they stand.
fn expressions() -> Vec<(String, String)> {
    let mut all = vec![];
    for rule in rules() {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).expect("a name").to_owned();
        all.push((name, rule["expr"].as_str().expect("an expression").to_owned()));
    }
    for path in files(&deploy().join("grafana/dashboards"), "json") {
        let dashboard: serde_json::Value = serde_json::from_str(&read(&path)).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                if let Some(expression) = target["expr"].as_str() {
                    all.push((format!("{}: {}", path.display(), panel["title"]), expression.to_owned()));
                }
            }
        }
    }
    all
}

/// Names that begin as ours, Vector's and Prometheus' metrics do.
fn metrics_in(expression: &str) -> Vec<String> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let ours = |word: &&str| {
        *word == "up" || ["springald_", "springald:", "vector_"].iter().any(|start| word.starts_with(start))
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// Names of the metrics that the processes have: another test holds this page to the code.
fn metrics_of_the_code() -> BTreeSet<String> {
    let page = read(&workspace().join("docs/metrics.md"));
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let names: BTreeSet<String> = names.filter(|name| name.starts_with("springald_")).map(str::to_owned).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}
