//! Dispatch: the shell around the job state machines.
//!
//! ```text
//!   engine ──submit, cancel──▶ ┌────────┐ ──Launch, Abort, Free──▶ control streams ──▶ executors
//!   control streams ─messages─▶│ actor  │
//!   timer ──tick──────────────▶└────────┘ ──outcomes──▶ journal ──▶ store, then acknowledgements
//!                                   └──▶ one watch per job: what its clients wait for
//! ```
//!
//! One actor owns all [`JobGraph`](crate::job::JobGraph)s and the view of the executors; everything reaches it as a
//! [`Command`] through one bounded channel, so that there are no locks and no orders of locks. It does no I/O: the
//! journal writes, the control streams send.

mod actor;
mod adoption;
mod batch;
mod executors;
mod handover;
mod job_entry;
mod journal;
mod launching;
mod outcomes;
mod profile;
mod readers;
mod schedule;
mod standing;
mod stored;
mod stragglers;
mod telling;
#[cfg(test)]
mod testing;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_proto::control::{ExecutorMessage, Hello, SchedulerMessage};
use springald_proto::records::JobRecord;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

pub use adoption::AdoptedJob;
pub(crate) use journal::end_job;

use crate::planner::{ClusterShape, PlannedStage, StageMetrics};
use crate::store::StateStore;

/// Where the output of one task of the result's stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultPart {
    /// The task attempt that wrote it.
    pub task: TaskId,
    /// The executor that holds it.
    pub executor: ExecutorId,
    /// The executor that wrote it.
    pub writer: ExecutorId,
    /// host:port of that executor's exchange service.
    pub address: String,
    /// Its partitions, in order.
    pub partitions: Vec<u32>,
    /// Made again, it has the same rows.
    pub repeatable: bool,
}

/// What a client that waits for a job sees.
#[derive(Clone, Debug)]
pub enum JobView {
    /// It has not ended.
    Pending,
    /// Its result is complete, in these parts, in this order.
    Ready(Arc<Vec<ResultPart>>),
    /// It will not get a result.
    Failed(Error),
}

/// A job that is here, for those who want its result.
pub struct Watched {
    /// What happens to it.
    pub view: watch::Receiver<JobView>,
    /// What its operators measured is wanted, not its rows.
    pub analyze: bool,
}

/// A job that was committed to the store by this scheduler.
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Its record, as committed.
    pub record: JobRecord,
    /// Its stages.
    pub stages: Vec<PlannedStage>,
    /// Revision of its owner key: the fencing token.
    pub owner_revision: u64,
    /// When it must have ended.
    pub deadline: Option<Instant>,
}

/// The sending half of an executor's control stream.
pub type ToExecutor = mpsc::Sender<SchedulerMessage>;

/// What the actor is told.
pub(crate) enum Command {
    Submit {
        job: Box<NewJob>,
        reply: oneshot::Sender<Result<watch::Receiver<JobView>>>,
    },
    Stop {
        job: JobId,
        code: ErrorCode,
        reason: String,
    },
    Watch {
        job: JobId,
        reply: oneshot::Sender<Option<Watched>>,
    },
    Describe {
        job: JobId,
        reply: oneshot::Sender<Option<(JobRecord, StageMetrics)>>,
    },
    ResultFetched {
        job: JobId,
    },
    ResultLost {
        job: JobId,
        task: TaskId,
        executor: ExecutorId,
    },
    ResultAbandoned {
        job: JobId,
        owner_revision: u64,
    },
    ResultReader {
        job: JobId,
        reply: oneshot::Sender<u64>,
    },
    ResultSent {
        job: JobId,
        owner_revision: u64,
    },
    ExecutorConnected {
        hello: Hello,
        stream: u64,
        outbox: ToExecutor,
        reply: oneshot::Sender<Result<()>>,
    },
    ExecutorSaid {
        executor: ExecutorId,
        stream: u64,
        message: ExecutorMessage,
    },
    ExecutorGone {
        executor: ExecutorId,
        stream: u64,
    },
    ExecutorLease {
        executor: ExecutorId,
        held: bool,
    },
    Journaled {
        executor: ExecutorId,
        stream: u64,
        sequence: u64,
    },
    /// What the owner with this token has written: an output is elsewhere now.
    MoveDurable {
        job: JobId,
        task: TaskId,
        from: ExecutorId,
        owner_revision: u64,
    },
    Drain {
        executor: ExecutorId,
        reply: oneshot::Sender<bool>,
    },
    Draining {
        reply: oneshot::Sender<Vec<ExecutorId>>,
    },
    Adopt {
        job: Box<AdoptedJob>,
        reply: oneshot::Sender<Result<()>>,
    },
    Fenced {
        job: JobId,
        owner_revision: u64,
    },
    /// The end is in the store, and with it everything is freed, if it was written under this token.
    Ended {
        job: JobId,
        freed: Option<u64>,
    },
    IsEnding {
        job: JobId,
        reply: oneshot::Sender<bool>,
    },
    JobsHeld {
        reply: oneshot::Sender<Vec<JobId>>,
    },
}

/// Limits and times of dispatch.
#[derive(Clone, Copy, Debug)]
pub struct DispatchOptions {
    /// Jobs at one time.
    pub max_jobs: usize,
    /// How long a job waits without any executor.
    pub no_executor_timeout: Duration,
    /// How long a result waits to be fetched.
    pub result_retention: Duration,
    /// How long a job goes on without its client.
    pub client_gone_grace: Duration,
    /// How often a task may fail.
    pub max_task_failures: u32,
    /// Slow tasks are tried a second time.
    pub speculation: bool,
    /// How long executors may be silent: as long as their leases live.
    pub lease_ttl: Duration,
}

