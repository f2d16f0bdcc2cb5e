//! Values and schemas as bytes. Each is compared with what its bytes decode to, so that none changes.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::stats::Precision;
use datafusion::common::{
    ColumnStatistics, Constraint, Constraints, Result, ScalarValue, Statistics, TableReference,
    internal_datafusion_err, internal_err, plan_err,
};
use datafusion_proto::protobuf;
use prost::Message;
use springald_proto::plan as proto;

/// Encodes a value: as DataFusion does where that keeps it (Float16 it does not), else as an array of Arrow.
pub(super) fn encode_scalar(value: &ScalarValue) -> Result<Vec<u8>> {
    let encoded = protobuf::ScalarValue::try_from(value).ok();
    let kept = encoded.filter(|encoded| ScalarValue::try_from(encoded).is_ok_and(|decoded| is_same(&decoded, value)));
    let scalar = match kept {
        Some(encoded) => proto::scalar::Value::Datafusion(encoded.encode_to_vec()),
        None => proto::scalar::Value::Arrow(encode_as_array(value)?),
    };
    Ok(proto::Scalar { value: Some(scalar) }.encode_to_vec())
}

/// True if DataFusion's own encoding keeps the value.
pub(super) fn is_kept_by_datafusion(value: &ScalarValue) -> bool {
    protobuf::ScalarValue::try_from(value)
        .is_ok_and(|encoded| ScalarValue::try_from(&encoded).is_ok_and(|decoded| is_same(&decoded, value)))
}

fn is_same(one: &ScalarValue, other: &ScalarValue) -> bool {
    one == other && one.data_type() == other.data_type()
}

fn encode_as_array(value: &ScalarValue) -> Result<Vec<u8>> {
    let array: ArrayRef = value.to_array()?;
    let field = Field::new("", array.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array])?;
    let bytes = encode_batches(&batch.schema(), [&batch])?;
    match is_same(&decode_array(&bytes)?, value) {
        true => Ok(bytes),
        false => plan_err!("a value of type {} cannot be sent to executors", value.data_type()),
    }
}

fn decode_array(bytes: &[u8]) -> Result<ScalarValue> {
    match decode_batches(bytes)?.as_slice() {
        [batch] if batch.num_columns() == 1 && batch.num_rows() == 1 => ScalarValue::try_from_array(batch.column(0), 0),
        _ => internal_err!("a value does not have one row and one column"),
    }
}

pub(super) fn decode_scalar(bytes: &[u8]) -> Result<ScalarValue> {
    let scalar = decode::<proto::Scalar>(bytes, "a value")?;
    match scalar.value {
        Some(proto::scalar::Value::Datafusion(bytes)) => {
            Ok(ScalarValue::try_from(&decode::<protobuf::ScalarValue>(&bytes, "a value")?)?)
        }
        Some(proto::scalar::Value::Arrow(bytes)) => decode_array(&bytes),
        None => internal_err!("a value is missing"),
    }
}

pub(super) fn encode_batches<'a>(
    schema: &Schema,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?)
}

pub(super) fn decode_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    Ok(StreamReader::try_new(bytes, None)?.collect::<std::result::Result<Vec<_>, _>>()?)
}

/// Decodes a message; `what` names it in the error.
pub(super) fn decode<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M> {
    M::decode(bytes).map_err(|error| internal_datafusion_err!("{what} of the stage's plan cannot be decoded: {error}"))
}

/// Fails if DataFusion's encoding does not keep the schema: it has no place for ordered dictionaries and for time zones
/// without a name.
pub(super) fn check_schema(schema: &Schema) -> Result<()> {
    schema.fields().iter().try_for_each(check_field)
}

fn check_field(field: &FieldRef) -> Result<()> {
    if field.dict_is_ordered() == Some(true) {
        return plan_err!("column {:?} has an ordered dictionary, which cannot be sent to executors", field.name());
    }
    check_type(field.data_type())
}

fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) if zone.is_empty() => {
            plan_err!("a time zone without a name cannot be sent to executors")
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => check_field(field),
        DataType::Struct(fields) => fields.iter().try_for_each(check_field),
        DataType::Union(fields, _) => fields.iter().try_for_each(|(_, field)| check_field(field)),
        DataType::Dictionary(key, value) => check_type(key).and_then(|()| check_type(value)),
        DataType::RunEndEncoded(ends, values) => check_field(ends).and_then(|()| check_field(values)),
        _ => Ok(()),
    }
}

pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    check_schema(schema)?;
    Ok(protobuf::Schema::try_from(schema)?.encode_to_vec())
}

pub(super) fn decode_schema(bytes: &[u8]) -> Result<Schema> {
    Ok((&decode::<protobuf::Schema>(bytes, "a schema")?).try_into()?)
}

pub(super) fn encode_field(field: &FieldRef) -> Result<Vec<u8>> {
    check_field(field)?;
    Ok(protobuf::Field::try_from(field.as_ref())?.encode_to_vec())
}

