//! The client against a small Flight SQL server that records what it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    Any, CommandGetTables, CommandStatementQuery, CommandStatementUpdate, ProstMessageExt, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightEndpoint,
    FlightInfo, HandshakeRequest, HandshakeResponse, Ticket,
};
use futures::{Stream, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use springald_client::{CancelOutcome, Client, ClientError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

const TOKEN: &str = "Bearer session-1";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the server saw, shared with the test.
#[derive(Clone, Default)]
struct Seen {
    /// `authorization` of the handshake.
    basic: Arc<Mutex<Option<String>>>,
    /// Job ids of cancelled queries.
    cancelled: Arc<Mutex<Vec<String>>>,
    /// Which rows the client said it has, for each DoGet of a statement.
    resumed: Arc<Mutex<Vec<String>>>,
    /// Tickets of results that the client said it has all of.
    received: Arc<Mutex<Vec<Ticket>>>,
}

/// A server whose statements are words: `rows`, `fail`, `late failure`, `elsewhere PORT`, `wrong schema`, `nothing`;
/// `breaks` and `changes`, whose first DoGet breaks off; `deaf`, which does not answer that its result was received.
#[derive(Clone)]
struct Fake {
    seen: Seen,
    handshakes: bool,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn batch(values: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(values.to_vec()))]).expect("batch")
}

fn ticket(statement: &str) -> Ticket {
    let handle = statement.to_owned().into();
    Ticket::new(TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec())
}

fn failure() -> Status {
    let mut status = Status::invalid_argument("[SPRINGALD_QUERY] division by zero");
    status.metadata_mut().insert("springald-error-code", "SPRINGALD_QUERY".parse().expect("ASCII"));
    status
}

fn stream_of(batches: Vec<Result<RecordBatch, FlightError>>) -> Answers<arrow_flight::FlightData> {
    Box::pin(FlightDataEncoderBuilder::new().build(futures::stream::iter(batches)).map_err(Status::from))
}

