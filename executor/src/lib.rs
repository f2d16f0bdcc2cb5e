//! The executor: takes tasks from schedulers, runs them, and keeps what they write until it was read.
//!
//! ```text
//!            schedulers                                peers (executors, schedulers that fetch results)
//!               ⇅ control stream each                       ⇅ Flight
//!   ┌───────── pull ──────────┐                    ┌── exchange::service ──┐
//!   │ offers, launches,       │                    │                       │
//!   │ outcomes                │                    │                       │
//!   └──▶ tasks ──▶ task ──▶ plans, DataFusion      │                       │
//!         slots      │                             │                       │
//!                    ├──▶ exchange::partition ──▶ exchange::store ◀────────┘
//!                    └──▶ exchange::input  ◀───────┘   └──▶ memory (one pool), spill_dir
//! ```
//!
//! An executor knows jobs, stages and tasks only as names of things it runs and keeps: why a task runs, whether it
//! runs again, and when its output is needed no longer is the scheduler's matter.
#![forbid(unsafe_code)]

mod exchange;
mod failure;
mod machine;
mod memory;
mod metrics;
mod operators;
mod owners;
mod plans;
mod pull;
mod ready;
mod scanned;
mod server;
mod slots;
mod spill_dir;
mod stats;
mod task;
mod tasks;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use springald_core::compute::Compute;
use springald_core::error::{Error, Result};
use springald_core::ids::{ClusterName, ExecutorId, SchedulerId};
use springald_core::settings::{ByteSize, ExecutorSettings};
use springald_core::telemetry::events::names;
use springald_proto::control::Hello;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use exchange::input::PieceReader;
use exchange::store::{ExchangeStore, SpillArea};
use memory::{ProcessPool, SpillBudget};
use plans::Plans;
use pull::{JOBS_GRACE, PullStatus, Supervisor};
pub use ready::Readiness;
use slots::Slots;
use spill_dir::SpillDir;
pub use stats::ExecutorStats;
use stats::StatsSource;
use task::TaskRunner;
use tasks::Tasks;

/// Least memory of an executor, in bytes: below this nothing useful runs.
const MIN_MEMORY: u64 = 16 << 20;
/// Most slots of an executor.
const MAX_SLOTS: u32 = 4096;
/// How long tasks that were stopped may take to end, after the deadline of a shutdown.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// What an executor needs to start.
pub struct ExecutorOptions {
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Its id; never used twice.
    pub id: ExecutorId,
    /// Its settings.
    pub settings: ExecutorSettings,
    /// Where the schedulers are: `host:port` of the control service of each. Followed while the executor lives.
    pub schedulers: watch::Receiver<BTreeMap<SchedulerId, String>>,
    /// Where table files are read from.
    pub object_stores: Arc<dyn ObjectStoreRegistry>,
    /// The leases of the cluster's processes live so long: a scheduler that is silent for longer is looked for anew.
    pub lease_ttl: Duration,
}

/// A running executor. Dropped without [`shutdown`](Self::shutdown), it stops everything without waiting for it.
pub struct Executor {
    address: SocketAddr,
    advertised: String,
    slots: Slots,
    memory: ByteSize,
    stats: Arc<StatsSource>,
    tasks: Tasks,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _cancel_when_dropped: DropGuard,
    compute: Compute,
    /// Last: everything that writes there is gone by then.
    spill_dir: SpillDir,
}

impl Executor {
    /// Makes the spill directory (and deletes what dead executors left there), binds the exchange service, and
    /// connects to the schedulers in the background.
    ///
    /// Fails if a setting makes no sense, the spill directory cannot be made, or the port is in use.
    pub async fn start(options: ExecutorOptions) -> Result<Self> {
        let ExecutorOptions { cluster, id, settings, schedulers, object_stores, lease_ttl } = options;
        let memory = memory_of(&settings)?;
        let slots = Slots::new(slots_of(&settings)?);
        let spill_dir = make_spill_dir(&settings, &id).await?;
        let (listener, address) = server::bind(&settings).await?;
        let advertised = server::advertised(&settings, address)?;

        let pool = Arc::new(ProcessPool::new(memory));
        let runtime = memory::runtime(&pool, &spill_dir.operators(), settings.spill_limit, object_stores)?;
        let budget = Arc::new(SpillBudget::new(settings.spill_limit, Arc::clone(&runtime.disk_manager)));
        let area = SpillArea::new(spill_dir.exchange(), budget);
        let store = ExchangeStore::new(&pool, exchange_bytes(&settings, memory)?, area);
        let pool: Arc<dyn MemoryPool> = pool;
        let reader = PieceReader::new(id.clone(), store.clone(), &pool, settings.fetch_bytes_in_flight);
        let compute = Compute::start(slots.total() as usize, "springald-task")
            .map_err(|error| error.context("setting executor.slots"))?;
        let runner = TaskRunner {
            compute: compute.handle(),
            plans: Arc::new(Plans::new(runtime)),
            store: store.clone(),
            reader: Arc::new(reader),
        };

        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let tasks = Tasks::new(runner, slots.clone(), tracker.clone());
        let status = Arc::new(PullStatus::default());
        let hello = Hello {
            cluster: cluster.to_string(),
            executor_id: id.to_string(),
            exchange_address: advertised.clone(),
            slots: slots.total(),
            memory_bytes: memory.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // Named anew for every stream.
            jobs: vec![],
        };
        tracker.spawn(server::serve(listener, store.clone(), cancel.clone()));
        let supervisor = Supervisor {
            hello,
            tasks: tasks.clone(),
            slots: slots.clone(),
            schedulers,
            cancel: cancel.clone(),
            status: Arc::clone(&status),
            lease_ttl,
            grace: JOBS_GRACE,
        };
        tracker.spawn(supervisor.run());
        let stats = Arc::new(StatsSource { store, pool, slots: slots.clone(), tasks: tasks.clone(), status, memory });
        tracker.spawn(Arc::clone(&stats).publish(cancel.clone()));
        tracing::info!(event = names::EXECUTOR_STARTED, executor_id = %id, address = advertised, slots = slots.total(),
            memory_bytes = memory.0, version = env!("CARGO_PKG_VERSION"), "executor started");
        let _cancel_when_dropped = cancel.clone().drop_guard();
        Ok(Self {
            address,
            advertised,
            slots,
            memory,
            stats,
            tasks,
            tracker,
            cancel,
            _cancel_when_dropped,
            compute,
            spill_dir,
        })
    }

