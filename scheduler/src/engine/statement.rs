//! From SQL text to what is to be done about it.

mod expansion;
mod growth;
mod limits;

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use datafusion::common::Location;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_core::{sample, secrets};

use super::Described;
use crate::syntax;

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

/// Seed of a statement's samples. Planned again for the same job, a statement samples the same rows.
pub(super) fn sample_seed(job: &JobId) -> u64 {
    sample::stable_hash(job.as_str().as_bytes())
}

/// Parses exactly one statement and resolves its names. Errors say where in the text. Refuses statements that would
/// overflow the stack, or fill the memory, while they are planned, and syntax that planning would ignore. `seed` decides
/// which rows a `TABLESAMPLE` without `REPEATABLE` keeps.
pub(super) async fn parse(sql: &str, state: &SessionState, seed: u64) -> Result<LogicalPlan> {
    let statement = parse_one(sql, state)?;
    expansion::check(&statement)?;
    syntax::check(&statement, state).map_err(|error| masked(error, sql))?;
    let plan = state.statement_to_plan(statement).await.map_err(|error| located(error, sql))?;
    limits::check_plan(&plan)?;
    growth::check(&plan)?;
    Ok(sample::fix_seeds(plan, seed)?)
}

/// The error without the secrets of the statement.
fn masked(error: Error, sql: &str) -> Error {
    Error::new(error.code(), secrets::error_of(sql, error.message()))
}

fn parse_one(sql: &str, state: &SessionState) -> Result<Statement> {
    let dialect_name = state.config_options().sql_parser.dialect.to_string();
    let dialect = dialect_from_str(&dialect_name)
        .ok_or_else(|| Error::invalid(format!("there is no SQL dialect {dialect_name:?}")))?;
    let tokens = Tokenizer::new(dialect.as_ref(), sql)
        .tokenize_with_location()
        .map_err(|error| located(ParserError::from(error).into(), sql))?;
    limits::check_tokens(&tokens)?;
    let mut statements = DFParserBuilder::new(tokens)
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

/// Adds the position in the text: where DataFusion knows it, or the end of a text that ends too early. Takes out what
/// is secret in the statement.
fn located(error: DataFusionError, sql: &str) -> Error {
    let position = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start);
    let error = Error::from(error);
    let position = position.or_else(|| error.message().contains("found: EOF").then(|| end_of(sql)));
    let message = secrets::error_of(sql, error.message());
    match position {
        Some(start) if start.line > 0 => {
            Error::new(error.code(), format!("{message} (at line {}, column {})", start.line, start.column))
        }
        // Without the cause, which still says it.
        _ if message != error.message() => Error::new(error.code(), message),
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
    // Of EXPLAIN, what it explains counts too.
    check_reads(&plan)?;
    if !plan.get_parameter_fields().map_err(Error::from)?.is_empty() {
        return Err(Error::unsupported("the statement has parameters; binding values is not supported yet"));
    }
    Ok(match plan {
        LogicalPlan::Explain(explain) => Prepared::Explain(explain.plan.as_ref().clone()),
        LogicalPlan::Analyze(analyze) => Prepared::Analyze(analyze.input.as_ref().clone()),
        query => Prepared::Query(query),
    })
}

/// Refuses what does more than read, wherever it stands in the plan.
fn check_reads(plan: &LogicalPlan) -> Result<()> {
    let writes = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Dml(_) | LogicalPlan::Copy(_)));
    if plan.exists(writes)? {
        return Err(Error::unsupported("INSERT, UPDATE, DELETE and COPY are not supported: Springald reads tables"));
    }
    let changes = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)));
    if plan.exists(changes)? {
        return Err(Error::unsupported("only queries can be explained: CREATE, DROP, SET and the like cannot"));
    }
    Ok(())
}

