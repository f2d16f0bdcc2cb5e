//! What the journal has to write, job by job, in transactions that the store takes.
//!
//! ```text
//! outcomes, record ──▶ one transaction ──too large──▶ outcomes ─▶ … ─▶ outcomes ─▶ record, or what there is room for
//! ```
//!
//! What is too large is so every time: it is measured before, instead of guessing what an error of the store means.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use springald_core::ids::JobId;
use springald_proto::records::{JobRecord, OutcomeBatch, RecordedOutcome};

use super::Command;
use super::journal::Entry;
use super::stored;
use crate::defect::{self, Defect};
use crate::records;
use crate::store::{Change, Condition, MAX_TRANSACTION_BYTES, Transaction, limits};

/// Whoever claims the job writes its record once more, together with what makes it the owner.
const RESERVE_BYTES: usize = 64 << 10;
const MOST_BYTES: usize = MAX_TRANSACTION_BYTES - RESERVE_BYTES;
/// What an outcome takes in a batch beside its own bytes.
const FRAME_BYTES: usize = 8;

/// What is to be written for one job under one fencing token.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) owner_revision: u64,
    /// Number of the first of the outcomes.
    pub(super) number: u64,
    pub(super) outcomes: Vec<RecordedOutcome>,
    pub(super) record: Option<Box<JobRecord>>,
    pub(super) ends: bool,
}

/// What is to be written for one job, by fencing token: what came under an earlier one stays apart, and is refused.
pub(super) type Tokens = BTreeMap<u64, Pending>;

/// Gathers entries by job; notices wait for all of them.
pub(super) fn gather(batch: impl Iterator<Item = Entry>) -> (BTreeMap<JobId, Tokens>, Vec<Command>) {
    let mut jobs: BTreeMap<JobId, Tokens> = BTreeMap::new();
    let mut notices = Vec::new();
    for entry in batch {
        match entry {
            Entry::Notice(notice) => notices.push(notice),
            Entry::Outcomes { job, owner_revision, number, outcomes } => {
                let pending = pending(&mut jobs, job, owner_revision);
                if pending.outcomes.is_empty() {
                    pending.number = number;
                }
                pending.outcomes.extend(outcomes);
            }
            Entry::Record { job, owner_revision, record } => {
                pending(&mut jobs, job, owner_revision).record = Some(record);
            }
            Entry::End { job, owner_revision, record } => {
                let pending = pending(&mut jobs, job, owner_revision);
                *pending = Pending { owner_revision, record: Some(record), ends: true, ..Pending::default() };
            }
        }
    }
    (jobs, notices)
}

fn pending(jobs: &mut BTreeMap<JobId, Tokens>, job: JobId, owner_revision: u64) -> &mut Pending {
    let new = || Pending { owner_revision, ..Pending::default() };
    jobs.entry(job).or_default().entry(owner_revision).or_insert_with(new)
}

/// The transactions that write all of it, one after another; as a rule it is one. A single outcome that is too large
/// for any is in one that no store takes.
pub(super) fn transactions(job: &JobId, pending: &Pending) -> Vec<Transaction> {
    let owner = Condition::Unchanged { key: records::owner_key(job), mod_revision: pending.owner_revision };
    let conditions = if defect::has(Defect::MissingFence) { vec![] } else { vec![owner] };
    if let (true, Some(record)) = (pending.ends, &pending.record) {
        return vec![end(job, conditions, record)];
    }
    let of_outcomes = |change| Transaction { conditions: conditions.clone(), changes: vec![change] };
    let mut steps: Vec<Transaction> = outcome_batches(job, pending).into_iter().map(of_outcomes).collect();
    let Some(record) = &pending.record else { return steps };
    match steps.last_mut().filter(|last| limits::size(last) + record.encoded_len() <= MOST_BYTES) {
        Some(last) => last.changes.push(put(records::job_key(job), records::encode(record.as_ref()))),
        // After the outcomes that it tells of.
        None => steps.push(with_record(Transaction { conditions, changes: vec![] }, job, record)),
    }
    steps
}

/// The transaction that ends a job, if these conditions hold: nothing is left of it but its record.
pub(super) fn end(job: &JobId, conditions: Vec<Condition>, record: &JobRecord) -> Transaction {
    let mut changes = vec![
        Change::DeletePrefix { prefix: records::plan_prefix(job) },
        Change::Delete { key: records::cancel_key(job) },
        Change::Delete { key: records::owner_key(job) },
    ];
    if !defect::has(Defect::ForgottenCleanup) {
        changes.push(Change::DeletePrefix { prefix: records::outcomes_prefix(job) });
    }
    with_record(Transaction { conditions, changes }, job, record)
}

/// Adds the record, or what there is room for.
fn with_record(mut transaction: Transaction, job: &JobId, record: &JobRecord) -> Transaction {
    let key = records::job_key(job);
    let room = MOST_BYTES.saturating_sub(limits::size(&transaction) + key.len());
    transaction.changes.push(put(key, stored::fitting(record, room)));
    transaction
}

/// The outcomes in as few batches as hold them, each to be written under the number of its first.
fn outcome_batches(job: &JobId, pending: &Pending) -> Vec<Change> {
    let mut batches: Vec<(u64, usize, OutcomeBatch)> = vec![];
    for (number, outcome) in (pending.number..).zip(&pending.outcomes) {
        let bytes = outcome.encoded_len() + FRAME_BYTES;
        match batches.last_mut().filter(|(_, size, _)| size + bytes <= MOST_BYTES) {
            Some((_, size, batch)) => {
                *size += bytes;
                batch.outcomes.push(outcome.clone());
            }
            None => batches.push((number, bytes, OutcomeBatch { outcomes: vec![outcome.clone()] })),
        }
    }
    let written = batches.into_iter().map(|(number, _, batch)| {
        put(records::outcomes_key(job, pending.owner_revision, number), records::encode(&batch))
    });
    written.collect()
}

