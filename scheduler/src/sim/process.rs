//! The schedulers: their real code, each in a runtime of its own that only runs when the simulation lets it. Stopped, it
//! is not run, and finds everything that came meanwhile when it goes on; killed, all its tasks are dropped where they are.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use springald_core::error::Error;
use springald_core::ids::SchedulerId;
use springald_core::settings::{Settings, Span};
use springald_proto::records::SchedulerRecord;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peers::SimPeers;
use super::store::SimStore;
use super::world::{Place, World};
use crate::server::{Core, CoreParts};

/// A scheduler process.
pub(super) struct Process {
    runtime: Runtime,
    idle: Arc<Idle>,
    /// Stopped so many times: it does not run.
    stopped: u32,
    /// Ends it in good order.
    shutdown: CancellationToken,
    /// What it is made of, once it has started.
    pub(super) core: Option<Arc<Core>>,
}

/// Tells when a runtime has nothing to do.
#[derive(Default)]
struct Idle {
    reached: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Process {
    fn new() -> Self {
        let idle = Arc::new(Idle::default());
        let parked = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .on_thread_park(move || {
                parked.reached.store(true, Ordering::Relaxed);
                parked.waker.lock().take().into_iter().for_each(Waker::wake);
            })
            .build()
            .expect("a runtime without drivers");
        Self { runtime, idle, stopped: 0, shutdown: CancellationToken::new(), core: None }
    }

    /// Runs it until it has nothing to do.
    fn run(&self) {
        self.idle.reached.store(false, Ordering::Relaxed);
        self.runtime.block_on(poll_fn(|context| {
            if self.idle.reached.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            *self.idle.waker.lock() = Some(context.waker().clone());
            Poll::Pending
        }));
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped > 0
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.runtime.spawn(work).abort_handle()
    }
}

/// The settings of all schedulers: times short enough for a simulation, and limits that it does not reach.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.cluster.lease_ttl = Span::seconds(3);
    settings.scheduler.no_executor_timeout = Span::seconds(120);
    settings.scheduler.result_retention = Span::seconds(45);
    settings.scheduler.client_gone_grace = Span::seconds(30);
    settings.scheduler.max_task_failures = 8;
    settings
}

pub(super) fn scheduler_id(number: u32) -> SchedulerId {
    format!("scheduler-{number}").parse().expect("a valid id")
}

/// The number in a name or address that ends with it.
pub(super) fn number_of(name: &str) -> Option<u32> {
    name.rsplit('-').next()?.parse().ok()
}

impl World {
    /// Starts a new scheduler.
    pub(super) fn start_scheduler(&mut self) {
        let number = self.new_process();
        tracing::info!(target: "sim", "scheduler-{number} starts");
        let process = Process::new();
        let (id, agenda) = (scheduler_id(number), Arc::clone(&self.agenda));
        let record = SchedulerRecord {
            scheduler_id: id.to_string(),
            flight_sql_address: id.to_string(),
            control_address: id.to_string(),
            advertised: true,
            ..SchedulerRecord::default()
        };
        let parts = CoreParts {
            id,
            cluster: "sim".parse().expect("a valid name"),
            settings: settings(),
            store: Arc::new(SimStore::new(&agenda, Place::Scheduler(number))),
            object_stores: Arc::clone(&self.object_stores),
            record,
            peers: Arc::new(SimPeers::new(&agenda, number)),
        };
        let shutdown = process.shutdown.clone();
        process.spawn(async move {
            let tracker = TaskTracker::new();
            match Core::start(parts, &tracker, shutdown).await {
                Ok(core) => agenda.soon(move |world| world.scheduler_started(number, core)),
                Err(error) => agenda.soon(move |world| world.scheduler_gave_up(number, &error)),
            }
        });
        self.schedulers.insert(number, process);
        self.run(number);
    }

    fn scheduler_started(&mut self, number: u32, core: Core) {
        if let Some(process) = self.schedulers.get_mut(&number) {
            tracing::info!(target: "sim", "scheduler-{number} has started");
            process.core = Some(Arc::new(core));
        }
    }

    /// It could not start, and is started anew by whoever looks after processes.
    fn scheduler_gave_up(&mut self, number: u32, error: &Error) {
        tracing::info!(target: "sim", "scheduler-{number} could not start: {error}");
        self.kill_scheduler(number, false);
        self.agenda.after(500_000, |world| world.start_scheduler());
    }

    /// Lets a scheduler's code run, if it is there and not stopped.
    pub(super) fn run(&mut self, number: u32) {
        if let Some(process) = self.schedulers.get(&number).filter(|process| !process.is_stopped()) {
            self.agenda.runs(Some(number));
            process.run();
            self.agenda.runs(None);
        }
    }

    /// Ends a scheduler without a word. If `silent`, its machine goes with it: nobody who was connected hears of it.
    pub(super) fn kill_scheduler(&mut self, number: u32, silent: bool) {
        let Some(process) = self.schedulers.remove(&number) else { return };
        tracing::info!(target: "sim", "scheduler-{number} is killed{}", if silent { " with its machine" } else { "" });
        if silent {
            self.gone_machines.insert(Place::Scheduler(number));
        }
        drop(process);
        self.watches.retain(|_, watch| watch.scheduler != number);
        self.scheduler_died(number, silent);
        self.requests_lost(number, silent);
    }

    /// Ends a scheduler in good order: it gives its lease back, and is gone a moment later.
    pub(super) fn end_scheduler(&mut self, number: u32) {
        if let Some(process) = self.schedulers.get(&number) {
            tracing::info!(target: "sim", "scheduler-{number} is told to end");
            process.shutdown.cancel();
            self.run(number);
            self.agenda.after(1_000_000, move |world| world.kill_scheduler(number, false));
        }
    }

    /// SIGSTOP.
    pub(super) fn stop_scheduler(&mut self, number: u32) {
        if let Some(process) = self.schedulers.get_mut(&number) {
            tracing::info!(target: "sim", "scheduler-{number} is stopped");
            process.stopped += 1;
        }
    }

    /// SIGCONT.
    pub(super) fn continue_scheduler(&mut self, number: u32) {
        if let Some(process) = self.schedulers.get_mut(&number) {
            tracing::info!(target: "sim", "scheduler-{number} goes on");
            process.stopped -= 1;
            self.run(number);
        }
    }
}
