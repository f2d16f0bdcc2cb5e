//! Outcomes on their way to one scheduler: kept until it has acknowledged them, across broken streams.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use springald_core::ids::JobId;
use springald_proto::control;
use tokio::sync::Notify;

/// Past this many outcomes that are not acknowledged, no new tasks are accepted from the scheduler. While the state
/// store takes nothing, it keeps as many for each executor.
const MAX_PENDING: usize = 1024;
/// Most outcomes in one report.
const MAX_REPORTED: usize = 256;

/// The outcomes for one scheduler.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order in which tasks ended, numbered.
    pending: VecDeque<(u64, control::Outcome)>,
    /// Jobs that the scheduler does not own any more, and the fencing token that is obeyed in each: not told yet.
    superseded: BTreeMap<JobId, u64>,
}

impl Outcomes {
    /// Adds an outcome; [`added`](Self::added) wakes.
    pub(crate) fn add(&self, outcome: control::Outcome) {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.pending.push_back((number, outcome));
        drop(queue);
        self.added.notify_one();
    }

    /// Forgets what is pending for a job that nobody asks about any more.
    pub(crate) fn forget_job(&self, job: &JobId) {
        let is_other = |outcome: &control::Outcome| outcome.key.as_ref().is_none_or(|key| key.job_id != job.as_str());
        self.queue.lock().pending.retain(|(_, outcome)| is_other(outcome));
    }

    /// Another fencing token than the scheduler's is obeyed in a job; [`added`](Self::added) wakes.
    pub(crate) fn supersede(&self, job: &JobId, token: u64) {
        self.queue.lock().superseded.insert(job.clone(), token);
        self.added.notify_one();
    }

    /// The jobs in which another token is obeyed, and that token. Each is said once: should it be lost with the stream, the
    /// scheduler finds out by what it launches next.
    pub(crate) fn superseded(&self) -> BTreeMap<JobId, u64> {
        std::mem::take(&mut self.queue.lock().superseded)
    }

    /// Number of outcomes that were not acknowledged yet.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().pending.len()
    }

    /// True if tasks must not be accepted before the scheduler has caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_PENDING
    }

    /// Waits until an outcome was added since the last call.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

/// What of the [`Outcomes`] was reported on one stream.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Outcomes below this number were reported.
    reported: u64,
    sequence: u64,
    /// The numbers of the outcomes in each report that was not acknowledged.
    open: HashMap<u64, Vec<u64>>,
}

impl Reports {
    /// The next report, if there is something to say that was not said on this stream.
    pub(crate) fn next(&mut self, outcomes: &Outcomes) -> Option<control::OutcomeReport> {
        let queue = outcomes.queue.lock();
        let unsaid = queue.pending.iter().filter(|(number, _)| *number >= self.reported).take(MAX_REPORTED);
        let (numbers, outcomes): (Vec<u64>, Vec<_>) = unsaid.cloned().unzip();
        drop(queue);
        self.reported = numbers.last()? + 1;
        self.sequence += 1;
        self.open.insert(self.sequence, numbers);
        Some(control::OutcomeReport { sequence: self.sequence, outcomes })
    }

    /// The scheduler has what report `sequence` said.
    pub(crate) fn acknowledge(&mut self, sequence: u64, outcomes: &Outcomes) {
        if let Some(numbers) = self.open.remove(&sequence) {
            outcomes.queue.lock().pending.retain(|(number, _)| !numbers.contains(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(job: &str) -> control::Outcome {
        let key = control::TaskKey { job_id: job.to_owned(), stage: 1, task: 0, attempt: 0 };
        control::Outcome { key: Some(key), ..Default::default() }
    }

    #[test]
    fn given_a_broken_stream_when_the_next_one_reports_then_what_was_not_acknowledged_is_said_again() {
        let outcomes = Outcomes::default();
        outcomes.add(outcome("a"));
        let mut first = Reports::default();
        let said = first.next(&outcomes).expect("one outcome");
        outcomes.add(outcome("b"));
        assert_eq!(first.next(&outcomes).expect("the new one").outcomes, [outcome("b")]);
        assert_eq!(first.next(&outcomes), None);
        first.acknowledge(said.sequence, &outcomes);

        let again = Reports::default().next(&outcomes).expect("said again");
        assert_eq!(again.outcomes, [outcome("b")]);
        assert_eq!(outcomes.len(), 1);
    }

    #[test]
    fn given_many_outcomes_when_reported_then_in_bounded_reports_and_in_order() {
        let outcomes = Outcomes::default();
        (0..MAX_REPORTED + 10).for_each(|job| outcomes.add(outcome(&job.to_string())));
        let mut reports = Reports::default();
        let first = reports.next(&outcomes).expect("a report");
        let second = reports.next(&outcomes).expect("the rest");
        assert_eq!((first.outcomes.len(), second.outcomes.len()), (MAX_REPORTED, 10));
        assert!(second.sequence > first.sequence);
        reports.acknowledge(first.sequence, &outcomes);
        assert_eq!(outcomes.len(), 10);
    }

    #[test]
    fn given_a_scheduler_that_is_behind_when_it_acknowledges_then_its_tasks_are_accepted_again() {
        let (outcomes, mut reports) = (Outcomes::default(), Reports::default());
        (0..MAX_PENDING).for_each(|job| outcomes.add(outcome(&job.to_string())));
        assert!(outcomes.is_full());
        let said = reports.next(&outcomes).expect("a report");
        reports.acknowledge(said.sequence, &outcomes);
        assert!(!outcomes.is_full());
    }

    #[test]
    fn given_a_job_that_was_freed_when_forgotten_then_only_its_outcomes_go() {
        let outcomes = Outcomes::default();
        ["a", "b", "a"].iter().for_each(|job| outcomes.add(outcome(job)));
        outcomes.forget_job(&"a".parse().expect("valid"));
        assert_eq!(Reports::default().next(&outcomes).expect("b").outcomes, [outcome("b")]);
    }
}
