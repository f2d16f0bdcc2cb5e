//! Tickets for results: self-contained, valid at every scheduler of the cluster, for a time, and signed, so that nobody
//! can make one.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use prost::Message;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use springald_core::error::{Error, Result};
use springald_core::ids::JobId;
use springald_proto::records::ResultTicket;

use crate::records;
use crate::store::{Change, Committed, Condition, StateStore, Transaction};

const KEY_BYTES: usize = 32;

/// Makes and checks tickets. Cheap to clone.
#[derive(Clone)]
pub struct Tickets {
    key: Arc<hmac::Key>,
    lifetime: Duration,
}

impl Tickets {
    /// Tickets with the cluster's key, which the first scheduler makes. They are valid for `lifetime`.
    pub async fn open(store: &dyn StateStore, lifetime: Duration) -> Result<Self> {
        loop {
            if let Some(entry) = store.get(records::TICKET_KEY).await? {
                return Ok(Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &entry.value)), lifetime });
            }
            let mut fresh = [0; KEY_BYTES];
            SystemRandom::new()
                .fill(&mut fresh)
                .map_err(|_| Error::internal("the system gives no random numbers for the key of tickets"))?;
            let value = Bytes::copy_from_slice(&fresh);
            let put = Change::Put { key: records::TICKET_KEY.to_owned(), value, lease: None };
            let conditions = vec![Condition::Absent { key: records::TICKET_KEY.to_owned() }];
            // Refused: another scheduler was first, and its key counts.
            let (Committed::Yes { .. } | Committed::Refused) =
                store.transact(Transaction { conditions, changes: vec![put] }).await?;
        }
    }

    /// What a client redeems for the job's result.
    pub fn ticket(&self, job: &JobId) -> Ticket {
        let lifetime = i64::try_from(self.lifetime.as_micros()).unwrap_or(i64::MAX);
        let expires_micros = records::now_micros().saturating_add(lifetime);
        let mut ticket = ResultTicket { job_id: job.to_string(), expires_micros, signature: vec![] };
        ticket.signature = hmac::sign(&self.key, &signed_part(&ticket)).as_ref().to_vec();
        let statement_handle = ticket.encode_to_vec().into();
        Ticket::new(TicketStatementQuery { statement_handle }.as_any().encode_to_vec())
    }

    /// The job of a ticket's handle. Fails if it was not made here, was changed, or has expired.
    pub fn job_of(&self, handle: &[u8]) -> Result<JobId> {
        let foreign = || Error::invalid("the ticket is not one of this cluster");
        let ticket = ResultTicket::decode(handle).map_err(|error| foreign().with_source(error))?;
        hmac::verify(&self.key, &signed_part(&ticket), &ticket.signature).map_err(|_| foreign())?;
        if ticket.expires_micros < records::now_micros() {
            return Err(Error::invalid("the ticket has expired; run the query again"));
        }
        ticket.job_id.parse()
    }
}

fn signed_part(ticket: &ResultTicket) -> Vec<u8> {
    ResultTicket { signature: vec![], ..ticket.clone() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::Any;

    use super::*;
    use crate::store::embedded::EmbeddedStore;

    fn handle(ticket: &Ticket) -> Bytes {
        let any = Any::decode(ticket.ticket.as_ref()).expect("a message");
        any.unpack::<TicketStatementQuery>().expect("readable").expect("a ticket").statement_handle
    }

    #[tokio::test]
    async fn given_a_ticket_then_every_scheduler_of_the_cluster_takes_it_and_no_other() {
        let store = EmbeddedStore::in_memory().expect("store");
        let hour = Duration::from_secs(3600);
        let (one, other) =
            (Tickets::open(&store, hour).await.expect("key"), Tickets::open(&store, hour).await.expect("key"));
        let job = JobId::generate();
        let ticket = handle(&one.ticket(&job));
        assert_eq!(other.job_of(&ticket).expect("valid"), job);
        let stranger = Tickets::open(&EmbeddedStore::in_memory().expect("store"), hour).await.expect("key");
        assert!(stranger.job_of(&ticket).is_err());
    }

    #[tokio::test]
    async fn given_a_ticket_that_was_changed_or_is_old_then_it_is_refused() {
        let store = EmbeddedStore::in_memory().expect("store");
        let tickets = Tickets::open(&store, Duration::from_secs(3600)).await.expect("key");
        let job = JobId::generate();
        let good = handle(&tickets.ticket(&job));
        for bit in 0..good.len() * 8 {
            let mut changed = good.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(tickets.job_of(&changed).is_err(), "bit {bit} does not matter");
        }
        assert!(tickets.job_of(b"").is_err() && tickets.job_of(&[0xff; 40]).is_err());
        let unsigned = ResultTicket { job_id: job.to_string(), expires_micros: i64::MAX, ..Default::default() };
        assert!(tickets.job_of(&unsigned.encode_to_vec()).is_err());
        let brief = Tickets { lifetime: Duration::ZERO, ..tickets.clone() };
        let old = handle(&brief.ticket(&job));
        tokio::time::sleep(Duration::from_millis(2)).await;
        let error = tickets.job_of(&old).expect_err("expired");
        assert!(error.message().contains("expired"), "{error}");
    }
}
