//! How many bytes rows take by themselves. An array that is a slice of another one keeps all of that, and counts it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericByteArray, GenericByteViewArray, GenericListArray, MapArray, OffsetSizeTrait,
    RecordBatch,
};
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, LargeBinaryType, LargeUtf8Type, StringViewType,
    Utf8Type,
};

/// Bytes of the rows of `batch`: what a copy of them takes. Dictionaries, which rows share, are not among them.
pub(super) fn own_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| bytes_of(column, Strings::Used)).sum()
}

/// Bytes that Arrow's IPC writer makes of `batch`, but for padding and dictionaries: of the buffers that rows refer to
/// their own part only, but of view columns all strings that they keep, wherever in the batch these columns are.
pub(super) fn sent_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| bytes_of(column, Strings::All)).sum()
}

/// Which strings of a view column count.
#[derive(Clone, Copy)]
enum Strings {
    /// Those that rows refer to.
    Used,
    /// All that the column keeps.
    All,
}

fn bytes_of(array: &dyn Array, strings: Strings) -> usize {
    let rows = array.len();
    let validity = if array.nulls().is_some() { rows.div_ceil(8) } else { 0 };
    let values = match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::FixedSizeBinary(width) => rows * usize::try_from(*width).unwrap_or(0),
        DataType::Utf8 => of_bytes::<Utf8Type>(array.as_bytes()),
        DataType::LargeUtf8 => of_bytes::<LargeUtf8Type>(array.as_bytes()),
        DataType::Binary => of_bytes::<BinaryType>(array.as_bytes()),
        DataType::LargeBinary => of_bytes::<LargeBinaryType>(array.as_bytes()),
        DataType::Utf8View => of_views::<StringViewType>(array.as_byte_view(), strings),
        DataType::BinaryView => of_views::<BinaryViewType>(array.as_byte_view(), strings),
        DataType::List(_) => of_list::<i32>(array.as_list(), strings),
        DataType::LargeList(_) => of_list::<i64>(array.as_list(), strings),
        DataType::FixedSizeList(_, _) => bytes_of(array.as_fixed_size_list().values(), strings),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes_of(column, strings)).sum(),
        DataType::Map(_, _) => {
            let map = array.as_map();
            size_of_val(map.value_offsets()) + bytes_of(&entries(map), strings)
        }
        DataType::Dictionary(_, _) => bytes_of(array.as_any_dictionary().keys(), strings),
        // What is left has no slices that are cut to their rows.
        other => other.primitive_width().map_or_else(|| array.get_buffer_memory_size(), |width| rows * width),
    };
    validity + values
}

fn of_bytes<T: ByteArrayType>(array: &GenericByteArray<T>) -> usize {
    let (first, last) = span(array.value_offsets());
    size_of_val(array.value_offsets()) + last - first
}

fn of_views<T: ByteViewType>(array: &GenericByteViewArray<T>, strings: Strings) -> usize {
    let strings = match strings {
        Strings::Used => array.total_buffer_bytes_used(),
        Strings::All => array.data_buffers().iter().map(|buffer| buffer.len()).sum(),
    };
    array.len() * size_of::<u128>() + strings
}

fn of_list<O: OffsetSizeTrait>(list: &GenericListArray<O>, strings: Strings) -> usize {
    size_of_val(list.value_offsets()) + bytes_of(&elements(list), strings)
}

/// The elements that the rows of `list` refer to. It may keep more of them.
pub(super) fn elements<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> ArrayRef {
    let (first, last) = span(list.value_offsets());
    list.values().slice(first, last - first)
}

/// The entries that the rows of `map` refer to. It may keep more of them.
pub(super) fn entries(map: &MapArray) -> ArrayRef {
    let (first, last) = span(map.value_offsets());
    Arc::new(map.entries().slice(first, last - first))
}

fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize()),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = ["a", "b", "c", "d"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("a batch")
    }

    fn text(row: i64) -> String {
        format!("a text of forty bytes, and no more {row:>5}")
    }

    #[test]
    fn given_slices_of_plain_columns_and_lists_when_measured_then_their_own_part_only() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(text)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2000));
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2; 1000]), numbers, None));
        let whole = batch(vec![texts, lists]);
        let part = whole.slice(500, 10);
        // Two columns with offsets; texts of 40 bytes, two numbers in each list.
        assert_eq!(own_bytes(&part), 2 * 11 * 4 + 10 * (40 + 2 * 8));
        assert_eq!(sent_bytes(&part), own_bytes(&part));
        assert_eq!(own_bytes(&whole), 2 * 1001 * 4 + 1000 * (40 + 2 * 8));
    }

    #[test]
    fn given_a_slice_with_string_views_when_measured_then_only_what_is_sent_has_all_strings() {
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1000).map(text)).gc());
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists: ArrayRef =
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1; 1000]), Arc::clone(&views), None));
        let part = batch(vec![views, lists]).slice(500, 10);
        assert_eq!(own_bytes(&part), 2 * 10 * (16 + 40) + 11 * 4);
        assert_eq!(sent_bytes(&part), 2 * (10 * 16 + 1000 * 40) + 11 * 4);
    }
}
