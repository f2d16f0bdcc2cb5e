//! Parts for tests inside of this crate.

use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::object_store::DefaultObjectStoreRegistry;
use springald_core::settings::ByteSize;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::exchange::input::PieceReader;
use crate::exchange::store::{ExchangeStore, SpillArea};
use crate::memory::{self, ProcessPool, SpillBudget};
use crate::plans::Plans;
use crate::slots::Slots;
use crate::task::TaskRunner;
use crate::tasks::Tasks;

/// A store in a process with `pool` bytes of memory and `disk` bytes of disk.
pub(crate) struct Fixture {
    pub(crate) store: ExchangeStore,
    pub(crate) pool: Arc<dyn MemoryPool>,
    pub(crate) runner: TaskRunner,
    pub(crate) dir: tempfile::TempDir,
}

/// The exchange may hold `budget` bytes in memory.
pub(crate) fn fixture(pool: usize, budget: usize, disk: u64) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let operators = dir.path().join("operators");
    std::fs::create_dir(&operators).expect("made");
    let pool = Arc::new(ProcessPool::new(ByteSize(pool as u64)));
    let stores = Arc::new(DefaultObjectStoreRegistry::new());
    let runtime = memory::runtime(&pool, &operators, ByteSize(disk), stores).expect("a runtime");
    let spill = Arc::new(SpillBudget::new(ByteSize(disk), Arc::clone(&runtime.disk_manager)));
    let store = ExchangeStore::new(&pool, budget, SpillArea::new(dir.path().join("exchange"), spill));
    let pool: Arc<dyn MemoryPool> = pool;
    let id = "here".parse().expect("valid");
    let reader = Arc::new(PieceReader::new(id, store.clone(), &pool, ByteSize::mib(1)));
    let compute = Handle::current();
    let runner = TaskRunner { compute, plans: Arc::new(Plans::new(runtime)), store: store.clone(), reader };
    Fixture { store, pool, runner, dir }
}

/// Tasks in a process with much of everything.
pub(crate) fn tasks(slots: u32) -> (Tasks, Slots, ExchangeStore) {
    let fixture = fixture(64 << 20, 32 << 20, 1 << 30);
    let slots = Slots::new(slots);
    (Tasks::new(fixture.runner, slots.clone(), TaskTracker::new()), slots, fixture.store)
}
