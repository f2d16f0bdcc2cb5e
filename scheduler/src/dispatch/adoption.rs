//! Taking over a job from a scheduler that is gone.
//!
//! ```text
//! recorded outcomes ──replay──▶ JobGraph
//! every executor ──Adopt──▶ Holdings: what runs (adopted), what is finished (kept, though its word was lost)
//!                           all have told, or time is up ──▶ what nobody holds is lost ──▶ the job goes on
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use springald_core::error::{ErrorCode, Result};
use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_core::telemetry::events::names;
use springald_proto::control::{Adopt, Holdings, Outcome, scheduler_message::Message};
use springald_proto::records::{JobStatus, RecordedOutcome};

use super::NewJob;
use super::actor::Actor;
use super::job_entry::JobEntry;
use super::wire::{event_of, parse_key};
use crate::clock;
use crate::job::{Event, Status, TaskState};
use crate::metrics::springald_scheduler as metrics;

/// An executor that is not connected is given this long to connect, before what it held counts as lost; while it holds a
/// lease, it is alive, and tries at least this often.
const CONNECT_GRACE: Duration = Duration::from_millis(500);
const CONNECT_GRACE_LEASED: Duration = Duration::from_secs(3);
/// One that is connected is given this long to answer.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// A job that this scheduler has claimed in the store.
pub struct AdoptedJob {
    /// The job, under the new fencing token.
    pub job: NewJob,
    /// What its earlier owners have recorded, in order.
    pub outcomes: Vec<RecordedOutcome>,
    /// The executors that live, as the store says.
    pub executors: BTreeSet<ExecutorId>,
    /// Somebody has asked to cancel it, with this reason.
    pub cancelled: Option<String>,
}

/// A job whose executors are still telling what they have of it.
pub(super) struct Adoption {
    since: Instant,
    /// Executors that have not told yet.
    waiting: BTreeSet<ExecutorId>,
    /// The finished attempts that executors hold.
    held: BTreeMap<ExecutorId, BTreeSet<TaskId>>,
    /// Attempts that run, or ran when the owner was lost, and were not started again.
    adopted: usize,
    /// What has ended meanwhile, in order. Taken in at once it might complete stages, of which an output may be lost with an
    /// executor that is waited for: their inputs, freed then, would have to be made again.
    later: Vec<(ExecutorId, TaskId, Outcome)>,
    cancelled: Option<String>,
}

impl Actor {
    /// Takes a claimed job in. It goes on once the executors have told what they have of it.
    pub(super) fn adopt(&mut self, adopted: AdoptedJob) -> Result<()> {
        let AdoptedJob { job, outcomes, mut executors, cancelled } = adopted;
        let id = job.id.clone();
        if self.jobs.get(&id).is_some_and(|here| here.owner_revision == job.owner_revision) {
            return Ok(());
        }
        self.fenced(&id, u64::MAX);
        let mut entry = JobEntry::new(job, self.options.max_task_failures)?;
        let failure = replay(&mut entry, outcomes);
        executors.extend(self.peers.ids());
        entry.adoption = Some(Adoption {
            since: clock::now(),
            waiting: executors,
            held: BTreeMap::new(),
            adopted: 0,
            later: vec![],
            cancelled,
        });
        self.peers.ask_all(&id, &adopt_message(&entry));
        self.jobs.insert(id.clone(), entry);
        match failure {
            Some((code, message)) => self.fail(&id, code, message),
            None => self.settle_if_told(&id, clock::now()),
        }
        Ok(())
    }

    /// An executor has connected: it is asked for what it has of the jobs it names, and of those that were taken over.
    pub(super) fn ask_for_holdings(&mut self, executor: &ExecutorId, named: &BTreeSet<JobId>) {
        for job in self.jobs.values() {
            if (job.adoption.is_some() || named.contains(&job.id))
                && let Some(peer) = self.peers.get_mut(executor)
            {
                peer.ask(&job.id, adopt_message(job));
            }
        }
    }

