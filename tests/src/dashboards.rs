//! The queries of Grafana's dashboards, as Grafana would send them.

use std::fs;

use serde_json::Value;

use crate::workspace;

/// A query of a panel.
#[derive(Clone, Debug)]
pub struct PanelQuery {
    /// File and title.
    pub place: String,
    /// The title of the panel.
    pub title: String,
    /// What is asked.
    pub text: Text,
}

/// The language of a query.
#[derive(Clone, Debug)]
pub enum Text {
    /// For Prometheus.
    PromQl(String),
    /// For ClickHouse.
    Sql(String),
}

/// All of them, with variables and macros filled in: all clusters, the last hour, and this job.
///
/// # Panics
/// If a dashboard cannot be read, or has something that is not filled in here.
pub fn queries(job: &str) -> Vec<PanelQuery> {
    let folder = workspace().join("deploy/grafana/dashboards");
    let mut found = vec![];
    for entry in fs::read_dir(&folder).expect("the dashboards") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a readable file");
        let dashboard: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title").to_owned();
            let place = format!("{}: {title}", dashboard["title"].as_str().expect("a title"));
            for target in panel["targets"].as_array().expect("targets") {
                let text = match (target["expr"].as_str(), target["rawSql"].as_str()) {
                    (Some(expression), None) => Text::PromQl(filled(&place, expression, job)),
                    (None, Some(sql)) => Text::Sql(filled(&place, sql, job)),
                    _ => panic!("{place}: a query for Prometheus or for ClickHouse"),
                };
                found.push(PanelQuery { place: place.clone(), title: title.clone(), text });
            }
        }
    }
    found
}

fn filled(place: &str, text: &str, job: &str) -> String {
    let mut text = text
        .replace("$cluster", ".*")
        .replace("$__rate_interval", "1m")
        .replace("${job:sqlstring}", &format!("'{job}'"));
    while let Some((before, rest)) = text.split_once("$__timeFilter(") {
        let (column, after) = rest.split_once(')').unwrap_or_else(|| panic!("{place}: {rest}"));
        text = format!("{before}{column} >= now() - INTERVAL 1 HOUR AND {column} <= now() + INTERVAL 1 MINUTE{after}");
    }
    assert!(!text.contains('$'), "{place}: {text}");
    text
}
