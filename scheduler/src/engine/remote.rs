//! Results that are elsewhere: at executors, and at other schedulers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, Ticket};
use async_trait::async_trait;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use springald_core::error::{ERROR_CODE_HEADER, Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_proto::exchange::{ExchangeTicket, PieceSelection};
use springald_proto::records::{OwnerRecord, SchedulerRecord};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::peers::{PartStream, Peers, Refusal};
use super::{Engine, Opened, Resume};
use crate::clock;
use crate::dispatch::ResultPart;
use crate::records;
use crate::store::{Change, Committed, Condition, Transaction};

/// Header of a DoGet: the rows that a client has, `<version>:<rows>`. A client that sends it also sends
/// [`RESULT_RECEIVED`].
pub(crate) const RESUME_HEADER: &str = "springald-resume";
/// Header of its answer: the version of the rows.
pub(crate) const VERSION_HEADER: &str = "springald-result-version";
/// Action of a client that has all of a result; its body is the ticket.
pub(crate) const RESULT_RECEIVED: &str = "springald.ResultReceived";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is silent is asked whether it is there, and must answer: a stopped process is told from a busy one.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// While another scheduler is waited for, it is made sure this often that it still owns the job.
const OWNER_CHECK: Duration = Duration::from_millis(500);
const MESSAGE_LIMIT: usize = 64 << 20;
/// Bytes that a peer may send on one stream before they are read.
const STREAM_WINDOW: u32 = 2 << 20;
/// Largest HTTP/2 window there is: the results of one connection must not wait for one that nobody reads at the moment.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// A job's record may change while word is left to cancel it: it is tried again so often.
const CANCEL_TRIES: u32 = 8;
/// Peers come and go; past this many addresses the pool starts anew.
const CHANNELS: usize = 1024;

/// Connections to peers, one for each address.
#[derive(Clone, Default)]
pub(crate) struct Channels {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Channels {
    fn client(&self, address: &str) -> Result<FlightServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        if channels.len() >= CHANNELS {
            channels.clear();
        }
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|error| Error::invalid(format!("{address:?} is not an address")).with_source(error))?
                    .connect_timeout(CONNECT_TIMEOUT)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .tcp_nodelay(true);
                let channel = endpoint.connect_lazy();
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT))
    }
}

#[async_trait]
impl Peers for Channels {
    async fn open(&self, job: &JobId, part: &ResultPart) -> Result<PartStream> {
        if part.address.is_empty() {
            return Err(Error::unavailable(format!("executor {} is gone", part.executor)));
        }
        let selection =
            PieceSelection { task: part.task.task, attempt: part.task.attempt, partitions: part.partitions.clone() };
        let ticket = ExchangeTicket { job_id: job.to_string(), stage: part.task.stage.0, pieces: vec![selection] };
        let ticket = Ticket { ticket: ticket.encode_to_vec().into() };
        let answer = self.client(&part.address)?.do_get(ticket).await.map_err(error_of)?;
        batches_of(answer.into_inner()).await
    }

    async fn redeem(&self, address: &str, ticket: Ticket, resume: &Resume) -> Result<(String, PartStream), Refusal> {
        let mut request = Request::new(ticket);
        if resume.confirms {
            request.metadata_mut().insert(RESUME_HEADER, resume.to_header().map_err(Refusal::Said)?);
        }
        let mut client = self.client(address).map_err(Refusal::Said)?;
        let answer = client.do_get(request).await.map_err(refusal)?;
        let version = answer.metadata().get(VERSION_HEADER).and_then(|version| version.to_str().ok());
        let version = version.unwrap_or_default().to_owned();
        Ok((version, batches_of(answer.into_inner()).await.map_err(Refusal::Said)?))
    }

    async fn received(&self, address: &str, ticket: Ticket) -> Result<()> {
        let action = Action::new(RESULT_RECEIVED, ticket.ticket);
        let mut answers = self.client(address)?.do_action(action).await.map_err(error_of)?.into_inner();
        while answers.message().await.map_err(error_of)?.is_some() {}
        Ok(())
    }
}

/// The error that a peer's status carries.
fn error_of(status: tonic::Status) -> Error {
    if status.code() == tonic::Code::OutOfRange {
        let message =
            format!("a row of the result is larger than a message between processes may be ({MESSAGE_LIMIT} bytes)");
        return Error::new(ErrorCode::ResourcesExhausted, message).with_source(status);
    }
    let code = status.metadata().get(ERROR_CODE_HEADER).and_then(|code| code.to_str().ok()).map(ErrorCode::from_name);
    let code = code.unwrap_or(match status.code() {
        tonic::Code::NotFound => ErrorCode::NotFound,
        _ => ErrorCode::Unavailable,
    });
    let prefix = format!("[{code}] ");
    let message = status.message().strip_prefix(&prefix).unwrap_or(status.message()).to_owned();
    Error::new(code, message)
}

/// A scheduler that answers says why; else it, or the way to it, is lost.
fn refusal(status: tonic::Status) -> Refusal {
    let said = status.metadata().contains_key(ERROR_CODE_HEADER);
    if said { Refusal::Said(error_of(status)) } else { Refusal::Lost }
}