    pub(super) fn holdings(&mut self, executor: &ExecutorId, holdings: Holdings) {
        let Ok(id) = holdings.job_id.parse::<JobId>() else { return };
        let Some(ours) = self.jobs.get(&id).map(|job| job.owner_revision) else { return };
        if ours != holdings.owner_revision {
            // Meant for an earlier token, it says nothing. With a later one it says whom the executor obeys, and while
            // the store cannot be reached, nobody else says so.
            return self.fenced(&id, holdings.owner_revision.saturating_sub(1));
        }
        self.peers.get_mut(executor).into_iter().for_each(|peer| peer.has_told(&id));
        let mut adopted = 0;
        for (_, task) in holdings.running.iter().filter_map(parse_key) {
            self.apply(&id, Event::Reported { task, executor: executor.clone() });
            if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.graph.is_live(task, executor)) {
                job.times.started(task, clock::now());
                adopted += 1;
            }
        }
        let mut held = BTreeSet::new();
        for outcome in holdings.finished {
            let Some((_, task)) = outcome.key.as_ref().and_then(parse_key) else { continue };
            held.insert(task);
            self.apply(&id, Event::Reported { task, executor: executor.clone() });
            adopted += usize::from(self.jobs.get(&id).is_some_and(|job| job.graph.is_live(task, executor)));
            self.outcome(executor, &id, task, outcome);
        }
        metrics::tasks_adopted_total().inc_by(adopted as u64);
        if let Some(adoption) = self.jobs.get_mut(&id).and_then(|job| job.adoption.as_mut()) {
            adoption.waiting.remove(executor);
            adoption.held.insert(executor.clone(), held);
            adoption.adopted += adopted;
        }
        self.settle_if_told(&id, clock::now());
    }

    /// Puts an outcome off until all executors have told; gives it back if the job is not being taken over.
    pub(super) fn put_off(
        &mut self,
        id: &JobId,
        executor: &ExecutorId,
        task: TaskId,
        outcome: Outcome,
    ) -> Option<Outcome> {
        match self.jobs.get_mut(id).and_then(|job| job.adoption.as_mut()) {
            Some(adoption) => {
                adoption.later.push((executor.clone(), task, outcome));
                None
            }
            None => Some(outcome),
        }
    }

    /// True if an executor was asked what it has of a job, and has yet to tell.
    pub(super) fn awaits(&self, id: &JobId, executor: &ExecutorId) -> bool {
        self.peers.get(executor).is_some_and(|peer| peer.is_asked(id))
    }

    /// An executor that has told what it has of a job that is taken over has this, too, since then.
    pub(super) fn holds_since(&mut self, id: &JobId, task: TaskId, executor: &ExecutorId) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.graph.holds(task, executor)) else { return };
        let told = job.adoption.as_mut().and_then(|adoption| adoption.held.get_mut(executor));
        told.into_iter().for_each(|held| held.extend([task]));
    }

    /// An executor is gone: nobody waits for its word any more, and what it has told is void.
    pub(super) fn adoptions_without(&mut self, executor: &ExecutorId) {
        for job in self.jobs.values_mut() {
            if let Some(adoption) = &mut job.adoption {
                adoption.waiting.remove(executor);
                adoption.held.remove(executor);
                adoption.later.retain(|(holder, ..)| holder != executor);
            }
        }
        self.settle_adoptions(clock::now());
    }

    /// Goes on with every job about which all has been told, or for long enough nothing more.
    pub(super) fn settle_adoptions(&mut self, now: Instant) {
        let adopting: Vec<JobId> =
            self.jobs.values().filter(|job| job.adoption.is_some()).map(|job| job.id.clone()).collect();
        for id in adopting {
            self.settle_if_told(&id, now);
        }
    }

    fn settle_if_told(&mut self, id: &JobId, now: Instant) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let told = job.adoption.as_ref().is_some_and(|adoption| {
            let passed = now.duration_since(adoption.since);
            adoption.waiting.iter().all(|executor| match self.peers.get(executor) {
                Some(_) => passed >= ANSWER_GRACE,
                None if self.peers.has_lease(executor) => passed >= CONNECT_GRACE_LEASED,
                None => passed >= CONNECT_GRACE,
            })
        });
        if !told {
            return;
        }
        if let Some(adoption) = job.adoption.take() {
            self.settle(id, adoption);
        }
    }

    fn settle(&mut self, id: &JobId, adoption: Adoption) {
        let Some(job) = self.jobs.get(id) else { return };
        let (gone, missing) = losses(job, &adoption);
        let (lost, trace_id) = (missing.len(), job.record.trace_id.clone());
        for executor in gone {
            self.apply(id, Event::ExecutorLost { executor });
        }
        for (task, executor) in missing {
            self.apply(id, Event::OutputLost { task, executor });
        }
        metrics::jobs_taken_over_total().inc();
        tracing::info!(event = names::TAKEOVER_DONE, job_id = %id, trace_id, adopted = adoption.adopted, outputs_lost = lost,
            millis = clock::now().duration_since(adoption.since).as_millis() as u64,
            "job taken over");
        if let Some(reason) = adoption.cancelled {
            self.apply(id, Event::Stop { code: ErrorCode::Cancelled, reason });
        }
        self.go_on(id);
        for (executor, task, outcome) in adoption.later {
            self.outcome(&executor, id, task, outcome);
        }
    }

    /// All is known of the job again: a result that is complete can be had.
    fn go_on(&mut self, id: &JobId) {
        // Stopped, if it was not complete.
        let Some(job) = self.jobs.get_mut(id) else { return };
        if *job.graph.status() == Status::Succeeded {
            if job.record.status() != JobStatus::Succeeded {
                return self.finish(id);
            }
            match job.result_parts(&self.peers) {
                Ok(parts) => job.ready(parts),
                Err(error) => job.fail(error),
            }
            if job.readers == 0 {
                job.expires = Some(clock::now() + self.options.result_retention);
            }
        } else if job.record.status() == JobStatus::Succeeded {
            // Its result was complete once, and part of that is gone.
            job.record.set_status(JobStatus::Running);
        }
    }
}

