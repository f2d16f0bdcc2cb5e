//! Batches without dead weight.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericByteViewArray, GenericListArray, MapArray, OffsetSizeTrait,
    RecordBatch, RecordBatchOptions, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, FieldRef, StringViewType};
use arrow::error::Result;

use super::size::{elements, entries};

/// Copies the strings of view columns that keep more than twice the bytes alive that they use, for example because a
/// filter or a slice left few of them; also of those in lists, structs, maps and dictionaries. Kept, spilled or sent,
/// such a batch would take all those bytes along.
pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    compact_beyond(Quarters(8), batch)
}

/// The same for part of a batch that is too large to be sent: already a quarter more than is used is too much.
pub(super) fn compact_part(batch: RecordBatch) -> Result<RecordBatch> {
    compact_beyond(Quarters(5), batch)
}

/// Quarters of the bytes that are used: as many may be kept alive.
#[derive(Clone, Copy)]
struct Quarters(usize);

fn compact_beyond(limit: Quarters, batch: RecordBatch) -> Result<RecordBatch> {
    let Some(columns) = compact_all(limit, batch.columns()) else { return Ok(batch) };
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

/// `None` if there is nothing to win in any of them.
fn compact_all(limit: Quarters, arrays: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
    let compacted: Vec<Option<ArrayRef>> = arrays.iter().map(|array| compact_array(limit, array)).collect();
    if compacted.iter().all(Option::is_none) {
        return None;
    }
    let arrays = compacted.into_iter().zip(arrays).map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old)));
    Some(arrays.collect())
}

/// The same values; `None` if there is nothing to win. What cannot be put together anew (Arrow checks nullability then,
/// and not everybody else does) stays as it is, too.
fn compact_array(limit: Quarters, array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Utf8View => compact_views(limit, array.as_byte_view::<StringViewType>()),
        DataType::BinaryView => compact_views(limit, array.as_byte_view::<BinaryViewType>()),
        DataType::List(field) => compact_list(limit, array.as_list::<i32>(), field),
        DataType::LargeList(field) => compact_list(limit, array.as_list::<i64>(), field),
        DataType::FixedSizeList(field, size) => {
            let values = compact_array(limit, array.as_fixed_size_list().values())?;
            let (nulls, rows) = (array.nulls().cloned(), array.len());
            Some(Arc::new(FixedSizeListArray::try_new_with_length(Arc::clone(field), *size, values, nulls, rows).ok()?))
        }
        DataType::Struct(fields) => {
            let columns = compact_all(limit, array.as_struct().columns())?;
            Some(Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned()).ok()?))
        }
        DataType::Map(field, sorted) => compact_map(limit, array.as_map(), field, *sorted),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            Some(dictionary.with_values(compact_array(limit, dictionary.values())?))
        }
        _ => None,
    }
}

fn compact_views<T: ByteViewType>(limit: Quarters, array: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let kept: usize = array.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
    // Counting what is used looks at every row; with no buffers there is nothing to win.
    let wasteful = kept > 0 && 4 * kept > limit.0 * array.total_buffer_bytes_used();
    wasteful.then(|| Arc::new(array.gc()) as ArrayRef)
}

fn compact_list<O: OffsetSizeTrait>(limit: Quarters, list: &GenericListArray<O>, field: &FieldRef) -> Option<ArrayRef> {
    let values = compact_array(limit, &elements(list))?;
    // From the first element that is left.
    let offsets = OffsetBuffer::from_lengths(list.offsets().lengths());
    let list = GenericListArray::<O>::try_new(Arc::clone(field), offsets, values, list.nulls().cloned());
    Some(Arc::new(list.ok()?))
}

