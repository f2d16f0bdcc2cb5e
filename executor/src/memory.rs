//! One memory pool and one DataFusion runtime for the whole process.
//!
//! ```text
//!   operators of all tasks ──try_grow──▶ ProcessPool ──▶ TrackConsumersPool ──▶ FairSpillPool(executor.memory)
//!                                           │ refused?                               ▲
//!                                           ▼                                        │ shrink
//!                                       Reclaim (the exchange spills its coldest pieces)
//! ```
//!
//! An operator that cannot spill by itself is refused only when the exchange has nothing left to spill either: data
//! that waits for a reader must not fail a query that runs.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use springald_core::error::Result;
use springald_core::settings::ByteSize;

/// How many consumers of memory an out-of-memory error names.
const TOP_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

/// Gives memory back to the pool on demand.
pub(crate) trait Reclaim: Send + Sync {
    /// Tries to give back at least `bytes`; returns how many it gave back. May block on the disk.
    fn reclaim(&self, bytes: usize) -> usize;
}

/// The process's memory pool. See the module's documentation.
#[derive(Debug)]
pub(crate) struct ProcessPool {
    inner: TrackConsumersPool<FairSpillPool>,
    limit: ByteSize,
    reclaim: OnceLock<ReclaimRef>,
}

/// Weak, because the exchange store holds the pool.
struct ReclaimRef {
    /// The consumer whose own growth never asks for reclaiming: it spills by itself.
    consumer: String,
    from: Weak<dyn Reclaim>,
}

impl fmt::Debug for ReclaimRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReclaimRef").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl ProcessPool {
    /// A pool of `limit` bytes.
    pub(crate) fn new(limit: ByteSize) -> Self {
        let inner = TrackConsumersPool::new(FairSpillPool::new(limit.as_usize()), TOP_CONSUMERS);
        Self { inner, limit, reclaim: OnceLock::new() }
    }

    /// From now on `from`, whose reservations are named `consumer`, is asked for memory before an operator is refused.
    pub(crate) fn reclaim_from(&self, consumer: &str, from: Weak<dyn Reclaim>) {
        // Set once, when the executor starts; a second call would find the first one's store.
        let _ = self.reclaim.set(ReclaimRef { consumer: consumer.to_owned(), from });
    }

    fn try_reclaim(&self, reservation: &MemoryReservation, bytes: usize) -> bool {
        // What can spill and holds something makes room by itself.
        let helps_itself = reservation.consumer().can_spill() && reservation.size() > 0;
        let Some(reclaim) = self.reclaim.get() else { return false };
        if helps_itself || reservation.consumer().name() == reclaim.consumer {
            return false;
        }
        reclaim.from.upgrade().is_some_and(|from| from.reclaim(bytes) > 0)
    }

    fn explain(&self, error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::ResourcesExhausted(message) => DataFusionError::ResourcesExhausted(format!(
                "{message}. The executor's memory is {} (setting executor.memory)",
                self.limit
            )),
            other => other,
        }
    }
}

impl fmt::Display for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl MemoryPool for ProcessPool {
    fn name(&self) -> &str {
        "springald"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        let refused = match self.inner.try_grow(reservation, additional) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if self.try_reclaim(reservation, additional) {
            return self.inner.try_grow(reservation, additional).map_err(|error| self.explain(error));
        }
        Err(self.explain(refused))
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

/// The runtime of all tasks of the process: memory from `pool`, spill files of operators in `operators_dir` (at most
/// `spill_limit` bytes), object stores from `stores`.
pub(crate) fn runtime(
    pool: &Arc<ProcessPool>,
    operators_dir: &Path,
    spill_limit: ByteSize,
    stores: Arc<dyn ObjectStoreRegistry>,
) -> Result<Arc<RuntimeEnv>> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![operators_dir.to_owned()]))
        .with_max_temp_directory_size(spill_limit.0);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::clone(pool) as Arc<dyn MemoryPool>)
        .with_disk_manager_builder(disk)
        .with_object_store_registry(stores)
        .build_arc()?;
    Ok(runtime)
}

/// The disk space for spilling, shared between operators (through DataFusion's disk manager) and the exchange:
/// together they stay below `executor.spill_limit`.
#[derive(Debug)]
pub(crate) struct SpillBudget {
    limit: ByteSize,
    exchange: parking_lot::Mutex<u64>,
    operators: Arc<DiskManager>,
}

impl SpillBudget {
    /// A budget of `limit` bytes on disk, shared with `operators`.
    pub(crate) fn new(limit: ByteSize, operators: Arc<DiskManager>) -> Self {
        Self { limit, exchange: parking_lot::Mutex::new(0), operators }
    }

    /// Takes `bytes` for the exchange, or says which setting is in the way.
    pub(crate) fn take(&self, bytes: u64) -> datafusion::error::Result<()> {
        let mut used = self.exchange.lock();
        let wanted = used.saturating_add(bytes);
        if wanted.saturating_add(self.operators.used_disk_space()) > self.limit.0 {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "the exchange needs {bytes} more bytes on disk, where {} are spilled already: the limit is {} \
                 (setting executor.spill_limit)",
                used.saturating_add(self.operators.used_disk_space()),
                self.limit
            )));
        }
        *used = wanted;
        self.operators.set_max_temp_directory_size(self.limit.0.saturating_sub(wanted))
    }

    /// Gives `bytes` of the exchange back.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut used = self.exchange.lock();
        *used = used.saturating_sub(bytes);
        // Fails only for a disk manager that cannot spill; ours can.
        let _ = self.operators.set_max_temp_directory_size(self.limit.0.saturating_sub(*used));
    }

    /// Bytes that the exchange has on disk now.
    pub(crate) fn exchange_bytes(&self) -> u64 {
        *self.exchange.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Held(MemoryReservation, AtomicUsize);

    impl Reclaim for Held {
        fn reclaim(&self, bytes: usize) -> usize {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.shrink(bytes.min(self.0.size()));
            bytes
        }
    }

    #[test]
    fn given_an_exchange_that_fills_the_pool_when_an_operator_grows_then_the_exchange_yields() {
        let pool = Arc::new(ProcessPool::new(ByteSize(1000)));
        let dynamic: Arc<dyn MemoryPool> = Arc::clone(&pool) as _;
        let held = Arc::new(Held(MemoryConsumer::new("exchange").register(&dynamic), AtomicUsize::new(0)));
        held.0.try_grow(900).expect("it fits");
        let weak: Weak<dyn Reclaim> = Arc::downgrade(&(Arc::clone(&held) as Arc<dyn Reclaim>));
        pool.reclaim_from("exchange", weak);

        let join = MemoryConsumer::new("HashJoinInput").register(&dynamic);
        join.try_grow(500).expect("the exchange makes room");
        assert_eq!(held.0.size(), 400);
        held.0.try_grow(500).expect_err("the exchange spills itself instead of asking itself");
        assert_eq!(held.1.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn given_a_full_pool_when_an_operator_is_refused_then_operator_bytes_and_setting_are_named() {
        let pool: Arc<dyn MemoryPool> = Arc::new(ProcessPool::new(ByteSize::mib(1)));
        let join = MemoryConsumer::new("HashJoinInput").register(&pool);
        let error = join.try_grow(2 << 20).expect_err("too much").to_string();
        for part in ["HashJoinInput", "2.0 MB", "executor.memory", "1MiB"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}
