//! Comparison of values: scalars, schemas, statistics.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::Comparison;
use super::report::{Check, Located, differs, same};

/// Returns true for the same value of the same type. `ScalarValue`'s own equality ignores time zones and widths of fixed
/// size binaries; it distinguishes floats by their bits.
pub(super) fn scalars_equal(left: &ScalarValue, right: &ScalarValue) -> bool {
    use ScalarValue::{
        Dictionary, FixedSizeBinary, RunEndEncoded, TimestampMicrosecond, TimestampMillisecond, TimestampNanosecond,
        TimestampSecond, Union,
    };
    if left != right {
        return false;
    }
    match left {
        TimestampSecond(..)
        | TimestampMillisecond(..)
        | TimestampMicrosecond(..)
        | TimestampNanosecond(..)
        | FixedSizeBinary(..)
        | Dictionary(..)
        | RunEndEncoded(..)
        | Union(..) => left.data_type() == right.data_type(),
        _ => true,
    }
}

pub(super) fn scalars(field: &str, left: &[ScalarValue], right: &[ScalarValue]) -> Check {
    let equal = left.len() == right.len() && left.iter().zip(right).all(|(left, right)| scalars_equal(left, right));
    if equal { Ok(()) } else { Err(differs(field, &left, &right)) }
}

/// Compares fields with what their own equality ignores: whether dictionaries are ordered.
pub(super) fn fields(name: &str, left: &FieldRef, right: &FieldRef) -> Check {
    if fields_equal(left, right) { Ok(()) } else { Err(differs(name, left, right)) }
}

fn fields_equal(left: &FieldRef, right: &FieldRef) -> bool {
    Arc::ptr_eq(left, right) || left == right && ordered_dictionaries_equal(left, right)
}

/// For fields that are equal otherwise.
fn ordered_dictionaries_equal(left: &Field, right: &Field) -> bool {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, RunEndEncoded, Struct, Union,
    };
    match (left.data_type(), right.data_type()) {
        (Dictionary(..), Dictionary(..)) => left.dict_is_ordered() == right.dict_is_ordered(),
        (List(left), List(right))
        | (LargeList(left), LargeList(right))
        | (ListView(left), ListView(right))
        | (LargeListView(left), LargeListView(right))
        | (FixedSizeList(left, _), FixedSizeList(right, _))
        | (Map(left, _), Map(right, _)) => ordered_dictionaries_equal(left, right),
        (Struct(left), Struct(right)) => {
            left.iter().zip(right).all(|(left, right)| ordered_dictionaries_equal(left, right))
        }
        (Union(left, _), Union(right, _)) => {
            left.iter().zip(right.iter()).all(|(left, right)| ordered_dictionaries_equal(left.1, right.1))
        }
        (RunEndEncoded(_, left), RunEndEncoded(_, right)) => ordered_dictionaries_equal(left, right),
        _ => true,
    }
}

pub(super) fn optional_statistics(
    field: &str,
    left: Option<&Arc<Statistics>>,
    right: Option<&Arc<Statistics>>,
) -> Check {
    match (left, right) {
        (Some(left), Some(right)) if Arc::ptr_eq(left, right) => Ok(()),
        (Some(left), Some(right)) => statistics(left, right).located(|| field.to_owned()),
        (None, None) => Ok(()),
        _ => Err(differs(field, &left, &right)),
    }
}

pub(super) fn statistics(left: &Statistics, right: &Statistics) -> Check {
    let Statistics { num_rows, total_byte_size, column_statistics } = left;
    same("num_rows", num_rows, &right.num_rows)?;
    same("total_byte_size", total_byte_size, &right.total_byte_size)?;
    same("number of columns", &column_statistics.len(), &right.column_statistics.len())?;
    for (index, (left, right)) in column_statistics.iter().zip(&right.column_statistics).enumerate() {
        column_statistics_equal(left, right).located(|| format!("column {index}"))?;
    }
    Ok(())
}

fn column_statistics_equal(left: &ColumnStatistics, right: &ColumnStatistics) -> Check {
    let ColumnStatistics { null_count, max_value, min_value, sum_value, distinct_count, byte_size } = left;
    same("null_count", null_count, &right.null_count)?;
    precisions("max_value", max_value, &right.max_value)?;
    precisions("min_value", min_value, &right.min_value)?;
    precisions("sum_value", sum_value, &right.sum_value)?;
    same("distinct_count", distinct_count, &right.distinct_count)?;
    same("byte_size", byte_size, &right.byte_size)
}

fn precisions(field: &str, left: &Precision<ScalarValue>, right: &Precision<ScalarValue>) -> Check {
    let equal = match (left, right) {
        (Precision::Exact(left), Precision::Exact(right)) => scalars_equal(left, right),
        (Precision::Inexact(left), Precision::Inexact(right)) => scalars_equal(left, right),
        (Precision::Absent, Precision::Absent) => true,
        _ => false,
    };
    if equal { Ok(()) } else { Err(differs(field, left, right)) }
}

impl Comparison<'_> {
    pub(super) fn schemas(&mut self, field: &str, left: &SchemaRef, right: &SchemaRef) -> Check {
        if Arc::ptr_eq(left, right) {
            return Ok(());
        }
        let result = (|| {
            same("metadata", left.metadata(), right.metadata())?;
            same("number of fields", &left.fields().len(), &right.fields().len())?;
            let pairs = left.fields().iter().zip(right.fields());
            pairs.into_iter().try_for_each(|(left, right)| fields(left.name(), left, right))
        })();
        result.located(|| field.to_owned())
    }

    /// Compares the configuration that a function was planned with. Many functions share one.
    pub(super) fn configurations(&mut self, left: &ConfigOptions, right: &ConfigOptions) -> Check {
        if std::ptr::eq(left, right) || self.identities.knows(left, right) {
            return Ok(());
        }
        configurations_equal(left, right).located(|| "config_options".to_owned())?;
        self.identities.add(left, right);
        Ok(())
    }
}

/// A test fails if there is a section that is not compared here.
fn configurations_equal(left: &ConfigOptions, right: &ConfigOptions) -> Check {
    let ConfigOptions { catalog, execution, optimizer, sql_parser, explain, extensions, format, spark, .. } = left;
    let equal = *catalog == right.catalog
        && *execution == right.execution
        && *optimizer == right.optimizer
        && *sql_parser == right.sql_parser
        && *explain == right.explain
        && *format == right.format
        && *spark == right.spark;
    if !equal {
        return first_option("option", left.entries(), right.entries());
    }
    let (mut left, mut right) = (extensions.iter(), right.extensions.iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ok(()),
            (Some((left_prefix, left)), Some((right_prefix, right))) if left_prefix == right_prefix => {
                first_option(left_prefix, left.entries(), right.entries())?;
            }
            (left, right) => {
                return Err(differs("extension", &left.map(|left| left.0), &right.map(|right| right.0)));
            }
        }
    }
}

type Options = Vec<datafusion::common::config::ConfigEntry>;

/// Finds the first option with another value. Values that are not equal to themselves (NaN) are compared as text.
fn first_option(section: &str, left: Options, right: Options) -> Check {
    let values = |options: Options| {
        let mut options: Vec<_> = options.into_iter().map(|option| (option.key, option.value)).collect();
        options.sort();
        options
    };
    let (left, right) = (values(left), values(right));
    for (left, right) in left.iter().zip(&right) {
        same("option", left, right).located(|| section.to_owned())?;
    }
    same("number of options", &left.len(), &right.len()).located(|| section.to_owned())
}
