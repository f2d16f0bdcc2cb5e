//! How large rows are when each has its own copy of its values, and cuts that keep that small.
//!
//! ```text
//! rows that share values ─▶ cut: slices, nothing is copied ─▶ wire layouts: nothing is shared ─▶ messages
//! ```
//!
//! Views and dictionaries let any number of rows refer to one value, as rows do after a join. A batch that takes a few
//! hundred kilobytes like that can become gigabytes on the wire, or more than the offsets of a plain column can count.
//! So it is measured before it is converted. What is counted here is close to the encoded size, not equal to it: the
//! encoder makes the exact cuts.

use arrow::array::{AnyDictionaryArray, Array, AsArray, GenericByteViewArray, RecordBatch};
use arrow::datatypes::{ArrowNativeType, ByteViewType, DataType, Schema};
use springald_core::error::{Error, ErrorCode, Result};

use super::wire::span;

/// A batch of up to so many messages is left whole: the encoder cuts it as well, and knows its size exactly.
const MESSAGES_LEFT_WHOLE: usize = 4;
/// Largest row: as many bytes as offsets of plain columns can count, and a message of gRPC can have.
const MAX_ROW_BYTES: usize = i32::MAX as usize;
/// What a value takes besides its bytes.
const OFFSET_BYTES: usize = size_of::<i32>();

/// All rows of the batch in their order, in slices that have about `target` bytes, or one row, when they are converted
/// to the schema `wire`. A batch that changes little stays whole.
///
/// # Errors
/// [`ResourcesExhausted`](ErrorCode::ResourcesExhausted) if there is a row that cannot be sent at all.
pub(super) fn cut(batch: RecordBatch, wire: &Schema, target: usize) -> Result<Vec<RecordBatch>> {
    let mut columns = batch.columns().iter().zip(wire.fields());
    if columns.all(|(column, field)| column.data_type() == field.data_type()) {
        return Ok(vec![batch]);
    }
    let mut slices = vec![];
    cut_into(batch, target, &mut slices)?;
    Ok(slices)
}

fn cut_into(batch: RecordBatch, target: usize, slices: &mut Vec<RecordBatch>) -> Result<()> {
    let rows = batch.num_rows();
    let bytes: usize = batch.columns().iter().map(|column| unshared_bytes(column.as_ref())).sum();
    if rows == 1 && bytes > MAX_ROW_BYTES {
        let message = format!("a row of the result has {bytes} bytes, and at most {MAX_ROW_BYTES} can be sent at once");
        return Err(Error::new(ErrorCode::ResourcesExhausted, message));
    }
    if rows <= 1 || bytes <= MESSAGES_LEFT_WHOLE * target {
        slices.push(batch);
        return Ok(());
    }
    // More than one slice, as there are more bytes than `target`. Rows differ, so each slice is measured again.
    let step = (rows / bytes.div_ceil(target)).max(1);
    for offset in (0..rows).step_by(step) {
        cut_into(batch.slice(offset, step.min(rows - offset)), target, slices)?;
    }
    Ok(())
}

/// Bytes of the rows in wire layout. Only what these rows refer to counts, so that slices of an array have together
/// what the array has. Values behind a NULL of a view count as well: room is made for them when it is converted.
fn unshared_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    match array.data_type() {
        DataType::Utf8View => view_bytes(array.as_string_view()),
        DataType::BinaryView => view_bytes(array.as_binary_view()),
        DataType::Dictionary(_, _) => dictionary_bytes(array.as_any_dictionary()),
        DataType::Utf8 => rows * OFFSET_BYTES + span(array.as_string::<i32>().value_offsets()).len(),
        DataType::Binary => rows * OFFSET_BYTES + span(array.as_binary::<i32>().value_offsets()).len(),
        DataType::LargeUtf8 => rows * OFFSET_BYTES + span(array.as_string::<i64>().value_offsets()).len(),
        DataType::LargeBinary => rows * OFFSET_BYTES + span(array.as_binary::<i64>().value_offsets()).len(),
        DataType::FixedSizeBinary(width) => rows * width.as_usize(),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            items_bytes(lists.value_offsets(), lists.values().as_ref())
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            items_bytes(lists.value_offsets(), lists.values().as_ref())
        }
        DataType::FixedSizeList(_, _) => unshared_bytes(array.as_fixed_size_list().values().as_ref()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| unshared_bytes(column.as_ref())).sum(),
        DataType::Map(_, _) => {
            let maps = array.as_map();
            items_bytes(maps.value_offsets(), maps.entries())
        }
        other => rows * other.primitive_width().unwrap_or(1),
    }
}

