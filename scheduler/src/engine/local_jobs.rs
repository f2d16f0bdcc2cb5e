//! The jobs that the scheduler runs itself: which wait for a client, and which run.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::local::LocalJob;
use crate::clock;

/// All of them, until their end is in the store. Bounded; those that nobody asks for expire.
pub(super) struct LocalJobs {
    jobs: Mutex<HashMap<JobId, Entry>>,
    limit: usize,
    /// How long a result waits for its client.
    retention: Duration,
    /// How long one waits for a client that went away.
    grace: Duration,
    /// There is one.
    some: Notify,
}

struct Entry {
    state: State,
    /// When it ends unless somebody asks for its result.
    expires: Instant,
    run: Run,
}

enum State {
    /// Nobody has asked for the result.
    Waiting(LocalJob),
    /// Somebody reads it, or its end is being written.
    Running,
    /// Somebody read it, and went away.
    Left,
}

/// What ends a run.
#[derive(Clone, Default)]
pub(super) struct Run {
    deadline: Option<Instant>,
    stop: CancellationToken,
    why: Arc<OnceLock<Error>>,
}

impl Run {
    fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// Waits until the run must stop; says why.
    pub(super) async fn stopped(&self) -> Error {
        let deadline = async {
            match self.deadline {
                Some(deadline) => clock::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.why.get().cloned().unwrap_or_else(gone),
            () = deadline => late(),
        }
    }
}

fn late() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the query's deadline has passed (springald.deadline)")
}

fn gone() -> Error {
    Error::new(ErrorCode::Cancelled, "the client went away")
}

impl LocalJobs {
    pub(super) fn new(limit: usize, retention: Duration, grace: Duration) -> Self {
        Self { jobs: Mutex::default(), limit, retention, grace, some: Notify::new() }
    }

    /// Keeps a job until somebody asks for its result.
    ///
    /// # Errors
    /// [`ErrorCode::ResourcesExhausted`] if there are too many.
    pub(super) fn put(&self, id: JobId, job: LocalJob, deadline: Option<Instant>) -> Result<()> {
        let mut jobs = self.jobs.lock();
        if jobs.len() >= self.limit {
            return Err(Error::new(
                ErrorCode::ResourcesExhausted,
                format!("{} results wait to be fetched, the most that scheduler.max_jobs allows", jobs.len()),
            ));
        }
        let expires = clock::now() + self.retention;
        jobs.insert(id, Entry { state: State::Waiting(job), expires, run: Run::until(deadline) });
        drop(jobs);
        self.some.notify_one();
        Ok(())
    }

    /// Takes a job that waits, to run it; without what there is to do if it was begun before. `None`: it is not here, or
    /// somebody else has taken it.
    pub(super) fn take(&self, id: &JobId) -> Option<(Option<LocalJob>, Run)> {
        let mut jobs = self.jobs.lock();
        let entry = jobs.get_mut(id)?;
        match std::mem::replace(&mut entry.state, State::Running) {
            State::Waiting(job) => Some((Some(job), entry.run.clone())),
            State::Left => Some((None, entry.run.clone())),
            State::Running => None,
        }
    }

    /// Takes a job that is not here. `None` if it is, or if there are too many: whoever asks may ask again.
    pub(super) fn claim(&self, id: &JobId, deadline: Option<Instant>) -> Option<Run> {
        let mut jobs = self.jobs.lock();
        if jobs.contains_key(id) || jobs.len() >= self.limit {
            return None;
        }
        let run = Run::until(deadline);
        let entry = Entry { state: State::Running, expires: clock::now() + self.grace, run: run.clone() };
        jobs.insert(id.clone(), entry);
        Some(run)
    }

    /// Stops a job. `None`: it is not here. `Some(None)`: it runs, and sees it. Else it waited, and its end is to be
    /// written.
    #[expect(clippy::option_option, reason = "three cases, said above")]
    pub(super) fn stop(&self, id: &JobId, why: &Error) -> Option<Option<Run>> {
        let mut jobs = self.jobs.lock();
        let entry = jobs.get_mut(id)?;
        // The first reason counts.
        let _ = entry.run.why.set(why.clone());
        entry.run.stop.cancel();
        match std::mem::replace(&mut entry.state, State::Running) {
            State::Running => Some(None),
            State::Waiting(_) | State::Left => Some(Some(entry.run.clone())),
        }
    }

    /// Whoever read the result went away.
    pub(super) fn left(&self, id: &JobId) {
        if let Some(entry) = self.jobs.lock().get_mut(id) {
            (entry.state, entry.expires) = (State::Left, clock::now() + self.grace);
        }
        self.some.notify_one();
    }