fn adopt_message(job: &JobEntry) -> Message {
    Message::Adopt(Adopt { job_id: job.id.to_string(), owner_revision: job.owner_revision })
}

/// Folds the recorded outcomes; gives the reason if the job has failed with them.
fn replay(entry: &mut JobEntry, outcomes: Vec<RecordedOutcome>) -> Option<(ErrorCode, String)> {
    let mut failure = None;
    for recorded in outcomes {
        let moved_from = recorded.moved_from.parse::<ExecutorId>().ok();
        let Some((executor, task, outcome)) = parsed(recorded) else { continue };
        if let Some(from) = moved_from {
            entry.graph.replay(Event::Moved { task, from, to: executor });
            continue;
        }
        if let Some(springald_proto::control::outcome::Result::Succeeded(succeeded)) = &outcome.result {
            entry.measures.add(task, &outcome, succeeded.rows.iter().sum());
            entry.measured(task, succeeded);
        }
        if let Some(event) = event_of(task, &executor, outcome) {
            failure = failure.or(entry.graph.replay(event));
        }
    }
    entry.graph.replayed();
    failure
}

fn parsed(recorded: RecordedOutcome) -> Option<(ExecutorId, TaskId, Outcome)> {
    let executor = recorded.executor_id.parse().ok()?;
    let outcome = recorded.outcome?;
    let (_, task) = parse_key(outcome.key.as_ref()?)?;
    Some((executor, task, outcome))
}

/// Executors that hold outputs, as the graph believes, and have not told so; and outputs that their holders lack.
fn losses(job: &JobEntry, adoption: &Adoption) -> (BTreeSet<ExecutorId>, Vec<(TaskId, ExecutorId)>) {
    let (mut gone, mut missing) = (BTreeSet::new(), vec![]);
    for stage in job.graph.stages().iter().filter(|stage| !stage.is_freed()) {
        for (task, state) in stage.task_states().enumerate() {
            let (attempt, executor) = match state {
                TaskState::Done { attempt, executor, .. } | TaskState::Running { attempt, executor } => {
                    (*attempt, executor)
                }
                TaskState::Pending => continue,
            };
            let id = TaskId { stage: stage.spec().id, task: task as u32, attempt };
            match adoption.held.get(executor) {
                None => drop(gone.insert(executor.clone())),
                Some(held) if matches!(state, TaskState::Done { .. }) && !held.contains(&id) => {
                    missing.push((id, executor.clone()));
                }
                Some(_) => {}
            }
        }
    }
    (gone, missing)
}

#[cfg(test)]
mod tests {
    use springald_core::ids::StageId;
    use springald_proto::control::executor_message::Message as Said;
    use springald_proto::control::{OutcomeReport, Succeeded, outcome};

    use super::super::JobView;
    use super::super::testing::{Cluster, TOKEN, free, job, told};
    use super::super::wire::task_key;
    use super::*;

    const TASK: TaskId = TaskId { stage: StageId(1), task: 0, attempt: 0 };

    fn finished() -> Outcome {
        let succeeded = Succeeded { partitions: vec![0], rows: vec![1], bytes: vec![8], ..Succeeded::default() };
        let key = Some(task_key(&"j".parse().expect("valid"), TASK));
        Outcome { key, result: Some(outcome::Result::Succeeded(succeeded)), ..Outcome::default() }
    }

