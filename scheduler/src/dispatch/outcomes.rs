//! Outcomes that executors report: written down, measured, and folded into their jobs.

use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_proto::control::{Outcome, OutcomeReport, outcome};
use springald_proto::records::RecordedOutcome;

use super::Command;
use super::actor::Actor;
use super::journal::Entry;
use super::wire::{event_of, parse_key, without_metrics};
use crate::clock;
use crate::defect;
use crate::job::Event;
use crate::metrics::springald_scheduler as metrics;

impl Actor {
    pub(super) fn outcomes(&mut self, executor: &ExecutorId, stream: u64, report: OutcomeReport) {
        let durable = self.journal_has_room(report.outcomes.len() + 1);
        for outcome in report.outcomes {
            // What is reported to an earlier owner, as this process may have been, comes again with all that is there.
            if let Some((id, task)) =
                outcome.key.as_ref().and_then(parse_key).filter(|(id, _)| !self.awaits(id, executor))
            {
                self.outcome(executor, &id, task, outcome, durable);
            }
        }
        if durable {
            let (executor, sequence) = (executor.clone(), report.sequence);
            self.write(Entry::Notice(Command::Journaled { executor, stream, sequence }));
        }
    }

    /// Takes in one outcome; without effect if the attempt is not live, or the job not here (any more).
    pub(super) fn outcome(&mut self, executor: &ExecutorId, id: &JobId, task: TaskId, outcome: Outcome, durable: bool) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let counted_for = defect::counted_for(&job.graph, task);
        let (task, executor) = counted_for.as_ref().map_or((task, executor), |(task, executor)| (*task, executor));
        let live = job.graph.is_live(task, executor);
        if live && durable {
            let outcome = Some(without_metrics(&outcome));
            let record = RecordedOutcome { executor_id: executor.to_string(), outcome, moved_from: String::new() };
            self.record(id, record);
        }
        let Some(job) = self.jobs.get_mut(id) else { return };
        if let (true, Some(outcome::Result::Succeeded(succeeded))) = (live, &outcome.result) {
            job.measures.add(task, &outcome, succeeded.rows.iter().sum());
            job.measured(task, succeeded);
        }
        if live {
            let succeeded = matches!(&outcome.result, Some(outcome::Result::Succeeded(_)));
            metrics::tasks_total(if succeeded { "succeeded" } else { "failed" }).inc();
            job.times.ended(task, succeeded, clock::now());
        }
        if let Some(event) = event_of(task, executor, outcome) {
            if live {
                self.blame_for(id, &event, clock::now());
            }
            let failure = match &event {
                Event::Failed { failure, .. } if live => Some(failure.clone()),
                _ => None,
            };
            self.apply(id, event);
            self.holds_since(id, task, executor);
            if let Some(failure) = failure {
                self.tell_failure(executor, id, task, &failure);
            }
        }
    }

    /// Writes an outcome of a job into its journal.
    pub(super) fn record(&mut self, id: &JobId, record: RecordedOutcome) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let (owner_revision, number) = (job.owner_revision, job.outcomes_written);
        job.outcomes_written += 1;
        self.write(Entry::Outcomes { job: id.clone(), owner_revision, number, outcomes: vec![record] });
    }
}
