//! From SQL text to what is to be done about it.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use datafusion::common::Location;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::secrets;

use super::Described;

/// A statement, ready for the next step.
pub(super) enum Prepared {
    /// It had no result and is done.
    Done,
    /// To be planned and run.
    Query(LogicalPlan),
    /// To be planned and shown.
    Explain(LogicalPlan),
    /// To be planned, run, and shown with what was measured.
    Analyze(LogicalPlan),
}

/// Parses exactly one statement and resolves its names. Errors say where in the text.
pub(super) async fn parse(sql: &str, state: &SessionState) -> Result<LogicalPlan> {
    let statement = parse_one(sql, state)?;
    state.statement_to_plan(statement).await.map_err(|error| located(error, sql))
}

fn parse_one(sql: &str, state: &SessionState) -> Result<Statement> {
    let dialect_name = state.config_options().sql_parser.dialect.to_string();
    let dialect = dialect_from_str(&dialect_name)
        .ok_or_else(|| Error::invalid(format!("there is no SQL dialect {dialect_name:?}")))?;
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(dialect.as_ref())
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| located(error, sql))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(Error::invalid("the statement is empty")),
        (Some(_), false) => Err(Error::invalid("send one statement at a time")),
    }
}

/// Adds the position in the text: where DataFusion knows it, or the end of a text that ends too early.
fn located(error: DataFusionError, sql: &str) -> Error {
    let position = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start);
    let error = Error::from(error);
    let position = position.or_else(|| error.message().contains("found: EOF").then(|| end_of(sql)));
    match position {
        Some(start) if start.line > 0 => {
            Error::new(error.code(), format!("{} (at line {}, column {})", error.message(), start.line, start.column))
        }
        _ => error,
    }
}

/// Where the text ends, without the white space behind it.
fn end_of(sql: &str) -> Location {
    let text = sql.trim_end();
    let last = text.rsplit('\n').next().unwrap_or(text);
    Location { line: text.matches('\n').count() as u64 + 1, column: last.chars().count() as u64 + 1 }
}

/// What kind of statement it is, now that DDL and SET are out of the way.
pub(super) fn classify(plan: LogicalPlan) -> Result<Prepared> {
    match plan {
        LogicalPlan::Explain(explain) => Ok(Prepared::Explain(explain.plan.as_ref().clone())),
        LogicalPlan::Analyze(analyze) => Ok(Prepared::Analyze(analyze.input.as_ref().clone())),
        LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => {
            Err(Error::unsupported("INSERT, UPDATE, DELETE and COPY are not supported: Springald reads tables"))
        }
        query => match query.get_parameter_fields().map_err(Error::from)?.is_empty() {
            true => Ok(Prepared::Query(query)),
            false => Err(Error::unsupported("the statement has parameters; binding values is not supported yet")),
        },
    }
}

/// What a statement would answer.
pub(super) async fn describe(sql: &str, state: &SessionState) -> Result<Described> {
    let plan = parse(sql, state).await?;
    if matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)) {
        return Ok(Described { schema: no_schema(), parameters: vec![], is_query: false });
    }
    let fields = plan.get_parameter_fields().map_err(Error::from)?;
    let mut parameters: Vec<_> = fields.into_iter().collect();
    parameters.sort_by_key(|(name, _)| name.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX));
    let parameters = parameters
        .into_iter()
        .map(|(name, field)| field.unwrap_or_else(|| Arc::new(Field::new(name, DataType::Null, true))))
        .collect::<Vec<_>>();
    let schema = match &plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => explain_schema(),
        // Before values are bound, the types of expressions over parameters are a guess.
        query if !parameters.is_empty() => Arc::new(query.schema().as_arrow().clone()),
        query => state.create_physical_plan(query).await.map_err(|error| located(error, sql))?.schema(),
    };
    Ok(Described { schema, parameters, is_query: true })
}

/// Schema of statements without a result.
pub(super) fn no_schema() -> SchemaRef {
    Arc::new(Schema::empty())
}

/// The result of statements without one.
pub(super) fn no_rows() -> SendableRecordBatchStream {
    Box::pin(EmptyRecordBatchStream::new(no_schema()))
}

/// Schema of EXPLAIN's answer.
pub(super) fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]))
}

/// EXPLAIN's answer.
pub(super) fn explain_batch(rows: Vec<(String, String)>) -> Result<RecordBatch> {
    let rows = rows.into_iter().map(|(kind, text)| (kind, secrets::owned(text)));
    let (kinds, texts): (Vec<String>, Vec<String>) = rows.unzip();
    let columns: Vec<datafusion::arrow::array::ArrayRef> =
        vec![Arc::new(StringArray::from(kinds)), Arc::new(StringArray::from(texts))];
    RecordBatch::try_new(explain_schema(), columns)
        .map_err(|error| Error::new(ErrorCode::Internal, "EXPLAIN's answer does not fit its schema").with_source(error))
}

/// A schema as an Arrow IPC message; empty bytes for one without fields.
pub(super) fn encode_schema(schema: &Schema) -> Vec<u8> {
    if schema.fields().is_empty() {
        return vec![];
    }
    let options = IpcWriteOptions::default();
    let mut dictionaries = DictionaryTracker::new(false);
    IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options).ipc_message
}
