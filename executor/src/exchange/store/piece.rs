//! One piece: its batches in order, some in memory, some on disk.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::area::SpillFile;
use super::{ExchangeStore, Owner, ReadError};

/// A part of a piece.
#[derive(Clone)]
pub(super) enum Part {
    Memory(Arc<Resident>),
    Disk(Arc<SpillFile>),
}

/// A batch in memory, with what it takes from the pool for as long as the exchange or one of its readers holds it.
pub(super) struct Resident {
    batch: RecordBatch,
    bytes: usize,
    reservation: Arc<MemoryReservation>,
}

impl Resident {
    /// Takes over `bytes` that were reserved in `reservation` for `batch`.
    pub(super) fn new(batch: RecordBatch, bytes: usize, reservation: Arc<MemoryReservation>) -> Self {
        Self { batch, bytes, reservation }
    }

    pub(super) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

/// What keeping a batch adds to what its piece retains; holds until the piece begins to count anew.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    bytes: usize,
    count: u64,
}

/// What one task attempt wrote for one output partition.
pub(super) struct Piece {
    pub(super) schema: SchemaRef,
    parts: Vec<Part>,
    /// Counts buffers that batches of this piece share only once. It knows them by their addresses, which are used
    /// again when they are gone: it may only know buffers that stay in memory.
    counter: RecordBatchMemoryCounter,
    /// How often it began anew.
    count: u64,
    pub(super) rows: u64,
    /// Bytes of all batches, wherever they are now.
    pub(super) bytes: u64,
    /// Bytes of batches in memory that no spill is under way for.
    pub(super) resident: usize,
    pub(super) spilling: bool,
}

impl Piece {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            parts: vec![],
            counter: RecordBatchMemoryCounter::new(),
            count: 0,
            rows: 0,
            bytes: 0,
            resident: 0,
            spilling: false,
        }
    }

    /// Bytes that keeping `batch` adds to what the piece retains already. `counted` is what was said of it before.
    pub(super) fn count(&mut self, batch: &RecordBatch, counted: &mut Option<Counted>) -> usize {
        match counted {
            Some(counted) if counted.count == self.count => counted.bytes,
            _ => {
                let bytes = self.counter.count_batch(batch);
                *counted = Some(Counted { bytes, count: self.count });
                bytes
            }
        }
    }

    /// What follows may share buffers with what leaves: counted again, rather than not at all.
    fn count_anew(&mut self) {
        self.counter = RecordBatchMemoryCounter::new();
        self.count += 1;
    }

    /// Appends a batch that stays in memory.
    pub(super) fn push_resident(&mut self, batch: Resident) {
        self.rows += batch.batch.num_rows() as u64;
        self.bytes += batch.bytes as u64;
        self.resident += batch.bytes;
        self.parts.push(Part::Memory(Arc::new(batch)));
    }

    /// Appends `rows` rows that take `bytes` in memory and were written to disk at once.
    pub(super) fn push_spilled(&mut self, rows: u64, bytes: usize, file: Arc<SpillFile>) {
        self.rows += rows;
        self.bytes += bytes as u64;
        self.parts.push(Part::Disk(file));
        self.count_anew();
    }

    /// True if a reader holds some of the batches in memory: spilled now, these would give no memory back.
    pub(super) fn is_held(&self) -> bool {
        self.parts.iter().filter_map(resident).any(is_held)
    }

    /// The batches to spill: the first run of batches in memory, as far as no reader holds them. `None` if that is
    /// nothing, or if what stays keeps their buffers alive. Else the piece counts as spilling from now on, until
    /// [`end_spill`](Self::end_spill) or [`undo_spill`](Self::undo_spill) with the same range.
    pub(super) fn begin_spill(&mut self) -> Option<(Range<usize>, Vec<Arc<Resident>>)> {
        let start = self.parts.iter().position(|part| matches!(part, Part::Memory(_)))?;
        let run: Vec<_> = self.parts.iter().skip(start).map_while(resident).collect();
        let free = run.iter().position(|batch| is_held(batch)).unwrap_or(run.len());
        let (leaving, staying) = run.split_at(free);
        if leaving.is_empty() || keep_alive(staying, leaving) {
            return None;
        }
        let leaving: Vec<_> = leaving.iter().copied().cloned().collect();
        let bytes: usize = leaving.iter().map(|batch| batch.bytes).sum();
        self.resident -= bytes;
        self.spilling = true;
        self.count_anew();
        Some((start..start + leaving.len(), leaving))
    }

    /// Puts `file` in the place of the batches at `range`; returns them, to be dropped outside of any lock. Batches
    /// are only ever appended, so the range still holds.
    pub(super) fn end_spill(&mut self, range: Range<usize>, file: Arc<SpillFile>) -> Vec<Part> {
        self.spilling = false;
        self.parts.splice(range, [Part::Disk(file)]).collect()
    }

    /// The spill failed: the batches at `range` stay.
    pub(super) fn undo_spill(&mut self, range: Range<usize>) {
        self.spilling = false;
        let stay = self.parts.get(range).unwrap_or_default();
        self.resident += stay.iter().filter_map(resident).map(|batch| batch.bytes).sum::<usize>();
    }

    /// Everything that was written so far; stays readable whatever happens to the piece.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.parts.clone()
    }
}

fn resident(part: &Part) -> Option<&Arc<Resident>> {
    match part {
        Part::Memory(batch) => Some(batch),
        Part::Disk(_) => None,
    }
}

/// The store itself holds each batch once. Asked under the store's lock, without which no reader comes: one may only go.
fn is_held(batch: &Arc<Resident>) -> bool {
    Arc::strong_count(batch) > 1
}

/// True if some bytes that `leaving` was counted with stay with `staying`: buffers that they share count with the first.
fn keep_alive(staying: &[&Arc<Resident>], leaving: &[&Arc<Resident>]) -> bool {
    if staying.is_empty() {
        return false;
    }
    let mut counter = RecordBatchMemoryCounter::new();
    for batch in staying {
        counter.count_batch(&batch.batch);
    }
    let counted: usize = leaving.iter().map(|batch| batch.bytes).sum();
    leaving.iter().map(|batch| counter.count_batch(&batch.batch)).sum::<usize>() < counted
}

/// A piece as a reader sees it.
pub(crate) struct Snapshot {
    pub(super) parts: Vec<Part>,
    /// Told when a part is lost.
    pub(super) store: ExchangeStore,
    pub(super) owner: Arc<Owner>,
}

impl Snapshot {
    /// The batches in order: those in memory are the very ones that were written, those on disk equal to them.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, ReadError>> {
        let Self { parts, store, owner } = self;
        let batches = futures::stream::iter(parts).flat_map(|part| match part {
            Part::Memory(batch) => futures::stream::iter([Ok(batch.batch.clone())]).boxed(),
            Part::Disk(file) => file.read(),
        });
        batches
            .inspect_err(move |error| {
                if let ReadError::Lost(reason) = error {
                    store.lost(&owner, reason);
                }
            })
            .boxed()
    }
}
