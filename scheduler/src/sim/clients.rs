//! Clients: they submit queries, wait for results, go on reading at another scheduler when one is lost, cancel, go away.

use std::collections::BTreeMap;
use std::sync::Arc;

use springald_core::error::{Error, ErrorCode};
use springald_core::ids::JobId;
use springald_core::settings::QuerySettings;
use springald_proto::records::{JobRecord, JobStatus};

use super::chance::Chance;
use super::requests::{Heard, Origin, Row, schema};
use super::work::{Versions, Work};
use super::world::World;
use crate::engine::Resume;
use crate::planner::{Planned, QueryOptions, Run};
use crate::records;

/// Pauses between tries: the first, and the longest.
const FIRST_PAUSE: u64 = 50_000;
const LONGEST_PAUSE: u64 = 1_000_000;
/// A cancellation that was acknowledged has happened by then, whatever happens to schedulers meanwhile.
const CANCELLED_BY: u64 = 30_000_000;

/// How a client behaves.
#[derive(Clone, Debug)]
struct Manner {
    /// It reads on where it was, and says when it has all.
    resumes: bool,
    /// Seconds after which the query must have ended.
    deadline: Option<u64>,
    cancels_after: Option<u64>,
    leaves_after: Option<u64>,
    fetches_after: u64,
}

/// How it ended for a client.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered,
    Failed,
    Left,
}

/// A client with one query.
pub(super) struct Client {
    work: Arc<Work>,
    manner: Manner,
    tries: u32,
    job: Option<JobId>,
    submitted: u64,
    request: Option<u64>,
    rows: Vec<Row>,
    version: String,
    pause: u64,
    /// Rows were on their way when a connection was lost.
    broken: bool,
    cancelling: bool,
    pub(super) outcome: Option<Outcome>,
}

impl Client {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let work = Arc::new(Work::new(chance));
        let manner = Manner {
            resumes: chance.percent(80),
            deadline: chance.percent(10).then(|| chance.number(2, 12)),
            cancels_after: chance.percent(12).then(|| chance.number(0, 6_000_000)),
            leaves_after: chance.percent(8).then(|| chance.number(0, 6_000_000)),
            fetches_after: if chance.percent(80) { 0 } else { chance.number(0, 8_000_000) },
        };
        Self {
            work,
            manner,
            tries: 0,
            job: None,
            submitted: 0,
            request: None,
            rows: vec![],
            version: String::new(),
            pause: FIRST_PAUSE,
            broken: false,
            cancelling: false,
            outcome: None,
        }
    }

    /// True if nothing could stop this job, and its client has its answer.
    pub(super) fn only_waits_for(&self, job: &JobId) -> bool {
        let answered = matches!(self.outcome, Some(Outcome::Answered));
        self.job.as_ref() == Some(job) && answered && !self.cancelling && self.manner.deadline.is_none()
    }

    /// Who waits for what, in words.
    pub(super) fn told(&self) -> String {
        format!("{:?}, job {:?}, {} rows", self.manner, self.job, self.rows.len())
    }
}

impl World {
    /// Some scheduler, as a client or its load balancer would choose one.
    fn some_scheduler(&self) -> Option<u32> {
        let all: Vec<u32> = self.schedulers.keys().copied().collect();
        self.agenda.chance(|chance| chance.one_of(&all))
    }

    /// A client comes with its query.
    pub(super) fn client_comes(&mut self, client: usize) {
        let manner = self.clients[client].manner.clone();
        self.submit(client);
        if let Some(after) = manner.leaves_after {
            self.agenda.after(after, move |world| world.client_leaves(client));
        }
        if let Some(after) = manner.cancels_after {
            self.agenda.after(after, move |world| world.client_cancels(client));
        }
    }

    fn client_leaves(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if this.outcome.is_none() {
            tracing::info!(target: "sim", "client {client} leaves");
            this.outcome = Some(Outcome::Left);
            if let Some(request) = this.request.take() {
                self.hang_up(request);
            }
        }
    }

