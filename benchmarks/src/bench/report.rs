//! What the comparison found, for people and for programs.

use std::fmt::Write;
use std::thread;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};
use indicatif::HumanBytes;
use serde::Serialize;

use super::options::{BenchOptions, EngineKind};
use crate::error::Result;
use crate::figures::{median, time};
use crate::tpch::Scale;

/// Result of a comparison. As JSON: `{"scale":1,"runs":3,…,"engines":[{"engine":"springald","queries":[{"query":1,
/// "median_millis":12.3,"millis":[…],"verified":true,"error":null},…],"total_millis":…,"peak_memory_bytes":…,…},…],
/// "ratios":{"total":1.1,"queries":[{"query":1,"ratio":1.2},…]},"latency":[]}`.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Scale of the data.
    pub scale: Scale,
    /// How often each query ran.
    pub runs: u16,
    /// Springald's executors.
    pub executors: u16,
    /// Slots of each; DataFusion had executors × slots partitions.
    pub slots: u16,
    /// Memory of each executor, as it was given.
    pub memory: Option<String>,
    /// Cores of the machine.
    pub cores: usize,
    /// One entry per engine.
    pub engines: Vec<EngineReport>,
    /// Springald's times in DataFusion's; `None` unless both were measured.
    pub ratios: Option<Ratios>,
    /// Times of the smallest query, if they were measured.
    pub latency: Vec<LatencyReport>,
}

/// Result of one engine.
#[derive(Clone, Debug, Serialize)]
pub struct EngineReport {
    /// Which.
    pub engine: EngineKind,
    /// One entry per query.
    pub queries: Vec<QueryReport>,
    /// Sum of the queries' medians, in milliseconds.
    pub total_millis: f64,
    /// Sum of the most memory that each of its processes had; `None` if one has ended.
    pub peak_memory_bytes: Option<u64>,
    /// Its processes.
    pub processes: Vec<ProcessReport>,
}

/// Result of one query in one engine.
#[derive(Clone, Debug, Serialize)]
pub struct QueryReport {
    /// 1 to 22.
    pub query: u8,
    /// Median of `millis`; `None` without any.
    pub median_millis: Option<f64>,
    /// Time of each run that gave a result, in milliseconds.
    pub millis: Vec<f64>,
    /// True if it ran and every run gave the committed answer.
    pub verified: bool,
    /// Why it is not verified.
    pub error: Option<String>,
}

/// One process of an engine.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessReport {
    /// What it is.
    pub name: String,
    /// Most memory that it had (`VmHWM`).
    pub peak_memory_bytes: Option<u64>,
}

/// Springald's times in DataFusion's: below 1, Springald is faster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratios {
    /// Of the totals; `None` unless both engines answered all queries rightly.
    pub total: Option<f64>,
    /// Of each query that both engines answered rightly.
    pub queries: Vec<QueryRatio>,
}

/// Ratio of one query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryRatio {
    /// 1 to 22.
    pub query: u8,
    /// Of the medians.
    pub ratio: f64,
}

/// Times of the smallest query in one engine.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyReport {
    /// Which, and over which store.
    pub engine: String,
    /// Median, in milliseconds.
    pub p50_millis: Option<f64>,
    /// 95 of 100 runs took no longer.
    pub p95_millis: Option<f64>,
    /// Time of each run.
    pub millis: Vec<f64>,
    /// True if every run gave the right number.
    pub verified: bool,
    /// Why it is not verified.
    pub error: Option<String>,
}

// === impl QueryReport ===

impl QueryReport {
    /// A query that has not run yet.
    pub(super) fn new(query: u8) -> Self {
        Self { query, median_millis: None, millis: Vec::new(), verified: false, error: None }
    }

    /// Adds a run.
    pub(super) fn add(&mut self, millis: Option<f64>, error: Option<String>) {
        self.millis.extend(millis);
        self.median_millis = median(&self.millis);
        self.error = self.error.take().or(error);
        self.verified = self.error.is_none() && !self.millis.is_empty();
    }

    /// The median, if the answers were right.
    fn verified_median(&self) -> Option<f64> {
        self.median_millis.filter(|_| self.verified)
    }
}

// === impl EngineReport ===

impl EngineReport {
    /// The report of an engine that ran `queries` in `processes`.
    pub(super) fn new(engine: EngineKind, queries: Vec<QueryReport>, processes: Vec<ProcessReport>) -> Self {
        let total_millis = queries.iter().filter_map(|query| query.median_millis).sum();
        let peak_memory_bytes = processes.iter().map(|process| process.peak_memory_bytes).sum();
        Self { engine, queries, total_millis, peak_memory_bytes, processes }
    }

    fn query(&self, number: u8) -> Option<&QueryReport> {
        self.queries.iter().find(|query| query.query == number)
    }

    fn all_verified(&self) -> bool {
        !self.queries.is_empty() && self.queries.iter().all(|query| query.verified)
    }
}

// === impl Ratios ===

