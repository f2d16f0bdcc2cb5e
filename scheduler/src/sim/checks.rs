//! What must be true: while things happen, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use springald_core::ids::{JobId, StageId, TaskId};
use springald_proto::control::Launch;
use springald_proto::control::scheduler_message::Message as Incoming;
use springald_proto::records::{JobRecord, JobStatus, OwnerRecord};

use super::executor::Key;
use super::process::scheduler_id;
use super::world::{Place, World};
use crate::records;
use crate::store::{Change, Condition, Transaction};

/// A task fails this often, at most, for reasons that pass.
const FAILURES: u32 = 3;

/// What has happened, as far as something is to be said about it.
#[derive(Default)]
pub(super) struct History {
    /// The attempts that have written all of their output, and the executors that have had it.
    written: BTreeSet<(Key, u32)>,
    /// The attempts that were started, whoever owned the job.
    started: BTreeSet<Key>,
    /// How often tasks were made to fail, and whether for want of memory.
    failures: BTreeMap<(JobId, StageId, u32), (u32, bool)>,
    /// The rows of the answers that clients got.
    pub(super) answers: BTreeMap<JobId, u64>,
    /// An executor counts as lost when its stream breaks; one that was stopped itself takes others for lost.
    pub(super) stream_given_up: bool,
    /// How often tasks have succeeded.
    successes: BTreeMap<(JobId, StageId, u32), u32>,
}

impl History {
    /// Counts a failure, if there may be one more.
    pub(super) fn may_fail(&mut self, (job, task): &Key, memory: bool) -> bool {
        let (failures, for_memory) = self.failures.entry((job.clone(), task.stage, task.task)).or_default();
        if *failures >= FAILURES || (memory && *for_memory) {
            return false;
        }
        *failures += 1;
        *for_memory |= memory;
        true
    }

    /// An executor has an output that it can be asked for.
    pub(super) fn has(&mut self, executor: u32, key: &Key) {
        self.written.insert((key.clone(), executor));
    }

    /// The tasks that have succeeded more than once.
    fn repeated(&self) -> impl Iterator<Item = &(JobId, StageId, u32)> {
        self.successes.iter().filter(|(_, times)| **times > 1).map(|(task, _)| task)
    }
}

/// The owner of each job that a transaction touches, and its fencing token.
pub(super) type Owners = BTreeMap<JobId, Option<(String, u64)>>;

impl World {
    // === while things happen ===

    /// A message is about to reach an executor.
    pub(super) fn before_message(&mut self, executor: u32, message: &Incoming) {
        if let Incoming::Launch(launch) = message
            && let Some(fault) = self.fault_of(launch)
        {
            self.violated(format!("executor-{executor} is told {launch:?}: {fault}"));
        }
    }

    /// A stage starts when all its inputs are done: each is there, whole, and was written by the attempt that is named.
    fn fault_of(&self, launch: &Launch) -> Option<String> {
        let job: JobId = launch.job_id.parse().ok()?;
        let Some(work) = self.works.get(&job) else { return Some("nobody has submitted that job".to_owned()) };
        let spec = work.stage(StageId(launch.stage));
        for edge in &spec.inputs {
            let source = work.stage(edge.stage);
            let Some(input) = launch.inputs.iter().find(|input| input.stage == edge.stage.0) else {
                return Some(format!("without its input, stage {}", edge.stage));
            };
            let tasks: Vec<u32> = input.outputs.iter().map(|output| output.task).collect();
            if tasks != (0..source.tasks()).collect::<Vec<_>>() {
                return Some(format!("with tasks {tasks:?} of stage {}, which has {}", edge.stage, source.tasks()));
            }
            for output in &input.outputs {
                let task = TaskId { stage: edge.stage, task: output.task, attempt: output.attempt };
                let holder = super::process::number_of(&output.executor_id)?;
                if !self.history.written.contains(&((job.clone(), task), holder)) {
                    return Some(format!("{} never wrote task {task}", output.executor_id));
                }
            }
        }
        None
    }

    /// An executor starts a task.
    pub(super) fn task_starts(&mut self, executor: u32, key: &Key) {
        let token = self.executors.get(&executor).map_or(0, |machine| machine.executor.token(&key.0));
        tracing::debug!(target: "sim", "executor-{executor} starts task {} of {} under {token}", key.1, key.0);
        if !self.history.started.insert(key.clone()) {
            self.violated(format!("executor-{executor} starts task {} of {}, which was started before", key.1, key.0));
        }
    }

    pub(super) fn task_succeeded(&mut self, executor: u32, key: &Key) {
        self.history.has(executor, key);
        *self.history.successes.entry((key.0.clone(), key.1.stage, key.1.task)).or_default() += 1;
    }

    pub(super) fn before_transaction(&self, transaction: &Transaction) -> Owners {
        let jobs = transaction.changes.iter().filter_map(|change| job_of(change_key(change)));
        jobs.map(|job| (job.clone(), self.owner(&job))).collect()
    }

    fn owner(&self, job: &JobId) -> Option<(String, u64)> {
        let entry = self.kv.get(&records::owner_key(job))?;
        Some((records::decode::<OwnerRecord>(&entry).ok()?.scheduler_id, entry.mod_revision))
    }

    /// At most one scheduler can change a job, under its token: whoever else has changed it was not fenced.
    pub(super) fn after_transaction(&mut self, place: Place, transaction: &Transaction, before: &Owners) {
        let Place::Scheduler(number) = place else { return };
        for (job, owner) in before {
            let fault = match owner {
                Some((owner, _)) if *owner != scheduler_id(number).as_str() => Some(format!("{owner} owns it")),
                Some((_, token)) => stale_token(transaction, job, *token),
                None => (!may_change_unowned(transaction, job)).then(|| "nobody owns it".to_owned()),
            };
            if let Some(fault) = fault {
                return self.violated(format!("{place} has changed {job}, and {fault}: {transaction:?}"));
            }
        }
    }

