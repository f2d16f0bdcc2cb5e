//! Outcomes that executors report: written down, measured, and folded into their jobs.

use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_core::text;
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
        for outcome in report.outcomes {
            // What was said before the question was heard what there is of the job, perhaps to an earlier owner, comes again
            // with the answer. To have it dropped now, as unwanted, would be to have dropped what the answer names.
            if let Some((id, task)) =
                outcome.key.as_ref().and_then(parse_key).filter(|(id, _)| !self.awaits(id, executor))
            {
                self.outcome(executor, &id, task, outcome);
            }
        }
        // Behind all of them; and those that came before, on an earlier stream, are written before it, too.
        let (executor, sequence) = (executor.clone(), report.sequence);
        self.write(Entry::Notice(Command::Journaled { executor, stream, sequence }));
    }

    /// Takes in one outcome, and writes it down, however far behind the store is: a job's history must not lack one in
    /// its middle. Without effect if the attempt is not live, or the job not here (any more).
    pub(super) fn outcome(&mut self, executor: &ExecutorId, id: &JobId, task: TaskId, outcome: Outcome) {
        let Some(outcome) = self.put_off(id, executor, task, with_short_message(outcome)) else { return };
        let Some(job) = self.jobs.get_mut(id) else { return };
        let counted_for = defect::counted_for(&job.graph, task);
        let (task, executor) = counted_for.as_ref().map_or((task, executor), |(task, executor)| (*task, executor));
        let live = job.graph.is_live(task, executor);
        if live {
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

/// Executors cut what is too long; those of an earlier version did not.
fn with_short_message(mut outcome: Outcome) -> Outcome {
    if let Some(outcome::Result::Failed(failed)) = &mut outcome.result {
        failed.message = text::head(std::mem::take(&mut failed.message), text::FAILURE_BYTES);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use springald_core::ids::StageId;
    use springald_proto::control::executor_message::Message as Said;
    use springald_proto::control::scheduler_message::Message;
    use springald_proto::control::{Failed, FailureClass};
    use springald_proto::records::OutcomeBatch;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::super::NewJob;
    use super::super::testing::{Cluster, free, job, told};
    use super::super::wire::task_key;
    use super::*;
    use crate::records;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{Change, Committed, StateStore, Transaction};

    const TASK: TaskId = TaskId { stage: StageId(1), task: 0, attempt: 0 };
    /// More entries than the journal takes before it writes any.
    const MANY: u64 = 5000;

    /// A failure with a message of so many bytes.
    fn failed(id: &JobId, bytes: usize) -> OutcomeReport {
        let mut failed = Failed { message: "m".repeat(bytes), ..Failed::default() };
        failed.set_class(FailureClass::Transient);
        let (key, result) = (Some(task_key(id, TASK)), Some(outcome::Result::Failed(failed)));
        OutcomeReport { sequence: 1, outcomes: vec![Outcome { key, result, ..Outcome::default() }] }
    }

    fn of_another(sequence: u64) -> Entry {
        Entry::Notice(Command::Journaled { executor: "other".parse().expect("valid"), stream: 9, sequence })
    }

    #[tokio::test]
    async fn given_a_store_that_is_far_behind_when_an_outcome_is_reported_then_it_is_written_and_acknowledged() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let id: JobId = "j".parse().expect("valid");
        let owner = Change::Put { key: records::owner_key(&id), value: "s".into(), lease: None };
        let written = store.transact(Transaction { conditions: vec![], changes: vec![owner] }).await.expect("written");
        let Committed::Yes { revision: owner_revision } = written else { panic!("there is no condition") };
        let (commands, mut inbox) = mpsc::channel(64);
        let mut cluster = Cluster::over(Arc::clone(&store), &commands);
        cluster.submit(NewJob { owner_revision, ..job("j", 1, &[]) });
        let mut executor = cluster.connect("e", 1, 1, &[]);
        cluster.says("e", 1, Said::Offer(free(1, 0)));
        (0..MANY).for_each(|sequence| cluster.actor.write(of_another(sequence)));
        cluster.says("e", 1, Said::Outcomes(failed(&id, 1 << 20)));

        let is_acknowledged = |message: &Message| matches!(message, Message::Acknowledged(_));
        let acknowledged = async {
            while !told(&mut executor).iter().any(is_acknowledged) {
                cluster.actor.handle(inbox.recv().await.expect("the journal tells"));
                // As a tick does, this moves on what waits.
                cluster.actor.write(of_another(0));
            }
        };
        timeout(Duration::from_secs(60), acknowledged).await.expect("acknowledged");
        let entries = store.list(&records::outcomes_prefix(&id), None, 9).await.expect("listed");
        let batches = entries.iter().map(|entry| records::decode::<OutcomeBatch>(entry).expect("a batch"));
        let outcomes: Vec<RecordedOutcome> = batches.flat_map(|batch| batch.outcomes).collect();
        let result = outcomes.first().and_then(|recorded| recorded.outcome.as_ref()?.result.as_ref());
        let Some(outcome::Result::Failed(failed)) = result else { panic!("{outcomes:?}") };
        assert!(outcomes.len() == 1 && failed.message.len() <= text::FAILURE_BYTES);
    }
}
