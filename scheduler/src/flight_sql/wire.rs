//! What clients are sent: schemas and batches in the layouts that every Arrow client knows.
//!
//! DataFusion computes with string views and dictionaries. Not all drivers read them, and sent as they are they would
//! drag along whole buffers of which a few rows are used. On the wire they are plain strings, bytes and values; names,
//! nullability and metadata stay as they are.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{ArrowNativeType, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use springald_core::error::{Error, Result};

/// The schema that clients see of results with `schema`.
pub(super) fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(wire_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn wire_field(field: &FieldRef) -> FieldRef {
    let data_type = wire_type(field.data_type());
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    let wire = Field::new(field.name(), data_type, field.is_nullable());
    Arc::new(wire.with_metadata(field.metadata().clone()))
}

fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::List(item) => DataType::List(wire_field(item)),
        DataType::LargeList(item) => DataType::LargeList(wire_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(wire_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The batch with exactly `schema`, which must be the [`wire_schema`] of the batch's own but for nullability that the
/// data bear out.
///
/// # Errors
/// [`Internal`](springald_core::error::ErrorCode::Internal) if the batch is not one of these results.
pub(super) fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "a result batch has {} columns, but {} were announced",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| to_wire_column(column, field));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::internal(format!("a result batch is not as announced: {error}")).with_source(error))
}

fn to_wire_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    if !wire_type(column.data_type()).equals_datatype(field.data_type()) {
        return Err(Error::internal(format!(
            "column {:?} of the result is {}, but {} was announced",
            field.name(),
            column.data_type(),
            field.data_type()
        )));
    }
    plain(column, field.data_type()).map_err(|error| {
        Error::internal(format!("column {:?} of the result cannot be sent: {error}", field.name())).with_source(error)
    })
}

type Converted<T> = std::result::Result<T, ArrowError>;

/// The array as `wire`, the [`wire_type`] of its own type. Only what its rows refer to is converted, so that a slice
/// costs no more than its share: a slice of a list still has the items of the whole, and a dictionary the values of
/// many batches.
fn plain(array: &ArrayRef, wire: &DataType) -> Converted<ArrayRef> {
    if array.data_type() == wire {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), wire) {
        (DataType::Dictionary(_, _), _) => {
            let dictionary = array.as_any_dictionary();
            plain(&take(dictionary.values().as_ref(), dictionary.keys(), None)?, wire)
        }
        (DataType::List(_), DataType::List(item)) => plain_list(array.as_list::<i32>(), item),
        (DataType::LargeList(_), DataType::LargeList(item)) => plain_list(array.as_list::<i64>(), item),
        (DataType::FixedSizeList(_, _), DataType::FixedSizeList(item, size)) => {
            let lists = array.as_fixed_size_list();
            let items = plain(lists.values(), item.data_type())?;
            let (nulls, rows) = (lists.nulls().cloned(), lists.len());
            Ok(Arc::new(FixedSizeListArray::try_new_with_length(Arc::clone(item), *size, items, nulls, rows)?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => Ok(Arc::new(plain_struct(array.as_struct(), fields)?)),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => plain_map(array.as_map(), entries, *sorted),
        _ => {
            // An exact change of layout: whatever would not fit is an error, not a NULL.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, wire, &options)
        }
    }
}

fn plain_list<O: OffsetSizeTrait>(lists: &GenericListArray<O>, item: &FieldRef) -> Converted<ArrayRef> {
    let own = span(lists.value_offsets());
    let items = plain(&lists.values().slice(own.start, own.len()), item.data_type())?;
    let offsets = OffsetBuffer::<O>::from_lengths(lists.offsets().lengths());
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(item), offsets, items, lists.nulls().cloned())?))
}

fn plain_struct(structs: &StructArray, fields: &Fields) -> Converted<StructArray> {
    let columns = structs.columns().iter().zip(fields).map(|(column, field)| plain(column, field.data_type()));
    let columns = columns.collect::<Converted<Vec<_>>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, structs.nulls().cloned(), structs.len())
}

fn plain_map(maps: &MapArray, entries: &FieldRef, sorted: bool) -> Converted<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::SchemaError(format!("entries of a map are {}", entries.data_type())));
    };
    let own = span(maps.value_offsets());
    let pairs = plain_struct(&maps.entries().slice(own.start, own.len()), fields)?;
    let offsets = OffsetBuffer::from_lengths(maps.offsets().lengths());
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, maps.nulls().cloned(), sorted)?))
}