impl Ratios {
    fn between(engine: &EngineReport, base: &EngineReport) -> Self {
        let ratio = |query: &QueryReport| {
            let base = base.query(query.query)?.verified_median().filter(|millis| *millis > 0.0)?;
            Some(QueryRatio { query: query.query, ratio: query.verified_median()? / base })
        };
        let comparable = engine.all_verified() && base.all_verified() && base.total_millis > 0.0;
        Self {
            total: comparable.then(|| engine.total_millis / base.total_millis),
            queries: engine.queries.iter().filter_map(ratio).collect(),
        }
    }

    fn of(&self, query: u8) -> Option<f64> {
        self.queries.iter().find(|ratio| ratio.query == query).map(|ratio| ratio.ratio)
    }
}

// === impl LatencyReport ===

impl LatencyReport {
    /// An engine that has not run yet.
    pub(super) fn new(engine: &str) -> Self {
        let engine = engine.to_owned();
        Self { engine, p50_millis: None, p95_millis: None, millis: Vec::new(), verified: false, error: None }
    }
}

// === impl BenchReport ===

impl BenchReport {
    /// The report of what was measured with `options`.
    pub(super) fn new(options: &BenchOptions, engines: Vec<EngineReport>, latency: Vec<LatencyReport>) -> Self {
        let find = |kind| engines.iter().find(|engine: &&EngineReport| engine.engine == kind);
        let ratios = match (find(EngineKind::Springald), find(EngineKind::DataFusion)) {
            (Some(springald), Some(datafusion)) => Some(Ratios::between(springald, datafusion)),
            _ => None,
        };
        Self {
            scale: options.workload.scale,
            runs: options.runs,
            executors: options.executors,
            slots: options.slots,
            memory: options.memory.clone(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            engines,
            ratios,
            latency,
        }
    }

    /// True if something was measured, and every result of every engine was right.
    pub fn all_verified(&self) -> bool {
        let measured = !self.engines.is_empty() || !self.latency.is_empty();
        measured
            && self.engines.iter().all(EngineReport::all_verified)
            && self.latency.iter().all(|latency| latency.verified)
    }

    /// Exit status of the process: 0 if all is verified, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.all_verified())
    }

    /// The report as JSON, in several lines.
    ///
    /// # Errors
    /// If a time is not a number.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// One line that says what was measured.
    pub(super) fn title(&self) -> String {
        let memory = self.memory.as_ref().map(|memory| format!(" with {memory} each")).unwrap_or_default();
        format!(
            "TPC-H scale {}, medians of {}, executors × slots {} × {}{memory}, {} cores",
            self.scale, self.runs, self.executors, self.slots, self.cores
        )
    }

    /// The report as tables for a terminal, with the errors below them.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if !self.engines.is_empty() {
            let _ = writeln!(text, "{}\n{}", self.title(), self.query_table());
        }
        for engine in &self.engines {
            let _ = writeln!(text, "{}", memory_line(engine));
            for (number, error) in engine.queries.iter().filter_map(|query| Some((query.query, query.error.as_ref()?)))
            {
                let _ = writeln!(text, "{}, query {number}: {error}", engine.engine);
            }
        }
        if !self.latency.is_empty() {
            let _ = writeln!(text, "SELECT count(*) over 25 rows\n{}", self.latency_table());
        }
        for (engine, error) in
            self.latency.iter().filter_map(|latency| Some((&latency.engine, latency.error.as_ref()?)))
        {
            let _ = writeln!(text, "{engine}: {error}");
        }
        text.trim_end().to_owned()
    }

    fn query_table(&self) -> Table {
        let mut header = vec!["query".to_owned()];
        header.extend(self.engines.iter().map(|engine| engine.engine.to_string()));
        header.extend(self.ratios.as_ref().map(|_| "ratio".to_owned()));
        let mut table = table(&header);
        for query in self.engines.first().into_iter().flat_map(|engine| &engine.queries) {
            let mut row = vec![Cell::new(query.query)];
            row.extend(self.engines.iter().map(|engine| query_cell(engine.query(query.query))));
            row.extend(self.ratios.as_ref().map(|ratios| ratio_cell(ratios.of(query.query))));
            table.add_row(row);
        }
        let mut row = vec![Cell::new("total")];
        row.extend(self.engines.iter().map(|engine| time_cell(engine.all_verified().then_some(engine.total_millis))));
        row.extend(self.ratios.as_ref().map(|ratios| ratio_cell(ratios.total)));
        table.add_row(row);
        align(table)
    }

    fn latency_table(&self) -> Table {
        let mut table = table(&["engine", "p50", "p95", "runs", "p50 above the first"].map(str::to_owned));
        let base = self.latency.first().and_then(|first| first.p50_millis);
        for latency in &self.latency {
            let above = latency.p50_millis.zip(base).map(|(p50, base)| p50 - base);
            table.add_row(vec![
                Cell::new(&latency.engine),
                time_cell(latency.p50_millis),
                time_cell(latency.p95_millis),
                Cell::new(latency.millis.len()),
                time_cell(above),
            ]);
        }
        align(table)
    }
}

