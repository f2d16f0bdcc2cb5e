//! The comparison: each query in each engine, side by side.

use std::path::Path;

use super::engine::Engine;
use super::options::{BenchOptions, EngineKind};
use super::report::{EngineReport, QueryReport};
use super::statement::{Outcome, Statement};
use crate::error::Result;
use crate::progress::{QUERY_BAR, bar};
use crate::tpch::Table;

/// An engine with what was found of it so far.
struct Contender {
    kind: EngineKind,
    engine: Engine,
    queries: Vec<QueryReport>,
}

/// Starts the engines over the data in `dir`, runs the queries, and ends the engines.
///
/// For each run of a query the engines take turns, and who begins changes from run to run and from query to query: what
/// one of them warms up for the other (the system's file cache) and what the machine does meanwhile falls on both.
///
/// # Errors
/// If an engine cannot be started. A query that fails is part of the report, and is not run again.
pub(super) async fn measure(options: &BenchOptions, dir: &Path) -> Result<Vec<EngineReport>> {
    let mut contenders = Vec::new();
    for kind in options.selected_engines() {
        let mut engine = Engine::start(kind, options).await?;
        for table in Table::ALL {
            engine.register(table.name(), &dir.join(table.name())).await?;
        }
        contenders.push(Contender { kind, engine, queries: Vec::new() });
    }
    let queries = options.workload.selected_queries();
    let bar = bar(queries.len() as u64 * u64::from(options.runs), QUERY_BAR);
    for (index, query) in queries.into_iter().enumerate() {
        let statement = Statement::query(query, options.workload.scale);
        contenders.iter_mut().for_each(|contender| contender.queries.push(QueryReport::new(query.number)));
        for run in 0..usize::from(options.runs) {
            for contender in order(&mut contenders, index + run) {
                bar.set_message(format!("query {}, {}", query.number, contender.kind));
                contender.run(&statement, options).await;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(contenders.into_iter().map(Contender::into_report).collect())
}

/// All of them, begun by another one in each turn.
fn order<T>(all: &mut [T], turn: usize) -> Vec<&mut T> {
    let mut order: Vec<&mut T> = all.iter_mut().collect();
    let first = turn.checked_rem(order.len()).unwrap_or_default();
    order.rotate_left(first);
    order
}

impl Contender {
    /// Runs the statement of the last query, unless it failed before.
    async fn run(&mut self, statement: &Statement, options: &BenchOptions) {
        let Some(report) = self.queries.last_mut().filter(|report| report.error.is_none()) else { return };
        let Outcome { millis, error } = self.engine.run(statement, options.query_timeout()).await;
        report.add(millis, error);
    }

    fn into_report(self) -> EngineReport {
        EngineReport::new(self.kind, self.queries, self.engine.processes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_turns_then_another_one_begins_each_time() {
        let mut all = ['a', 'b'];
        let shown = |all: &mut [char], turn| order(all, turn).into_iter().map(|name| *name).collect::<String>();
        assert_eq!([0, 1, 2].map(|turn| shown(&mut all, turn)), ["ab", "ba", "ab"]);
        assert_eq!(shown(&mut ['a'], 1), "a");
        assert_eq!(shown(&mut [], 1), "");
    }
}
