//! The control service: one stream from each executor, turned into commands for dispatch.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use springald_core::error::Error;
use springald_core::ids::{ClusterName, ExecutorId, SchedulerId};
use springald_proto::control::control_server::Control;
use springald_proto::control::{
    ExecutorMessage, Hello, SchedulerMessage, Welcome, executor_message, scheduler_message::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::dispatch::{Command, Dispatcher};

/// Messages to one executor that may wait for the network; past it the executor is given up.
const MESSAGES_IN_FLIGHT: usize = 4096;

/// Serves executors.
pub struct ControlService {
    cluster: ClusterName,
    scheduler: SchedulerId,
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
        dispatcher: Dispatcher,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { cluster, scheduler, dispatcher, tracker, shutdown, streams: AtomicU64::new(1) }
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
        let mut messages = request.into_inner();
        let (executor, hello) = self.check(messages.message().await?)?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let (outbox, inbox) = mpsc::channel(MESSAGES_IN_FLIGHT);
        let welcome =
            Welcome { scheduler_id: self.scheduler.to_string(), version: env!("CARGO_PKG_VERSION").to_owned() };
        outbox
            .try_send(SchedulerMessage { message: Some(Message::Welcome(welcome)) })
            .map_err(|_| Status::internal("a new channel has room"))?;
        self.dispatcher.ask(|reply| Command::ExecutorConnected { hello, stream, outbox, reply }).await??;
        let dispatcher = self.dispatcher.clone();
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            let read = async {
                while let Some(Ok(message)) = messages.next().await {
                    let executor = executor.clone();
                    if dispatcher.tell(Command::ExecutorSaid { executor, stream, message }).await.is_err() {
                        return;
                    }
                }
            };
            shutdown.run_until_cancelled(read).await;
            let _ = dispatcher.tell(Command::ExecutorGone { executor, stream }).await;
        });
        let shutdown = self.shutdown.clone();
        let answers = ReceiverStream::new(inbox).map(Ok).take_until(shutdown.cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }
}