    /// Takes what nobody has asked for in time, and why it ends.
    pub(super) fn expired(&self, now: Instant) -> Vec<(JobId, Error, Run)> {
        let mut jobs = self.jobs.lock();
        let mut ended = vec![];
        for (id, entry) in jobs.iter_mut() {
            let why = match &entry.state {
                State::Running => continue,
                _ if entry.run.deadline.is_some_and(|deadline| now >= deadline) => late(),
                _ if now < entry.expires => continue,
                State::Waiting(_) => {
                    Error::new(ErrorCode::Cancelled, "nobody asked for the result in time (scheduler.result_retention)")
                }
                State::Left => gone(),
            };
            entry.state = State::Running;
            ended.push((id.clone(), why, entry.run.clone()));
        }
        ended
    }

    pub(super) fn contains(&self, id: &JobId) -> bool {
        self.jobs.lock().contains_key(id)
    }

    /// The job's end is in the store.
    pub(super) fn remove(&self, id: &JobId) {
        self.jobs.lock().remove(id);
    }

    /// Waits until there is a job.
    pub(super) async fn some(&self) {
        while self.jobs.lock().is_empty() {
            self.some.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::RecordBatch;

    use super::*;
    use crate::engine::statement;

    const RETENTION: Duration = Duration::from_secs(60);
    const GRACE: Duration = Duration::from_secs(10);

    fn jobs(limit: usize) -> LocalJobs {
        LocalJobs::new(limit, RETENTION, GRACE)
    }

    fn job() -> LocalJob {
        LocalJob::Batches(RecordBatch::new_empty(statement::no_schema()))
    }

    #[test]
    fn given_as_many_jobs_as_may_be_then_another_is_refused_until_the_end_of_one_is_written() {
        let (jobs, id) = (jobs(1), JobId::generate());
        jobs.put(id.clone(), job(), None).expect("room");
        assert!(jobs.take(&id).is_some(), "it waits");
        let error = jobs.put(JobId::generate(), job(), None).expect_err("too many: the first one runs");
        assert_eq!(error.code(), ErrorCode::ResourcesExhausted);
        assert!(jobs.claim(&JobId::generate(), None).is_none(), "nor is one taken that is to run again");
        jobs.remove(&id);
        jobs.put(JobId::generate(), job(), None).expect("room again");
    }

    #[test]
    fn given_a_job_then_one_client_at_a_time_gets_it_and_one_that_comes_back_again() {
        let (jobs, id) = (jobs(9), JobId::generate());
        jobs.put(id.clone(), job(), None).expect("room");
        assert!(matches!(jobs.take(&id), Some((Some(_), _))));
        assert!(jobs.take(&id).is_none() && jobs.claim(&id, None).is_none(), "somebody has it");
        jobs.left(&id);
        assert!(matches!(jobs.take(&id), Some((None, _))), "it is planned again");
        assert!(jobs.claim(&JobId::generate(), None).is_some(), "one that is not here");
    }

    #[test]
    fn given_jobs_that_nobody_asks_for_then_they_end_in_time_and_one_that_runs_does_not() {
        let (jobs, now) = (jobs(9), clock::now());
        let ids: Vec<JobId> = (0..4).map(|_| JobId::generate()).collect();
        for (number, id) in ids.iter().enumerate() {
            let deadline = (number == 3).then(|| now + Duration::from_secs(1));
            jobs.put(id.clone(), job(), deadline).expect("room");
        }
        let _running = jobs.take(&ids[1]);
        let _gone = jobs.take(&ids[2]);
        jobs.left(&ids[2]);
        let ended = |after: Duration| {
            let ended = jobs.expired(now + after).into_iter();
            ended.map(|(id, why, _)| (id, why.code())).collect::<Vec<(JobId, ErrorCode)>>()
        };
        assert_eq!(ended(Duration::ZERO), []);
        assert_eq!(ended(Duration::from_secs(2)), [(ids[3].clone(), ErrorCode::DeadlineExceeded)]);
        assert_eq!(ended(GRACE * 2), [(ids[2].clone(), ErrorCode::Cancelled)]);
        assert_eq!(ended(RETENTION * 2), [(ids[0].clone(), ErrorCode::Cancelled)]);
        assert_eq!(ended(RETENTION * 9), []);
    }

    #[tokio::test]
    async fn given_a_run_then_it_stops_at_its_deadline_or_when_it_is_told_with_the_reason() {
        let (jobs, id) = (jobs(9), JobId::generate());
        jobs.put(id.clone(), job(), Some(clock::now())).expect("room");
        let (_, run) = jobs.take(&id).expect("it waits");
        assert_eq!(run.stopped().await.code(), ErrorCode::DeadlineExceeded);
        assert!(matches!(jobs.stop(&id, &Error::new(ErrorCode::Cancelled, "enough")), Some(None)), "it runs");
        assert_eq!(run.stopped().await.message(), "enough");
        jobs.put(id.clone(), job(), None).expect("room");
        assert!(matches!(jobs.stop(&id, &gone()), Some(Some(_))), "it waits");
        assert!(jobs.stop(&JobId::generate(), &gone()).is_none());
    }
}
