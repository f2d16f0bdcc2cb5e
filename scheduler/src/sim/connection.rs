//! What an executor has to tell one scheduler, and what it has said on the stream to it.
//!
//! A model of the `executor` crate's `pull`, rule by rule: where that changes, this does.

use std::collections::{BTreeMap, VecDeque};

use springald_core::ids::JobId;
use springald_proto::control::{Offer, Outcome, OutcomeReport};

/// Most outcomes in one report.
const MAX_REPORTED: usize = 256;

/// A scheduler as an executor knows it.
#[derive(Default)]
pub(super) struct Connection {
    /// The control stream, if one is open.
    pub(super) stream: Option<u64>,
    /// One is being opened.
    pub(super) opening: Option<u64>,
    pub(super) wait: u64,
    next_outcome: u64,
    pending: VecDeque<(u64, Outcome)>,
    /// Jobs that the scheduler does not own any more, and the token that is obeyed in each: not told yet.
    superseded: BTreeMap<JobId, u64>,
    // Of the stream:
    reported: u64,
    sequence: u64,
    unacknowledged: BTreeMap<u64, Vec<u64>>,
    pub(super) slots_received: u64,
    pub(super) offered: Option<Offer>,
}

impl Connection {
    /// A stream is open.
    pub(super) fn opened(&mut self, stream: u64) {
        self.stream = Some(stream);
        self.opening = None;
        self.reported = 0;
        self.sequence = 0;
        self.unacknowledged.clear();
        self.slots_received = 0;
        self.offered = None;
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.pending.push_back((self.next_outcome, outcome));
        self.next_outcome += 1;
    }

    pub(super) fn forget_job(&mut self, job: &JobId) {
        self.pending.retain(|(_, outcome)| outcome.key.as_ref().is_none_or(|key| key.job_id != job.as_str()));
    }

    /// Outcomes that were not acknowledged.
    pub(super) fn untold(&self) -> usize {
        self.pending.len()
    }

    /// Another token than the scheduler's is obeyed in a job.
    pub(super) fn supersede(&mut self, job: &JobId, token: u64) {
        self.superseded.insert(job.clone(), token);
    }

    pub(super) fn superseded(&mut self) -> BTreeMap<JobId, u64> {
        std::mem::take(&mut self.superseded)
    }

    pub(super) fn next_report(&mut self) -> Option<OutcomeReport> {
        let unsaid = self.pending.iter().filter(|(number, _)| *number >= self.reported).take(MAX_REPORTED);
        let (numbers, outcomes): (Vec<u64>, Vec<Outcome>) = unsaid.cloned().unzip();
        self.reported = numbers.last()? + 1;
        self.sequence += 1;
        self.unacknowledged.insert(self.sequence, numbers);
        Some(OutcomeReport { sequence: self.sequence, outcomes })
    }

    pub(super) fn acknowledged(&mut self, sequence: u64) {
        if let Some(numbers) = self.unacknowledged.remove(&sequence) {
            self.pending.retain(|(number, _)| !numbers.contains(number));
        }
    }
}
