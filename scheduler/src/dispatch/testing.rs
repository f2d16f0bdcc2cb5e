//! Parts for tests of dispatch: jobs of one stage, and an actor whose executors say what the test says.

use std::sync::Arc;
use std::time::Duration;

use springald_core::ids::StageId;
use springald_proto::control::executor_message::Message as Said;
use springald_proto::control::scheduler_message::Message;
use springald_proto::control::{ExecutorMessage, HeldJob, Hello, Offer, SchedulerMessage, StagePlan};
use springald_proto::records::JobRecord;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::Actor;
use super::journal::Journal;
use super::{Command, DispatchOptions, JobView, NewJob};
use crate::job::StageSpec;
use crate::planner::{ClusterShape, PlannedStage};
use crate::store::embedded::EmbeddedStore;

/// The fencing token of all jobs.
pub(super) const TOKEN: u64 = 5;

/// A job of one stage with so many tasks, of a session with these settings.
pub(super) fn job(id: &str, tasks: u32, settings: &[(&str, &str)]) -> NewJob {
    let spec = StageSpec {
        id: StageId(1),
        inputs: vec![],
        partitions: tasks,
        output_partitions: tasks,
        key_partitions: 0,
        hashed: false,
        whole: None,
        indeterminate: false,
    };
    let stages = vec![PlannedStage { spec, plan: StagePlan::default(), text: String::new() }];
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let record = JobRecord { job_id: id.to_owned(), settings, ..JobRecord::default() };
    NewJob { id: id.parse().expect("valid"), record, stages, owner_revision: TOKEN, deadline: None }
}

/// What an executor says that has so many free slots and has received launches for so many.
pub(super) fn free(free_slots: u32, slots_received: u64) -> Offer {
    Offer { free_slots, slots_received, draining: false }
}

/// All that an executor was told since it was last asked.
pub(super) fn told(inbox: &mut mpsc::Receiver<SchedulerMessage>) -> Vec<Message> {
    std::iter::from_fn(|| inbox.try_recv().ok()).filter_map(|message| message.message).collect()
}

/// An actor, and nothing around it. What it writes goes nowhere.
pub(super) struct Cluster {
    pub(super) actor: Actor,
}

impl Cluster {
    /// Within a runtime.
    pub(super) fn new() -> Self {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        Self::over(store, &mpsc::channel(1).0)
    }

    /// Over this store. What the journal tells goes to `commands`, and not to the actor by itself.
    pub(super) fn over(store: Arc<EmbeddedStore>, commands: &mpsc::Sender<Command>) -> Self {
        let journal = Journal::start(store, commands.downgrade(), &TaskTracker::new(), CancellationToken::new());
        let long = Duration::from_secs(3600);
        let options = DispatchOptions {
            max_jobs: 10,
            no_executor_timeout: long,
            result_retention: long,
            client_gone_grace: long,
            max_task_failures: 4,
            speculation: true,
            lease_ttl: long,
        };
        let shape = ClusterShape { executors: 0, total_slots: 0, largest_slots: 0 };
        Self { actor: Actor::new(options, journal, watch::channel(shape).0) }
    }

    pub(super) fn submit(&mut self, job: NewJob) -> watch::Receiver<JobView> {
        let (reply, mut answer) = oneshot::channel();
        self.tell(Command::Submit { job: Box::new(job), reply });
        answer.try_recv().expect("answered").expect("accepted")
    }

    /// An executor connects, and says that it has something of these jobs. Gives what it is told.
    pub(super) fn connect(
        &mut self,
        id: &str,
        stream: u64,
        slots: u32,
        named: &[&str],
    ) -> mpsc::Receiver<SchedulerMessage> {
        let (outbox, inbox) = mpsc::channel(64);
        let held = |job: &&str| HeldJob { job_id: (*job).to_owned(), owner_revision: TOKEN };
        let jobs = named.iter().map(held).collect();
        let hello = Hello { executor_id: id.to_owned(), slots, jobs, ..Hello::default() };
        let (reply, mut answer) = oneshot::channel();
        self.tell(Command::ExecutorConnected { hello, stream, outbox, reply });
        answer.try_recv().expect("answered").expect("accepted");
        inbox
    }

    pub(super) fn says(&mut self, id: &str, stream: u64, message: Said) {
        let message = ExecutorMessage { message: Some(message) };
        self.tell(Command::ExecutorSaid { executor: id.parse().expect("valid"), stream, message });
    }

    fn tell(&mut self, command: Command) {
        self.actor.handle(command);
        self.actor.schedule();
    }
}
