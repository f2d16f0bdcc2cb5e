//! What arrives of a plan is what was sent: every operator, and every loss of DataFusion's encoding.

mod exchange;
mod expressions;
mod operators;
mod planted;
mod queries;
mod scans;
mod streams;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;

use super::*;

/// A number of half precision.
type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// The first number past 32 bits.
const LARGE: usize = 1 << 32;

fn schema() -> SchemaRef {
    let columns = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new(columns.to_vec()))
}

fn arrived(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    arrived_at(plan, &TaskContext::default())
}

fn arrived_at(plan: &Arc<dyn ExecutionPlan>, context: &TaskContext) -> Arc<dyn ExecutionPlan> {
    let bytes = encode_plan(Arc::clone(plan)).expect("encodes");
    decode_plan(&bytes, context).expect("decodes")
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(true).to_string()
}

/// Words and brackets of the derived `Debug` text, in which maps have no order.
fn words(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let text = format!("{plan:?}");
    let brackets = text.chars().filter(|character| "[]{}()".contains(*character)).map(String::from);
    let words = text.split(|character: char| !(character.is_alphanumeric() || character == '_' || character == '-'));
    let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
    let mut words: Vec<_> = words.chain(brackets).collect();
    words.sort();
    words
}

/// Checks that both are equal, in all fields that are seen.
fn assert_same(one: &Arc<dyn ExecutionPlan>, other: &Arc<dyn ExecutionPlan>) {
    assert_eq!(text(one), text(other));
    assert_eq!(one.schema(), other.schema(), "{}", text(one));
    let (these, those) = (words(one), words(other));
    if these != those {
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        let place = one.bytes().zip(other.bytes()).position(|(one, other)| one != other).unwrap_or(0);
        let around = |text: &str| text.chars().skip(place.saturating_sub(400)).take(800).collect::<String>();
        panic!("not equal:\n{}\n\n{}", around(&one), around(&other));
    }
}

/// Sends a plan, and checks that the same arrives.
fn assert_kept(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let there = arrived(plan);
    assert_same(plan, &there);
    there
}

/// A session with tables in files.
struct Session {
    context: SessionContext,
    directory: TempDir,
}

impl Session {
    /// Makes `t`: four files of Parquet with 25 rows each.
    async fn new() -> Self {
        Self::with(SessionConfig::new().with_target_partitions(3)).await
    }

    async fn with(config: SessionConfig) -> Self {
        let directory = TempDir::new().expect("a directory");
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        let session = Self { context: SessionContext::new_with_state(state), directory };
        session.write("t", "parquet", "").await;
        session
    }

    fn path(&self, table: &str) -> String {
        self.directory.path().join(table).to_string_lossy().into_owned()
    }

    async fn write(&self, table: &str, format: &str, options: &str) {
        let rows = "SELECT value AS id, value % 7 AS g, CASE WHEN value % 5 = 0 THEN NULL ELSE value * 3 END AS v,
            concat('s', value % 11) AS s, arrow_cast(value % 3, 'Float64') AS f, value % 4 AS k";
        for file in 0..4 {
            let (path, from, to) = (self.path(table), file * 25, file * 25 + 24);
            let query = format!(
                "COPY ({rows} FROM generate_series({from}, {to})) TO '{path}/{file}.{format}' STORED AS {format}"
            );
            self.rows(&query).await;
        }
        let path = self.path(table);
        self.rows(&format!("CREATE EXTERNAL TABLE {table} STORED AS {format} {options} LOCATION '{path}/'")).await;
    }

    async fn rows(&self, sql: &str) -> Vec<RecordBatch> {
        self.context.sql(sql).await.expect(sql).collect().await.expect(sql)
    }

    /// Plans a query, and collects what its window functions filter by.
    async fn plan(&self, sql: &str) -> (Arc<dyn ExecutionPlan>, WindowFilters) {
        let state = self.context.state();
        let logical = state.create_logical_plan(sql).await.expect(sql);
        let logical = state.optimize(&logical).expect(sql);
        let filters = WindowFilters::from_logical_plan(&logical, &state).expect(sql);
        let plan = state.query_planner().create_physical_plan(&logical, &state).await.expect(sql);
        (plan, filters)
    }

    /// Plans a query and sends it.
    async fn sent(&self, sql: &str) -> (Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>) {
        let (plan, filters) = self.plan(sql).await;
        let bytes =
            encode_plan_with_filters(Arc::clone(&plan), &filters).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let there = decode_plan(&bytes, &self.context.task_ctx()).unwrap_or_else(|error| panic!("{sql}: {error}"));
        (plan, there)
    }

    /// Checks that the plan of a query arrives as it is, and gives the same rows.
    async fn assert_kept(&self, sql: &str) -> Arc<dyn ExecutionPlan> {
        let (plan, there) = self.sent(sql).await;
        assert_same(&plan, &there);
        assert_eq!(self.sorted(&plan).await, self.sorted(&there).await, "{sql}");
        there
    }

    async fn sorted(&self, plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
        let batches = collect(Arc::clone(plan), self.context.task_ctx()).await.expect("runs");
        let table = pretty_format_batches(&batches).expect("is a table").to_string();
        let mut lines: Vec<_> = table.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// Finds the first operator of a type.
fn find<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<T>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find::<T>)
}
