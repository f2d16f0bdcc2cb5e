//! Sees to it that every job has an owner: looks at those whose owner may be gone.
//!
//! ```text
//! watch of jobs/owner/ ──an owner is gone──▶ ┌──────────┐
//! sweep ──a job without an owner───────────▶ │ suspects │──▶ Engine::check_owner: claim it, or find it in good hands
//! watch broke ──all that are here──────────▶ └──────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use springald_core::error::Result;
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::clock;
use crate::engine::Engine;
use crate::follow::{Update, follow};
use crate::records;
use crate::store::{StateStore, WatchEvent};

const SUSPECTS_WAITING: usize = 4096;
/// Jobs looked at, and taken over, at one time. Many, since some wait for their owners to come back.
const AT_ONCE: usize = 256;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

enum Suspect {
    Job(JobId),
    /// All jobs that are here: nobody knows what happened while the store could not be watched.
    AllHere,
}

/// Where jobs are named whose owner may be gone. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Suspects {
    sender: mpsc::Sender<Suspect>,
    /// Wakes the sweep: more may have been missed.
    missed: Arc<Notify>,
}

impl Suspects {
    /// Names a job; it is looked at soon.
    pub(crate) fn name(&self, job: JobId) {
        self.say(Suspect::Job(job));
    }

    /// Waits until jobs may have been missed, and all must be gone through.
    pub(crate) async fn missed(&self) {
        self.missed.notified().await;
    }

    fn say(&self, suspect: Suspect) {
        if self.sender.try_send(suspect).is_err() {
            self.missed.notify_one();
        }
    }
}

/// Looks at suspects on `tracker` until `shutdown`, and watches the owners for as long as the handle lives. Fails if the
/// first look does.
pub(crate) async fn start(
    store: Arc<dyn StateStore>,
    engine: Arc<Engine>,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<(Suspects, AbortOnDropHandle<()>)> {
    let (sender, inbox) = mpsc::channel(SUSPECTS_WAITING);
    let suspects = Suspects { sender, missed: Arc::default() };
    let (named, mut first) = (suspects.clone(), true);
    let handle = follow(store, records::OWNERS, move |update| match update {
        Update::Event(WatchEvent::Deleted { key, .. }) => {
            if let Some(Ok(job)) = key.strip_prefix(records::OWNERS).map(str::parse) {
                named.name(job);
            }
        }
        Update::Snapshot { .. } => {
            // The sweep begins with a look at all of them anyway.
            if !std::mem::take(&mut first) {
                named.say(Suspect::AllHere);
                named.missed.notify_one();
            }
        }
        Update::Event(WatchEvent::Put(_)) | Update::Lost => {}
    })
    .await?;
    let worker = Worker {
        engine,
        looking: Arc::default(),
        permits: Arc::new(Semaphore::new(AT_ONCE)),
        tracker: tracker.clone(),
        shutdown: shutdown.clone(),
    };
    tracker.spawn(shutdown.run_until_cancelled_owned(worker.run(inbox)));
    Ok((suspects, handle))
}

struct Worker {
    engine: Arc<Engine>,
    /// Jobs that are being looked at, and whether they were named since the last look began: nobody looks at one twice at a
    /// time.
    looking: Arc<Mutex<HashMap<JobId, bool>>>,
    permits: Arc<Semaphore>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Worker {
    async fn run(self, mut inbox: mpsc::Receiver<Suspect>) {
        while let Some(suspect) = inbox.recv().await {
            match suspect {
                Suspect::Job(job) => self.look(job).await,
                Suspect::AllHere => {
                    for job in self.engine.jobs_held().await.unwrap_or_default() {
                        self.look(job).await;
                    }
                }
            }
        }
    }

    /// Looks at a job beside others, and again until the store has answered.
    async fn look(&self, job: JobId) {
        if self.looking.lock().insert(job.clone(), true).is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
        let (engine, looking) = (Arc::clone(&self.engine), Arc::clone(&self.looking));
        self.tracker.spawn(self.shutdown.clone().run_until_cancelled_owned(async move {
            while takes_up(&looking, &job) {
                while let Err(error) = engine.check_owner(&job).await {
                    tracing::warn!(event = names::TAKEOVER_CHECK_FAILED, job_id = %job, %error, "the job's owner could not be made sure of; trying again");
                    clock::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
            drop(permit);
        }));
    }
}

/// True if a job is to be looked at (again); else nobody looks at it any more.
fn takes_up(looking: &Mutex<HashMap<JobId, bool>>, job: &JobId) -> bool {
    let mut looking = looking.lock();
    let named = looking.get_mut(job).is_some_and(std::mem::take);
    if !named {
        looking.remove(job);
    }
    named
}