fn put(key: String, value: Bytes) -> Change {
    Change::Put { key, value, lease: None }
}

#[cfg(test)]
mod tests {
    use springald_proto::control::{Failed, Outcome, outcome};
    use springald_proto::records::StageSummary;

    use super::*;

    const TOKEN: u64 = 7;

    fn job() -> JobId {
        "j".parse().expect("valid")
    }

    fn failed(bytes: usize) -> RecordedOutcome {
        let result = Some(outcome::Result::Failed(Failed { message: "m".repeat(bytes), ..Failed::default() }));
        let outcome = Some(Outcome { result, ..Outcome::default() });
        RecordedOutcome { executor_id: "e".to_owned(), outcome, moved_from: String::new() }
    }

    fn outcomes(number: u64, outcomes: Vec<RecordedOutcome>) -> Entry {
        Entry::Outcomes { job: job(), owner_revision: TOKEN, number, outcomes }
    }

    fn record_of(sql: usize) -> Box<JobRecord> {
        Box::new(JobRecord { sql: "s".repeat(sql), ..JobRecord::default() })
    }

    /// The transactions of these entries, all of which the store would take.
    fn written(entries: Vec<Entry>) -> Vec<Transaction> {
        let (jobs, _) = gather(entries.into_iter());
        let written = jobs[&job()].values().flat_map(|pending| transactions(&job(), pending));
        let written: Vec<Transaction> = written.collect();
        written.iter().for_each(|transaction| limits::check(transaction).expect("not too large"));
        written
    }

    /// The numbers of the batches, each with as many outcomes as it has, and what is written of the record.
    fn told(transactions: &[Transaction]) -> (Vec<(u64, usize)>, Option<JobRecord>) {
        let (mut batches, mut record) = (vec![], None);
        for change in transactions.iter().flat_map(|transaction| &transaction.changes) {
            let Change::Put { key, value, .. } = change else { continue };
            match key.strip_prefix(&format!("{}{TOKEN:016x}-", records::outcomes_prefix(&job()))) {
                Some(number) => {
                    let batch = OutcomeBatch::decode(value.clone()).expect("a batch");
                    batches.push((u64::from_str_radix(number, 16).expect("a number"), batch.outcomes.len()));
                }
                None => record = Some(JobRecord::decode(value.clone()).expect("a record")),
            }
        }
        (batches, record)
    }

    #[test]
    fn given_outcomes_and_a_record_when_there_is_room_then_they_go_together() {
        let record = Entry::Record { job: job(), owner_revision: TOKEN, record: record_of(10) };
        let transactions = written(vec![outcomes(3, vec![failed(1)]), record, outcomes(4, vec![failed(1)])]);
        let owner = Condition::Unchanged { key: records::owner_key(&job()), mod_revision: TOKEN };
        assert_eq!(transactions.len(), 1);
        assert_eq!(transactions[0].conditions, [owner]);
        assert_eq!(told(&transactions), (vec![(3, 2)], Some(*record_of(10))));
    }

    #[test]
    fn given_more_than_one_transaction_holds_then_outcomes_are_written_in_order_and_the_record_behind_them() {
        let large = (0..5).map(|number| outcomes(number, vec![failed(500_000)])).collect::<Vec<_>>();
        let record = Entry::Record { job: job(), owner_revision: TOKEN, record: record_of(900_000) };
        let transactions = written(std::iter::once(record).chain(large).collect());
        assert_eq!(transactions.len(), 4);
        let (batches, record) = told(&transactions);
        assert_eq!(batches, [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(record, Some(*record_of(900_000)));
        let is_record = |change: &Change| matches!(change, Change::Put { key, .. } if *key == records::job_key(&job()));
        assert!(transactions[3].changes.iter().any(is_record));
    }

    #[test]
    fn given_a_record_that_no_transaction_holds_then_its_plans_are_left_out_and_it_can_be_claimed_after_that() {
        // As large as a query may be when it is accepted.
        let mut large = record_of(MOST_BYTES - 200);
        large.stages = vec![StageSummary { plan: "p".repeat(8 << 10), ..StageSummary::default() }; 64];
        for entry in [
            Entry::Record { job: job(), owner_revision: TOKEN, record: large.clone() },
            Entry::End { job: job(), owner_revision: TOKEN, record: large.clone() },
        ] {
            let transactions = written(vec![entry]);
            assert_eq!(transactions.len(), 1);
            assert!(limits::size(&transactions[0]) <= MOST_BYTES);
            let (_, record) = told(&transactions);
            assert_eq!(record.map(|record| record.sql), Some(large.sql.clone()));
        }
    }

    #[test]
    fn given_a_job_that_ends_then_nothing_is_left_of_it_but_its_record() {
        let end = Entry::End { job: job(), owner_revision: TOKEN, record: record_of(10) };
        let transactions = written(vec![outcomes(0, vec![failed(1)]), end]);
        assert_eq!(transactions.len(), 1);
        let gone = transactions[0].changes.iter().filter_map(|change| match change {
            Change::Delete { key } => Some(key.clone()),
            Change::DeletePrefix { prefix } => Some(prefix.clone()),
            Change::Put { .. } => None,
        });
        let mut gone: Vec<String> = gone.collect();
        gone.sort();
        let id = job();
        let mut expected = vec![
            records::plan_prefix(&id),
            records::outcomes_prefix(&id),
            records::cancel_key(&id),
            records::owner_key(&id),
        ];
        expected.sort();
        assert_eq!(gone, expected);
        assert_eq!(told(&transactions), (vec![], Some(*record_of(10))));
    }
}
