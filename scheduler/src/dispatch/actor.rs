//! The actor: takes commands, folds them into the jobs, and sends what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{ExecutorId, JobId};
use springald_core::telemetry::events::names;
use springald_core::text;
use springald_proto::control::{
    Abort, Acknowledged, ExecutorMessage, FreeJob, FreeStage, Hello, StageDone, executor_message,
    scheduler_message::Message,
};
use springald_proto::records::JobStatus;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::executors::Peers;
use super::handover::Moves;
use super::job_entry::JobEntry;
use super::journal::{Entry, Journal};
use super::readers::expired;
use super::schedule;
use super::standing::Standings;
use super::telling;
use super::wire::{parse_key, task_key};
use super::{Command, DispatchOptions, JobView, NewJob, ToExecutor, Watched};
use crate::clock;
use crate::job::{Action, Event, Stage, Status};
use crate::metrics::springald_scheduler as metrics;
use crate::planner::ClusterShape;
use crate::records;

const TICK: Duration = Duration::from_millis(250);
/// A process that finds itself so late was stopped: it hears what came meanwhile before it judges by the time.
const STOPPED: Duration = Duration::from_secs(1);
const COMMANDS_PER_TURN: usize = 256;
/// A task that has failed is started again after so long; each time twice as long, up to the longest.
const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(5);

pub(super) struct Actor {
    pub(super) options: DispatchOptions,
    journal: Journal,
    shape: watch::Sender<ClusterShape>,
    pub(super) jobs: BTreeMap<JobId, JobEntry>,
    /// Jobs whose end is not in the store yet.
    ending: BTreeSet<JobId>,
    pub(super) peers: Peers,
    pub(super) standings: Standings,
    pub(super) moves: Moves,
}