const COMMANDS_IN_FLIGHT: usize = 4096;

/// Handle to the actor. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    commands: mpsc::Sender<Command>,
    shape: watch::Receiver<ClusterShape>,
}

impl Dispatcher {
    /// Starts the actor and its journal on `tracker`; both end when `shutdown` is cancelled.
    pub fn start(
        options: DispatchOptions,
        store: Arc<dyn StateStore>,
        tracker: &tokio_util::task::TaskTracker,
        shutdown: tokio_util::sync::CancellationToken,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS_IN_FLIGHT);
        let (shape_sender, shape) = watch::channel(ClusterShape { executors: 0, total_slots: 0, largest_slots: 0 });
        let journal = journal::Journal::start(store, commands.downgrade(), tracker, shutdown.clone());
        tracker.spawn(actor::Actor::new(options, journal, shape_sender).run(inbox, shutdown));
        Self { commands, shape }
    }

    /// True once the actor has ended: nothing that is asked is answered any more.
    pub fn is_stopping(&self) -> bool {
        self.commands.is_closed()
    }

    /// The executors that are connected now, as far as planning depends on them.
    pub fn cluster_shape(&self) -> ClusterShape {
        *self.shape.borrow()
    }

    /// Takes over a committed job. `ResourcesExhausted` when too many are there already.
    pub async fn submit(&self, job: NewJob) -> Result<watch::Receiver<JobView>> {
        self.ask(|reply| Command::Submit { job: Box::new(job), reply }).await?
    }

    /// Goes on with a job that this scheduler has claimed from one that is gone. However many jobs are here already: it
    /// was accepted once.
    pub async fn adopt(&self, job: AdoptedJob) -> Result<()> {
        self.ask(|reply| Command::Adopt { job: Box::new(job), reply }).await?
    }

    /// Fencing tokens up to this one are void for the job: it is dropped, if it is here under one of them.
    pub async fn fenced(&self, job: JobId, owner_revision: u64) -> Result<()> {
        self.tell(Command::Fenced { job, owner_revision }).await
    }

    /// True if the job has ended here, and the store does not know it yet.
    pub async fn is_ending(&self, job: JobId) -> Result<bool> {
        self.ask(|reply| Command::IsEnding { job, reply }).await
    }

    /// All jobs that are here.
    pub async fn jobs_held(&self) -> Result<Vec<JobId>> {
        self.ask(|reply| Command::JobsHeld { reply }).await
    }

    /// An executor's lease has ended, or it has one (again). Without one, and when nothing is heard on its stream either, it
    /// is lost.
    pub async fn executor_lease(&self, executor: ExecutorId, held: bool) -> Result<()> {
        self.tell(Command::ExecutorLease { executor, held }).await
    }

    /// Tells an executor to drain and leave; false if it is not connected here.
    pub async fn drain(&self, executor: ExecutorId) -> Result<bool> {
        self.ask(|reply| Command::Drain { executor, reply }).await
    }

    /// The executors that are about to leave.
    pub async fn draining(&self) -> Result<Vec<ExecutorId>> {
        self.ask(|reply| Command::Draining { reply }).await
    }

    /// Ends a job. Nothing happens if it is not here or has ended.
    pub async fn stop(&self, job: JobId, code: ErrorCode, reason: String) -> Result<()> {
        self.tell(Command::Stop { job, code, reason }).await
    }

    /// What happens to a job; `None` if it is not here.
    pub async fn watch(&self, job: JobId) -> Result<Option<Watched>> {
        self.ask(|reply| Command::Watch { job, reply }).await
    }

    /// A job's record as it stands, with the metrics of its operators; `None` if it is not here.
    pub async fn describe(&self, job: JobId) -> Result<Option<(JobRecord, StageMetrics)>> {
        self.ask(|reply| Command::Describe { job, reply }).await
    }

    /// A client begins to wait for or read a job's result. Gives the job's fencing token, for word of its end: should the job
    /// be lost and come here again, it is another's by then. Zero if it is not here.
    pub async fn result_reader(&self, job: JobId) -> Result<u64> {
        self.ask(|reply| Command::ResultReader { job, reply }).await
    }

    /// The client has all of the result: it can go.
    pub async fn result_fetched(&self, job: JobId) -> Result<()> {
        self.tell(Command::ResultFetched { job }).await
    }

    /// Part of the result could not be fetched: it is made again.
    pub async fn result_lost(&self, job: JobId, task: TaskId, executor: ExecutorId) -> Result<()> {
        self.tell(Command::ResultLost { job, task, executor }).await
    }

    /// All of the result is on its way to a client that will not say that it has arrived: it stays for a while.
    pub async fn result_sent(&self, job: JobId, owner_revision: u64) -> Result<()> {
        self.tell(Command::ResultSent { job, owner_revision }).await
    }

    /// The client went away before it had all of the result. Callable from a destructor: when the actor is overwhelmed, the
    /// word waits for room on the runtime.
    pub fn result_abandoned(&self, job: JobId, owner_revision: u64) {
        let sent = self.commands.try_send(Command::ResultAbandoned { job, owner_revision });
        if let (Err(mpsc::error::TrySendError::Full(word)), Ok(runtime)) = (sent, Handle::try_current()) {
            let commands = self.commands.clone();
            runtime.spawn(async move { commands.send(word).await });
        }
    }

    pub(crate) async fn tell(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| stopping())
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| stopping())
    }
}

/// What is said to those who ask a scheduler that stops.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorCode::Fenced, "this scheduler is stopping; ask another one")
}
