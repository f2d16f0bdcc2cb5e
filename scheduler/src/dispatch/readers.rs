//! The clients that wait for or read a job's result: while one is there the job goes on, and for a while after.

use springald_core::error::ErrorCode;
use springald_core::ids::JobId;

use super::actor::Actor;
use super::job_entry::JobEntry;
use crate::clock;
use crate::job::{Event, Status};

impl Actor {
    /// A client begins to wait or read.
    pub(super) fn reader_came(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.readers += 1;
            (job.expires, job.sent) = (None, false);
        }
    }

    /// A client has gone.
    pub(super) fn reader_left(&mut self, id: &JobId) {
        if let Some(job) = self.jobs.get_mut(id) {
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