impl Fake {
    /// Every call but the handshake must carry the session.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if self.handshakes && token != Some(TOKEN) {
            return Err(Status::unauthenticated(format!("no session: {token:?}")));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl FlightSqlService for Fake {
    type FlightService = Fake;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Answers<HandshakeResponse>>, Status> {
        if !self.handshakes {
            return Err(Status::unimplemented("no handshakes here"));
        }
        let basic = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        *self.seen.basic.lock() = basic;
        let answers: Answers<HandshakeResponse> = Box::pin(futures::stream::iter([Ok(HandshakeResponse::default())]));
        let mut response = Response::new(answers);
        response.metadata_mut().insert("authorization", TOKEN.parse().expect("ASCII"));
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        command: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.check(&request)?;
        let info = FlightInfo::new().try_with_schema(&schema()).expect("schema").with_app_metadata("job-1");
        let endpoint = |statement: &str| FlightEndpoint::new().with_ticket(ticket(statement));
        let info = match command.query.split_once(' ').unwrap_or((&command.query, "")) {
            ("fail", _) => return Err(failure()),
            ("nothing", _) => info,
            ("elsewhere", port) => info.with_endpoint(
                endpoint("first")
                    .with_location("grpc://127.0.0.1:1")
                    .with_location(format!("grpc+tcp://127.0.0.1:{port}")),
            ),
            ("rows", _) => info.with_endpoint(endpoint("first")).with_endpoint(endpoint("second")),
            _ => info.with_endpoint(endpoint(&command.query)),
        };
        Ok(Response::new(info))
    }

    async fn do_get_statement(
        &self,
        command: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.check(&request)?;
        let resume = request.metadata().get("springald-resume").and_then(|value| value.to_str().ok());
        let again = {
            let mut resumed = self.seen.resumed.lock();
            resumed.push(resume.unwrap_or_default().to_owned());
            resumed.len() > 1
        };
        // As of a connection that is lost: without a code of the server's own.
        let lost = || Err(Status::unavailable("").into());
        let mut version = None;
        let batches = match &*command.statement_handle {
            b"breaks" => {
                version = Some("a1");
                if again {
                    vec![Ok(batch(&[4])), Ok(batch(&[5]))]
                } else {
                    vec![Ok(batch(&[1, 2])), Ok(batch(&[3])), lost()]
                }
            }
            b"changes" => {
                version = Some(if again { "b2" } else { "a1" });
                if again { vec![Ok(batch(&[3, 2])), Ok(batch(&[1]))] } else { vec![Ok(batch(&[1, 2])), lost()] }
            }
            b"deaf" => {
                version = Some("a1");
                vec![Ok(batch(&[1]))]
            }
            b"first" => vec![Ok(batch(&[1, 2])), Ok(batch(&[3]))],
            b"second" => vec![Ok(batch(&[4]))],
            b"late failure" => vec![Ok(batch(&[1])), Err(failure().into())],
            b"wrong schema" => {
                let nullable = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
                vec![Ok(batch(&[1]).with_schema(Arc::new(nullable)).expect("only nullability differs"))]
            }
            _ => return Err(Status::not_found("no such ticket")),
        };
        let mut response = Response::new(stream_of(batches));
        if let Some(version) = version {
            response.metadata_mut().insert("springald-result-version", version.parse().expect("ASCII"));
        }
        Ok(response)
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.check(&request)?;
        if command.query == "update" { Ok(7) } else { Err(failure()) }
    }

    async fn get_flight_info_tables(
        &self,
        command: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.check(&request)?;
        let ticket = Ticket::new(command.as_any().encode_to_vec());
        let info = FlightInfo::new().try_with_schema(&command.into_builder().schema()).expect("schema");
        Ok(Response::new(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket))))
    }

    async fn do_get_tables(
        &self,
        command: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.check(&request)?;
        let mut tables = command.into_builder();
        tables.append("springald", "public", "lineitem", "TABLE", &schema()).expect("appended");
        Ok(Response::new(stream_of(vec![Ok(tables.build().expect("list of tables"))])))
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        self.check(&request)?;
        let action = request.into_inner();
        if action.r#type == "springald.ResultReceived" {
            let received = Ticket::new(action.body);
            if received == ticket("deaf") {
                std::future::pending::<()>().await;
            }
            self.seen.received.lock().push(received);
            return Ok(Response::new(Box::pin(futures::stream::empty())));
        }
        assert_eq!(action.r#type, "CancelFlightInfo");
        let cancel = CancelFlightInfoRequest::decode(action.body).expect("request to cancel");
        let job_id = cancel.info.expect("info").app_metadata.to_vec();
        self.seen.cancelled.lock().push(String::from_utf8(job_id).expect("text"));
        let result = CancelFlightInfoResult { status: CancelStatus::Cancelling.into() };
        let answer = arrow_flight::Result { body: result.encode_to_vec().into() };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(answer)]))))
    }

    async fn do_put_fallback(
        &self,
        _: Request<PeekableFlightDataStream>,
        message: Any,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        Err(Status::unimplemented(message.type_url))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// A running server; dropping it stops it.
struct Running {
    port: u16,
    seen: Seen,
    _server: JoinSet<()>,
}

impl Running {
    async fn start(handshakes: bool) -> Self {
        let seen = Seen::default();
        let service = FlightServiceServer::new(Fake { seen: seen.clone(), handshakes });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let port = listener.local_addr().expect("address").port();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.expect("server");
        });
        Self { port, seen, _server: server }
    }

    async fn client(&self) -> Client {
        Client::connect(&format!("127.0.0.1:{}", self.port)).await.expect("connected")
    }
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let values = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().expect("integers").values().to_vec()
    };
    batches.iter().flat_map(values).collect()
}

#[tokio::test]
async fn given_two_endpoints_when_queried_then_their_rows_come_in_order_with_schema_and_job_id() {
    let server = Running::start(true).await;
    let stream = server.client().await.query("rows").await.expect("accepted");
    assert_eq!((stream.schema(), stream.job_id()), (&schema(), Some("job-1")));
    let batches: Vec<RecordBatch> = stream.try_collect().await.expect("rows");
    assert_eq!(numbers(&batches), [1, 2, 3, 4]);
}

#[tokio::test]
async fn given_a_user_in_the_address_then_the_handshake_says_who_and_the_session_is_used() {
    let server = Running::start(true).await;
    let url = format!("grpc://ann:secret@127.0.0.1:{}", server.port);
    let client = Client::connect(&url).await.expect("connected");
    // "ann:secret" in base 64.
    assert_eq!(server.seen.basic.lock().as_deref(), Some("Basic YW5uOnNlY3JldA=="));
    assert_eq!(client.execute_update("update").await.expect("updated"), 7);
    assert!(!format!("{} {client:?}", client.url()).contains("secret"));
}

