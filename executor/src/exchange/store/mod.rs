//! The pieces of this process: memory first, disk past the budget.
//!
//! ```text
//!   begin ──▶ PieceWriter ──push──▶ pieces (invisible) ──finish──▶ visible, all at once ──▶ open (readers)
//!                 └─ dropped: discarded                                └─ free_stage / free_job / abort
//! ```
//!
//! An absent piece was lost (or freed, or never finished); an empty one is there and has no batches. What cannot be read
//! back from disk as it was written is lost, with all that its task wrote: tasks run again as a whole. What only cannot be
//! read at the moment (too many files are open) is not lost. All bytes in memory are reserved in the process's pool under
//! the name [`CONSUMER`], and stay reserved while a reader holds them.

mod area;
mod blocks;
#[cfg(test)]
mod damage_tests;
mod patient;
mod piece;
#[cfg(test)]
mod release_tests;
mod spilling;
#[cfg(test)]
mod tests;
mod victims;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use springald_core::error::Error;
use springald_core::exchange::is_key_hashes;
use springald_core::ids::{JobId, StageId, TaskId};
use springald_core::telemetry::events::names;

pub(crate) use area::SpillArea;
use piece::Piece;
pub(crate) use piece::Snapshot;
use victims::{Coldness, Victims};
pub(crate) use writer::{PieceWriter, Written};

use crate::memory::{ProcessPool, Reclaim};
use crate::metrics;

/// The name of the exchange among the pool's consumers.
pub(crate) const CONSUMER: &str = "exchange";

/// What one task attempt wrote for one output partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceStats {
    /// The output partition.
    pub(crate) partition: u32,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Bytes in memory, whether it was spilled or not.
    pub(crate) bytes: u64,
}

/// Why a piece that is here cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Its file is missing, cut short, or not what was written. The store has forgotten what the task wrote.
    #[error("{0}")]
    Lost(String),
    /// Another reason, which is not the file: what the task wrote is still here.
    #[error(transparent)]
    Failed(#[from] DataFusionError),
}

/// What the store holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    /// Pieces, finished or not.
    pub(crate) pieces: usize,
    /// Bytes in memory, those that only readers still hold included.
    pub(crate) memory_bytes: usize,
    /// Bytes on disk.
    pub(crate) spilled_bytes: u64,
}

/// All pieces of this process; cheap to clone.
#[derive(Clone)]
pub(crate) struct ExchangeStore(Arc<Shared>);

struct Shared {
    /// Bytes in memory past which pieces are spilled.
    budget: usize,
    reservation: Arc<MemoryReservation>,
    area: SpillArea,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_piece: u64,
    pieces: HashMap<u64, Entry>,
    outputs: HashMap<JobId, BTreeMap<TaskId, Output>>,
    /// Pieces that hold memory and are not being spilled.
    victims: Victims,
    /// Sum of the pieces' `resident`.
    resident: usize,
}

struct Entry {
    owner: Arc<Owner>,
    coldness: Coldness,
    piece: Piece,
}

/// The task attempt that writes a piece.
struct Owner {
    job: JobId,
    task: TaskId,
}

/// What one task attempt writes.
struct Output {
    /// The piece of each output partition.
    pieces: BTreeMap<u32, u64>,
    /// Readers see it.
    finished: bool,
    /// Bytes that were written to disk for it so far.
    spilled: u64,
}

impl ExchangeStore {
    /// A store that keeps up to `budget` bytes of `pool` in memory, and the rest in `area`.
    pub(crate) fn new(pool: &Arc<ProcessPool>, budget: usize, area: SpillArea) -> Self {
        let dynamic: Arc<dyn MemoryPool> = Arc::clone(pool) as _;
        let reservation = Arc::new(MemoryConsumer::new(CONSUMER).register(&dynamic));
        let shared = Arc::new(Shared { budget, reservation, area, state: Mutex::default() });
        let reclaim: Arc<dyn Reclaim> = Arc::clone(&shared) as _;
        let weak: Weak<dyn Reclaim> = Arc::downgrade(&reclaim);
        pool.reclaim_from(CONSUMER, weak);
        Self(shared)
    }

    /// Starts the output of `task`, with one piece of `schema` for each of `partitions`. Nothing is visible to
    /// readers before [`PieceWriter::finish`].
    pub(crate) fn begin(
        &self,
        job: &JobId,
        task: TaskId,
        schema: &SchemaRef,
        partitions: impl IntoIterator<Item = u32>,
    ) -> Result<PieceWriter> {
        let owner = Arc::new(Owner { job: job.clone(), task });
        let mut state = self.0.state.lock();
        if state.outputs.get(job).is_some_and(|outputs| outputs.contains_key(&task)) {
            return Err(Error::internal(format!("task {task} of job {job} has an output here already")).into());
        }
        let pieces: BTreeMap<u32, u64> =
            partitions.into_iter().map(|partition| (partition, state.add(&owner, partition, schema))).collect();
        let output = Output { pieces: pieces.clone(), finished: false, spilled: 0 };
        state.outputs.entry(job.clone()).or_default().insert(task, output);
        Ok(PieceWriter::new(self.clone(), owner, pieces))
    }