fn view_bytes<T: ByteViewType>(views: &GenericByteViewArray<T>) -> usize {
    views.len() * OFFSET_BYTES + views.views().iter().map(|view| view_length(*view)).sum::<usize>()
}

/// The length of a view's value: its lowest 32 bits.
fn view_length(view: u128) -> usize {
    (view as u32).as_usize()
}

/// A slice of a list has all items of the whole; its offsets say which are its own.
fn items_bytes<O: ArrowNativeType>(offsets: &[O], items: &dyn Array) -> usize {
    let own = span(offsets);
    offsets.len() * OFFSET_BYTES + unshared_bytes(items.slice(own.start, own.len()).as_ref())
}

fn dictionary_bytes(dictionary: &dyn AnyDictionaryArray) -> usize {
    let values = dictionary.values();
    if values.is_empty() {
        return dictionary.len() * OFFSET_BYTES;
    }
    if let Some(width) = values.data_type().primitive_width() {
        return dictionary.len() * width;
    }
    let bytes = match values.data_type() {
        DataType::Utf8 => referred_bytes(dictionary, length_of(values.as_string::<i32>().value_offsets())),
        DataType::Binary => referred_bytes(dictionary, length_of(values.as_binary::<i32>().value_offsets())),
        DataType::LargeUtf8 => referred_bytes(dictionary, length_of(values.as_string::<i64>().value_offsets())),
        DataType::LargeBinary => referred_bytes(dictionary, length_of(values.as_binary::<i64>().value_offsets())),
        DataType::Utf8View => {
            let views = values.as_string_view().views();
            referred_bytes(dictionary, |key| view_length(views[key]))
        }
        DataType::BinaryView => {
            let views = values.as_binary_view().views();
            referred_bytes(dictionary, |key| view_length(views[key]))
        }
        _ => referred_bytes(dictionary, |key| unshared_bytes(values.slice(key, 1).as_ref())),
    };
    dictionary.len() * OFFSET_BYTES + bytes
}

fn length_of<O: ArrowNativeType>(offsets: &[O]) -> impl Fn(usize) -> usize {
    move |key| offsets[key + 1].as_usize() - offsets[key].as_usize()
}

