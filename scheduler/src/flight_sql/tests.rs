//! Flight SQL as a client sees it: a scheduler on a free port, without executors, and Arrow's own client. Queries over
//! stored data are left to the tests of whole clusters.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, Ticket};
use futures::TryStreamExt;
use prost::Message;
use springald_core::error::ERROR_CODE_HEADER;
use springald_core::ids::{JobId, SchedulerId};
use springald_core::object_stores;
use springald_core::settings::Settings;
use tonic::Code;
use tonic::transport::Channel;

use crate::store::embedded::EmbeddedStore;
use crate::{Scheduler, SchedulerOptions};

type Client = FlightSqlServiceClient<Channel>;

/// A scheduler of its own cluster.
pub(crate) async fn scheduler() -> Scheduler {
    let mut settings = Settings::default();
    settings.scheduler.flight_sql_port = 0;
    settings.scheduler.control_port = 0;
    settings.scheduler.rest_port = 0;
    let options = SchedulerOptions {
        id: SchedulerId::generate(),
        cluster: "tests".parse().expect("cluster name"),
        settings,
        store: Arc::new(EmbeddedStore::in_memory().expect("store")),
        object_stores: object_stores::registry(),
        telemetry_address: String::new(),
    };
    Scheduler::start(options).await.expect("scheduler")
}

/// Ends it, with everything that it started.
pub(crate) async fn end(scheduler: Scheduler) {
    scheduler.shutdown(Duration::from_secs(10)).await;
}

async fn client(scheduler: &Scheduler) -> Client {
    let url = format!("http://{}", scheduler.flight_sql_address());
    let channel = Channel::from_shared(url).expect("URL").connect().await.expect("connection");
    FlightSqlServiceClient::new(channel)
}

/// Fetches a result; its schema must be the announced one to the last bit.
async fn fetch(client: &mut Client, info: FlightInfo) -> Result<(SchemaRef, Vec<RecordBatch>), FlightError> {
    let announced = info.clone().try_decode_schema().expect("announced schema");
    let ticket = info.endpoint[0].ticket.clone().expect("ticket");
    let mut stream = client.do_get(ticket).await?;
    let mut batches = vec![];
    while let Some(batch) = stream.try_next().await? {
        assert_eq!(*batch.schema(), announced);
        batches.push(batch);
    }
    let streamed = Arc::clone(stream.schema().expect("streamed schema"));
    assert_eq!(*streamed, announced);
    Ok((streamed, batches))
}

async fn rows(client: &mut Client, sql: &str) -> String {
    let info = client.execute(sql.to_owned(), None).await.expect(sql);
    let (_, batches) = fetch(client, info).await.expect(sql);
    let table = pretty_format_batches(&batches).expect("table").to_string();
    table.lines().filter(|line| line.starts_with('|')).skip(1).collect::<Vec<_>>().join("\n")
}

fn status(error: FlightError) -> tonic::Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("not a status: {other}"),
    }
}

async fn refused(client: &mut Client, sql: &str) -> tonic::Status {
    status(client.execute(sql.to_owned(), None).await.expect_err(sql))
}

#[tokio::test]
async fn given_a_query_its_info_names_the_job_and_the_stream_has_the_announced_schema() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let sql = "SELECT a, arrow_cast('x', 'Utf8View') AS b FROM (VALUES (1), (2)) AS t (a)";
    let info = client.execute(sql.to_owned(), None).await.expect("info");
    std::str::from_utf8(&info.app_metadata).expect("text").parse::<JobId>().expect("a job id");
    assert!(info.endpoint[0].location.is_empty(), "a load balancer's address is not ours to name");
    let (schema, batches) = fetch(&mut client, info).await.expect("result");
    assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 2);
    end(scheduler).await;
}

#[tokio::test]
async fn given_wrong_sql_the_status_has_the_code_and_the_message() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    for (sql, code, part) in [
        ("SELEKT 1", Code::InvalidArgument, "SELEKT"),
        ("SELECT nothing", Code::InvalidArgument, "nothing"),
        ("SELECT * FROM nowhere", Code::InvalidArgument, "springald.public.nowhere"),
        ("CREATE TABLE t (a INT)", Code::Unimplemented, "CREATE EXTERNAL TABLE"),
        ("DROP TABLE nowhere", Code::NotFound, "nowhere"),
    ] {
        let status = refused(&mut client, sql).await;
        assert_eq!(status.code(), code, "{sql}: {status}");
        assert!(status.message().contains(part), "{sql}: {status}");
        assert!(status.metadata().get(ERROR_CODE_HEADER).is_some(), "{sql}: no error code");
    }
    end(scheduler).await;
}