fn table(header: &[String]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// All columns but the first are numbers.
fn align(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn query_cell(query: Option<&QueryReport>) -> Cell {
    match query {
        Some(query) if query.verified => time_cell(query.median_millis),
        _ => Cell::new("FAILED").fg(Color::Red),
    }
}

fn time_cell(millis: Option<f64>) -> Cell {
    Cell::new(millis.map_or_else(|| "–".to_owned(), time))
}

fn ratio_cell(ratio: Option<f64>) -> Cell {
    Cell::new(ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")))
}

fn memory_line(engine: &EngineReport) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| HumanBytes(bytes).to_string());
    let parts = engine.processes.iter().map(|process| format!("{} {}", process.name, bytes(process.peak_memory_bytes)));
    let total = bytes(engine.peak_memory_bytes);
    format!("{}: peak memory {total} ({})", engine.engine, parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::parse;
    use super::*;
    use serde_json::{Value, json};

    fn engine(kind: EngineKind, queries: &[(u8, &[f64])]) -> EngineReport {
        let queries = queries.iter().map(|(number, millis)| {
            let mut query = QueryReport::new(*number);
            millis.iter().for_each(|millis| query.add(Some(*millis), None));
            query
        });
        let process = |name: &str, bytes| ProcessReport { name: name.to_owned(), peak_memory_bytes: Some(bytes) };
        EngineReport::new(kind, queries.collect(), vec![process("a", 1 << 30), process("b", 1 << 20)])
    }

    fn report(engines: Vec<EngineReport>) -> BenchReport {
        BenchReport::new(&parse(&[]).expect("defaults"), engines, Vec::new())
    }

    fn both() -> Vec<EngineReport> {
        vec![
            engine(EngineKind::Springald, &[(1, &[20.0, 10.0, 30.0]), (2, &[40.0])]),
            engine(EngineKind::DataFusion, &[(1, &[40.0, 41.0]), (2, &[19.5])]),
        ]
    }

    #[test]
    fn given_two_engines_then_medians_totals_and_ratios_are_in_the_json() {
        let report = report(both());
        let json: Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        let query = json!({"query": 1, "median_millis": 20.0, "millis": [20.0, 10.0, 30.0], "verified": true,
            "error": null});
        assert_eq!(json["engines"][0]["engine"], "springald");
        assert_eq!(json["engines"][0]["queries"][0], query);
        assert_eq!(json["engines"][0]["total_millis"], 60.0);
        assert_eq!(json["engines"][1]["engine"], "datafusion");
        assert_eq!(json["engines"][1]["peak_memory_bytes"], (1_u64 << 30) + (1 << 20));
        assert_eq!(json["ratios"]["total"], 1.0);
        assert_eq!(json["ratios"]["queries"][0], json!({"query": 1, "ratio": 20.0 / 40.5}));
        assert_eq!((&json["scale"], &json["runs"], &json["slots"]), (&json!(1), &json!(3), &json!(1)));
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn given_a_wrong_answer_then_there_is_no_ratio_and_the_exit_code_is_1() {
        let mut engines = both();
        engines[0].queries[1].add(Some(1.0), Some("the result has 3 rows instead of 4".to_owned()));
        let report = report(engines);
        let ratios = report.ratios.as_ref().expect("two engines");
        assert_eq!((ratios.total, ratios.of(1).is_some(), ratios.of(2)), (None, true, None));
        assert_eq!(report.exit_code(), 1);
        let text = report.to_text();
        assert!(text.contains("springald, query 2: the result has 3 rows instead of 4"), "{text}");
        assert!(text.contains("FAILED"), "{text}");
    }

    #[test]
    fn given_one_engine_or_none_then_there_are_no_ratios() {
        let one = report(vec![engine(EngineKind::DataFusion, &[(6, &[1.5])])]);
        assert!(one.ratios.is_none());
        assert!(
            one.to_text().contains("datafusion: peak memory 1.00 GiB (a 1.00 GiB, b 1.00 MiB)"),
            "{}",
            one.to_text()
        );
        assert_eq!((one.exit_code(), report(Vec::new()).exit_code()), (0, 1));
    }

    #[test]
    fn given_a_process_that_ended_then_the_peak_is_unknown() {
        let gone = ProcessReport { name: "c".to_owned(), peak_memory_bytes: None };
        let report = EngineReport::new(EngineKind::Springald, Vec::new(), vec![gone]);
        assert_eq!((report.peak_memory_bytes, report.all_verified()), (None, false));
    }

    #[test]
    fn given_latencies_then_they_are_compared_with_the_first() {
        let latency =
            |name: &str, p50| LatencyReport { p50_millis: Some(p50), verified: true, ..LatencyReport::new(name) };
        let latencies = vec![latency("datafusion", 0.5), latency("springald", 3.25)];
        let report = BenchReport::new(&parse(&["--latency"]).expect("options"), Vec::new(), latencies);
        assert!(report.to_text().contains("2.75 ms"), "{}", report.to_text());
        assert_eq!(report.exit_code(), 0);
        let json: Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        assert_eq!(json["latency"][1]["p50_millis"], 3.25);
    }
}
