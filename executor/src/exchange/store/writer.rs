//! The output of one task attempt while it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use springald_core::error::{Error, ErrorCode};

use super::piece::{Counted, Resident};
use super::spilling::{Spill, file_name};
use super::{ExchangeStore, Owner, PieceStats, Shared};
use crate::exchange::size::own_bytes;

/// One spill makes room for at least this share of the budget, so that files are not tiny.
const SPILL_SHARE: usize = 32;
/// … but for no more than this, so that a writer does not wait long.
const MAX_SPILL_BYTES: usize = 32 << 20;

/// Writes the pieces of one task attempt. Dropped before [`finish`](Self::finish), it discards them.
pub(crate) struct PieceWriter {
    store: ExchangeStore,
    owner: Arc<Owner>,
    pieces: BTreeMap<u32, u64>,
    finished: bool,
}

/// The answer to a batch that wants in.
enum Admission {
    Admitted,
    /// These must go to disk first.
    SpillFirst(Vec<Spill>),
    /// Nothing is left to spill: the batch itself goes to disk.
    Full,
}

impl PieceWriter {
    pub(super) fn new(store: ExchangeStore, owner: Arc<Owner>, pieces: BTreeMap<u32, u64>) -> Self {
        Self { store, owner, pieces, finished: false }
    }

    /// Adds an empty piece of `schema`, for a partition that has none yet.
    pub(crate) fn add_piece(&mut self, partition: u32, schema: &SchemaRef) -> Result<()> {
        let mut state = self.store.0.state.lock();
        if state.output_mut(&self.owner).is_none() {
            return Err(aborted(&self.owner));
        }
        let piece = state.add(&self.owner, partition, schema);
        if let Some(output) = state.output_mut(&self.owner) {
            output.pieces.insert(partition, piece);
        }
        self.pieces.insert(partition, piece);
        Ok(())
    }

    /// Appends `batch` to the piece of `partition`. Waits while older pieces are spilled to make room for it.
    ///
    /// Fails when the disk limit is reached, when the disk fails, and when the task was aborted meanwhile.
    pub(crate) async fn push(&self, partition: u32, batch: RecordBatch) -> Result<()> {
        let piece = self.pieces.get(&partition).copied().ok_or_else(|| {
            DataFusionError::Internal(format!("task {} does not write output partition {partition}", self.owner.task))
        })?;
        let mut counted = None;
        loop {
            match self.store.0.admit(&self.owner, piece, &batch, &mut counted)? {
                Admission::Admitted => return Ok(()),
                Admission::SpillFirst(chosen) => {
                    let shared = Arc::clone(&self.store.0);
                    blocking(move || shared.spill(chosen)).await?;
                }
                Admission::Full => return self.push_to_disk(partition, piece, batch).await,
            }
        }
    }

    /// Makes all pieces visible, and says what they hold.
    pub(crate) fn finish(mut self) -> Result<Written> {
        let mut state = self.store.0.state.lock();
        let Some(output) = state.output_mut(&self.owner) else { return Err(aborted(&self.owner)) };
        output.finished = true;
        let output = state.outputs.get(&self.owner.job).and_then(|outputs| outputs.get(&self.owner.task));
        let written = output.map(|output| state.written(output)).ok_or_else(|| aborted(&self.owner))?;
        drop(state);
        self.finished = true;
        Ok(written)
    }

    async fn push_to_disk(&self, partition: u32, piece: u64, batch: RecordBatch) -> Result<()> {
        let (shared, owner) = (Arc::clone(&self.store.0), Arc::clone(&self.owner));
        blocking(move || {
            let file = shared.area.write(&owner.job, &file_name(&owner, partition), &batch.schema(), [&batch])?;
            let (file, bytes) = (Arc::new(file), own_bytes(&batch));
            let mut state = shared.state.lock();
            let entry = state.pieces.get_mut(&piece).ok_or_else(|| aborted(&owner))?;
            entry.piece.push_spilled(batch.num_rows() as u64, bytes, Arc::clone(&file));
            if let Some(output) = state.output_mut(&owner) {
                output.spilled += file.bytes();
            }
            Ok(())
        })
        .await
    }
}

impl Drop for PieceWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.store.abort(&self.owner.job, self.owner.task);
        }
    }
}

/// What a finished task attempt wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its pieces by partition, ascending.
    pub(crate) pieces: Vec<PieceStats>,
    /// Bytes that went to disk.
    pub(crate) spilled_bytes: u64,
}

impl Shared {
    /// Lets `batch` into `piece` if it fits the budget and the pool; else says what has to happen first.
    fn admit(
        &self,
        owner: &Owner,
        piece: u64,
        batch: &RecordBatch,
        counted: &mut Option<Counted>,
    ) -> Result<Admission> {
        let mut state = self.state.lock();
        let Some(entry) = state.pieces.get_mut(&piece) else { return Err(aborted(owner)) };
        let bytes = entry.piece.count(batch, counted);
        let fits = state.resident.saturating_add(bytes) <= self.budget && self.reservation.try_grow(bytes).is_ok();
        if fits {
            // From here on dropping it gives the memory back.
            let resident = Resident::new(batch.clone(), bytes, Arc::clone(&self.reservation));
            let Some(entry) = state.pieces.get_mut(&piece) else { return Err(aborted(owner)) };
            entry.piece.push_resident(resident);
            state.resident += bytes;
            state.list_victim(piece);
            return Ok(Admission::Admitted);
        }
        let room = (self.budget / SPILL_SHARE).min(MAX_SPILL_BYTES).max(bytes);
        let chosen = state.choose_victims(room);
        Ok(if chosen.is_empty() { Admission::Full } else { Admission::SpillFirst(chosen) })
    }
}

fn aborted(owner: &Owner) -> DataFusionError {
    Error::new(ErrorCode::Cancelled, format!("task {} of job {} was stopped", owner.task, owner.job)).into()
}

/// Runs `work` on a thread that may block. It runs to its end even if nobody waits for it any more.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DataFusionError::Execution(format!("spilling of the exchange was broken off: {error}")))?
}