    fn submit(&mut self, client: usize) {
        let Some(scheduler) = self.some_scheduler() else { return self.submit_later(client) };
        let this = &mut self.clients[client];
        this.tries += 1;
        this.submitted = self.agenda.now();
        let job: JobId = format!("job-{client}-{}", this.tries).parse().expect("a valid id");
        let (work, deadline) = (Arc::clone(&this.work), this.manner.deadline);
        self.works.insert(job.clone(), Arc::clone(&work));
        let request = self.request(scheduler, Origin::Client(client), move |world, number| {
            let process = world.schedulers.get(&scheduler)?;
            let (engine, agenda) = (Arc::clone(&process.core.as_ref()?.engine), world.agenda.clone());
            let mut record = JobRecord {
                job_id: job.to_string(),
                sql: "SELECT 1".to_owned(),
                user: "sim".to_owned(),
                submitted_micros: records::now_micros(),
                scheduler_id: super::process::scheduler_id(scheduler).to_string(),
                ..JobRecord::default()
            };
            record.set_status(JobStatus::Queued);
            let deadline = deadline.map(|seconds| ("springald.deadline".to_owned(), format!("{seconds}s")));
            let options = QueryOptions::new(&QuerySettings::default(), &BTreeMap::from_iter(deadline));
            let options = options.expect("the settings make sense");
            let planned = Planned { schema: schema(), run: Run::Stages(work.planned()), not_cut: None };
            Some(process.spawn(async move {
                let heard = match engine.start(job, record, planned, false, options.deadline).await {
                    Ok(submitted) => Heard::Submitted(submitted.job_id),
                    Err(error) => Heard::Failed(error),
                };
                agenda.soon(move |world| world.reply(number, heard));
            }))
        });
        self.clients[client].request = Some(request);
    }

    fn submit_later(&mut self, client: usize) {
        let pause = self.pause(client);
        self.agenda.after(pause, move |world| {
            if world.clients[client].outcome.is_none() {
                world.submit(client);
            }
        });
    }

    fn pause(&mut self, client: usize) -> u64 {
        let this = &mut self.clients[client];
        let pause = this.pause;
        this.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    fn fetch_result(&mut self, client: usize) {
        let this = &self.clients[client];
        let (None, Some(job), None) = (&this.outcome, this.job.clone(), this.request) else { return };
        let resume = match this.manner.resumes {
            true => Resume { version: this.version.clone(), rows: this.rows.len() as u64, confirms: true },
            false => Resume::default(),
        };
        let Some(scheduler) = self.some_scheduler() else { return self.fetch_later(client) };
        let request = self
            .request(scheduler, Origin::Client(client), move |world, number| world.stream_result(number, job, resume));
        self.clients[client].request = Some(request);
    }

    fn fetch_later(&mut self, client: usize) {
        let pause = self.pause(client);
        self.agenda.after(pause, move |world| world.fetch_result(client));
    }

    /// Part of an answer has arrived.
    pub(super) fn client_hears(&mut self, client: usize, number: u64, heard: Heard) {
        let this = &mut self.clients[client];
        if this.request != Some(number) {
            return;
        }
        tracing::debug!(target: "sim", "client {client} hears {heard:?}");
        if heard.is_last() {
            this.request = None;
        }
        match heard {
            Heard::Submitted(job) => {
                (this.job, this.pause) = (Some(job), FIRST_PAUSE);
                let after = this.manner.fetches_after;
                self.agenda.after(after, move |world| world.fetch_result(client));
            }
            Heard::Opened(version) => {
                if this.version != version || !this.manner.resumes {
                    this.rows.clear();
                }
                this.version = version;
            }
            Heard::Rows(rows) => {
                this.rows.extend(rows);
                this.pause = FIRST_PAUSE;
            }
            Heard::Done => self.client_has_all(client),
            Heard::Failed(error) => self.client_is_refused(client, &error),
            Heard::Lost => {
                this.broken |= this.job.is_some();
                self.try_again(client);
            }
        }
    }

    fn try_again(&mut self, client: usize) {
        match self.clients[client].job {
            Some(_) => self.fetch_later(client),
            None => self.submit_later(client),
        }
    }

    /// The answer is whole: it must be the right one.
    fn client_has_all(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let Some(job) = this.job.clone() else { return };
        this.outcome = Some(Outcome::Answered);
        let mut rows: Vec<u64> = this.rows.iter().map(|row| row.0).collect();
        rows.sort_unstable();
        let named = this.rows.iter().filter_map(|row| self.versions.get(usize::try_from(row.1).ok()?));
        let versions = Versions::all(named);
        let expected = this.work.answer(&versions);
        tracing::info!(target: "sim", "client {client} has {} rows of {job}", rows.len());
        if versions.mixed {
            return self
                .violated(format!("client {client} got rows of {job} from two versions of its input: {versions:?}"));
        }
        if rows != expected {
            return self.violated(format!("client {client} got {rows:x?} of {job}, not {expected:x?}"));
        }
        if this.work.wrong.is_some() {
            return self.violated(format!("client {client} got an answer to {job}, which is wrong"));
        }
        self.history.answers.insert(job.clone(), rows.len() as u64);
        if this.manner.resumes
            && let Some(scheduler) = self.some_scheduler()
        {
            self.confirm(scheduler, job);
        }
    }

    /// Says that a result has arrived. That nobody hears of it does no harm.
    fn confirm(&mut self, scheduler: u32, job: JobId) {
        let number = self.request(scheduler, Origin::Nobody, move |world, number| {
            let process = world.schedulers.get(&scheduler)?;
            let (engine, agenda) = (Arc::clone(&process.core.as_ref()?.engine), world.agenda.clone());
            Some(process.spawn(async move {
                let _ = engine.received(&job).await;
                agenda.soon(move |world| world.hang_up(number));
            }))
        });
        self.agenda.after(1_000_000, move |world| world.hang_up(number));
    }

    /// An error: one that passes, or one that must be the query's own.
    fn client_is_refused(&mut self, client: usize, error: &Error) {
        let this = &mut self.clients[client];
        let Some(job) = this.job.clone() else {
            return match error.code() {
                ErrorCode::Unavailable | ErrorCode::Fenced => self.submit_later(client),
                _ => self.violated(format!("client {client} could not submit: {} {error}", error.code())),
            };
        };
        let since = self.agenda.now() - this.submitted;
        let late = this.manner.deadline.is_some_and(|seconds| since >= seconds * 1_000_000);
        let expected = match error.code() {
            ErrorCode::Query => this.work.wrong.is_some() && error.message().contains("divide by zero"),
            ErrorCode::Cancelled => this.cancelling,
            ErrorCode::DeadlineExceeded => late,
            // Without saying what it has, a client cannot read the same rows twice.
            ErrorCode::NotFound => !this.manner.resumes && this.broken,
            _ => false,
        };
        if expected {
            tracing::info!(target: "sim", "client {client} is told of {job}: {error}");
            this.outcome = Some(Outcome::Failed);
            return;
        }
        this.broken |= !this.rows.is_empty();
        let passes = matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Fenced);
        match self.failed_for_good(&job) {
            None if passes => self.fetch_later(client),
            // It has failed, but not with this: whoever was asked could not read that.
            Some(failed) if passes && !failed.starts_with(error.code().as_str()) => self.fetch_later(client),
            failed => self.violated(format!("client {client} is told of {job}: {} {error}; {failed:?}", error.code())),
        }
    }