#[tokio::test]
async fn given_a_server_without_handshakes_then_queries_work_without_a_session() {
    let server = Running::start(false).await;
    let batches = server.client().await.collect("rows").await.expect("rows");
    assert_eq!(numbers(&batches), [1, 2, 3, 4]);
    let nothing = server.client().await.collect("nothing").await.expect("a result without endpoints");
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn given_errors_before_and_during_a_stream_then_code_and_message_are_the_servers() {
    let server = Running::start(true).await;
    let client = server.client().await;
    let early = client.query("fail").await.expect_err("refused");
    let late = client.collect("late failure").await.expect_err("fails while running");
    let update = client.execute_update("fail").await.expect_err("fails");
    for error in [early, late, update] {
        assert_eq!((error.code(), error.to_string()), ("SPRINGALD_QUERY", "division by zero".to_owned()));
    }
}

#[tokio::test]
async fn given_a_stream_that_breaks_after_some_rows_then_it_is_read_on_and_the_server_hears_of_its_end() {
    let server = Running::start(true).await;
    let stream = server.client().await.query("breaks").await.expect("accepted");
    let batches: Vec<RecordBatch> = stream.try_collect().await.expect("rows");
    assert_eq!(numbers(&batches), [1, 2, 3, 4, 5]);
    assert_eq!(*server.seen.resumed.lock(), [":0", "a1:3"]);
    assert_eq!(*server.seen.received.lock(), [ticket("breaks")]);
}

#[tokio::test]
async fn given_a_result_that_was_made_again_while_it_was_read_then_the_stream_says_so() {
    let server = Running::start(true).await;
    let mut stream = server.client().await.query("changes").await.expect("accepted");
    let first = stream.try_next().await.expect("a batch").expect("rows");
    assert_eq!(numbers(&[first]), [1, 2]);
    let error = stream.try_next().await.expect_err("the other rows do not go together with these");
    assert!(matches!(error, ClientError::ResultChanged), "{error:?}");
    assert_eq!(*server.seen.resumed.lock(), [":0", "a1:2"]);
    assert!(server.seen.received.lock().is_empty());
}

#[tokio::test]
async fn given_a_result_that_was_made_again_when_collected_then_it_is_read_anew_and_has_each_row_once() {
    let server = Running::start(true).await;
    let batches = server.client().await.collect("changes").await.expect("rows");
    assert_eq!(numbers(&batches), [3, 2, 1]);
    assert_eq!(*server.seen.resumed.lock(), [":0", "a1:2", ":0"]);
    assert_eq!(*server.seen.received.lock(), [ticket("changes")]);
}

#[tokio::test]
async fn given_a_server_that_does_not_answer_at_the_end_of_a_result_then_the_result_ends_all_the_same() {
    let server = Running::start(true).await;
    let client = server.client().await;
    let collected = tokio::time::timeout(Duration::from_secs(10), client.collect("deaf")).await;
    assert_eq!(numbers(&collected.expect("it ends").expect("rows")), [1]);
}

#[tokio::test]
async fn given_a_stream_of_another_schema_then_it_is_an_error() {
    let server = Running::start(true).await;
    let error = server.client().await.collect("wrong schema").await.expect_err("nullability differs");
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn given_an_endpoint_elsewhere_then_the_first_location_that_answers_is_read() {
    let (server, other) = (Running::start(true).await, Running::start(true).await);
    let client = server.client().await;
    for _ in 0..2 {
        let batches = client.collect(&format!("elsewhere {}", other.port)).await.expect("rows");
        assert_eq!(numbers(&batches), [1, 2, 3]);
    }
}

#[tokio::test]
async fn given_a_running_query_when_cancelled_then_the_server_hears_its_job_id() {
    let server = Running::start(true).await;
    let stream = server.client().await.query("rows").await.expect("accepted");
    assert_eq!(stream.cancel_handle().cancel().await.expect("answered"), CancelOutcome::Cancelling);
    assert_eq!(*server.seen.cancelled.lock(), ["job-1"]);
}

#[tokio::test]
async fn given_tables_then_they_are_listed() {
    let server = Running::start(true).await;
    let tables = server.client().await.tables().await.expect("tables");
    let table = tables.first().expect("one table");
    assert_eq!((table.catalog.as_deref(), table.schema.as_deref()), (Some("springald"), Some("public")));
    assert_eq!((table.name.as_str(), table.kind.as_str()), ("lineitem", "TABLE"));
}

#[tokio::test]
async fn given_several_addresses_then_the_first_that_answers_is_used() {
    let server = Running::start(true).await;
    let client = Client::connect(&format!("127.0.0.1:1,127.0.0.1:{}", server.port)).await.expect("second address");
    assert_eq!(client.url(), format!("http://127.0.0.1:{}", server.port));
    let error = Client::connect("127.0.0.1:1,127.0.0.1:2").await.expect_err("nobody there");
    let text = error.to_string();
    assert!(error.is_unavailable() && text.contains("127.0.0.1:1:") && text.contains("127.0.0.1:2:"), "{text}");
}