fn compact_map(limit: Quarters, map: &MapArray, field: &FieldRef, sorted: bool) -> Option<ArrayRef> {
    let entries = compact_array(limit, &entries(map))?;
    let offsets = OffsetBuffer::from_lengths(map.offsets().lengths());
    let entries = entries.as_struct().clone();
    Some(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, map.nulls().cloned(), sorted).ok()?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, Int64Array, ListArray, StringViewArray};
    use arrow::datatypes::{Field, Fields, Int32Type};

    use super::super::size::sent_bytes;
    use super::*;

    const ROWS: usize = 1000;

    fn views(count: usize) -> ArrayRef {
        let texts = (0..count).map(|row| format!("a string of some length, {row:5}"));
        Arc::new(StringViewArray::from_iter_values(texts).gc())
    }

    /// A column of each type that has strings inside.
    fn nested() -> RecordBatch {
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let list: ArrayRef =
            Arc::new(ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([2; ROWS]), views(2 * ROWS), None));
        let large: ArrayRef = Arc::new(GenericListArray::<i64>::new(
            Arc::clone(&item),
            OffsetBuffer::from_lengths([1; ROWS]),
            views(ROWS),
            Some((0..ROWS).map(|row| row % 3 > 0).collect()),
        ));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, views(2 * ROWS), None));
        let fields: Fields =
            vec![Field::new("key", DataType::Int64, false), Field::new("value", list.data_type().clone(), true)].into();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        let entries = StructArray::new(fields, vec![numbers, Arc::clone(&list)], None);
        let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let map = MapArray::new(field, OffsetBuffer::from_lengths([1; ROWS]), entries.clone(), None, false);
        let keys = Int32Array::from_iter_values((0..ROWS as i32).map(|row| row % 2));
        let dictionary = DictionaryArray::<Int32Type>::new(keys, views(ROWS).slice(0, 2));
        let columns: [(&str, ArrayRef); 6] = [
            ("list", list),
            ("large", large),
            ("fixed", fixed),
            ("struct", Arc::new(entries)),
            ("map", Arc::new(map)),
            ("dictionary", Arc::new(dictionary)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("a batch")
    }

    #[test]
    fn given_a_few_rows_of_many_strings_when_compacted_then_equal_and_small() {
        let batch = RecordBatch::try_from_iter([("s", views(ROWS))]).expect("a batch");
        let few = batch.slice(10, 3);
        let compacted = compact(few.clone()).expect("compacts");
        assert_eq!(compacted, few);
        assert!(compacted.get_array_memory_size() < few.get_array_memory_size() / 10);
    }

    #[test]
    fn given_a_few_rows_of_strings_inside_of_others_when_compacted_then_each_column_is_equal_and_small() {
        let few = nested().slice(10, 3);
        let compacted = compact(few.clone()).expect("compacts");
        assert_eq!(compacted, few);
        for (column, field) in few.columns().iter().zip(few.schema().fields()) {
            let one = |batch: &RecordBatch| {
                let index = batch.schema().index_of(field.name()).expect("a column");
                batch.project(&[index]).expect("a batch")
            };
            // A dictionary is not sent with the rows.
            let (before, after) = match field.data_type() {
                DataType::Dictionary(_, _) => {
                    let index = few.schema().index_of(field.name()).expect("a column");
                    let values = compacted.column(index).as_any_dictionary().values();
                    (column.as_any_dictionary().values().get_buffer_memory_size(), values.get_buffer_memory_size())
                }
                _ => (sent_bytes(&one(&few)), sent_bytes(&one(&compacted))),
            };
            assert!(after < before / 10, "{}: {before} bytes became {after}", field.name());
        }
    }

    #[test]
    fn given_dense_or_short_strings_when_compacted_then_untouched() {
        let short = StringViewArray::from_iter_values((0..ROWS).map(|row| row.to_string()));
        let columns = [("d", views(ROWS)), ("s", Arc::new(short) as ArrayRef)];
        let plain = RecordBatch::try_from_iter(columns).expect("a batch");
        let nested = nested();
        let without_dictionary = nested.project(&[0, 1, 2, 3, 4]).expect("a batch");
        for batch in [plain, without_dictionary] {
            let compacted = compact(batch.clone()).expect("compacts");
            assert!(compacted.columns().iter().zip(batch.columns()).all(|(new, old)| Arc::ptr_eq(new, old)));
        }
    }
}
