//! What rows that wait keep alive: slices keep whole arrays, and many of them the same ones.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, RecordBatch};
use parking_lot::Mutex;

/// The buffers that batches keep alive together, each counted once. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Retained(Arc<Mutex<Buffers>>);

#[derive(Default)]
struct Buffers {
    /// How many batches keep a buffer, by its address.
    holders: HashMap<NonZero<usize>, usize>,
    bytes: usize,
}

/// What some batches keep alive; counted until it is dropped.
pub(super) struct Kept {
    buffers: Vec<(NonZero<usize>, usize)>,
    bytes: usize,
    all: Retained,
}

impl Retained {
    /// Counts what `batch`, or any other slice of the same arrays, keeps alive. The answer is to be dropped before they
    /// are: addresses are used again.
    pub(super) fn keep(&self, batch: &RecordBatch) -> Arc<Kept> {
        let mut buffers = vec![];
        for column in batch.columns() {
            list_buffers(&column.to_data(), &mut buffers);
        }
        buffers.sort_unstable();
        buffers.dedup_by_key(|(address, _)| *address);
        let mut all = self.0.lock();
        for (address, bytes) in &buffers {
            let holders = all.holders.entry(*address).or_default();
            *holders += 1;
            if *holders == 1 {
                all.bytes += bytes;
            }
        }
        drop(all);
        let bytes = buffers.iter().map(|(_, bytes)| bytes).sum();
        Arc::new(Kept { buffers, bytes, all: self.clone() })
    }

    /// Bytes that are kept alive now.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

impl Kept {
    /// Bytes that it keeps alive, whoever else does.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        for (address, bytes) in &self.buffers {
            let Some(holders) = all.holders.get_mut(address) else { continue };
            *holders -= 1;
            if *holders == 0 {
                all.holders.remove(address);
                all.bytes -= bytes;
            }
        }
    }
}

fn list_buffers(data: &ArrayData, buffers: &mut Vec<(NonZero<usize>, usize)>) {
    let validity = data.nulls().map(|nulls| nulls.buffer());
    let found = data.buffers().iter().chain(validity);
    buffers.extend(found.map(|buffer| (buffer.data_ptr().addr(), buffer.capacity())));
    for child in data.child_data() {
        list_buffers(child, buffers);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn given_slices_of_the_same_arrays_when_kept_then_they_count_once_and_until_the_last_is_gone() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        // Twice in one batch, too.
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&numbers)), ("b", numbers)]).expect("a batch");
        let other: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let other = RecordBatch::try_from_iter([("a", other)]).expect("a batch");
        let retained = Retained::default();
        let first = retained.keep(&batch.slice(0, 10));
        let second = retained.keep(&batch.slice(500, 10));
        assert!((8000..9000).contains(&retained.bytes()), "{}", retained.bytes());
        assert_eq!((first.bytes(), second.bytes()), (retained.bytes(), retained.bytes()));
        let third = retained.keep(&other);
        assert_eq!(retained.bytes(), first.bytes() + third.bytes());
        drop(first);
        assert_eq!(retained.bytes(), second.bytes() + third.bytes());
        drop(second);
        assert_eq!(retained.bytes(), third.bytes());
        drop(third);
        assert_eq!(retained.bytes(), 0);
    }
}
