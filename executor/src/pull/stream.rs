//! One control stream: offers and outcomes go out, tasks come in.

use std::time::Duration;

use springald_core::error::{Error, ErrorCode, Result};
use springald_core::telemetry::events::names;
use springald_proto::control::control_client::ControlClient;
use springald_proto::control::executor_message::Message as Outgoing;
use springald_proto::control::scheduler_message::Message as Incoming;
use springald_proto::control::{ExecutorMessage, HandedBack, HeldJobs, Hello, Holdings, Offer, SchedulerMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::outcomes::Reports;
use crate::tasks::{Scheduler, Tasks};

/// Longest wait for a connection: when a link is there again, the next try is not far.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for it and for the scheduler's first answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// So often within the time of a lease is a scheduler that says nothing asked whether it is there.
const PINGS_PER_TTL: u32 = 3;
/// A scheduler that takes no message for this long is treated as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages that wait to be sent.
const QUEUED_MESSAGES: usize = 64;
/// Schedulers hear this often which jobs something is held of: one that has ended without a word is freed then.
const HELD_SAID_EVERY: Duration = Duration::from_secs(10);
/// An offer is said again at least this often, as a sign of life.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_millis(500);
/// What a scheduler sends before it hears that this executor leaves arrives within this time.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// Longest wait for a scheduler to hear the last words.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// Launches carry plans: as large as a plan may be.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// An open stream to a scheduler.
pub(super) struct ControlStream {
    sender: mpsc::Sender<ExecutorMessage>,
    incoming: Streaming<SchedulerMessage>,
    reports: Reports,
    /// Slots of all tasks that were received on this stream.
    slots_received: u64,
    /// What the last offer said.
    offered: Option<Offer>,
}

impl ControlStream {
    /// Connects to the control service at `address` (`host:port`) and says `hello`. The stream breaks when nothing is heard
    /// for a lease and a third: what the scheduler runs is another's by then.
    pub(super) async fn open(address: &str, hello: Hello, lease_ttl: Duration) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Error::invalid(format!("{address:?} is not an address")).with_source(error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(lease_ttl / PINGS_PER_TTL)
            .keep_alive_timeout(lease_ttl)
            .keep_alive_while_idle(true);
        let (sender, receiver) = mpsc::channel(QUEUED_MESSAGES);
        let first = ExecutorMessage { message: Some(Outgoing::Hello(hello)) };
        sender.send(first).await.map_err(|_| closed())?;
        let opening = async {
            let channel = endpoint.connect().await.map_err(|error| {
                Error::unavailable(format!("connecting to the scheduler at {address}: {error}")).with_source(error)
            })?;
            let mut client = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            client.pull(ReceiverStream::new(receiver)).await.map_err(|status| broken(&status))
        };
        let answer = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        let response =
            answer.map_err(|_| Error::unavailable(format!("the scheduler at {address} does not answer")))??;
        let incoming = response.into_inner();
        Ok(Self { sender, incoming, reports: Reports::default(), slots_received: 0, offered: None })
    }

    /// Serves the stream until it breaks or is cancelled.
    pub(super) async fn run(
        mut self,
        scheduler: &Scheduler,
        tasks: &Tasks,
        mut slots: watch::Receiver<u32>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let mut reminders = tokio::time::interval(HELD_SAID_EVERY);
        reminders.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signs_of_life = tokio::time::interval(SIGN_OF_LIFE_EVERY);
        signs_of_life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.report(scheduler).await?;
            self.offer(scheduler, tasks).await?;
            tokio::select! {
                _ = reminders.tick() => self.say_held(tasks).await?,
                _ = signs_of_life.tick() => self.offered = None,
                () = cancel.cancelled() => return self.say_goodbye(scheduler, tasks).await,
                message = self.incoming.message() => {
                    let message = message.map_err(|status| broken(&status))?.ok_or_else(closed)?;
                    self.handle(message, scheduler, tasks).await?;
                }
                changed = slots.changed() => changed.map_err(|_| closed())?,
                () = scheduler.outcomes.added() => {}
            }
        }
    }

    /// The last words: outcomes, that it drains, and that tasks which are on their way just now are not taken. Ends when the
    /// scheduler has heard them: what is dropped at once may never be sent.
    async fn say_goodbye(mut self, scheduler: &Scheduler, tasks: &Tasks) -> Result<()> {
        self.report(scheduler).await?;
        self.offer(scheduler, tasks).await?;
        if let Ok(broken) = tokio::time::timeout(UNDER_WAY, self.handle_all(scheduler, tasks)).await {
            return broken;
        }
        let Self { sender, mut incoming, .. } = self;
        drop(sender);
        let heard = async { while let Ok(Some(_)) = incoming.message().await {} };
        let _ = tokio::time::timeout(HEARD_WITHIN, heard).await;
        Ok(())
    }

    /// Takes messages until the stream breaks.
    async fn handle_all(&mut self, scheduler: &Scheduler, tasks: &Tasks) -> Result<()> {
        loop {
            let message = self.incoming.message().await.map_err(|status| broken(&status))?.ok_or_else(closed)?;
            self.handle(message, scheduler, tasks).await?;
        }
    }

    async fn handle(&mut self, message: SchedulerMessage, scheduler: &Scheduler, tasks: &Tasks) -> Result<()> {
        // A message of a newer scheduler that this version does not know says nothing to it.
        let Some(message) = message.message else { return Ok(()) };
        match message {
            Incoming::Welcome(welcome) => {
                tracing::debug!(
                    event = names::STREAM_WELCOMED,
                    scheduler_id = welcome.scheduler_id,
                    version = welcome.version,
                    "welcomed"
                );
            }
            Incoming::Launch(launch) => {
                self.slots_received += launch.tasks.iter().map(|task| u64::from(task.slots)).sum::<u64>();
                // Whatever becomes of the tasks: the scheduler waits for an offer that counts them.
                self.offered = None;
                let handed_back = tasks.launch(scheduler, launch)?;
                if !handed_back.is_empty() {
                    self.send(Outgoing::HandedBack(HandedBack { tasks: handed_back })).await?;
                }
            }
            Incoming::Acknowledged(acknowledged) => {
                self.reports.acknowledge(acknowledged.sequence, &scheduler.outcomes);
            }
            Incoming::Abort(abort) => tasks.abort(&abort)?,
            Incoming::StageDone(done) => tasks.stage_done(&done)?,
            Incoming::FreeStage(free) => tasks.free_stage(&free)?,
            Incoming::FreeJob(free) => tasks.free_job(&free)?,
            Incoming::Drain(_) => {
                tracing::info!(event = names::EXECUTOR_DRAIN_REQUESTED, scheduler_id = %scheduler.id, "a scheduler asks this executor to drain");
                tasks.ask_to_drain();
            }
            Incoming::Move(wanted) => {
                if let Some(taking) = tasks.take_over(scheduler, wanted)? {
                    let sender = self.sender.clone();
                    // Ends with the fetch. Should the stream have broken meanwhile, the answer is asked for again.
                    tokio::spawn(async move {
                        let moved = Outgoing::Moved(taking.await);
                        let _ = sender.send(ExecutorMessage { message: Some(moved) }).await;
                    });
                }
            }
            Incoming::Adopt(adopt) => {
                if let Some(holdings) = tasks.adopt(scheduler, &adopt)? {
                    self.send(Outgoing::Holdings(holdings)).await?;
                }
            }
        }
        Ok(())
    }

    async fn say_held(&self, tasks: &Tasks) -> Result<()> {
        let jobs = tasks.held_jobs();
        if jobs.is_empty() { Ok(()) } else { self.send(Outgoing::Held(HeldJobs { jobs })).await }
    }

    /// Says what the scheduler has not heard: that others own jobs of it, and outcomes.
    async fn report(&mut self, scheduler: &Scheduler) -> Result<()> {
        for (job, owner_revision) in scheduler.outcomes.superseded() {
            let nothing = Holdings { job_id: job.to_string(), owner_revision, ..Holdings::default() };
            self.send(Outgoing::Holdings(nothing)).await?;
        }
        while let Some(report) = self.reports.next(&scheduler.outcomes) {
            self.send(Outgoing::Outcomes(report)).await?;
        }
        Ok(())
    }

    /// Offers what is free, if that is not what was said last.
    async fn offer(&mut self, scheduler: &Scheduler, tasks: &Tasks) -> Result<()> {
        let draining = tasks.is_draining();
        let offer = Offer { free_slots: tasks.offered(scheduler), slots_received: self.slots_received, draining };
        if self.offered.as_ref() != Some(&offer) {
            self.offered = Some(offer);
            self.send(Outgoing::Offer(offer)).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Outgoing) -> Result<()> {
        let message = ExecutorMessage { message: Some(message) };
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.sender.send(message)).await;
        sent.map_err(|_| Error::unavailable("the scheduler takes no messages"))?.map_err(|_| closed())
    }
}

fn closed() -> Error {
    Error::unavailable("the stream was closed")
}

fn broken(status: &tonic::Status) -> Error {
    Error::new(ErrorCode::Unavailable, format!("{} ({:?})", status.message(), status.code()))
}
