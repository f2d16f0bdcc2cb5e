//! Gathers rows until they are enough for a batch.
//!
//! ```text
//!   rows ──▶ wait, together with what they keep alive ──enough rows, or bytes──▶ one batch, without dead weight
//! ```

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::compact::compact;
use super::retained::{Kept, Retained};
use super::size::own_bytes;

/// So many bytes are enough for a batch, however few rows they are: no more waits for each output partition, and arrays
/// that count their bytes in 32 bits hold it. Rows of up to 128 bytes fill batches of the usual 8192 all the same.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// Gathers the rows of one output partition.
pub(super) struct Gatherer {
    schema: SchemaRef,
    /// So many rows are enough for a batch.
    target: usize,
    /// What comes is slices of arrays that other gatherers get slices of, too.
    shares: bool,
    waiting: Vec<Waiting>,
    rows: usize,
    /// Bytes of the rows that wait, without what they keep alive besides.
    bytes: usize,
}

struct Waiting {
    /// Goes before the rows do.
    kept: Arc<Kept>,
    rows: RecordBatch,
}

/// Batches that are ready, in order.
type Ready = [Option<RecordBatch>; 2];

impl Gatherer {
    /// Gathers batches of `target` rows. `shares`: out of slices, which others get of the same arrays.
    pub(super) fn new(schema: SchemaRef, target: usize, shares: bool) -> Self {
        Self { schema, target, shares, waiting: vec![], rows: 0, bytes: 0 }
    }

    /// Takes rows; `keep` says what they keep alive if they have to wait. Gives what is ready now.
    pub(super) fn push(&mut self, rows: RecordBatch, keep: impl FnOnce(&RecordBatch) -> Arc<Kept>) -> Result<Ready> {
        if rows.num_rows() == 0 {
            return Ok([None, None]);
        }
        // Copying a batch that is large already only costs time.
        if !self.shares && self.waiting.is_empty() && rows.num_rows() >= self.target.div_ceil(2) {
            return Ok([Some(compact(rows)?), None]);
        }
        let bytes = own_bytes(&rows);
        // It is enough by itself, and together with others it might be more than an array can hold.
        let before = if bytes >= BATCH_BYTES { self.finish()? } else { None };
        self.rows += rows.num_rows();
        self.bytes += bytes;
        self.waiting.push(Waiting { kept: keep(&rows), rows });
        let enough = self.rows >= self.target || self.bytes >= BATCH_BYTES;
        Ok([before, if enough { self.finish()? } else { None }])
    }

    /// What is left, in one batch.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        (self.rows, self.bytes) = (0, 0);
        let waiting = std::mem::take(&mut self.waiting);
        match waiting.as_slice() {
            [] => Ok(None),
            // Of arrays that others have slices of, each slice would keep and count everything in the store.
            [only] if !self.shares || 2 * own_bytes(&only.rows) >= only.kept.bytes() => {
                Ok(Some(compact(only.rows.clone())?))
            }
            _ => self.copied(&waiting).map(Some),
        }
    }

    /// Bytes of the rows that wait, without what they keep alive besides.
    pub(super) fn own_bytes(&self) -> usize {
        self.bytes
    }

    /// From now on the rows that wait keep nothing alive but themselves.
    pub(super) fn settle(&mut self, retained: &Retained) -> Result<()> {
        if !self.waiting.is_empty() {
            let rows = self.copied(&self.waiting)?;
            self.waiting = vec![Waiting { kept: retained.keep(&rows), rows }];
        }
        Ok(())
    }

    fn copied(&self, waiting: &[Waiting]) -> Result<RecordBatch> {
        let rows = waiting.iter().map(|waiting| &waiting.rows);
        // One alone would be passed on as it is.
        let nothing = waiting.first().map(|first| first.rows.slice(0, 0));
        Ok(compact(concat_batches(&self.schema, rows.chain(&nothing))?)?)
    }
}