#[tokio::test]
async fn given_ddl_as_a_query_or_as_an_update_it_is_carried_out_once() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let info = client.execute("CREATE SCHEMA one".to_owned(), None).await.expect("as a query");
    let (schema, batches) = fetch(&mut client, info).await.expect("an empty result");
    assert_eq!((schema.fields().len(), batches.len()), (0, 0));
    assert_eq!(client.execute_update("CREATE VIEW one.v AS SELECT 1 AS a".to_owned(), None).await.expect("update"), 0);
    assert_eq!(rows(&mut client, "SELECT a FROM one.v").await, "| 1 |");
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.expect("schemas");
    let (_, batches) = fetch(&mut client, info).await.expect("schemas");
    assert!(batches[0].column(1).as_string::<i32>().iter().any(|name| name == Some("one")));
    let command = CommandGetTables { include_schema: true, ..Default::default() };
    let info = client.get_tables(command).await.expect("tables");
    let (_, batches) = fetch(&mut client, info).await.expect("tables");
    assert_eq!(batches[0].column(2).as_string::<i32>().value(0), "v");
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_handshake_settings_last_and_without_one_set_says_what_to_do() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let set = "SET datafusion.execution.time_zone = '+03:00'";
    let status = refused(&mut client, set).await;
    assert!(status.message().contains("SET needs a session"), "{status}");
    client.handshake("ann", "any").await.expect("handshake");
    rows(&mut client, set).await;
    let shown = rows(&mut client, "SHOW datafusion.execution.time_zone").await;
    assert!(shown.contains("+03:00"), "{shown}");
    rows(&mut client, "RESET datafusion.execution.time_zone").await;
    let shown = rows(&mut client, "SHOW datafusion.execution.time_zone").await;
    assert!(!shown.contains("+03:00"), "{shown}");
    let closed = client.do_action(Action::new("CloseSession", "")).await.expect("close").try_collect::<Vec<_>>().await;
    assert_eq!(closed.expect("answer").len(), 1);
    assert_eq!(refused(&mut client, "SELECT 1").await.code(), Code::Unauthenticated);
    end(scheduler).await;
}

#[tokio::test]
async fn given_prepared_statements_they_run_anywhere_and_parameters_are_refused_clearly() {
    let scheduler = scheduler().await;
    let (mut one, mut other) = (client(&scheduler).await, client(&scheduler).await);
    let mut query = one.prepare("SELECT 1 AS a".to_owned(), None).await.expect("prepare");
    assert_eq!(query.dataset_schema().expect("schema").field(0).name(), "a");
    assert!(query.parameter_schema().expect("parameters").fields().is_empty());
    let info = query.execute().await.expect("execute");
    let (_, batches) = fetch(&mut other, info).await.expect("fetched by another");
    assert_eq!(batches.len(), 1);
    query.close().await.expect("close");

    let mut ddl = one.prepare("CREATE SCHEMA two".to_owned(), None).await.expect("prepare DDL");
    assert!(ddl.dataset_schema().expect("no result").fields().is_empty());
    assert_eq!(ddl.execute_update().await.expect("update"), 0);

    let mut open = one.prepare("SELECT $1 + 1 AS a".to_owned(), None).await.expect("prepare with a parameter");
    assert_eq!(open.parameter_schema().expect("parameters").fields().len(), 1);
    let values = RecordBatch::try_from_iter([("$1", Arc::new(Int64Array::from(vec![1])) as _)]).expect("values");
    open.set_parameters(values).expect("parameters");
    let refusal = status(open.execute().await.expect_err("bound"));
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert!(refusal.message().contains("bound parameters"), "{refusal}");
    end(scheduler).await;
}

#[tokio::test]
async fn given_any_question_about_catalog_or_server_the_answer_has_the_announced_schema() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let keys = ("t".to_owned(), None::<String>, None::<String>);
    let (table, catalog, db_schema) = keys;
    let infos = [
        client.get_catalogs().await,
        client.get_table_types().await,
        client.get_sql_info(vec![]).await,
        client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await,
        client
            .get_primary_keys(CommandGetPrimaryKeys {
                table: table.clone(),
                catalog: catalog.clone(),
                db_schema: db_schema.clone(),
            })
            .await,
        client
            .get_exported_keys(CommandGetExportedKeys {
                table: table.clone(),
                catalog: catalog.clone(),
                db_schema: db_schema.clone(),
            })
            .await,
        client.get_imported_keys(CommandGetImportedKeys { table, catalog, db_schema }).await,
        client.get_cross_reference(CommandGetCrossReference::default()).await,
    ];
    for info in infos {
        fetch(&mut client, info.expect("info")).await.expect("answer");
    }
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_cancelled_query_its_result_says_so() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let info = client.execute("SELECT 1".to_owned(), None).await.expect("info");
    let body = CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec();
    let answers = client.do_action(Action::new("CancelFlightInfo", body)).await.expect("cancel");
    let answers: Vec<arrow_flight::Result> = answers.try_collect().await.expect("answer");
    let answer = CancelFlightInfoResult::decode(answers[0].body.as_ref()).expect("result");
    assert_eq!(answer.status(), CancelStatus::Cancelled);
    let ended = status(fetch(&mut client, info).await.expect_err("cancelled"));
    assert_eq!(ended.code(), Code::Cancelled, "{ended}");
    end(scheduler).await;
}

#[tokio::test]
async fn given_a_result_of_the_scheduler_itself_when_its_ticket_is_redeemed_again_soon_then_the_rows_come_again() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let info = client.execute("SELECT a FROM (VALUES (1), (2)) AS t (a)".to_owned(), None).await.expect("info");
    for _ in 0..3 {
        let (_, batches) = fetch(&mut client, info.clone()).await.expect("result");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    }
    end(scheduler).await;
}

#[tokio::test]
async fn given_tickets_and_actions_that_are_not_ours_they_are_refused() {
    let scheduler = scheduler().await;
    let mut client = client(&scheduler).await;
    let hostile = TicketStatementQuery { statement_handle: "\u{1}../../etc".into() };
    let ticket = Ticket::new(hostile.as_any().encode_to_vec());
    assert_eq!(status(client.do_get(ticket).await.expect_err("ticket")).code(), Code::InvalidArgument);
    let unknown = client.do_action(Action::new("Nonsense", "")).await;
    assert_eq!(status(unknown.expect_err("action")).code(), Code::Unimplemented);
    end(scheduler).await;
}
