//! The clients that wait for or read a job's result: while one is there the job goes on, and for a while after.

use springald_core::error::ErrorCode;
use springald_core::ids::JobId;

use super::actor::Actor;
use super::job_entry::JobEntry;
use crate::clock;
use crate::job::{Event, Status};

impl Actor {
    /// A client begins to wait or read. Gives the job's fencing token; zero if it is not here.
    pub(super) fn reader_came(&mut self, id: &JobId) -> u64 {
        let Some(job) = self.jobs.get_mut(id) else { return 0 };
        job.readers += 1;
        (job.expires, job.sent) = (None, false);
        job.owner_revision
    }

    /// A client has gone; `sent`: all of the result was sent to it. It counts under the token only that it came under.
    pub(super) fn reader_left(&mut self, id: &JobId, owner_revision: u64, sent: bool) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.owner_revision == owner_revision) {
            job.sent |= sent;
            job.readers = job.readers.saturating_sub(1);
            if job.readers == 0 {
                job.expires = Some(clock::now() + self.options.client_gone_grace);
            }
        }
    }
}

/// A job without clients for too long: a result is given up, a run is cancelled.
pub(super) fn expired(job: &JobEntry) -> Event {
    match job.graph.status() {
        Status::Succeeded => Event::ResultFetched,
        _ => Event::Stop { code: ErrorCode::Cancelled, reason: "the client went away".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, TOKEN, job};
    use super::*;

    #[tokio::test]
    async fn given_a_client_that_came_under_an_earlier_token_when_it_leaves_then_those_who_read_now_are_not_fewer() {
        let (mut cluster, id): (_, JobId) = (Cluster::new(), "j".parse().expect("valid"));
        cluster.submit(job("j", 1, &[]));
        assert_eq!(cluster.actor.reader_came(&id), TOKEN);
        cluster.actor.reader_left(&id, TOKEN - 1, false);
        let readers = |cluster: &Cluster| cluster.actor.jobs.get(&id).expect("it is here").readers;
        assert_eq!(readers(&cluster), 1);
        cluster.actor.reader_left(&id, TOKEN, true);
        assert_eq!(readers(&cluster), 0);
        assert_eq!(cluster.actor.reader_came(&"k".parse().expect("valid")), 0, "a job that is not here");
    }
}