    // === in the end ===

    /// What is not as it must be in the end; `None`: all is well.
    pub(super) fn leftovers(&mut self) -> Option<String> {
        if let Some((number, client)) = self.clients.iter().enumerate().find(|(_, client)| client.outcome.is_none()) {
            return Some(format!("client {number} still waits: {}", client.told()));
        }
        if let Some((number, request)) = self.requests.first_key_value() {
            return Some(format!("request {number} at scheduler-{} is not over", request.scheduler));
        }
        for prefix in ["jobs/plan/", "jobs/outcomes/", records::OWNERS, records::CANCELS] {
            if let Some(entry) = self.kv.list(prefix, None, 1).first() {
                return Some(format!("{} is left in the store", entry.key));
            }
        }
        for entry in self.kv.list(records::JOB_RECORDS, None, usize::MAX) {
            let record: JobRecord = records::decode(&entry).ok()?;
            if records::needs_owner(&record) {
                return Some(format!("{} has not ended: {record:?}", entry.key));
            }
            let answered = record.job_id.parse().ok().and_then(|job: JobId| self.history.answers.get(&job));
            let succeeded = record.status() == JobStatus::Succeeded;
            // One that may answer differently can have been made again after the client had its answer.
            let fixed = record.job_id.parse().is_ok_and(|job: JobId| self.is_fixed(&job));
            if let Some(rows) = answered.filter(|rows| succeeded && fixed && **rows != record.result_rows) {
                return Some(format!("{rows} rows were the answer, and not those of the record: {record:?}"));
            }
        }
        let left = self.executors.values().find_map(|machine| machine.executor.leftovers());
        left.or_else(|| self.jobs_held())
    }

    /// No task runs twice where nothing happened but to schedulers, unless it may answer differently, or its job was stopped:
    /// with the scheduler that has stopped it, and not yet written so, this is lost.
    pub(super) fn repeated(&self) -> Result<(), String> {
        let lost = !self.plan.executors_are_well || self.history.stream_given_up;
        let ran_to_its_end = |job: &JobId| self.clients.iter().any(|client| client.only_waits_for(job));
        let mut repeated = self.history.repeated();
        match repeated.find(|(job, ..)| self.is_fixed(job) && ran_to_its_end(job)).filter(|_| !lost) {
            Some(task) => Err(format!("task {task:?} has run twice, and no executor was lost")),
            None => Ok(()),
        }
    }

    /// A job that has the same answer whenever it is made again.
    fn is_fixed(&self, job: &JobId) -> bool {
        self.works.get(job).is_some_and(|work| work.stages.iter().all(|stage| !stage.indeterminate))
    }

    /// A job that a scheduler still holds.
    fn jobs_held(&mut self) -> Option<String> {
        for number in self.schedulers.keys().copied().collect::<Vec<_>>() {
            let held = Arc::new(Mutex::new(None));
            if let Some((process, core)) =
                self.schedulers.get(&number).and_then(|process| Some((process, process.core.clone()?)))
            {
                let answer = Arc::clone(&held);
                process.spawn(async move { *answer.lock() = Some(core.engine.jobs_held().await) });
            }
            self.run(number);
            match held.lock().take() {
                Some(Ok(jobs)) if jobs.is_empty() => {}
                Some(Ok(jobs)) => return Some(format!("scheduler-{number} still holds {jobs:?}")),
                Some(Err(error)) => return Some(format!("scheduler-{number} does not say what it holds: {error}")),
                None => return Some(format!("scheduler-{number} is not there")),
            }
        }
        None
    }
}

fn change_key(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
        Change::DeletePrefix { prefix } => prefix,
    }
}

/// The job that a key belongs to, if only its owner may change it.
fn job_of(key: &str) -> Option<JobId> {
    let mut parts = key.strip_prefix("jobs/")?.split('/');
    match parts.next()? {
        "record" | "plan" | "outcomes" | "owner" => parts.next()?.parse().ok(),
        _ => None,
    }
}

/// Outcomes name the token under which they are written: it must be the one of now.
fn stale_token(transaction: &Transaction, job: &JobId, token: u64) -> Option<String> {
    let prefix = records::outcomes_prefix(job);
    let expected = format!("{prefix}{token:016x}-");
    let puts = transaction.changes.iter().filter(|change| matches!(change, Change::Put { .. })).map(change_key);
    let stale = puts.filter(|key| key.starts_with(&prefix)).find(|key| !key.starts_with(&expected));
    stale.map(|key| format!("its token is {token}, not that of {key}"))
}

/// Without an owner, a job can be claimed or forgotten, or ended as long as nobody has claimed it, and nothing else.
fn may_change_unowned(transaction: &Transaction, job: &JobId) -> bool {
    let unclaimed =
        |condition: &Condition| matches!(condition, Condition::Absent { key } if *key == records::owner_key(job));
    let as_read =
        |condition: &Condition| matches!(condition, Condition::Unchanged { key, .. } if *key == records::job_key(job));
    let conditions = &transaction.conditions;
    if conditions.iter().any(unclaimed) && conditions.iter().any(as_read) {
        return true;
    }
    transaction.changes.iter().any(|change| match change {
        Change::Put { key, .. } => *key == records::owner_key(job),
        Change::Delete { key } => *key == records::job_key(job),
        Change::DeletePrefix { .. } => false,
    })
}