    /// The error in a job's record, if it has failed.
    fn failed_for_good(&self, job: &JobId) -> Option<String> {
        let entry = self.kv.get(&records::job_key(job))?;
        let record: JobRecord = records::decode(&entry).ok()?;
        (!record.error_code.is_empty()).then(|| format!("{} {}", record.error_code, record.error))
    }

    /// Asks some scheduler to cancel the query.
    fn client_cancels(&mut self, client: usize) {
        let this = &mut self.clients[client];
        let (None, Some(job)) = (&this.outcome, this.job.clone()) else { return };
        let Some(scheduler) = self.some_scheduler() else { return };
        self.clients[client].cancelling = true;
        tracing::info!(target: "sim", "client {client} cancels {job} at scheduler-{scheduler}");
        self.request(scheduler, Origin::Nobody, move |world, number| {
            let process = world.schedulers.get(&scheduler)?;
            let (engine, agenda) = (Arc::clone(&process.core.as_ref()?.engine), world.agenda.clone());
            Some(process.spawn(async move {
                let acknowledged = engine.cancel(&job, "not wanted any more").await.is_ok();
                agenda.soon(move |world| {
                    world.hang_up(number);
                    if acknowledged {
                        world.cancel_acknowledged(job);
                    }
                });
            }))
        });
    }

    /// Somebody was told that a job is cancelled: it must not go on for long.
    fn cancel_acknowledged(&mut self, job: JobId) {
        self.agenda.after(CANCELLED_BY, move |world| {
            let entry = world.kv.get(&records::job_key(&job));
            let record = entry.and_then(|entry| records::decode::<JobRecord>(&entry).ok());
            if let Some(record) = record.filter(|record| !records::has_ended(record.status()))
                && world.store_outages == 0
            {
                world.violated(format!("{job} was cancelled long ago, and goes on: {record:?}"));
            }
        });
    }
}
