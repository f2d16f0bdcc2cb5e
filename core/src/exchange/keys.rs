//! The keys of a join's build side, as they cross the exchange: one hash per row, in an output partition of their own.
//!
//! ```text
//!   build stage: task ──rows──▶ pieces 0 … n-1        KeyHashes ──hashes──▶ piece n
//!   probe stage:  RuntimeFilterExec ◀── KeySet (a Bloom filter) ◀── piece n of all tasks of the build stage
//! ```
//!
//! Hashes, not finished filters: how many there are is known when all tasks have ended, so that the filter is as large as
//! it must be, and tasks need not agree on anything before.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Result, internal_datafusion_err};

use super::bloom::Bloom;

/// Hashes of one task, at most: past them it does not pay, and everything passes.
const TASK_LIMIT: usize = 2 << 20;
/// Hashes of all tasks of a stage, at most: the filter takes two bytes for each.
const STAGE_LIMIT: usize = 8 << 20;
/// Hashes of one batch.
const BATCH: usize = 64 << 10;
/// Not that of the exchange, by which all rows of a partition have something in common.
const SEED: u64 = 0x0005_19a1_d000;

static SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("springald.key_hash", DataType::UInt32, true)])));

/// The schema of a piece with hashes: one column; a null says that not all are there.
pub fn key_hash_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// True for the schema of pieces that hold hashes, and no rows of the stage.
pub fn is_key_hashes(schema: &SchemaRef) -> bool {
    Arc::ptr_eq(schema, &SCHEMA) || schema.fields() == SCHEMA.fields()
}

/// Hashes the keys of `batch`, which are in these `columns`, into `hashes`, one for each row.
fn hash_into(batch: &RecordBatch, columns: &[usize], hashes: &mut Vec<u64>) -> Result<()> {
    hashes.clear();
    hashes.resize(batch.num_rows(), 0);
    let missing = || internal_datafusion_err!("a join key is not among the columns of its stage");
    let keys = columns.iter().map(|column| batch.columns().get(*column).ok_or_else(missing));
    create_hashes(keys.collect::<Result<Vec<_>>>()?, &RandomState::with_seed(SEED), hashes)?;
    Ok(())
}

/// Upper and lower bits in one: half the bytes, and enough for as many keys as are let in.
fn folded(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Gathers the hashes of the keys that one task, or a part of it, writes.
#[derive(Debug)]
pub struct KeyHashes {
    columns: Vec<usize>,
    hashes: Vec<u64>,
    gathered: Vec<u32>,
    /// Batches that were given out hold so many.
    given: usize,
    overflown: bool,
}

impl KeyHashes {
    /// For keys in these columns.
    pub fn new(columns: Vec<usize>) -> Self {
        Self { columns, hashes: vec![], gathered: vec![], given: 0, overflown: false }
    }

    /// Takes the keys of a batch; gives a batch of hashes when there are enough for one.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        if self.overflown {
            return Ok(None);
        }
        if self.given + self.gathered.len() + batch.num_rows() > TASK_LIMIT {
            self.overflown = true;
            self.gathered = vec![];
            return as_batch(UInt32Array::new_null(1)).map(Some);
        }
        hash_into(batch, &self.columns, &mut self.hashes)?;
        self.gathered.extend(self.hashes.iter().map(|hash| folded(*hash)));
        if self.gathered.len() < BATCH { Ok(None) } else { self.finish() }
    }

    /// What is left, in one batch.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.gathered.is_empty() {
            return Ok(None);
        }
        self.given += self.gathered.len();
        as_batch(UInt32Array::from(std::mem::take(&mut self.gathered))).map(Some)
    }
}

fn as_batch(hashes: UInt32Array) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(key_hash_schema(), vec![Arc::new(hashes)])?)
}

/// The hashes of all tasks of a stage, while they come in.
#[derive(Debug, Default)]
pub(super) struct KeySetBuilder {
    hashes: Vec<u32>,
    incomplete: bool,
}