    fn holdings(owner_revision: u64, finished: Vec<Outcome>) -> Said {
        Said::Holdings(Holdings { job_id: "j".to_owned(), owner_revision, running: vec![], finished })
    }

    #[tokio::test]
    async fn given_an_executor_that_comes_back_when_it_repeats_old_outcomes_first_then_its_answer_decides() {
        let (mut cluster, id): (_, JobId) = (Cluster::new(), "j".parse().expect("valid"));
        cluster.submit(job("j", 1, &[]));
        let mut first = cluster.connect("e", 1, 1, &[]);
        cluster.says("e", 1, Said::Offer(free(1, 0)));
        assert!(matches!(told(&mut first)[..], [Message::Launch(_)]));

        let mut second = cluster.connect("e", 2, 1, &["j"]);
        let report = OutcomeReport { sequence: 1, outcomes: vec![finished()] };
        cluster.says("e", 2, Said::Outcomes(report));
        cluster.says("e", 2, Said::Offer(free(1, 0)));
        let heard = told(&mut second);
        assert!(matches!(heard[..], [Message::Adopt(_)]), "neither to drop it nor to make it again: {heard:?}");
        cluster.says("e", 2, holdings(TOKEN, vec![finished()]));
        let graph = &cluster.actor.jobs.get(&id).expect("it is here").graph;
        assert_eq!(*graph.status(), Status::Succeeded);
        assert!(graph.holds(TASK, &"e".parse().expect("valid")));
        let dropped = |message: &Message| matches!(message, Message::Abort(_) | Message::Launch(_));
        assert!(!told(&mut second).iter().any(dropped));
    }

    #[tokio::test]
    async fn given_a_takeover_when_an_executor_does_not_tell_in_time_then_nothing_starts_there_before_it_does() {
        let mut cluster = Cluster::new();
        let mut inbox = cluster.connect("e", 1, 1, &[]);
        let (outcomes, executors) = (vec![], BTreeSet::new());
        let adopted = AdoptedJob { job: job("j", 1, &[]), outcomes, executors, cancelled: None };
        cluster.actor.adopt(adopted).expect("adopted");
        cluster.actor.settle_adoptions(clock::now() + ANSWER_GRACE);
        cluster.says("e", 1, Said::Offer(free(1, 0)));
        assert!(matches!(told(&mut inbox)[..], [Message::Adopt(_)]));
        cluster.says("e", 1, holdings(TOKEN, vec![]));
        assert!(matches!(told(&mut inbox)[..], [Message::Launch(_)]));
    }

    #[tokio::test]
    async fn given_a_takeover_when_one_tells_of_an_end_before_all_have_told_then_it_counts_when_they_have() {
        let (mut cluster, id): (_, JobId) = (Cluster::new(), "j".parse().expect("valid"));
        let mut inbox = cluster.connect("e", 1, 1, &[]);
        cluster.connect("f", 2, 1, &[]);
        let (outcomes, executors) = (vec![], BTreeSet::new());
        let adopted = AdoptedJob { job: job("j", 1, &[]), outcomes, executors, cancelled: None };
        cluster.actor.adopt(adopted).expect("adopted");
        cluster.says("e", 1, holdings(TOKEN, vec![finished()]));
        assert_eq!(*cluster.actor.jobs.get(&id).expect("it is here").graph.status(), Status::Running);
        cluster.actor.handle(super::super::Command::ExecutorGone { executor: "f".parse().expect("valid"), stream: 2 });
        let graph = &cluster.actor.jobs.get(&id).expect("it is here").graph;
        assert_eq!(*graph.status(), Status::Succeeded);
        assert!(graph.holds(TASK, &"e".parse().expect("valid")));
        assert!(!told(&mut inbox).iter().any(|message| matches!(message, Message::Launch(_))));
    }

    #[tokio::test]
    async fn given_an_executor_that_obeys_a_later_owner_when_it_says_so_then_the_clients_go_there() {
        let mut cluster = Cluster::new();
        let view = cluster.submit(job("j", 1, &[]));
        cluster.connect("e", 1, 1, &[]);
        cluster.says("e", 1, holdings(TOKEN - 1, vec![]));
        assert!(matches!(*view.borrow(), JobView::Pending), "that was said to an earlier owner");
        cluster.says("e", 1, holdings(TOKEN + 1, vec![]));
        assert!(matches!(&*view.borrow(), JobView::Failed(error) if error.code() == ErrorCode::Fenced));
        assert!(cluster.actor.jobs.is_empty());
    }
}