pub(super) fn decode_field(bytes: &[u8]) -> Result<FieldRef> {
    let field: Field = (&decode::<protobuf::Field>(bytes, "a field")?).try_into()?;
    Ok(Arc::new(field))
}

pub(super) fn encode_indices(indices: &[usize]) -> proto::Indices {
    proto::Indices { values: indices.iter().map(|index| *index as u64).collect() }
}

pub(super) fn decode_indices(indices: &proto::Indices) -> Vec<usize> {
    indices.values.iter().map(|index| *index as usize).collect()
}

/// Encodes constraints. DataFusion's encoding makes primary keys of all of them.
pub(super) fn encode_constraints(constraints: &Constraints) -> Vec<proto::Constraint> {
    let encode = |constraint: &Constraint| {
        let (unique, columns) = match constraint {
            Constraint::PrimaryKey(columns) => (false, columns),
            Constraint::Unique(columns) => (true, columns),
        };
        proto::Constraint { unique, columns: encode_indices(columns).values }
    };
    constraints.iter().map(encode).collect()
}

pub(super) fn decode_constraints(constraints: &[proto::Constraint]) -> Constraints {
    let decode = |constraint: &proto::Constraint| {
        let columns = constraint.columns.iter().map(|column| *column as usize).collect();
        if constraint.unique { Constraint::Unique(columns) } else { Constraint::PrimaryKey(columns) }
    };
    Constraints::new_unverified(constraints.iter().map(decode).collect())
}

pub(super) fn encode_statistics(statistics: &Statistics) -> Result<proto::Statistics> {
    let columns = statistics.column_statistics.iter().map(|column| {
        Ok(proto::ColumnStatistics {
            null_count: encode_count(&column.null_count),
            max_value: encode_bound(&column.max_value)?,
            min_value: encode_bound(&column.min_value)?,
            sum_value: encode_bound(&column.sum_value)?,
            distinct_count: encode_count(&column.distinct_count),
            bytes: encode_count(&column.byte_size),
        })
    });
    Ok(proto::Statistics {
        rows: encode_count(&statistics.num_rows),
        bytes: encode_count(&statistics.total_byte_size),
        columns: columns.collect::<Result<_>>()?,
    })
}

pub(super) fn decode_statistics(statistics: &proto::Statistics) -> Result<Statistics> {
    let columns = statistics.columns.iter().map(|column| {
        Ok(ColumnStatistics {
            null_count: decode_count(&column.null_count),
            max_value: decode_bound(&column.max_value)?,
            min_value: decode_bound(&column.min_value)?,
            sum_value: decode_bound(&column.sum_value)?,
            distinct_count: decode_count(&column.distinct_count),
            byte_size: decode_count(&column.bytes),
        })
    });
    Ok(Statistics {
        num_rows: decode_count(&statistics.rows),
        total_byte_size: decode_count(&statistics.bytes),
        column_statistics: columns.collect::<Result<_>>()?,
    })
}

fn encode_count(count: &Precision<usize>) -> Option<proto::Count> {
    match count {
        Precision::Exact(value) => Some(proto::Count { value: *value as u64, exact: true }),
        Precision::Inexact(value) => Some(proto::Count { value: *value as u64, exact: false }),
        Precision::Absent => None,
    }
}

fn decode_count(count: &Option<proto::Count>) -> Precision<usize> {
    match count {
        Some(count) if count.exact => Precision::Exact(count.value as usize),
        Some(count) => Precision::Inexact(count.value as usize),
        None => Precision::Absent,
    }
}

fn encode_bound(bound: &Precision<ScalarValue>) -> Result<Option<proto::Bound>> {
    Ok(match bound {
        Precision::Exact(value) => Some(proto::Bound { scalar: encode_scalar(value)?, exact: true }),
        Precision::Inexact(value) => Some(proto::Bound { scalar: encode_scalar(value)?, exact: false }),
        Precision::Absent => None,
    })
}

fn decode_bound(bound: &Option<proto::Bound>) -> Result<Precision<ScalarValue>> {
    Ok(match bound {
        Some(bound) if bound.exact => Precision::Exact(decode_scalar(&bound.scalar)?),
        Some(bound) => Precision::Inexact(decode_scalar(&bound.scalar)?),
        None => Precision::Absent,
    })
}

/// Encodes the parts of a table's name.
pub(super) fn encode_table(table: &TableReference) -> Vec<String> {
    let parts = [table.catalog(), table.schema(), Some(table.table())];
    parts.into_iter().flatten().map(str::to_owned).collect()
}

pub(super) fn decode_table(parts: &[String]) -> Result<Option<TableReference>> {
    Ok(match parts {
        [] => None,
        [table] => Some(TableReference::bare(table.as_str())),
        [schema, table] => Some(TableReference::partial(schema.as_str(), table.as_str())),
        [catalog, schema, table] => Some(TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())),
        _ => return internal_err!("a table's name has {} parts", parts.len()),
    })
}
