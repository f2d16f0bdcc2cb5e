//! The pull side of the control protocol: one stream to each live scheduler, found by watching the store.
//!
//! ```text
//!   watch of schedulers ──▶ Supervisor ──one per scheduler──▶ connection loop ──▶ stream ⇄ scheduler
//!                                                              (back-off, reconnect, grace)
//! ```
//!
//! A scheduler that is gone from the watch and whose stream is broken has a grace time: what its jobs hold here is
//! kept for [`JOBS_GRACE`], so that it can come back (or another one can take over), and is freed then.

pub(crate) mod outcomes;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use springald_core::ids::SchedulerId;
use springald_core::telemetry::events::names;
use springald_proto::control::Hello;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::springald_executor as metrics;
use crate::slots::Slots;
use crate::tasks::{Scheduler, Tasks};
use outcomes::Outcomes;
use stream::ControlStream;

/// How long the jobs of a scheduler that is gone keep what they hold here.
pub(crate) const JOBS_GRACE: Duration = Duration::from_secs(60);

/// Waits between two tries to reach a scheduler: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where the schedulers are: `host:port` of the control service of each.
pub(crate) type SchedulerMap = BTreeMap<SchedulerId, String>;

/// Keeps a stream to every scheduler.
#[derive(Clone)]
pub(crate) struct Supervisor {
    pub(crate) hello: Hello,
    pub(crate) tasks: Tasks,
    pub(crate) slots: Slots,
    pub(crate) schedulers: watch::Receiver<SchedulerMap>,
    /// Ends all streams.
    pub(crate) cancel: CancellationToken,
    pub(crate) status: Arc<PullStatus>,
    pub(crate) lease_ttl: Duration,
    /// Normally [`JOBS_GRACE`].
    pub(crate) grace: Duration,
}

/// What is known about the streams, for statistics and readiness.
#[derive(Debug, Default)]
pub(crate) struct PullStatus {
    connected: AtomicUsize,
    outcomes: parking_lot::Mutex<HashMap<SchedulerId, Arc<Outcomes>>>,
}

impl PullStatus {
    /// Streams that are open now.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Counts a stream that was opened.
    pub(crate) fn opened(&self) -> Open<'_> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }

    /// Outcomes that were not acknowledged yet.
    pub(crate) fn pending_outcomes(&self) -> usize {
        self.outcomes.lock().values().map(|outcomes| outcomes.len()).sum()
    }
}

/// A stream that is open: counted until dropped, in whatever way it ends.
#[derive(Debug)]
pub(crate) struct Open<'a>(&'a PullStatus);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Supervisor {
    /// Runs until cancelled; then all streams are closed.
    pub(crate) async fn run(mut self) {
        let mut loops = JoinSet::new();
        let mut known = HashMap::new();
        loop {
            let seen: Vec<SchedulerId> = self.schedulers.borrow_and_update().keys().cloned().collect();
            for id in seen {
                known.entry(id.clone()).or_insert_with(|| {
                    let connection = self.clone();
                    loops.spawn(async move { connection.stay_connected(&id).await }).id()
                });
            }
            tokio::select! {
                () = self.cancel.cancelled() => break,
                Some(ended) = loops.join_next_with_id() => {
                    let ended = ended.map_or_else(
                        |error| {
                            // A defect; the loop starts again, with the next change of the watch.
                            tracing::error!(event = names::STREAM_LOOP_FAILED, %error, "a connection loop to a scheduler broke");
                            error.id()
                        },
                        |(ended, ())| ended,
                    );
                    known.retain(|_, running| *running != ended);
                }
                changed = self.schedulers.changed() => {
                    if changed.is_err() {
                        // Whoever watched the store is gone; the streams that there are go on.
                        self.cancel.cancelled().await;
                        break;
                    }
                }
            }
        }
        while loops.join_next().await.is_some() {}
    }

