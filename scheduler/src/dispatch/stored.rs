//! What the store keeps of a job's record, which is written several times while the job runs, and shown to people long
//! after: of plans' texts and errors, which may have any length, only the beginning. While the job is here, all of its
//! plans are shown.

use std::mem::take;

use bytes::Bytes;
use prost::Message;
use springald_core::{secrets, text};
use springald_proto::records::JobRecord;

use crate::records;

/// Bytes of the text of a stage's plan, and of those of all stages together.
const PLAN_BYTES: usize = 8 << 10;
const PLANS_BYTES: usize = 256 << 10;
/// What stands for texts where there is no room for any.
const LEFT_OUT: &str = "(too long to be kept)";
/// Bytes of an error where there is little room.
const LITTLE: usize = 512;

/// Cuts the record's texts to what is kept of them.
pub(super) fn shorten(record: &mut JobRecord) {
    record.error = text::head(take(&mut record.error), text::ERROR_BYTES);
    let mut left = PLANS_BYTES;
    for stage in &mut record.stages {
        let most = PLAN_BYTES.min(left);
        if stage.plan.len() > most {
            // Without its end, a secret may not be known for one any more.
            stage.plan = text::head(secrets::owned(take(&mut stage.plan)), most);
        }
        left = left.saturating_sub(stage.plan.len());
    }
}

/// The record, encoded, in at most `room` bytes. If need be, first the plans' texts are left out, then most of the
/// error, then the stages. What remains had room, together with the plans, when the job was accepted.
pub(super) fn fitting(record: &JobRecord, room: usize) -> Bytes {
    if record.encoded_len() <= room {
        return records::encode(record);
    }
    let mut less = record.clone();
    let steps: [fn(&mut JobRecord); 3] = [
        |less| less.stages.iter_mut().for_each(|stage| stage.plan = LEFT_OUT.to_owned()),
        |less| less.error = text::head(take(&mut less.error), LITTLE),
        |less| less.stages.clear(),
    ];
    for step in steps {
        step(&mut less);
        if less.encoded_len() <= room {
            break;
        }
    }
    records::encode(&less)
}

#[cfg(test)]
mod tests {
    use springald_proto::records::StageSummary;

    use super::super::job_entry::JobEntry;
    use super::super::testing::job;
    use super::*;

    /// A job with so many stages, each with a plan of so many bytes.
    fn record(stages: usize, plan: usize) -> JobRecord {
        let stage = StageSummary { tasks: 1000, plan: "p".repeat(plan), ..StageSummary::default() };
        JobRecord { sql: "s".repeat(1000), stages: vec![stage; stages], ..JobRecord::default() }
    }

    #[test]
    fn given_long_plans_and_a_long_error_when_shortened_then_their_beginnings_are_left_and_say_so() {
        let mut short = record(3, 1000);
        short.error = "why".to_owned();
        let mut kept = short.clone();
        shorten(&mut kept);
        assert_eq!(kept, short);

        let mut long = record(100, 100_000);
        long.error = "why".repeat(100_000);
        long.stages[0].plan = format!("{}password='hunter2{}'", "p".repeat(PLAN_BYTES - 100), "x".repeat(PLAN_BYTES));
        shorten(&mut long);
        assert!(long.error.len() <= text::ERROR_BYTES && long.error.ends_with("(cut: 300000 bytes in all)"));
        assert!(long.stages[1].plan.len() <= PLAN_BYTES && long.stages[1].plan.ends_with("(cut: 100000 bytes in all)"));
        assert!(!long.stages[0].plan.contains("hunter2"), "{}", long.stages[0].plan);
        let plans: usize = long.stages.iter().map(|stage| stage.plan.len()).sum();
        assert!(plans <= PLANS_BYTES + 100 * 40, "{plans}");
    }

    #[test]
    fn given_too_little_room_when_encoded_then_what_can_be_missed_most_is_left_out_first() {
        let read = |bytes: Bytes| JobRecord::decode(bytes).expect("a record");
        let mut whole = record(10, 5000);
        whole.error = "why".repeat(1000);
        let size = whole.encoded_len();
        assert_eq!(read(fitting(&whole, size)), whole);

        let without_plans = fitting(&whole, size - 1);
        let kept = read(without_plans.clone());
        assert!(kept.stages.iter().all(|stage| stage.plan == LEFT_OUT && stage.tasks == 1000));
        assert_eq!((&kept.error, &kept.sql), (&whole.error, &whole.sql));

        let with_little = fitting(&whole, without_plans.len() - 1);
        let kept = read(with_little.clone());
        assert!(kept.error.len() <= LITTLE && kept.stages.len() == 10);

        let kept = read(fitting(&whole, with_little.len() - 1));
        assert_eq!((kept.stages.len(), &kept.sql), (0, &whole.sql));
    }

    #[test]
    fn given_a_job_that_is_here_then_all_of_its_plans_is_shown_and_their_beginning_written() {
        let mut new = job("j", 1, &[]);
        new.stages[0].text = "p".repeat(1 << 20);
        let entry = JobEntry::new(new, 4).expect("a valid plan");
        let length = |record: &JobRecord| record.stages[0].plan.len();
        assert_eq!(length(&entry.current_record()), 1 << 20);
        assert!(length(&entry.stored_record()) <= PLAN_BYTES);
    }
}
