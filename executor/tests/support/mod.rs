//! A scheduler that does what the test says, and executors that talk to it.
#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod plans;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use springald_core::ids::SchedulerId;
use springald_core::settings::{ByteSize, ExecutorSettings};
use springald_executor::{Executor, ExecutorOptions, ExecutorStats};
use springald_proto::control::control_server::{Control, ControlServer};
use springald_proto::control::executor_message::Message as FromExecutor;
use springald_proto::control::scheduler_message::Message as ToExecutor;
use springald_proto::control::{self, ExecutorMessage, SchedulerMessage};
use springald_proto::exchange::{ExchangeTicket, PieceSelection};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

type Outgoing = mpsc::Sender<Result<SchedulerMessage, Status>>;

/// What a stream of an executor said, with the executor's id.
pub type Said = (String, FromExecutor);

/// A scheduler under the test's control.
pub struct FakeScheduler {
    pub id: SchedulerId,
    pub address: String,
    said: mpsc::Receiver<Said>,
    streams: Arc<Mutex<HashMap<String, Outgoing>>>,
    stop: CancellationToken,
}

struct Service {
    said: mpsc::Sender<Said>,
    streams: Arc<Mutex<HashMap<String, Outgoing>>>,
}

#[async_trait::async_trait]
impl Control for Service {
    type PullStream = BoxStream<'static, Result<SchedulerMessage, Status>>;

    async fn pull(&self, request: Request<Streaming<ExecutorMessage>>) -> Result<Response<Self::PullStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.message);
        let Some(FromExecutor::Hello(hello)) = first else {
            return Err(Status::invalid_argument("an executor says hello first"));
        };
        let (sender, receiver) = mpsc::channel(64);
        let id = hello.executor_id.clone();
        self.streams.lock().insert(id.clone(), sender);
        let said = self.said.clone();
        let _ = said.send((id.clone(), FromExecutor::Hello(hello))).await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(message) = message.message
                    && said.send((id.clone(), message)).await.is_err()
                {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }
}

impl FakeScheduler {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, said) = mpsc::channel(1024);
        let streams = Arc::new(Mutex::default());
        let stop = CancellationToken::new();
        let service = Service { said: sender, streams: Arc::clone(&streams) };
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serving = tonic::transport::Server::builder()
                .add_service(ControlServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::select! {
                () = stopped.cancelled() => {}
                ended = serving => ended.expect("serves"),
            }
        });
        Self { id: SchedulerId::generate(), address, said, streams, stop }
    }

    /// The map of schedulers with this one.
    pub fn map(&self) -> BTreeMap<SchedulerId, String> {
        BTreeMap::from([(self.id.clone(), self.address.clone())])
    }

    /// The next thing that any executor says: soon, as they repeat their offers.
    async fn next(&mut self) -> Said {
        self.said.recv().await.expect("the service lives")
    }

    /// Skips what is said until `wanted` finds what it looks for.
    pub async fn wait_for<T>(&mut self, wanted: impl Fn(&str, &FromExecutor) -> Option<T>) -> T {
        let found = async {
            loop {
                let (executor, message) = self.next().await;
                if let Some(found) = wanted(&executor, &message) {
                    return found;
                }
            }
        };
        in_time(found).await
    }

    /// Waits until executor `id` offers `slots`.
    pub async fn wait_for_offer(&mut self, id: &str, slots: u32) -> control::Offer {
        self.wait_for(|executor, message| match message {
            FromExecutor::Offer(offer) if executor == id && offer.free_slots == slots => Some(*offer),
            _ => None,
        })
        .await
    }

    /// Waits until each of these executors has offered `slots` once, in whatever order.
    pub async fn wait_for_offers(&mut self, ids: &[&str], slots: u32) {
        let mut missing: Vec<_> = ids.to_vec();
        let offered = async {
            while !missing.is_empty() {
                if let (executor, FromExecutor::Offer(offer)) = self.next().await
                    && offer.free_slots == slots
                {
                    missing.retain(|id| *id != executor);
                }
            }
        };
        in_time(offered).await;
    }

    /// Waits for `count` outcomes, and acknowledges them.
    pub async fn outcomes(&mut self, count: usize) -> Vec<(String, control::Outcome)> {
        let mut outcomes = vec![];
        let told = async {
            while outcomes.len() < count {
                let (executor, FromExecutor::Outcomes(report)) = self.next().await else { continue };
                let acknowledged = control::Acknowledged { sequence: report.sequence };
                self.tell(&executor, ToExecutor::Acknowledged(acknowledged)).await;
                outcomes.extend(report.outcomes.into_iter().map(|outcome| (executor.clone(), outcome)));
            }
        };
        in_time(told).await;
        outcomes
    }

    /// Sends a message to executor `id`.
    pub async fn tell(&self, id: &str, message: ToExecutor) {
        let stream = self.streams.lock().get(id).cloned().expect("the executor is connected");
        stream.send(Ok(SchedulerMessage { message: Some(message) })).await.expect("the stream is open");
    }

    /// Breaks the stream to executor `id`.
    pub fn hang_up(&self, id: &str) {
        self.streams.lock().remove(id);
    }
}