    /// The piece that `task` wrote for `partition`; `None` if it is not here (any more), or not finished.
    pub(crate) fn open(&self, job: &JobId, task: TaskId, partition: u32) -> Option<Snapshot> {
        let mut state = self.0.state.lock();
        let state = &mut *state;
        let output = state.outputs.get(job)?.get(&task).filter(|output| output.finished)?;
        let entry = state.pieces.get_mut(output.pieces.get(&partition)?)?;
        let listed = state.victims.remove(entry.coldness);
        entry.coldness = entry.coldness.after_read();
        if listed {
            state.victims.insert(entry.coldness);
        }
        Some(Snapshot { parts: entry.piece.parts(), store: self.clone(), owner: Arc::clone(&entry.owner) })
    }

    /// The schema of the piece that [`open`](Self::open) would find. Does not count as reading.
    pub(crate) fn schema(&self, job: &JobId, task: TaskId, partition: u32) -> Option<SchemaRef> {
        let state = self.0.state.lock();
        let output = state.outputs.get(job)?.get(&task).filter(|output| output.finished)?;
        let entry = state.pieces.get(output.pieces.get(&partition)?)?;
        Some(Arc::clone(&entry.piece.schema))
    }

    /// What the finished task attempts of a job wrote, as far as it is here.
    pub(crate) fn finished(&self, job: &JobId) -> Vec<(TaskId, Written)> {
        let state = self.0.state.lock();
        let Some(outputs) = state.outputs.get(job) else { return vec![] };
        let finished = outputs.iter().filter(|(_, output)| output.finished);
        finished.map(|(task, output)| (*task, state.written(output))).collect()
    }

    /// Drops what the tasks of a stage wrote. Readers that are at it finish reading.
    pub(crate) fn free_stage(&self, job: &JobId, stage: StageId) {
        let first = TaskId { stage, task: 0, attempt: 0 };
        let last = TaskId { stage, task: u32::MAX, attempt: u32::MAX };
        self.free(job, |outputs| outputs.extract_if(first..=last, |_, _| true).map(|(_, output)| output).collect());
    }

    /// Drops what one task attempt wrote, finished or not.
    pub(crate) fn abort(&self, job: &JobId, task: TaskId) {
        self.free(job, |outputs| outputs.remove(&task).into_iter().collect());
    }

    /// A reader found that part of what a task attempt wrote cannot be read back.
    fn lost(&self, owner: &Owner, reason: &str) {
        let Owner { job, task } = owner;
        metrics::springald_executor::exchange_damaged_reads_total().inc();
        tracing::warn!(event = names::OUTPUT_DAMAGED, job_id = %job, stage_id = task.stage.0, task_id = task.task, attempt = task.attempt, reason,
            "the output of a task is lost: what was spilled of it is damaged");
        self.abort(job, *task);
    }

    /// Drops everything of a job.
    pub(crate) fn free_job(&self, job: &JobId) {
        self.free(job, |outputs| std::mem::take(outputs).into_values().collect());
    }

    fn free(&self, job: &JobId, take: impl FnOnce(&mut BTreeMap<TaskId, Output>) -> Vec<Output>) {
        let mut state = self.0.state.lock();
        let Some(outputs) = state.outputs.get_mut(job) else { return };
        let freed = take(outputs);
        if outputs.is_empty() {
            state.outputs.remove(job);
        }
        let pieces = freed.iter().flat_map(|output| output.pieces.values());
        let dropped: Vec<Piece> = pieces.filter_map(|piece| state.remove(*piece)).collect();
        // Giving memory back and deleting files takes time: not under the lock, nor on a thread that may not block.
        drop(state);
        if freed.iter().all(|output| output.spilled == 0) {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(dropped))),
            Err(_) => drop(dropped),
        }
    }

    /// What the store holds now.
    pub(crate) fn stats(&self) -> StoreStats {
        let pieces = self.0.state.lock().pieces.len();
        StoreStats { pieces, memory_bytes: self.0.reservation.size(), spilled_bytes: self.0.area.bytes() }
    }
}

impl State {
    fn add(&mut self, owner: &Arc<Owner>, partition: u32, schema: &SchemaRef) -> u64 {
        let number = self.next_piece;
        self.next_piece += 1;
        let coldness = Coldness::new(false, partition, number);
        let piece = Piece::new(Arc::clone(schema));
        self.pieces.insert(number, Entry { owner: Arc::clone(owner), coldness, piece });
        number
    }

    fn remove(&mut self, piece: u64) -> Option<Piece> {
        let entry = self.pieces.remove(&piece)?;
        self.victims.remove(entry.coldness);
        self.resident -= entry.piece.resident;
        Some(entry.piece)
    }

    /// A piece that holds memory may be spilled, unless that is under way.
    fn list_victim(&mut self, piece: u64) {
        if let Some(entry) = self.pieces.get(&piece)
            && entry.piece.resident > 0
            && !entry.piece.spilling
        {
            self.victims.insert(entry.coldness);
        }
    }

    /// What an output holds.
    fn written(&self, output: &Output) -> Written {
        let stats = output.pieces.iter().filter_map(|(partition, piece)| {
            let piece = &self.pieces.get(piece)?.piece;
            // Hashes of keys are no rows of the stage.
            let rows = if is_key_hashes(&piece.schema) { 0 } else { piece.rows };
            Some(PieceStats { partition: *partition, rows, bytes: piece.bytes })
        });
        Written { pieces: stats.collect(), spilled_bytes: output.spilled }
    }

    fn output_mut(&mut self, owner: &Owner) -> Option<&mut Output> {
        self.outputs.get_mut(&owner.job)?.get_mut(&owner.task)
    }
}