    /// The address that the exchange service is bound to.
    pub fn exchange_address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port` under which peers reach the exchange service.
    pub fn advertised_address(&self) -> String {
        self.advertised.clone()
    }

    /// Tasks that run at one time.
    pub fn slots(&self) -> u32 {
        self.slots.total()
    }

    /// Memory for operators and the exchange.
    pub fn memory(&self) -> ByteSize {
        self.memory
    }

    /// What the executor does and holds now.
    pub fn stats(&self) -> ExecutorStats {
        self.stats.now()
    }

    /// Tells whether the executor takes tasks, now and whenever it is asked later.
    pub fn readiness(&self) -> Readiness {
        Readiness { draining: self.tasks.draining(), status: Arc::clone(&self.stats.status) }
    }

    /// Returns when a scheduler wants this executor to drain and leave.
    pub async fn asked_to_drain(&self) {
        self.tasks.asked_to_drain().await;
    }

    /// Takes no more tasks, and waits until those that run have ended and everything that is held here is with others or
    /// was read, but no longer than `deadline`, and not when no scheduler is there to see to it.
    pub async fn drain(&self, deadline: Duration) {
        self.tasks.drain();
        let stats = self.stats.now();
        tracing::info!(
            event = names::EXECUTOR_DRAINING,
            running_tasks = stats.running_tasks,
            pieces = stats.exchange_pieces,
            "draining"
        );
        if tokio::time::timeout(deadline, self.stats.drained()).await.is_err() {
            let stats = self.stats.now();
            tracing::warn!(
                event = names::EXECUTOR_DRAIN_TIMED_OUT,
                running_tasks = stats.running_tasks,
                pieces = stats.exchange_pieces,
                "not drained in time (executor.drain_deadline); leaving all the same"
            );
        }
    }

    /// Takes no more tasks, waits up to `deadline` for those that run, stops the rest, closes all streams, and
    /// deletes the spill directory.
    pub async fn shutdown(self, deadline: Duration) {
        self.tasks.drain();
        let idle = self.stats.idle(&self.cancel);
        if tokio::time::timeout(deadline, idle).await.is_err() {
            tracing::warn!(
                event = names::EXECUTOR_TASKS_STOPPED,
                running_tasks = self.tasks.running(),
                "stopping the tasks that still run"
            );
            self.tasks.abort_all();
        }
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(ABORT_WAIT, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                event = names::EXECUTOR_TASKS_LEFT_BEHIND,
                running_tasks = self.tasks.running(),
                "tasks did not stop in time; leaving them behind"
            );
        }
        drop(self.compute);
        let spill_dir = self.spill_dir;
        // Fails only when the runtime is shutting down; the directory is deleted then too.
        let _ = tokio::task::spawn_blocking(move || drop(spill_dir)).await;
        tracing::info!(event = names::EXECUTOR_STOPPED, "executor stopped");
    }
}

/// Makes the metrics known, so that they are listed before anything happens.
pub fn register_metrics() {
    drop(metrics::springald_executor::slots());
}

async fn make_spill_dir(settings: &ExecutorSettings, id: &ExecutorId) -> Result<SpillDir> {
    let (parent, id) = (settings.spill_dir.clone(), id.clone());
    tokio::task::spawn_blocking(move || SpillDir::create(&parent, &id))
        .await
        .map_err(|error| Error::internal("making the spill directory was broken off").with_source(error))?
}

fn slots_of(settings: &ExecutorSettings) -> Result<u32> {
    match settings.slots {
        0 => Ok(machine::cores()),
        slots if slots <= MAX_SLOTS => Ok(slots),
        slots => Err(Error::invalid(format!("executor.slots is {slots}; at most {MAX_SLOTS} are possible"))),
    }
}

fn memory_of(settings: &ExecutorSettings) -> Result<ByteSize> {
    let memory = match settings.memory.0 {
        0 => machine::default_memory(),
        memory => memory,
    };
    if memory < MIN_MEMORY {
        let least = ByteSize(MIN_MEMORY);
        return Err(Error::invalid(format!("executor.memory is {}; at least {least} is needed", ByteSize(memory))));
    }
    Ok(ByteSize(memory))
}

fn exchange_bytes(settings: &ExecutorSettings, memory: ByteSize) -> Result<usize> {
    let percent = usize::from(settings.exchange_memory_percent);
    if !(1..=90).contains(&percent) {
        return Err(Error::invalid(format!("executor.exchange_memory_percent is {percent}; it must be 1 to 90")));
    }
    Ok(memory.as_usize() / 100 * percent)
}