/// What offsets refer to, from the first value to the last.
pub(super) fn span<O: ArrowNativeType>(offsets: &[O]) -> Range<usize> {
    let at = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    at(offsets.first())..at(offsets.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::compute::cast;
    use arrow::datatypes::Int32Type;

    fn sample() -> RecordBatch {
        let views = StringViewArray::from(vec![Some("a long text that is not inlined"), None]);
        let dictionary: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
        let item = Arc::new(Field::new("item", DataType::Utf8View, false));
        let values = Arc::new(StringViewArray::from(vec!["p", "q", "r"]));
        let list = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([2, 1]), values, None);
        let metadata = std::collections::HashMap::from([("key".to_owned(), "value".to_owned())]);
        let schema = Schema::new(vec![
            Field::new("v", DataType::Utf8View, true).with_metadata(metadata.clone()),
            Field::new("d", dictionary.data_type().clone(), false),
            Field::new("l", DataType::List(item), false),
        ])
        .with_metadata(metadata);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(views), Arc::new(dictionary), Arc::new(list)])
            .expect("batch")
    }

    #[test]
    fn given_views_and_dictionaries_clients_get_plain_values_with_the_same_names_and_nullability() {
        let batch = sample();
        let schema = wire_schema(&batch.schema());
        let wire = to_wire(&batch, &schema).expect("conversion");
        assert_eq!(wire.schema(), schema);
        assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
        assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
        for (ours, theirs) in batch.schema().fields().iter().zip(schema.fields()) {
            assert_eq!((ours.name(), ours.is_nullable()), (theirs.name(), theirs.is_nullable()));
            assert_eq!(ours.metadata(), theirs.metadata());
        }
        assert_eq!(batch.schema().metadata(), schema.metadata());
        assert_eq!(wire.column(1).as_string::<i32>(), &StringArray::from(vec!["x", "y"]));
        assert_eq!(wire.column(2).as_list::<i32>().value(1).as_string::<i32>(), &StringArray::from(vec!["r"]));
    }

    /// Three rows of each nested layout, over views, some of them NULL.
    fn nested() -> Vec<ArrayRef> {
        let views: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some("a long text that is not inlined"), None, Some("x")]));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let keys: ArrayRef = Arc::new(StringViewArray::from(vec!["k", "l", "m"]));
        let pairs = Fields::from(vec![
            Field::new("key", DataType::Utf8View, false),
            Field::new("value", DataType::Utf8View, true),
        ]);
        let pairs = StructArray::new(pairs, vec![keys, Arc::clone(&views)], None);
        let entries = Arc::new(Field::new("entries", pairs.data_type().clone(), false));
        let dictionary =
            DictionaryArray::<Int32Type>::new(Int32Array::from(vec![Some(2), None, Some(0)]), Arc::clone(&views));
        let offsets = || OffsetBuffer::from_lengths([1, 0, 2]);
        let wide = OffsetBuffer::from_lengths([0, 2, 1]);
        let lists = ListArray::new(Arc::clone(&item), offsets(), Arc::clone(&views), None);
        let items = Arc::new(Field::new("item", lists.data_type().clone(), true));
        vec![
            Arc::new(dictionary),
            Arc::new(GenericListArray::<i64>::new(Arc::clone(&item), wide, Arc::clone(&views), None)),
            Arc::new(FixedSizeListArray::new(item, 1, views, None)),
            Arc::new(MapArray::new(entries, offsets(), pairs.clone(), None, false)),
            Arc::new(pairs),
            Arc::new(ListArray::new(items, offsets(), Arc::new(lists), None)),
        ]
    }

    #[test]
    fn given_nested_layouts_when_whole_or_sliced_then_they_are_converted_as_arrow_does_it() {
        for column in nested() {
            let wire = wire_type(column.data_type());
            let expected = cast(&column, &wire).expect("cast");
            assert_eq!(&plain(&column, &wire).expect("whole"), &expected);
            let slice = plain(&column.slice(1, 2), &wire).expect("slice");
            assert_eq!(&slice, &expected.slice(1, 2));
        }
    }

    #[test]
    fn given_a_plain_schema_it_stays_the_same_to_the_last_bit() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Decimal128(15, 2), false),
            Field::new("b", DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("+00:00".into())), true),
        ]);
        assert_eq!(*wire_schema(&schema), schema);
    }

    #[test]
    fn given_a_batch_that_was_not_announced_it_is_not_sent() {
        let schema = wire_schema(&sample().schema());
        let other =
            RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("batch");
        assert!(to_wire(&other, &schema).is_err());
        let strict = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let nulls = RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(vec![None])) as ArrayRef)]);
        assert!(to_wire(&nulls.expect("batch"), &strict).expect_err("a NULL").message().contains("announced"));
    }

    #[test]
    fn given_rows_without_columns_their_number_is_kept() {
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("batch");
        assert_eq!(to_wire(&batch, &wire_schema(&batch.schema())).expect("conversion").num_rows(), 3);
    }
}