impl Actor {
    pub(super) fn new(options: DispatchOptions, journal: Journal, shape: watch::Sender<ClusterShape>) -> Self {
        Self {
            options,
            journal,
            shape,
            jobs: BTreeMap::new(),
            ending: BTreeSet::new(),
            peers: Peers::default(),
            standings: Standings::default(),
            moves: Moves::default(),
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let mut next_tick = clock::now() + TICK;
        let mut commands = Vec::with_capacity(COMMANDS_PER_TURN);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = clock::sleep_until(next_tick) => {
                    let now = clock::now();
                    if now.duration_since(next_tick) < STOPPED {
                        self.tick(now);
                    }
                    next_tick = now + TICK;
                }
                count = inbox.recv_many(&mut commands, COMMANDS_PER_TURN) => {
                    if count == 0 { return }
                    for command in commands.drain(..) {
                        self.handle(command);
                    }
                }
            }
            self.drop_broken_peers();
            self.schedule();
            metrics::jobs_active().set(self.jobs.len() as u64);
        }
    }

    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Submit { job, reply } => {
                let _ = reply.send(self.submit(*job));
            }
            Command::Stop { job, code, reason } => self.apply(&job, Event::Stop { code, reason }),
            Command::Watch { job, reply } => {
                let watched = |job: &JobEntry| Watched { view: job.view.subscribe(), analyze: job.record.analyze };
                let _ = reply.send(self.jobs.get(&job).map(watched));
            }
            Command::Describe { job, reply } => {
                let entry = self.jobs.get(&job);
                let _ = reply.send(entry.map(|job| (job.current_record(), job.metrics.clone())));
            }
            Command::ResultReader { job, reply } => {
                let _ = reply.send(self.reader_came(&job));
            }
            Command::ResultAbandoned { job, owner_revision } => self.reader_left(&job, owner_revision, false),
            Command::ResultSent { job, owner_revision } => self.reader_left(&job, owner_revision, true),
            Command::ResultFetched { job } => self.apply(&job, Event::ResultFetched),
            Command::ResultLost { job, task, executor } => self.apply(&job, Event::OutputLost { task, executor }),
            Command::ExecutorConnected { hello, stream, outbox, reply } => {
                let _ = reply.send(self.connect(hello, stream, outbox));
            }
            Command::ExecutorSaid { executor, stream, message } => self.executor_said(&executor, stream, message),
            Command::ExecutorGone { executor, stream } => self.executor_gone(&executor, stream),
            // Who is silent is judged at the next tick, when all that has come meanwhile was heard.
            Command::ExecutorLease { executor, held } => self.peers.lease(executor, held),
            Command::Journaled { executor, stream, sequence } => {
                if let Some(peer) = self.peers.on_stream(&executor, stream) {
                    peer.send(Message::Acknowledged(Acknowledged { sequence }));
                }
            }
            Command::MoveDurable { job, task, from, owner_revision } => {
                self.move_durable(&job, task, from, owner_revision);
            }
            Command::Drain { executor, reply } => {
                let _ = reply.send(self.drain(&executor));
            }
            Command::Draining { reply } => {
                let _ = reply.send(self.peers.draining());
            }
            Command::Adopt { job, reply } => {
                let _ = reply.send(self.adopt(*job));
            }
            Command::Fenced { job, owner_revision } => self.fenced(&job, owner_revision),
            Command::Ended { job, freed } => {
                self.ending.remove(&job);
                if let Some(owner_revision) = freed {
                    self.peers.broadcast(&Message::FreeJob(FreeJob { job_id: job.to_string(), owner_revision }));
                }
            }
            Command::IsEnding { job, reply } => {
                let _ = reply.send(self.ending.contains(&job));
            }
            Command::JobsHeld { reply } => {
                let _ = reply.send(self.jobs.keys().cloned().collect());
            }
        }
    }

    // === jobs ===

    fn submit(&mut self, job: NewJob) -> Result<watch::Receiver<JobView>> {
        // Found in the store and taken in already, while it was on its way here.
        if let Some(here) = self.jobs.get(&job.id) {
            return Ok(here.view.subscribe());
        }
        if self.jobs.len() >= self.options.max_jobs {
            self.forget_sent();
        }
        if self.jobs.len() >= self.options.max_jobs {
            return Err(Error::new(
                ErrorCode::ResourcesExhausted,
                format!(
                    "{} jobs run or wait already, the most that scheduler.max_jobs allows; try again later",
                    self.jobs.len()
                ),
            ));
        }
        let mut entry = JobEntry::new(job, self.options.max_task_failures)?;
        entry.expires = Some(clock::now() + self.options.result_retention);
        let view = entry.view.subscribe();
        self.jobs.insert(entry.id.clone(), entry);
        Ok(view)
    }

    /// Gives up the results that were sent already, and are kept in case that they have not arrived.
    fn forget_sent(&mut self) {
        let sent = self.jobs.values().filter(|job| job.sent && job.readers == 0).map(|job| job.id.clone());
        for job in sent.collect::<Vec<_>>() {
            self.apply(&job, Event::ResultFetched);
        }
    }

    pub(super) fn apply(&mut self, id: &JobId, event: Event) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let was = job.graph.status().clone();
        let actions = job.graph.apply(event);
        if was == Status::Succeeded && *job.graph.status() == Status::Running {
            job.view.send_replace(JobView::Pending);
            job.record.set_status(JobStatus::Running);
        }
        for action in actions {
            self.act(id, action);
        }
    }

    fn act(&mut self, id: &JobId, action: Action) {
        let Some(owner_revision) = self.jobs.get(id).map(|job| job.owner_revision) else { return };
        let job_id = id.to_string();
        match action {
            // Launched by whoever has offered a slot.
            Action::Launch(_) => {}
            Action::Rest { stage, task, failures } => {
                let due = clock::now() + pause_after(failures);
                self.jobs.get_mut(id).into_iter().for_each(|job| job.resting.push((due, stage, task)));
            }
            Action::Abort { task, executor } => {
                if let Some(peer) = self.peers.get_mut(&executor) {
                    peer.send(Message::Abort(Abort { tasks: vec![task_key(id, task)], owner_revision }));
                }
            }
            Action::StageDone { stage } => {
                self.jobs.get_mut(id).into_iter().for_each(|job| job.stage_done(stage));
                self.peers.forget_stage(id, stage);
                self.peers.broadcast(&Message::StageDone(StageDone { job_id, stage: stage.0, owner_revision }));
            }
            Action::FreeStage { stage } => {
                if self.jobs.get(id).is_some_and(|job| job.graph.last_stage().is_freed()) {
                    return self.end(id);
                }
                self.peers.forget_stage(id, stage);
                self.peers.broadcast(&Message::FreeStage(FreeStage { job_id, stage: stage.0, owner_revision }));
            }
            // While executors tell what they have, where the result lies is not known yet: it is finished after that.
            Action::Finish if self.jobs.get(id).is_some_and(|job| job.adoption.is_some()) => {}
            Action::Finish => self.finish(id),
            Action::Fail { code, message } => self.fail(id, code, message),
        }
    }

    pub(super) fn finish(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.record.set_status(JobStatus::Succeeded);
        job.record.result_held = true;
        job.record.ended_micros = records::now_micros();
        job.record.waiting_for.clear();
        let record = job.current_record();
        job.tell_finished(&record);
        match job.result_parts(&self.peers) {
            Ok(parts) => job.ready(parts),
            Err(error) => job.fail(error),
        }
        if job.readers == 0 {
            job.expires = Some(clock::now() + self.options.result_retention);
        }
        let (owner_revision, record) = (job.owner_revision, job.stored_record());
        self.journal.write(Entry::Record { job: id.clone(), owner_revision, record });
    }

    pub(super) fn fail(&mut self, id: &JobId, code: ErrorCode, message: String) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let message = text::head(message, text::ERROR_BYTES);
        let status = if code == ErrorCode::Cancelled { JobStatus::Cancelled } else { JobStatus::Failed };
        job.record.set_status(status);
        job.record.ended_micros = records::now_micros();
        job.record.error_code = code.as_str().to_owned();
        job.record.error = message.clone();
        job.record.waiting_for.clear();
        let record = job.current_record();
        job.tell_finished(&record);
        job.fail(Error::new(code, message));
        self.end(id);
    }

    /// The job needs nothing any more: nothing of it runs, and once that is written down, everything it held is freed.
    /// Freed before, it would be made again by another owner, should this one be lost.
    fn end(&mut self, id: &JobId) {
        let Some(mut job) = self.jobs.remove(id) else { return };
        job.stages_end();
        self.peers.forget_job(id);
        let owner_revision = job.owner_revision;
        for (task, executor) in job.graph.stages().iter().flat_map(Stage::attempts) {
            if let Some(peer) = self.peers.get_mut(executor) {
                peer.send(Message::Abort(Abort { tasks: vec![task_key(id, task)], owner_revision }));
            }
        }
        let mut record = job.stored_record();
        record.result_held = false;
        self.ending.insert(id.clone());
        self.journal.write(Entry::End { job: id.clone(), owner_revision, record });
    }

    /// Tokens up to this one are void for the job: it goes on at another scheduler, and nothing of it may be touched
    /// from here.
    pub(super) fn fenced(&mut self, id: &JobId, owner_revision: u64) {
        if self.jobs.get(id).is_none_or(|job| job.owner_revision > owner_revision) {
            return;
        }
        let Some(job) = self.jobs.remove(id) else { return };
        self.peers.forget_job(id);
        metrics::jobs_fenced_total().inc();
        tracing::warn!(event = names::JOB_FENCED, job_id = %id, owner_revision = job.owner_revision, "this scheduler does not own the job any more");
        job.fail(Error::new(
            ErrorCode::Fenced,
            format!("job {id} is no longer run by this scheduler; redeem the ticket again"),
        ));
    }

    // === executors ===

    fn connect(&mut self, hello: Hello, stream: u64, outbox: ToExecutor) -> Result<()> {
        let id: ExecutorId = hello.executor_id.parse()?;
        if let Some(old) = self.peers.get(&id) {
            // Messages on the old stream may be lost: what it was told to do is told again.
            let old = old.stream;
            self.executor_gone(&id, old);
        }
        tracing::info!(event = names::EXECUTOR_JOINED, executor_id = %id, address = hello.exchange_address, slots = hello.slots,
            memory_bytes = hello.memory_bytes, version = hello.version, "executor connected");
        let held = hello.jobs.iter().filter_map(|job| job.job_id.parse().ok()).collect();
        metrics::executor_streams_opened_total().inc();
        self.peers.connect(id.clone(), hello, stream, outbox, clock::now());
        self.shape_changed();
        self.ask_for_holdings(&id, &held);
        Ok(())
    }

    fn executor_gone(&mut self, id: &ExecutorId, stream: u64) {
        let Some(drained) = self.peers.on_stream(id, stream).map(|peer| peer.drains()) else { return };
        self.peers.remove(id);
        self.shape_changed();
        telling::executor_gone(id, drained);
        for job in self.jobs.keys().cloned().collect::<Vec<_>>() {
            let pending = |actor: &Self| actor.jobs.get(&job).map_or(0, |job| job.graph.pending_tasks());
            let before = pending(self);
            self.apply(&job, Event::ExecutorLost { executor: id.clone() });
            let again = pending(self).saturating_sub(before);
            if again > 0 {
                metrics::tasks_lost_total().inc_by(again.into());
                tracing::info!(event = names::TASK_LOST, job_id = %job, executor_id = %id, tasks = again, "tasks of a lost executor run again");
            }
        }
        self.adoptions_without(id);
    }

    fn shape_changed(&self) {
        let shape = self.peers.shape();
        metrics::executors_connected().set(shape.executors.into());
        metrics::slots().set(shape.total_slots.into());
        self.shape.send_replace(shape);
    }

    fn drop_broken_peers(&mut self) {
        for (id, stream) in self.peers.broken() {
            self.executor_gone(&id, stream);
        }
    }

    fn drop_silent_peers(&mut self, now: Instant) {
        for (id, stream) in self.peers.silent(now, self.options.lease_ttl) {
            self.executor_gone(&id, stream);
        }
    }

    fn executor_said(&mut self, executor: &ExecutorId, stream: u64, message: ExecutorMessage) {
        let Some(peer) = self.peers.on_stream(executor, stream) else { return };
        peer.heard = clock::now();
        match message.message {
            Some(executor_message::Message::Offer(offer)) => {
                if peer.offered(offer) {
                    tracing::info!(event = names::EXECUTOR_DRAINING, executor_id = %executor, "executor drains");
                    self.shape_changed();
                }
            }
            Some(executor_message::Message::Moved(moved)) => self.moved(executor, moved),
            Some(executor_message::Message::Outcomes(report)) => self.outcomes(executor, stream, report),
            Some(executor_message::Message::HandedBack(back)) => {
                for (job, task) in back.tasks.iter().filter_map(parse_key) {
                    self.apply(&job, Event::HandedBack { task, executor: executor.clone() });
                }
            }
            Some(executor_message::Message::Holdings(holdings)) => self.holdings(executor, holdings),
            // Answered by the control service.
            Some(executor_message::Message::Held(_) | executor_message::Message::Hello(_)) | None => {}
        }
    }

    pub(super) fn write(&mut self, entry: Entry) {
        self.journal.write(entry);
    }

    // === time ===

    fn tick(&mut self, now: Instant) {
        self.count_jobs();
        self.journal.flush();
        self.drop_silent_peers(now);
        self.settle_adoptions(now);
        self.standings.pass(now);
        self.peers.put_aside(|executor| self.standings.is_aside(executor));
        self.wake_rested(now);
        schedule::keep_executors(&mut self.jobs, &mut self.peers, now);
        self.speculate(now);
        self.hand_over();
        let mut stops = Vec::new();
        for job in self.jobs.values_mut() {
            if job.deadline.is_some_and(|deadline| now >= deadline) && *job.graph.status() == Status::Running {
                let reason = "the query's deadline has passed (springald.deadline)".to_owned();
                stops.push((job.id.clone(), Event::Stop { code: ErrorCode::DeadlineExceeded, reason }));
            } else if job.expires.is_some_and(|expires| now >= expires) {
                stops.push((job.id.clone(), expired(job)));
            } else if self.peers.is_empty() && *job.graph.status() == Status::Running {
                job.record.waiting_for = "no executors".to_owned();
                let since = *job.waiting_since.get_or_insert(now);
                if now.duration_since(since) >= self.options.no_executor_timeout {
                    let reason = format!(
                        "no executor was there for {} s (scheduler.no_executor_timeout)",
                        self.options.no_executor_timeout.as_secs()
                    );
                    stops.push((job.id.clone(), Event::Stop { code: ErrorCode::Unavailable, reason }));
                }
            } else if job.waiting_since.take().is_some() {
                job.record.waiting_for.clear();
            }
        }
        for (job, event) in stops {
            self.apply(&job, event);
        }
    }

    /// Tasks that have rested for long enough may be started again.
    fn wake_rested(&mut self, now: Instant) {
        for job in self.jobs.values_mut() {
            let graph = &mut job.graph;
            job.resting.retain(|(due, stage, task)| {
                let rests = now < *due;
                if !rests {
                    graph.apply(Event::Rested { stage: *stage, task: *task });
                }
                rests
            });
        }
    }
}

/// How long a task rests after so many failures.
fn pause_after(failures: u32) -> Duration {
    (FIRST_REST * 2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cluster;
    use super::*;

    #[tokio::test]
    async fn given_a_process_that_was_stopped_when_it_hears_of_a_lease_first_then_it_judges_nobody_by_the_time() {
        let mut cluster = Cluster::new();
        let _inbox = cluster.connect("e", 1, 1, &[]);
        let id: ExecutorId = "e".parse().expect("valid");
        cluster.actor.options.lease_ttl = Duration::ZERO;
        let peer = cluster.actor.peers.get_mut(&id).expect("connected");
        peer.heard = peer.heard.checked_sub(STOPPED * 3).expect("the machine runs for longer");
        cluster.actor.handle(Command::ExecutorLease { executor: "f".parse().expect("valid"), held: false });
        assert!(cluster.actor.peers.get(&id).is_some(), "what it has said meanwhile was not heard yet");
        cluster.actor.tick(clock::now());
        assert!(cluster.actor.peers.get(&id).is_none());
    }
}
