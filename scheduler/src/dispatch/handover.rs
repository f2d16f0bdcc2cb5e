//! Executors that are about to leave: their outputs go to others.
//!
//! ```text
//! draining executor E, output done there ──Move──▶ another one, T: fetches it from E ──Moved──▶ graph: it is at T
//!     ──▶ journal ──durable──▶ nobody reads E's copy any more ──▶ E drops it; without any, E leaves
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_core::telemetry::events::names;
use springald_proto::control::{self, Abort, Move, Outcome, TaskOutput, scheduler_message::Message};
use springald_proto::records::RecordedOutcome;

use super::Command;
use super::actor::Actor;
use super::journal::Entry;
use super::wire::{parse_key, task_key};
use crate::clock;
use crate::job::{Event, Status};
use crate::metrics::springald_scheduler as metrics;

/// Outputs that one executor takes over at a time.
const AT_ONCE: usize = 4;
/// An output that could not be handed over is not asked for again at once: an earlier try may still be under way.
const PAUSE: Duration = Duration::from_secs(1);

/// An output on its way to another executor.
struct Underway {
    from: ExecutorId,
    to: ExecutorId,
    /// The stream on which it was asked: on another one it does not answer.
    stream: u64,
    /// When it has said that it cannot.
    refused: Option<Instant>,
}

/// The outputs that are on their way.
#[derive(Default)]
pub(super) struct Moves(BTreeMap<(JobId, TaskId), Underway>);

/// A copy that was handed over, and that some still read where it was.
pub(super) struct Release {
    task: TaskId,
    from: ExecutorId,
    readers: BTreeSet<TaskId>,
}

impl Actor {
    /// Asks others to take over what draining executors hold.
    ///
    /// They are waited for however long it takes: one that hangs is lost, and `executor.drain_deadline` ends it all.
    pub(super) fn hand_over(&mut self) {
        let (jobs, peers, now) = (&self.jobs, &self.peers, clock::now());
        self.moves.0.retain(|(job, task), way| {
            let there = peers.get(&way.to).is_some_and(|peer| peer.stream == way.stream)
                && way.refused.is_none_or(|at| now.saturating_duration_since(at) < PAUSE);
            there && jobs.get(job).is_some_and(|job| job.graph.holds(*task, &way.from))
        });
        'all: for from in self.peers.draining() {
            let outputs: Vec<(JobId, TaskId)> = self
                .jobs
                .values()
                .filter(|job| job.adoption.is_none())
                .flat_map(|job| job.graph.outputs_at(&from).into_iter().map(|task| (job.id.clone(), task)))
                .filter(|output| !self.moves.0.contains_key(output))
                .collect();
            for (job, task) in outputs {
                let Some(to) = self.taker() else { break 'all };
                let Some(stream) = self.ask_to_take(&job, task, &from, &to) else { continue };
                self.moves.0.insert((job, task), Underway { from: from.clone(), to, stream, refused: None });
            }
        }
        let jobs: Vec<JobId> =
            self.jobs.values().filter(|job| !job.releases.is_empty()).map(|job| job.id.clone()).collect();
        jobs.iter().for_each(|job| self.release(job));
    }

    /// Who has fewest outputs coming, if somebody can take one more.
    fn taker(&self) -> Option<ExecutorId> {
        let coming = |executor: &ExecutorId| self.moves.0.values().filter(|way| way.to == *executor).count();
        let takers = self.peers.takers().map(|executor| (coming(&executor), executor));
        takers.filter(|(coming, _)| *coming < AT_ONCE).min().map(|(_, executor)| executor)
    }

    /// Gives the number of the stream on which the executor was asked.
    fn ask_to_take(&mut self, id: &JobId, task: TaskId, from: &ExecutorId, to: &ExecutorId) -> Option<u64> {
        let job = self.jobs.get(id)?;
        let stage = job.graph.stage(task.stage)?;
        let output = TaskOutput {
            task: task.task,
            attempt: task.attempt,
            executor_id: from.to_string(),
            address: self.peers.get(from).map(|peer| peer.hello.exchange_address.clone()).unwrap_or_default(),
            partitions: stage.spec().writes(task.task).collect(),
        };
        let (job_id, owner_revision) = (id.to_string(), job.owner_revision);
        let peer = self.peers.get_mut(to)?;
        peer.send(Message::Move(Move { job_id, owner_revision, stage: task.stage.0, output: Some(output) }));
        Some(peer.stream)
    }

