//! `springald reference`: the pages of docs/ that are made from the code.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use springald_core::error::Result;
use springald_core::telemetry::{self, events};

use crate::cli::Page;

const HEAD: &str = "\
# Metrics

Every process serves its metrics at `/metrics` of its telemetry port (`telemetry.port`), for Prometheus. Schedulers have those
of `springald_scheduler`, executors those of `springald_executor`, `standalone` both, and all of them the others. This page
is generated from the code by `make reference`; a test holds it to what processes serve.

Names say the unit; counters end in `_total`, histograms have `_bucket`, `_sum` and `_count`. Labels have few values, never
ids or text of users.

| metric | type | what |
|---|---|---|
";

const FOOT: &str = "
`GET /api/v1/discovery/prometheus` of any scheduler's REST port lists the telemetry ports of the whole cluster, with the
labels `service`, `instance` and `cluster`, for `http_sd_configs`.
";

pub fn run(page: Page) -> Result<ExitCode> {
    let text = match page {
        Page::Events => events::reference(),
        Page::Metrics => metrics()?,
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// All metrics of all roles.
fn metrics() -> Result<String> {
    springald_scheduler::register_metrics();
    springald_executor::register_metrics();
    telemetry::register_metrics();
    let served = telemetry::collect_metrics()?;
    let mut metrics: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for line in served.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            metrics.entry(name).or_default().1 = help;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            metrics.entry(name).or_default().0 = kind;
        }
    }
    let mut page = HEAD.to_owned();
    for (name, (kind, help)) in metrics.iter().filter(|(name, _)| name.starts_with("springald_")) {
        let _ = writeln!(page, "| `{name}` | {kind} | {} |", help.trim().trim_end_matches('.'));
    }
    page.push_str(FOOT);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_metrics_reference_then_it_says_what_the_code_says() {
        let text = metrics().expect("metrics");
        assert!(text == include_str!("../../docs/metrics.md"), "docs/metrics.md is old: run `make reference`");
    }
}