/// The sum of `bytes_of` the value that each row refers to. The dictionary has values.
fn referred_bytes(dictionary: &dyn AnyDictionaryArray, bytes_of: impl Fn(usize) -> usize) -> usize {
    let keys = dictionary.normalized_keys();
    match dictionary.nulls() {
        None => keys.into_iter().map(bytes_of).sum(),
        Some(nulls) => nulls.valid_indices().map(|row| bytes_of(keys[row])).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{
        ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
        UInt32Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::compute::take;
    use arrow::datatypes::{Field, Int32Type, Int64Type};

    use crate::flight_sql::wire::{to_wire, wire_schema};

    const VALUE_BYTES: usize = 100_000;
    const TARGET: usize = 1 << 20;

    /// So many times the same large value, which is in memory once.
    fn views(rows: usize) -> ArrayRef {
        let value = StringViewArray::from(vec!["x".repeat(VALUE_BYTES)]);
        take(&value, &UInt32Array::from(vec![0; rows]), None).expect("views")
    }

    fn dictionary(rows: usize, values: ArrayRef) -> ArrayRef {
        Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0; rows]), values))
    }

    fn lists(lengths: &[usize]) -> ArrayRef {
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let items = views(lengths.iter().sum());
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths.iter().copied()), items, None))
    }

    /// The column, and the numbers of its rows.
    fn numbered(column: ArrayRef) -> RecordBatch {
        let numbers = Arc::new(Int64Array::from_iter_values((0_i64..).take(column.len()))) as ArrayRef;
        RecordBatch::try_from_iter([("n", numbers), ("v", column)]).expect("batch")
    }

    fn assert_all_rows(slices: &[RecordBatch], batch: &RecordBatch) {
        let mut rows = 0;
        for slice in slices {
            assert!(*slice == batch.slice(rows, slice.num_rows()), "other rows than those from {rows}");
            rows += slice.num_rows();
        }
        assert_eq!(rows, batch.num_rows());
    }

    #[test]
    fn given_rows_that_share_a_large_value_when_cut_then_each_slice_has_its_share_and_no_row_is_lost() {
        const ROWS: usize = 200;
        let field = Arc::new(Field::new("s", DataType::Utf8View, false));
        for column in [
            views(ROWS),
            dictionary(ROWS, views(1)),
            dictionary(ROWS, Arc::new(StringArray::from(vec!["x".repeat(VALUE_BYTES)]))),
            dictionary(ROWS, lists(&[1])),
            lists(&[1; ROWS]),
            Arc::new(StructArray::from(vec![(field, views(ROWS))])),
        ] {
            let batch = numbered(column);
            let wire = wire_schema(&batch.schema());
            let slices = cut(batch.clone(), &wire, TARGET).expect("slices");
            assert!(slices.len() >= ROWS * VALUE_BYTES / TARGET, "{} slices of {wire}", slices.len());
            for slice in &slices {
                let plain = to_wire(slice, &wire).expect("plain");
                let bytes = plain.column(1).get_array_memory_size();
                assert!(bytes < 2 * TARGET, "{bytes} bytes of {wire}");
            }
            assert_all_rows(&slices, &batch);
        }
    }

    #[test]
    fn given_few_large_rows_among_small_ones_when_cut_then_only_rows_that_have_to_are_alone() {
        let mut lengths = vec![0; 1000];
        lengths[500] = 100;
        let batch = numbered(lists(&lengths));
        let wire = wire_schema(&batch.schema());
        let slices = cut(batch.clone(), &wire, TARGET).expect("slices");
        assert!(slices.iter().filter(|slice| slice.num_rows() == 1).count() <= 20);
        assert_all_rows(&slices, &batch);
    }

    #[test]
    fn given_a_row_that_no_column_can_hold_when_cut_then_that_is_an_error() {
        let batch = numbered(lists(&[1, 30_000, 1]));
        let wire = wire_schema(&batch.schema());
        let error = cut(batch, &wire, TARGET).expect_err("3 GB in a row");
        assert_eq!(error.code(), ErrorCode::ResourcesExhausted);
    }

    #[test]
    fn given_ordinary_rows_when_cut_then_they_stay_whole() {
        let texts: Vec<String> = (0..8192).map(|row| format!("{row:0100}")).collect();
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let nulls = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![None, None]), plain.slice(0, 0));
        for column in [
            Arc::new(StringViewArray::from(texts)) as ArrayRef,
            dictionary(8192, plain.slice(0, 1)),
            dictionary(8192, Arc::new(Int64Array::from(vec![7]))),
            Arc::new(nulls),
            Arc::new(StringArray::from(vec!["x".repeat(5 * TARGET); 3])),
        ] {
            let batch = numbered(column);
            let wire = wire_schema(&batch.schema());
            assert_eq!(cut(batch, &wire, TARGET).expect("slices").len(), 1, "{wire}");
        }
    }

    #[test]
    fn given_null_keys_when_measured_then_the_value_that_they_do_not_refer_to_does_not_count() {
        let keys = Int32Array::from(vec![None, Some(0), None]);
        let column = DictionaryArray::<Int32Type>::new(keys, views(1));
        assert_eq!(unshared_bytes(&column), VALUE_BYTES + 3 * OFFSET_BYTES);
        let numbers: DictionaryArray<Int64Type> =
            DictionaryArray::new(Int64Array::from(vec![0, 0]), Arc::new(Int32Array::from(vec![1])));
        assert_eq!(unshared_bytes(&numbers), 2 * size_of::<i32>());
    }
}