    /// Keeps a stream to scheduler `id` while it lives; afterwards frees its jobs.
    async fn stay_connected(&self, id: &SchedulerId) {
        let outcomes = Arc::new(Outcomes::default());
        self.status.outcomes.lock().insert(id.clone(), Arc::clone(&outcomes));
        let scheduler = Scheduler { id: id.clone(), outcomes };
        let mut schedulers = self.schedulers.clone();
        let mut wait = FIRST_WAIT;
        while !self.cancel.is_cancelled() {
            let address = schedulers.borrow_and_update().get(id).cloned();
            let Some(address) = address else {
                if self.comes_back(id, &mut schedulers).await {
                    continue;
                }
                break;
            };
            if self.connect(&scheduler, &address).await {
                wait = FIRST_WAIT;
            }
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                // The address may have changed: no need to wait for the old one.
                Ok(()) = schedulers.changed() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.status.outcomes.lock().remove(id);
        if !self.cancel.is_cancelled() {
            self.tasks.free_jobs_of(id);
        }
    }

    /// One stream, from connecting until it breaks; true if it was open.
    async fn connect(&self, scheduler: &Scheduler, address: &str) -> bool {
        let hello = Hello { jobs: self.tasks.held_jobs(), ..self.hello.clone() };
        let opened = tokio::select! {
            () = self.cancel.cancelled() => return false,
            opened = ControlStream::open(address, hello, self.lease_ttl) => opened,
        };
        let stream = match opened {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(event = names::STREAM_UNREACHABLE, scheduler_id = %scheduler.id, address, %error, "cannot reach the scheduler yet");
                return false;
            }
        };
        tracing::info!(event = names::STREAM_CONNECTED, scheduler_id = %scheduler.id, address, "connected to the scheduler");
        metrics::streams_opened_total().inc();
        let open = self.status.opened();
        let ended = stream.run(scheduler, &self.tasks, self.slots.watch(), &self.cancel).await;
        drop(open);
        if let Err(error) = ended {
            metrics::streams_broken_total().inc();
            tracing::info!(event = names::STREAM_BROKEN, scheduler_id = %scheduler.id, address, %error, "the stream to the scheduler broke");
        }
        true
    }

    /// Waits for a scheduler that is gone; false if it does not come back within the grace time.
    async fn comes_back(&self, id: &SchedulerId, schedulers: &mut watch::Receiver<SchedulerMap>) -> bool {
        let back = schedulers.wait_for(|schedulers| schedulers.contains_key(id));
        tokio::select! {
            () = self.cancel.cancelled() => false,
            back = tokio::time::timeout(self.grace, back) => matches!(back, Ok(Ok(_))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use arrow::datatypes::Schema;
    use springald_core::ids::{JobId, StageId, TaskId};
    use springald_proto::control::Launch;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn given_a_scheduler_that_is_gone_when_the_grace_time_is_over_then_its_jobs_are_freed_and_no_others() {
        let (tasks, slots, store) = testing::tasks(1);
        let (gone, stays) = (SchedulerId::generate(), SchedulerId::generate());
        for (job, scheduler) in [("of-gone", &gone), ("of-other", &stays)] {
            let scheduler = Scheduler { id: scheduler.clone(), outcomes: Arc::default() };
            let launch = Launch { job_id: job.to_owned(), stage: 1, ..Default::default() };
            assert_eq!(tasks.launch(&scheduler, launch).expect("makes sense"), []);
            let job: JobId = job.parse().expect("valid");
            let task = TaskId { stage: StageId(1), task: 0, attempt: 0 };
            let writer = store.begin(&job, task, &Arc::new(Schema::empty()), [0]).expect("begins");
            writer.finish().expect("finishes");
        }
        let nobody_there = "127.0.0.1:1".to_owned();
        let map = BTreeMap::from([(gone, nobody_there.clone()), (stays.clone(), nobody_there.clone())]);
        let (sender, schedulers) = watch::channel(map);
        let cancel = CancellationToken::new();
        let supervisor = Supervisor {
            hello: Hello::default(),
            tasks,
            slots,
            schedulers,
            cancel: cancel.clone(),
            status: Arc::default(),
            lease_ttl: Duration::from_secs(3),
            grace: Duration::from_millis(20),
        };
        let status = Arc::clone(&supervisor.status);
        let running = tokio::spawn(supervisor.run());
        let deadline = Instant::now() + Duration::from_secs(10);
        while status.outcomes.lock().len() < 2 {
            assert!(Instant::now() < deadline, "the schedulers were not seen");
            tokio::task::yield_now().await;
        }
        assert_eq!(store.stats().pieces, 2);
        sender.send_replace(BTreeMap::from([(stays, nobody_there)]));
        while store.stats().pieces > 1 {
            assert!(Instant::now() < deadline, "nothing was freed");
            tokio::task::yield_now().await;
        }
        assert!(
            store
                .open(&"of-other".parse().expect("valid"), TaskId { stage: StageId(1), task: 0, attempt: 0 }, 0)
                .is_some()
        );
        cancel.cancel();
        running.await.expect("ends");
    }
}
