//! Exchange tickets as they come in: bytes from a peer, checked before anything is looked up.

use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::ids::{JobId, StageId, TaskId};
use springald_proto::exchange::{ExchangeTicket, PieceSelection};

/// Most pieces that one ticket may name.
const MAX_PIECES: usize = 1 << 20;

/// Pieces of one job's stage, in the order in which they are streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Whose pieces.
    pub(crate) job: JobId,
    /// The pieces: which task attempt's, for which output partition. At least one.
    pub(crate) pieces: Vec<(TaskId, u32)>,
}

impl Ticket {
    /// Reads the bytes of a [`ExchangeTicket`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let ticket = ExchangeTicket::decode(bytes)
            .map_err(|error| Error::invalid("this is not an exchange ticket").with_source(error))?;
        let count: usize = ticket.pieces.iter().map(|selection| selection.partitions.len()).sum();
        if count == 0 || count > MAX_PIECES {
            return Err(Error::invalid(format!("an exchange ticket names 1 to {MAX_PIECES} pieces, not {count}")));
        }
        let stage = StageId(ticket.stage);
        let pieces = ticket.pieces.iter().flat_map(|selection| {
            let task = TaskId { stage, task: selection.task, attempt: selection.attempt };
            selection.partitions.iter().map(move |partition| (task, *partition))
        });
        Ok(Self { job: ticket.job_id.parse()?, pieces: pieces.collect() })
    }

    /// The bytes of a ticket for pieces of `stage`: for each task attempt, some of its output partitions.
    pub(crate) fn encode(job: &JobId, stage: StageId, pieces: &[(TaskId, Vec<u32>)]) -> Vec<u8> {
        let selections = pieces.iter().map(|(task, partitions)| PieceSelection {
            task: task.task,
            attempt: task.attempt,
            partitions: partitions.clone(),
        });
        ExchangeTicket { job_id: job.to_string(), stage: stage.0, pieces: selections.collect() }.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_ticket_when_encoded_and_decoded_then_the_same_pieces_in_order() {
        let job: JobId = "job-1".parse().expect("valid");
        let task = |task| TaskId { stage: StageId(3), task, attempt: 1 };
        let bytes = Ticket::encode(&job, StageId(3), &[(task(2), vec![5, 4]), (task(0), vec![4])]);
        let ticket = Ticket::decode(&bytes).expect("decodes");
        assert_eq!(ticket, Ticket { job, pieces: vec![(task(2), 5), (task(2), 4), (task(0), 4)] });
    }

    #[test]
    fn given_bytes_from_anywhere_when_decoded_then_refused_without_a_look_at_the_store() {
        let bad_job = ExchangeTicket {
            job_id: "../../etc".to_owned(),
            stage: 1,
            pieces: vec![PieceSelection { task: 0, attempt: 0, partitions: vec![0] }],
        };
        let no_pieces = ExchangeTicket { job_id: "j".to_owned(), stage: 1, pieces: vec![] };
        for bytes in [b"\xff\xff".to_vec(), bad_job.encode_to_vec(), no_pieces.encode_to_vec()] {
            assert!(Ticket::decode(&bytes).is_err());
        }
    }
}
