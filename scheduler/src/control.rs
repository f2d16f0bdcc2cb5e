//! The control service: one stream from each executor, turned into commands for dispatch.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use springald_core::error::Error;
use springald_core::ids::{ClusterName, ExecutorId, JobId, SchedulerId};
use springald_proto::control::control_server::Control;
use springald_proto::control::{
    ExecutorMessage, FreeJob, HeldJob, Hello, SchedulerMessage, Welcome, executor_message, scheduler_message::Message,
};
use springald_proto::records::JobRecord;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::dispatch::{Command, Dispatcher};
use crate::records;
use crate::store::StateStore;

/// Messages to one executor that may wait for the network; past it the executor is given up.
const MESSAGES_IN_FLIGHT: usize = 4096;

/// Serves executors.
pub struct ControlService {
    cluster: ClusterName,
    scheduler: SchedulerId,
    store: Arc<dyn StateStore>,
    dispatcher: Dispatcher,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Tells one executor's streams apart.
    streams: AtomicU64,
}

impl ControlService {
    /// The service of this scheduler; its streams run on `tracker` until `shutdown`.
    pub fn new(
        cluster: ClusterName,
        scheduler: SchedulerId,
        store: Arc<dyn StateStore>,
        dispatcher: Dispatcher,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { cluster, scheduler, store, dispatcher, tracker, shutdown, streams: AtomicU64::new(1) }
    }

    fn check(&self, first: Option<ExecutorMessage>) -> Result<(ExecutorId, Hello), Status> {
        let Some(executor_message::Message::Hello(hello)) = first.and_then(|message| message.message) else {
            return Err(Error::invalid("the first message on a control stream must be a hello").into());
        };
        if hello.cluster != self.cluster.as_str() {
            let message =
                format!("this is cluster {:?}, not {:?} (cluster.name)", self.cluster.as_str(), hello.cluster);
            return Err(Error::invalid(message).into());
        }
        if hello.slots == 0 || hello.exchange_address.is_empty() {
            return Err(Error::invalid("an executor needs slots and an exchange address").into());
        }
        Ok((hello.executor_id.parse::<ExecutorId>().map_err(Status::from)?, hello))
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type PullStream = Pin<Box<dyn Stream<Item = Result<SchedulerMessage, Status>> + Send>>;

    async fn pull(&self, request: Request<Streaming<ExecutorMessage>>) -> Result<Response<Self::PullStream>, Status> {
        self.accept(request.into_inner()).await
    }
}

impl ControlService {
    /// Serves one executor's stream of messages; gives the stream of those to it.
    pub(crate) async fn accept(
        &self,
        mut messages: impl Stream<Item = Result<ExecutorMessage, Status>> + Send + Unpin + 'static,
    ) -> Result<Response<<Self as Control>::PullStream>, Status> {
        let (executor, hello) = self.check(messages.next().await.transpose()?)?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let (outbox, inbox) = mpsc::channel(MESSAGES_IN_FLIGHT);
        let welcome =
            Welcome { scheduler_id: self.scheduler.to_string(), version: env!("CARGO_PKG_VERSION").to_owned() };
        outbox
            .try_send(SchedulerMessage { message: Some(Message::Welcome(welcome)) })
            .map_err(|_| Status::internal("a new channel has room"))?;
        // Weak: the stream ends when dispatch gives the executor up.
        let (held, to_executor) = (hello.jobs.clone(), outbox.downgrade());
        self.dispatcher.ask(|reply| Command::ExecutorConnected { hello, stream, outbox, reply }).await??;
        let dispatcher = self.dispatcher.clone();
        let over = Over { store: Arc::clone(&self.store), dispatcher: dispatcher.clone(), to_executor };
        let reader = (executor.clone(), dispatcher.clone());
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            let (named, mut names) = mpsc::channel(1);
            let free = async {
                while let Some(held) = names.recv().await {
                    over.free(held).await;
                }
            };
            let read = async move {
                // While those named before are looked at, others are not: they are named again.
                let _ = named.try_send(held);
                while let Some(Ok(message)) = messages.next().await {
                    if let Some(executor_message::Message::Held(held)) = message.message {
                        let _ = named.try_send(held.jobs);
                        continue;
                    }
                    let executor = reader.0.clone();
                    if reader.1.tell(Command::ExecutorSaid { executor, stream, message }).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = read => {}
                () = free => {}
            }
            let _ = dispatcher.tell(Command::ExecutorGone { executor, stream }).await;
        });
        let shutdown = self.shutdown.clone();
        let answers = ReceiverStream::new(inbox).map(Ok).take_until(shutdown.cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Tells an executor of jobs that have ended without its hearing of it: while it was away, or under an owner that it did
/// not know.
struct Over {
    store: Arc<dyn StateStore>,
    dispatcher: Dispatcher,
    to_executor: mpsc::WeakSender<SchedulerMessage>,
}

impl Over {
    async fn free(&self, held: Vec<HeldJob>) {
        for HeldJob { job_id, owner_revision } in held {
            // An error says nothing about the job; it is named again.
            if let Ok(job) = job_id.parse()
                && self.is_over(&job).await.unwrap_or(false)
            {
                let free = Message::FreeJob(FreeJob { job_id, owner_revision });
                // A stream that is full is about to be given up.
                if let Some(to_executor) = self.to_executor.upgrade() {
                    let _ = to_executor.try_send(SchedulerMessage { message: Some(free) });
                }
            }
        }
    }

    async fn is_over(&self, job: &JobId) -> Result<bool, Error> {
        if self.dispatcher.watch(job.clone()).await?.is_some() {
            return Ok(false);
        }
        match self.store.get(&records::job_key(job)).await? {
            Some(entry) => Ok(!records::needs_owner(&records::decode::<JobRecord>(&entry)?)),
            None => Ok(true),
        }
    }
}