    /// An executor has taken an output over, or could not.
    pub(super) fn moved(&mut self, to: &ExecutorId, moved: control::Moved) {
        let Some((id, task)) = moved.key.as_ref().and_then(parse_key) else { return };
        let asked = (id.clone(), task);
        let way =
            self.moves.0.get(&asked).is_some_and(|way| way.to == *to).then(|| self.moves.0.remove(&asked)).flatten();
        if self.jobs.get(&id).is_none_or(|job| job.owner_revision != moved.owner_revision) {
            return;
        }
        let from = way.as_ref().map_or_else(|| to.clone(), |way| way.from.clone());
        let wanted = from != *to && self.jobs.get(&id).is_some_and(|job| job.graph.outputs_at(&from).contains(&task));
        if !moved.error.is_empty() {
            if wanted {
                tracing::warn!(event = names::OUTPUT_MOVE_FAILED, job_id = %id, stage_id = task.stage.0, task_id = task.task,
                    attempt = task.attempt, executor_id = %to, error = moved.error,
                    "an output could not be handed over");
            }
            if let Some(way) = way {
                self.moves.0.insert(asked, Underway { refused: Some(clock::now()), ..way });
            }
            return;
        }
        // What is not wanted (any more), as an answer that came too late, is dropped there by this.
        self.apply(&id, Event::Moved { task, from: from.clone(), to: to.clone() });
        self.holds_since(&id, task, to);
        let Some(job) = self.jobs.get_mut(&id).filter(|_| wanted) else { return };
        metrics::outputs_handed_over_total().inc();
        if *job.graph.status() == Status::Succeeded && task.stage == job.graph.last_stage().spec().id {
            match job.result_parts(&self.peers) {
                Ok(parts) => job.ready(parts),
                Err(error) => job.fail(error),
            }
        }
        let owner_revision = job.owner_revision;
        let outcome = Outcome { key: Some(task_key(&id, task)), ..Outcome::default() };
        let moved_from = from.to_string();
        let record = RecordedOutcome { executor_id: to.to_string(), outcome: Some(outcome), moved_from };
        self.record(&id, record);
        self.write(Entry::Notice(Command::MoveDurable { job: id, task, from, owner_revision }));
        self.hand_over();
    }

    /// Another owner would find the output where it is now: the first copy is not needed any more, but by those who read
    /// it at the moment. Not so under a later token than that of the writing: it was refused then, and what has become
    /// of the other copy, nobody knows.
    pub(super) fn move_durable(&mut self, id: &JobId, task: TaskId, from: ExecutorId, owner_revision: u64) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.owner_revision == owner_revision) {
            let readers = job.graph.running_readers(task.stage);
            job.releases.push(Release { task, from, readers });
            self.release(id);
        }
    }

    /// Drops first copies that nobody reads any more. One that is counted on again, because the other was lost, stays.
    fn release(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let (graph, result_is_read) = (&job.graph, job.readers > 0);
        let mut free = vec![];
        job.releases.retain_mut(|release| {
            if graph.holds(release.task, &release.from) {
                return false;
            }
            let running = graph.running_readers(release.task.stage);
            release.readers.retain(|reader| running.contains(reader));
            let is_result = release.task.stage == graph.last_stage().spec().id;
            let is_read = !release.readers.is_empty() || (is_result && result_is_read);
            if !is_read {
                free.push((release.task, release.from.clone()));
            }
            is_read
        });
        let owner_revision = job.owner_revision;
        for (task, from) in free {
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.send(Message::Abort(Abort { tasks: vec![task_key(id, task)], owner_revision }));
            }
        }
    }

    /// Tells an executor to drain; false if it is not connected to this scheduler.
    pub(super) fn drain(&mut self, executor: &ExecutorId) -> bool {
        let Some(peer) = self.peers.get_mut(executor) else { return false };
        tracing::info!(event = names::EXECUTOR_DRAIN_REQUESTED, executor_id = %executor, "an executor is asked to drain");
        peer.send(Message::Drain(control::Drain {}));
        true
    }
}

#[cfg(test)]
mod tests {
    use springald_core::ids::StageId;
    use springald_proto::control::executor_message::Message as Said;
    use springald_proto::control::{
        Holdings, Moved, Offer, OutcomeReport, SchedulerMessage, Succeeded, outcome::Result::Succeeded as Written,
    };
    use tokio::sync::mpsc;

