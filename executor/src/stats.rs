//! What an executor does and holds: for its owner, and for Prometheus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::memory_pool::MemoryPool;
use springald_core::settings::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::exchange::store::ExchangeStore;
use crate::metrics::{Part, springald_executor as metrics};
use crate::pull::PullStatus;
use crate::slots::Slots;
use crate::tasks::Tasks;

/// How often the gauges are brought up to date.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How often a shutdown looks whether all is done.
const IDLE_INTERVAL: Duration = Duration::from_millis(10);
/// A scheduler that is started again is back within this time.
const ALONE_PATIENCE: Duration = Duration::from_secs(5);

/// What an executor does and holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutorStats {
    /// Slots that no task holds.
    pub free_slots: u32,
    /// Tasks that run.
    pub running_tasks: usize,
    /// Outcomes that no scheduler has acknowledged yet.
    pub pending_outcomes: usize,
    /// Schedulers with an open control stream.
    pub connected_schedulers: usize,
    /// Pieces of stage outputs, those of running tasks included.
    pub exchange_pieces: usize,
    /// Bytes of stage outputs in memory.
    pub exchange_memory_bytes: usize,
    /// Bytes of stage outputs on disk.
    pub exchange_spilled_bytes: u64,
    /// Bytes reserved in the memory pool, by operators and the exchange.
    pub memory_reserved_bytes: usize,
}

/// Where statistics come from.
pub(crate) struct StatsSource {
    pub(crate) store: ExchangeStore,
    pub(crate) pool: Arc<dyn MemoryPool>,
    pub(crate) slots: Slots,
    pub(crate) tasks: Tasks,
    pub(crate) status: Arc<PullStatus>,
    pub(crate) memory: ByteSize,
}

impl StatsSource {
    /// The statistics of this moment.
    pub(crate) fn now(&self) -> ExecutorStats {
        let exchange = self.store.stats();
        ExecutorStats {
            free_slots: self.slots.free(),
            running_tasks: self.tasks.running(),
            pending_outcomes: self.status.pending_outcomes(),
            connected_schedulers: self.status.connected(),
            exchange_pieces: exchange.pieces,
            exchange_memory_bytes: exchange.memory_bytes,
            exchange_spilled_bytes: exchange.spilled_bytes,
            memory_reserved_bytes: self.pool.reserved(),
        }
    }

    /// Waits until no task runs and every outcome was acknowledged (or nobody is there to do so).
    pub(crate) async fn idle(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            let told = self.status.pending_outcomes() == 0 || self.status.connected() == 0;
            if self.tasks.running() == 0 && told {
                return;
            }
            tokio::time::sleep(IDLE_INTERVAL).await;
        }
    }

    /// Waits until no task runs, nothing is held, and every outcome was acknowledged, or until no scheduler has been there
    /// for a while.
    pub(crate) async fn drained(&self) {
        let mut alone_since = None;
        loop {
            let stats = self.now();
            if stats.running_tasks + stats.exchange_pieces + stats.pending_outcomes == 0 {
                return;
            }
            let alone = stats.connected_schedulers == 0;
            alone_since = alone.then(|| alone_since.unwrap_or_else(Instant::now));
            if alone_since.is_some_and(|since| since.elapsed() >= ALONE_PATIENCE) {
                return;
            }
            tokio::time::sleep(IDLE_INTERVAL).await;
        }
    }

    /// Keeps the gauges up to date until cancelled.
    pub(crate) async fn publish(self: Arc<Self>, cancel: CancellationToken) {
        let gauges = Gauges::new();
        while !cancel.is_cancelled() {
            gauges.set(&self.now(), self.slots.total(), self.memory);
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(PUBLISH_INTERVAL) => {}
            }
        }
    }
}

/// This executor's parts of the process's gauges.
struct Gauges {
    slots: Part,
    slots_free: Part,
    tasks_running: Part,
    outcomes_pending: Part,
    schedulers_connected: Part,
    exchange_pieces: Part,
    exchange_memory: Part,
    exchange_spilled: Part,
    memory_reserved: Part,
    memory_limit: Part,
}

impl Gauges {
    fn new() -> Self {
        Self {
            slots: Part::of(metrics::slots()),
            slots_free: Part::of(metrics::slots_free()),
            tasks_running: Part::of(metrics::tasks_running()),
            outcomes_pending: Part::of(metrics::outcomes_pending()),
            schedulers_connected: Part::of(metrics::schedulers_connected()),
            exchange_pieces: Part::of(metrics::exchange_pieces()),
            exchange_memory: Part::of(metrics::exchange_memory_bytes()),
            exchange_spilled: Part::of(metrics::exchange_spilled_bytes()),
            memory_reserved: Part::of(metrics::memory_reserved_bytes()),
            memory_limit: Part::of(metrics::memory_limit_bytes()),
        }
    }

    fn set(&self, stats: &ExecutorStats, slots: u32, memory: ByteSize) {
        self.slots.set(u64::from(slots));
        self.slots_free.set(u64::from(stats.free_slots));
        self.tasks_running.set(stats.running_tasks as u64);
        self.outcomes_pending.set(stats.pending_outcomes as u64);
        self.schedulers_connected.set(stats.connected_schedulers as u64);
        self.exchange_pieces.set(stats.exchange_pieces as u64);
        self.exchange_memory.set(stats.exchange_memory_bytes as u64);
        self.exchange_spilled.set(stats.exchange_spilled_bytes);
        self.memory_reserved.set(stats.memory_reserved_bytes as u64);
        self.memory_limit.set(memory.0);
    }
}
