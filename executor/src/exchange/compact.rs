//! Batches without dead weight.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};
use arrow::error::Result;

/// Copies the strings of view columns that keep more than twice the bytes alive that they use, for example because a
/// filter or a slice left few of them. Kept, spilled or sent, such a batch would take all those bytes along.
pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let compacted: Vec<Option<ArrayRef>> = batch.columns().iter().map(compact_column).collect();
    if compacted.iter().all(Option::is_none) {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = compacted.into_iter().zip(batch.columns()).map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old)));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
}

fn compact_column(column: &ArrayRef) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::Utf8View => compact_views(column.as_byte_view::<StringViewType>()),
        DataType::BinaryView => compact_views(column.as_byte_view::<BinaryViewType>()),
        _ => None,
    }
}

fn compact_views<T: ByteViewType>(column: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let kept: usize = column.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
    // Counting what is used looks at every row; with no buffers there is nothing to win.
    (kept > 0 && kept > 2 * column.total_buffer_bytes_used()).then(|| Arc::new(column.gc()) as ArrayRef)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn given_a_few_rows_of_many_strings_when_compacted_then_equal_and_small() {
        let strings = StringViewArray::from_iter_values((0..1000).map(|row| format!("a string of some length, {row}")));
        let batch = RecordBatch::try_from_iter([("s", Arc::new(strings) as ArrayRef)]).expect("a batch");
        let few = batch.slice(10, 3);
        let compacted = compact(few.clone()).expect("compacts");
        assert_eq!(compacted, few);
        assert!(compacted.get_array_memory_size() < few.get_array_memory_size() / 10);
    }

    #[test]
    fn given_dense_or_short_strings_when_compacted_then_untouched() {
        let dense = StringViewArray::from_iter_values((0..100).map(|row| format!("a string of some length, {row:5}")));
        let dense = StringViewArray::gc(&dense);
        let short = StringViewArray::from_iter_values((0..100).map(|row| row.to_string()));
        let columns = [("d", Arc::new(dense) as ArrayRef), ("s", Arc::new(short) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let compacted = compact(batch.clone()).expect("compacts");
        assert!(compacted.columns().iter().zip(batch.columns()).all(|(new, old)| Arc::ptr_eq(new, old)));
    }
}