    use super::super::testing::{Cluster, TOKEN, free, job, told};
    use super::*;

    const TASK: TaskId = TaskId { stage: StageId(1), task: 0, attempt: 0 };

    fn id() -> JobId {
        "j".parse().expect("valid")
    }

    fn executor(name: &str) -> ExecutorId {
        name.parse().expect("valid")
    }

    fn finished() -> Outcome {
        let succeeded = Succeeded { partitions: vec![0], rows: vec![1], bytes: vec![8], ..Succeeded::default() };
        Outcome { key: Some(task_key(&id(), TASK)), result: Some(Written(succeeded)), ..Outcome::default() }
    }

    /// A job whose result is at `f`, to whom `e` has handed it over. Gives what `e` is told after that.
    fn handed_over() -> (Cluster, mpsc::Receiver<SchedulerMessage>) {
        let mut cluster = Cluster::new();
        cluster.submit(job("j", 1, &[]));
        let mut from = cluster.connect("e", 1, 1, &[]);
        cluster.says("e", 1, Said::Offer(free(1, 0)));
        cluster.says("e", 1, Said::Outcomes(OutcomeReport { sequence: 1, outcomes: vec![finished()] }));
        let mut to = cluster.connect("f", 2, 1, &[]);
        cluster.says("e", 1, Said::Offer(Offer { draining: true, ..free(1, 1) }));
        cluster.actor.hand_over();
        assert!(matches!(told(&mut to)[..], [Message::Move(_)]));
        let moved = Moved { key: Some(task_key(&id(), TASK)), owner_revision: TOKEN, error: String::new() };
        cluster.says("f", 2, Said::Moved(moved));
        assert!(!has_dropped(&mut from), "it is not written yet");
        (cluster, from)
    }

    fn has_dropped(inbox: &mut mpsc::Receiver<SchedulerMessage>) -> bool {
        told(inbox).iter().any(|message| matches!(message, Message::Abort(_)))
    }

    #[tokio::test]
    async fn given_an_executor_that_takes_an_output_over_then_it_is_asked_once_and_again_on_another_stream() {
        let mut cluster = Cluster::new();
        cluster.submit(job("j", 1, &[]));
        cluster.connect("e", 1, 1, &[]);
        cluster.says("e", 1, Said::Offer(free(1, 0)));
        cluster.says("e", 1, Said::Outcomes(OutcomeReport { sequence: 1, outcomes: vec![finished()] }));
        let mut to = cluster.connect("f", 2, 1, &[]);
        cluster.says("e", 1, Said::Offer(Offer { draining: true, ..free(1, 1) }));
        let asked = |inbox: &mut mpsc::Receiver<SchedulerMessage>| {
            told(inbox).iter().filter(|message| matches!(message, Message::Move(_))).count()
        };
        (0..3).for_each(|_| cluster.actor.hand_over());
        assert_eq!(asked(&mut to), 1);
        let mut again = cluster.connect("f", 3, 1, &[]);
        cluster.actor.hand_over();
        assert_eq!(asked(&mut again), 1);
    }

    #[tokio::test]
    async fn given_an_output_that_was_handed_over_when_word_of_it_is_of_an_earlier_token_then_both_copies_stay() {
        let (mut cluster, mut from) = handed_over();
        cluster.actor.move_durable(&id(), TASK, executor("e"), TOKEN - 1);
        assert!(!has_dropped(&mut from), "what was to be written under that token was refused");
        cluster.actor.move_durable(&id(), TASK, executor("e"), TOKEN);
        assert!(has_dropped(&mut from));
    }

    #[tokio::test]
    async fn given_an_output_that_was_handed_over_when_the_first_copy_counts_again_then_it_stays() {
        let (mut cluster, mut from) = handed_over();
        cluster.actor.handle(Command::ExecutorGone { executor: executor("f"), stream: 2 });
        let finished = vec![finished()];
        let holdings = Holdings { job_id: "j".to_owned(), owner_revision: TOKEN, running: vec![], finished };
        cluster.says("e", 1, Said::Holdings(holdings));
        assert!(cluster.actor.jobs.get(&id()).expect("it is here").graph.holds(TASK, &executor("e")));
        cluster.actor.move_durable(&id(), TASK, executor("e"), TOKEN);
        assert!(!has_dropped(&mut from));
    }
}