/// The job passes on while its result is being read: to the client it is the same ticket, to be redeemed again.
fn broke_off(job: &JobId, error: Error) -> Error {
    let message = format!(
        "the scheduler that runs job {job} was lost while it sent the result; redeem the ticket again, at any scheduler: \
         {}",
        error.message()
    );
    Error::new(ErrorCode::Fenced, message).with_source(error)
}

fn flight_error(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => error_of(*status),
        other => Error::internal(format!("a peer's answer cannot be read: {other}")),
    }
}

/// What a peer sends, once its schema has arrived.
async fn batches_of(answer: tonic::Streaming<FlightData>) -> Result<PartStream> {
    let mut batches = FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
    let first = batches.next().await.transpose().map_err(flight_error)?;
    let schema = batches.schema().cloned().ok_or_else(|| Error::unavailable("a peer's answer has no schema"))?;
    let batches = futures::stream::iter(first.map(Ok)).chain(batches.map_err(flight_error)).boxed();
    Ok(PartStream::new(schema, batches))
}

impl Resume {
    /// Reads the header's value. Fails if it is not one that a client of ours would send.
    pub fn from_header(value: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("{RESUME_HEADER} must be <version>:<rows>"));
        let (version, rows) = value.split_once(':').ok_or_else(invalid)?;
        if !version.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        Ok(Self { version: version.to_owned(), rows: rows.parse().map_err(|_| invalid())?, confirms: true })
    }

    fn to_header(&self) -> Result<AsciiMetadataValue> {
        let value = format!("{}:{}", self.version, self.rows);
        value.parse().map_err(|_| Error::internal(format!("{value:?} does not fit into a header")))
    }
}

impl Engine {
    /// The scheduler that owns a job, and its fencing token; `None` if nobody does.
    pub(super) async fn owner(&self, job: &JobId) -> Result<Option<(OwnerRecord, u64)>> {
        match self.parts.store.get(&records::owner_key(job)).await? {
            Some(entry) => Ok(Some((records::decode(&entry)?, entry.mod_revision))),
            None => Ok(None),
        }
    }

    /// Redeems the ticket at the job's owner. [`ErrorCode::Fenced`] if that one is gone, or going.
    pub(super) async fn results_elsewhere(
        &self,
        job: &JobId,
        owner: &OwnerRecord,
        revision: u64,
        resume: &Resume,
    ) -> Result<Opened> {
        let address = self.address_of(job, owner).await?;
        let asking = async {
            let ticket = self.parts.tickets.ticket(job);
            let (version, part) =
                self.peers.redeem(&address, ticket, resume).await.map_err(|refusal| match refusal {
                    Refusal::Said(error) => error,
                    // The job passes on.
                    Refusal::Lost => super::passing(job),
                })?;
            let schema = part.schema();
            let job = job.clone();
            let batches = part.into_batches().map_err(move |error| match error.code() {
                ErrorCode::Unavailable => broke_off(&job, error),
                _ => error,
            });
            let stream = RecordBatchStreamAdapter::new(schema, batches.map_err(Into::into));
            Ok(Opened { stream: Box::pin(stream), version })
        };
        tokio::select! {
            biased;
            opened = asking => opened,
            () = self.owner_changes(job, revision) => Err(super::passing(job)),
        }
    }

    /// Tells the job's owner that its result has arrived.
    pub(super) async fn received_elsewhere(&self, job: &JobId, owner: &OwnerRecord) -> Result<()> {
        let address = self.address_of(job, owner).await?;
        self.peers.received(&address, self.parts.tickets.ticket(job)).await
    }

    async fn address_of(&self, job: &JobId, owner: &OwnerRecord) -> Result<String> {
        let key = records::scheduler_key(&owner.scheduler_id.parse()?);
        let entry = self.parts.store.get(&key).await.map_err(|error| super::unreadable(job, error))?;
        let entry = entry.ok_or_else(|| super::passing(job))?;
        Ok(records::decode::<SchedulerRecord>(&entry)?.flight_sql_address)
    }

    /// Waits until the job has another owner, or none.
    async fn owner_changes(&self, job: &JobId, revision: u64) {
        loop {
            clock::sleep(OWNER_CHECK).await;
            match self.owner(job).await {
                Ok(Some((_, now))) if now == revision => {}
                // While the store does not answer, the owner is as good as it was.
                Err(_) => {}
                Ok(_) => return,
            }
        }
    }

    /// Leaves word for the job's owner, or for whoever becomes it, that it is to be cancelled.
    pub(super) async fn cancel_elsewhere(&self, job: &JobId, why: &str) -> Result<()> {
        for _ in 0..CANCEL_TRIES {
            let Some(entry) = self.parts.store.get(&records::job_key(job)).await? else {
                return Err(Error::not_found(format!("there is no job {job}, or its record has expired")));
            };
            let record: springald_proto::records::JobRecord = records::decode(&entry)?;
            if records::has_ended(record.status()) {
                return Ok(());
            }
            let put = Change::Put { key: records::cancel_key(job), value: why.to_owned().into(), lease: None };
            // The job's end removes the word: it must not come after it.
            let conditions = vec![Condition::Unchanged { key: entry.key, mod_revision: entry.mod_revision }];
            let transaction = Transaction { conditions, changes: vec![put] };
            if let Committed::Yes { .. } = self.parts.store.transact(transaction).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(format!("job {job} changes all the time and could not be cancelled; try again")))
    }
}