impl KeySetBuilder {
    /// Takes a batch that some [`KeyHashes`] gave. False: there are too many, and no others are needed.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<bool> {
        let column = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let column = column.ok_or_else(|| internal_datafusion_err!("a piece with hashes has other columns"))?;
        if column.null_count() > 0 || self.hashes.len() + column.len() > STAGE_LIMIT {
            self.incomplete = true;
            self.hashes = vec![];
        } else if !self.incomplete {
            self.hashes.extend_from_slice(column.values());
        }
        Ok(!self.incomplete)
    }

    /// Bytes that it takes now, with the filter that it will be.
    pub(super) fn bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u32>() + Bloom::bytes_for(self.hashes.len())
    }

    pub(super) fn finish(self) -> KeySet {
        KeySet((!self.incomplete).then(|| Bloom::of(&self.hashes)))
    }
}

/// Keys that may be there. `None`: all of them.
#[derive(Debug)]
pub(super) struct KeySet(Option<Bloom>);

impl KeySet {
    /// The set of all keys.
    pub(super) const ALL: Self = Self(None);

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Bloom::bytes)
    }

    /// Which rows of `batch` have a key in the set, by the keys in these `columns`; `None`: all of them may.
    pub(super) fn select(
        &self,
        batch: &RecordBatch,
        columns: &[usize],
        hashes: &mut Vec<u64>,
    ) -> Result<Option<datafusion::arrow::array::BooleanArray>> {
        let Some(bloom) = &self.0 else { return Ok(None) };
        hash_into(batch, columns, hashes)?;
        let found = hashes.iter().map(|hash| bloom.may_contain(folded(*hash)));
        Ok(Some(datafusion::arrow::buffer::BooleanBuffer::from_iter(found).into()))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    fn batch(numbers: impl Iterator<Item = i64> + Clone) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(numbers.clone().map(|n| format!("text {n}"))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).expect("a batch")
    }

    fn set(batches: impl IntoIterator<Item = RecordBatch>) -> KeySet {
        let mut hashes = KeyHashes::new(vec![0, 1]);
        let mut builder = KeySetBuilder::default();
        for batch in batches {
            if let Some(full) = hashes.push(&batch).expect("hashes") {
                builder.push(&full).expect("hashes");
            }
        }
        if let Some(rest) = hashes.finish().expect("hashes") {
            builder.push(&rest).expect("hashes");
        }
        builder.finish()
    }

    fn passing(set: &KeySet, batch: &RecordBatch) -> usize {
        let selected = set.select(batch, &[0, 1], &mut vec![]).expect("selects");
        selected.map_or(batch.num_rows(), |selected| selected.true_count())
    }

    #[test]
    fn given_keys_then_all_of_them_pass_and_hardly_any_other() {
        let set = set((0..30).map(|part| batch(part * 10_000..(part + 1) * 10_000)));
        assert_eq!(passing(&set, &batch(0..300_000)), 300_000);
        let others = passing(&set, &batch(1_000_000..1_100_000));
        assert!(others < 2_000, "{others} of 100000 pass");
    }

    #[test]
    fn given_no_keys_then_nothing_passes() {
        assert_eq!(passing(&set([]), &batch(0..1000)), 0);
    }

    #[test]
    fn given_too_many_keys_then_everything_passes() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..500_000));
        let large = RecordBatch::try_from_iter([("n", numbers)]).expect("a batch");
        let mut hashes = KeyHashes::new(vec![0]);
        let mut builder = KeySetBuilder::default();
        for _ in 0..6 {
            if let Some(full) = hashes.push(&large).expect("hashes") {
                builder.push(&full).expect("hashes");
            }
        }
        assert!(hashes.finish().expect("hashes").is_none());
        let set = builder.finish();
        assert!(set.select(&large, &[0], &mut vec![]).expect("selects").is_none());
    }
}