/// What a statement would answer.
pub(super) async fn describe(sql: &str, state: &SessionState) -> Result<Described> {
    // The rows of a sample do not matter to its schema.
    let plan = parse(sql, state, 0).await?;
    if matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)) {
        return Ok(Described { schema: no_schema(), parameters: vec![], is_query: false });
    }
    check_reads(&plan)?;
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

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    #[tokio::test]
    async fn given_a_secret_in_a_statement_that_is_refused_then_the_error_does_not_repeat_it() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let cases = [
            ("SET x.password 'hunter2'", "found: '***'"),
            ("SET x.password hunter2", "found: ***"),
            ("SET x.password = hunter2.hunter2", "***"),
            ("SELECT 1 AS a WHERE password 'hunter2'", "found: '***'"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/x' OPTIONS ('password' = 'hunter2')", "="),
        ];
        for (sql, part) in cases {
            let error = parse(sql, &state, 0).await.expect_err(sql);
            assert!(error.message().contains(part), "{sql}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{sql}: {error:?}");
        }
    }

    #[tokio::test]
    async fn given_a_statement_without_secrets_then_the_error_says_what_was_found_and_where() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let error = parse("SET x.y 'z'", &state, 0).await.expect_err("no equals sign");
        assert!(error.message().contains("found: 'z' at Line: 1, Column: 9"), "{error}");
    }

    #[tokio::test]
    async fn given_what_is_no_query_then_neither_it_nor_its_explain_is_run_or_described() {
        let state = SessionStateBuilder::new().with_default_features().build();
        for (statement, part) in [
            ("COPY (SELECT 1 AS a) TO '/tmp/x.csv' STORED AS CSV", "COPY are not supported"),
            ("CREATE VIEW v AS SELECT 1", "only queries can be explained"),
            ("DROP TABLE IF EXISTS t", "only queries can be explained"),
            ("SET datafusion.execution.batch_size = 1", "only queries can be explained"),
        ] {
            for head in ["", "EXPLAIN ", "EXPLAIN ANALYZE "] {
                let sql = format!("{head}{statement}");
                let plan = parse(&sql, &state, 0).await.expect(&sql);
                let Err(error) = classify(plan) else { panic!("{sql} is taken") };
                assert_eq!(error.code(), ErrorCode::Unsupported, "{sql}: {error}");
                assert!(error.message().contains(part), "{sql}: {error}");
                if let Ok(described) = describe(&sql, &state).await {
                    assert!(head.is_empty() && !described.is_query, "{sql} is described");
                }
            }
        }
    }

    #[tokio::test]
    async fn ignored_syntax_is_refused_before_planning() {
        let state = SessionStateBuilder::new().with_default_features().build();
        for sql in ["", "EXPLAIN ", "EXPLAIN ANALYZE ", "CREATE VIEW v AS "]
            .map(|head| format!("{head}SELECT a FROM t FOR UPDATE"))
        {
            let error = parse(&sql, &state, 0).await.expect_err(&sql);
            assert_eq!(error.code(), ErrorCode::Unsupported, "{sql}: {error}");
            assert!(error.message().contains("FOR UPDATE"), "{sql}: {error}");
        }
    }

    /// A takeover plans a statement without stages again: the job decides which rows it samples.
    #[tokio::test]
    async fn sample_seed_is_that_of_the_job() {
        let state = sample::register(SessionStateBuilder::new().with_default_features()).build();
        let sql = "SELECT a FROM (VALUES (1), (2)) AS t (a) TABLESAMPLE BERNOULLI (50)";
        let (first, second) = (JobId::generate(), JobId::generate());
        let planned = async |job: &JobId| parse(sql, &state, sample_seed(job)).await.expect(sql).to_string();
        assert!(planned(&first).await.contains("seed="));
        assert_eq!(planned(&first).await, planned(&first).await);
        assert_ne!(planned(&first).await, planned(&second).await);
    }

    #[tokio::test]
    async fn given_parameters_then_the_statement_is_refused_with_and_without_explain() {
        let state = SessionStateBuilder::new().with_default_features().build();
        for head in ["", "EXPLAIN ", "EXPLAIN ANALYZE "] {
            let sql = format!("{head}SELECT 1 WHERE 1 = (SELECT $1::INT)");
            let Err(error) = classify(parse(&sql, &state, 0).await.expect(&sql)) else { panic!("{sql} is taken") };
            assert!(error.message().contains("has parameters"), "{sql}: {error}");
        }
    }

    #[test]
    fn given_the_longest_chains_that_are_taken_then_the_stack_is_enough_for_them() {
        let chains = [
            format!("SELECT a FROM (VALUES (1)) AS t (a) WHERE a = 0{}", " OR a = 1".repeat(1900)),
            format!("SELECT a{} FROM (VALUES (1)) AS t (a)", " + a - a".repeat(500)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(900)),
        ];
        let planned = async move {
            let state = SessionStateBuilder::new().with_default_features().build();
            for sql in chains {
                let plan = parse(&sql, &state, 0).await.expect("within limits");
                state.create_physical_plan(&plan).await.expect("planned");
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let thread = std::thread::Builder::new().stack_size(springald_core::compute::STACK_BYTES);
        thread.spawn(move || runtime.block_on(planned)).expect("a thread").join().expect("no panic");
    }

    #[tokio::test]
    async fn given_a_chain_that_would_overflow_the_stack_then_it_is_refused_before_it_is_parsed() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let error = parse(&format!("SELECT 1{}", "+1".repeat(500_000)), &state, 0).await.expect_err("too long");
        assert_eq!(error.code(), ErrorCode::Invalid);
        assert!(error.message().contains("nested too deeply"), "{error}");
    }
}