/// What comes of it within [`DEADLINE`] in all: something is always said, if only the same offers again.
async fn in_time<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, waiting).await.expect("said in time")
}

impl Drop for FakeScheduler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An executor, its id, and where it spills to.
pub struct Running {
    pub executor: Executor,
    pub id: String,
    pub spill_dir: tempfile::TempDir,
    /// Kept, so that the executor goes on following it.
    pub schedulers: watch::Sender<BTreeMap<SchedulerId, String>>,
}

/// Settings for tests: a free port, little memory.
pub fn settings(slots: u32) -> ExecutorSettings {
    ExecutorSettings { exchange_port: 0, slots, memory: ByteSize::mib(64), ..Default::default() }
}

pub async fn start(id: &str, scheduler: &FakeScheduler, settings: ExecutorSettings) -> Running {
    start_with(id, scheduler, settings, Arc::new(DefaultObjectStoreRegistry::new())).await
}

pub async fn start_with(
    id: &str,
    scheduler: &FakeScheduler,
    settings: ExecutorSettings,
    object_stores: Arc<dyn ObjectStoreRegistry>,
) -> Running {
    let spill_dir = tempfile::tempdir().expect("a directory");
    let (sender, schedulers) = watch::channel(scheduler.map());
    let options = ExecutorOptions {
        cluster: "test".parse().expect("valid"),
        id: id.parse().expect("valid"),
        settings: ExecutorSettings { spill_dir: spill_dir.path().to_owned(), ..settings },
        schedulers,
        object_stores,
        lease_ttl: Duration::from_secs(3),
    };
    let executor = Executor::start(options).await.expect("starts");
    Running { executor, id: id.to_owned(), spill_dir, schedulers: sender }
}

impl Running {
    /// Waits until the statistics are as wanted.
    pub async fn wait_until(&self, what: &str, wanted: impl Fn(&ExecutorStats) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let stats = self.executor.stats();
            if wanted(&stats) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until its one slot is free: a task's outcome is told before its slot is given back, and what is launched
    /// in between is handed back.
    pub async fn slot_is_free(&self) {
        self.wait_until("its slot is free", |stats| stats.free_slots == 1).await;
    }

    /// Where the output of a task of this executor is.
    pub fn output(&self, task: u32, partitions: impl IntoIterator<Item = u32>) -> control::TaskOutput {
        control::TaskOutput {
            task,
            attempt: 0,
            executor_id: self.id.clone(),
            address: self.executor.advertised_address(),
            partitions: partitions.into_iter().collect(),
        }
    }

    /// Shuts down, and checks that nothing is left on disk.
    pub async fn stop(self) {
        self.executor.shutdown(Duration::from_secs(5)).await;
        assert_eq!(std::fs::read_dir(self.spill_dir.path()).expect("readable").count(), 0, "spill files are left");
    }
}

pub fn slice(task: u32, partitions: impl IntoIterator<Item = u32>, slots: u32) -> control::TaskSlice {
    control::TaskSlice { task, attempt: 0, partitions: partitions.into_iter().collect(), slots }
}

/// What a task wrote; fails the test if the task failed.
pub fn succeeded(outcome: &control::Outcome) -> &control::Succeeded {
    match &outcome.result {
        Some(control::outcome::Result::Succeeded(succeeded)) => succeeded,
        other => panic!("the task failed: {other:?}"),
    }
}

/// How a task failed; fails the test if it did not.
pub fn failed(outcome: &control::Outcome) -> &control::Failed {
    match &outcome.result {
        Some(control::outcome::Result::Failed(failed)) => failed,
        other => panic!("the task did not fail: {other:?}"),
    }
}

/// Fetches pieces as a scheduler does: from the exchange service at `address`.
pub async fn fetch(
    address: &str,
    job: &str,
    stage: u32,
    pieces: &[(u32, Vec<u32>)],
) -> Result<Vec<RecordBatch>, FlightError> {
    let selections = pieces.iter().map(|(task, partitions)| PieceSelection {
        task: *task,
        attempt: 0,
        partitions: partitions.clone(),
    });
    let ticket = ExchangeTicket { job_id: job.to_owned(), stage, pieces: selections.collect() };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = FlightServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(64 << 20);
    let response = client.do_get(Ticket { ticket: ticket.encode_to_vec().into() }).await?;
    let messages = response.into_inner().map_err(FlightError::from);
    FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await
}
