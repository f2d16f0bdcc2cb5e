//! Differential fuzzing: random queries, staged and whole on a server, and in DataFusion in this process.
//!
//! ```text
//! seed ─▶ world: tables as files ─────────▶ CREATE EXTERNAL TABLE ─▶ server, DataFusion
//!      └▶ generate: query, settings ─▶ check: answers compared as multisets of rows (and in order, where it is defined)
//!                                        │ differ
//!                                        ▼
//!                          shrink: settings, query, tables ─▶ case: text that is kept as a test
//! ```
//!
//! A seed repeats a run. Differences between configurations of DataFusion itself are found, counted and listed apart.

mod answer;
mod case;
mod check;
mod choice;
mod engines;
mod family;
mod generate;
mod node;
mod profile;
mod replay;
mod report;
mod shrink;
mod table;
mod world;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::StreamExt;

pub use replay::replay;
pub use report::{Found, Report};

use case::{Case, Settings};
use check::{Verdict, check};
use choice::Choice;
use engines::{Engines, Mode};
use generate::Statement;
use shrink::Shrinker;
use table::Table;

/// Queries over the same tables.
const QUERIES_PER_WORLD: u64 = 500;

/// Differences of one kind in one mode that are made smaller in one world.
const SHRUNK_PER_KIND: usize = 8;

/// Options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seed of tables, queries and settings.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of queries.
    #[arg(long, default_value_t = 2000)]
    pub queries: u64,
    /// Number of the first query.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Ends after so many minutes, if not all queries have run.
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Queries at one time.
    #[arg(long, default_value_t = 6)]
    pub jobs: usize,
    /// Differences that are made smaller.
    #[arg(long, default_value_t = 20)]
    pub shrink: usize,
    /// Also writes the report to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Runs the cases of this file instead of random queries.
    #[arg(long)]
    pub sql: Option<PathBuf>,
}

/// Keeps panics of DataFusion out of the output: they are answers that are compared.
pub fn silence_datafusion() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_datafusion = panic.location().is_some_and(|location| location.file().contains("/datafusion-"));
        if !is_datafusion {
            print(panic);
        }
    }));
}

/// A query of a run.
struct Query {
    number: u64,
    statement: Statement,
    settings: Settings,
}

/// State of a run.
struct Run {
    engines: Arc<Engines>,
    report: Report,
    /// Differences that may still be made smaller.
    shrinks_left: usize,
    /// Tables that were made while shrinking.
    shrunk_tables: usize,
}

/// Runs random queries.
///
/// # Panics
/// If the server does not start, or a table cannot be made.
pub async fn run(options: &Options) -> Report {
    let seed = options.seed.unwrap_or_else(|| Utc::now().timestamp_micros() as u64);
    let started = Instant::now();
    let deadline = options.minutes.map(|minutes| started + Duration::from_secs_f64(minutes * 60.0));
    let engines = Arc::new(Engines::start().await);
    let report = Report { seed, ..Report::default() };
    let mut run = Run { engines, report, shrinks_left: options.shrink, shrunk_tables: 0 };
    let profiles = profile::all(seed);
    let last = options.first + options.queries;
    let mut first = options.first;
    while first < last && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let world = first / QUERIES_PER_WORLD;
        let next = last.min((world + 1) * QUERIES_PER_WORLD);
        let tables = world::tables(&mut Choice::part(seed, world), &format!("w{world}_"));
        for table in &tables {
            run.engines.create(table, &table.name).await.unwrap_or_else(|error| panic!("{error}"));
        }
        let queries = (first..next).map(|number| {
            let mut choice = Choice::part(seed ^ 0x0051_4c51, number);
            let statement = generate::statement(&mut choice, &tables);
            Query { number, statement, settings: profile::pick(&mut choice, &profiles) }
        });
        run.run_queries(queries.collect(), options.jobs, &tables, deadline).await;
        for table in &tables {
            run.engines.remove(&table.name).await;
        }
        let report = &run.report;
        println!(
            "{next} of {last} queries, {:.0} s: {} agreed, {} failed alike, {} skipped, {} differ, {} differ in DataFusion",
            started.elapsed().as_secs_f64(),
            report.agreed,
            report.failed_alike,
            report.skipped,
            report.differences.len(),
            report.own.len()
        );
        first = next;
    }
    run.report.seconds = started.elapsed().as_secs_f64();
    run.report
}

impl Run {
    /// Runs queries, several at one time, and then makes the differences smaller.
    async fn run_queries(&mut self, queries: Vec<Query>, jobs: usize, tables: &[Table], deadline: Option<Instant>) {
        let tasks = queries.into_iter().map(|query| {
            let engines = Arc::clone(&self.engines);
            tokio::spawn(async move {
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return None;
                }
                let sql = query.statement.node.sql();
                let verdict = check(&engines, &sql, &query.settings, &query.statement.ordered, &Mode::ALL).await;
                Some((query, verdict))
            })
        });
        // A task is spawned when the stream asks for it.
        let mut verdicts = futures::stream::iter(tasks).buffer_unordered(jobs);
        let mut differing = Vec::new();
        while let Some(finished) = verdicts.next().await {
            let Some((query, verdict)) = finished.expect("a task that does not panic") else { continue };
            self.report.queries += 1;
            match verdict {
                Verdict::Agreed => self.report.agreed += 1,
                Verdict::FailedAlike(message) => {
                    self.report.failed_alike += 1;
                    self.report.count_error(&message);
                }
                Verdict::Skipped => self.report.skipped += 1,
                Verdict::Own(difference) => differing.push((query, Vec::new(), difference)),
                Verdict::Differs(found) => {
                    let modes: Vec<Mode> = found.iter().map(|(mode, _)| *mode).collect();
                    // What differs in both modes is looked for in the one that has less to do.
                    differing.extend(found.into_iter().next_back().map(|(_, difference)| (query, modes, difference)));
                }
            }
        }
        drop(verdicts);
        differing.sort_by_key(|(query, ..)| query.number);
        let mut shrunk = std::collections::HashMap::<_, usize>::new();
        for (query, modes, difference) in differing {
            let mode = modes.last().copied();
            let of_kind = shrunk.entry((modes.clone(), difference.kind)).or_default();
            let is_shrunk = *of_kind < SHRUNK_PER_KIND && self.shrinks_left > 0;
            let case = if is_shrunk {
                *of_kind += 1;
                self.shrinks_left -= 1;
                let mut shrinker = Shrinker::new(&self.engines, difference.kind, mode, &mut self.shrunk_tables);
                shrinker.shrink(&query.name(), &query.statement, &query.settings, tables).await
            } else {
                query.case(tables)
            };
            let found = Found {
                query: query.number,
                engine: match modes[..] {
                    [] => "datafusion",
                    [mode] => mode.name(),
                    _ => "staged and whole",
                },
                kind: format!("{:?}", difference.kind),
                case: case.to_text(),
                text: difference.text,
                is_shrunk,
            };
            if is_shrunk {
                println!("{}", found.to_text());
            }
            let list = if mode.is_some() { &mut self.report.differences } else { &mut self.report.own };
            list.push(found);
        }
    }
}

impl Query {
    fn name(&self) -> String {
        format!("query_{}", self.number)
    }

    fn case(&self, tables: &[Table]) -> Case {
        let sql = self.statement.node.sql();
        let used: Vec<Table> =
            tables.iter().filter(|table| node::words(&sql).any(|word| word == table.name)).cloned().collect();
        Case {
            name: self.name(),
            tables: used,
            settings: self.settings.clone(),
            ordered: self.statement.ordered.clone(),
            sql,
        }
    }
}
