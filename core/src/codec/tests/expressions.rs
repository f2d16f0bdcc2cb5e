//! Expressions: values of all types, metadata, casts, checked arithmetic, shared filters.

use std::collections::HashMap;

use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray, StructArray, new_null_array};
use datafusion::arrow::datatypes::{Fields, IntervalDayTime, IntervalMonthDayNano, UnionFields, UnionMode, i256};
use datafusion::common::ScalarValue;
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::metadata::FieldMetadata;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, Literal, TryCastExpr, lit,
};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::*;

fn projected(expression: Arc<dyn PhysicalExpr>) -> Arc<dyn ExecutionPlan> {
    let input = Arc::new(EmptyExec::new(schema()));
    Arc::new(ProjectionExec::try_new(vec![ProjectionExpr::new(expression, "x")], input).expect("fits"))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

/// Sends an expression, and checks that it is equal there.
fn assert_expression_kept(expression: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    let there = assert_kept(&projected(Arc::clone(&expression)));
    let projection = there.downcast_ref::<ProjectionExec>().expect("a projection");
    let there = Arc::clone(&projection.expr()[0].expr);
    assert_eq!(&there, &expression);
    there
}

fn metadata() -> HashMap<String, String> {
    HashMap::from([("unit".to_owned(), "metre".to_owned())])
}

fn nested_values() -> Vec<ScalarValue> {
    let item = |value: i32| ScalarValue::Int32(Some(value));
    let halves = [Some(F16::from_f32(0.1)), None].map(ScalarValue::Float16);
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))];
    let union = UnionFields::try_new([3, 5], fields.iter().cloned()).expect("a union");
    let run_ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
    let run_values = Arc::new(Field::new("values", DataType::Float16, true));
    vec![
        ScalarValue::List(ScalarValue::new_list(&[item(1), item(2)], &DataType::Int32, true)),
        ScalarValue::List(ScalarValue::new_list(&halves, &DataType::Float16, true)),
        ScalarValue::LargeList(ScalarValue::new_large_list(&[item(1)], &DataType::Int32)),
        ScalarValue::Struct(Arc::new(StructArray::new(fields.clone(), columns, None))),
        ScalarValue::Union(Some((5, Box::new(ScalarValue::from("y")))), union.clone(), UnionMode::Dense),
        ScalarValue::Union(None, union, UnionMode::Sparse),
        ScalarValue::Dictionary(Box::new(DataType::UInt8), Box::new(ScalarValue::from("z"))),
        ScalarValue::Dictionary(Box::new(DataType::Int8), Box::new(ScalarValue::Float16(Some(F16::from_f32(2.5))))),
        ScalarValue::RunEndEncoded(run_ends, run_values, Box::new(ScalarValue::Float16(Some(F16::from_f32(7.0))))),
    ]
}

fn plain_values() -> Vec<ScalarValue> {
    vec![
        ScalarValue::Float16(Some(F16::from_f32(0.1))),
        ScalarValue::Float16(Some(F16::NAN)),
        ScalarValue::Float32(Some(-0.0)),
        ScalarValue::Float64(Some(f64::NAN)),
        ScalarValue::UInt64(Some(u64::MAX)),
        ScalarValue::Utf8View(Some("view".to_owned())),
        ScalarValue::LargeUtf8(Some(String::new())),
        ScalarValue::BinaryView(Some(vec![0, 255])),
        ScalarValue::FixedSizeBinary(2, Some(vec![1, 2])),
        ScalarValue::Decimal32(Some(-7), 5, 2),
        ScalarValue::Decimal64(Some(7), 15, -2),
        ScalarValue::Decimal128(Some(i128::MIN), 38, 10),
        ScalarValue::Decimal256(Some(i256::MAX), 76, 0),
        ScalarValue::Date64(Some(-1)),
        ScalarValue::Time32Millisecond(Some(5)),
        ScalarValue::Time64Nanosecond(Some(6)),
        ScalarValue::TimestampSecond(Some(1), Some("Europe/Berlin".into())),
        ScalarValue::TimestampNanosecond(Some(i64::MIN), None),
        ScalarValue::IntervalYearMonth(Some(-3)),
        ScalarValue::IntervalDayTime(Some(IntervalDayTime::new(1, -2))),
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(1, 2, -3))),
        ScalarValue::DurationMillisecond(Some(4)),
        ScalarValue::Null,
    ]
}

#[test]
fn literals_of_all_types_arrive_equal() {
    let values: Vec<_> = plain_values().into_iter().chain(nested_values()).collect();
    for value in values {
        let null = ScalarValue::try_from(&value.data_type()).expect("a NULL");
        for value in [value, null] {
            assert_expression_kept(lit(value));
        }
    }
    for data_type in [DataType::new_list(DataType::Float16, true), DataType::Float16] {
        let null = ScalarValue::try_from_array(&new_null_array(&data_type, 1), 0).expect("a NULL");
        assert_expression_kept(lit(null));
    }
}

#[test]
fn literal_metadata_arrives() {
    let metadata = FieldMetadata::from(metadata());
    let there = assert_expression_kept(Arc::new(Literal::new_with_metadata(ScalarValue::from(1), Some(metadata))));
    assert_eq!(there.return_field(&Schema::empty()).expect("a field").metadata().len(), 1);
}

#[test]
fn casts_with_target_field_arrive_equal() {
    let field = Arc::new(Field::new("y", DataType::Int32, false).with_metadata(metadata()));
    let mut safe = DEFAULT_CAST_OPTIONS;
    safe.safe = true;
    assert_expression_kept(Arc::new(CastExpr::new(column("a", 0), DataType::Int32, None)));
    assert_expression_kept(Arc::new(CastExpr::new(column("a", 0), DataType::Int32, Some(safe.clone()))));
    assert_expression_kept(Arc::new(CastExpr::new_with_target_field(column("a", 0), Arc::clone(&field), None)));
    assert_expression_kept(Arc::new(CastExpr::new_with_target_field(column("a", 0), Arc::clone(&field), Some(safe))));
    assert_expression_kept(Arc::new(TryCastExpr::new_with_target_field(column("a", 0), field)));
    assert_expression_kept(Arc::new(TryCastExpr::new(column("a", 0), DataType::Int32)));
}

#[test]
fn cast_with_formats_is_refused() {
    let mut options = DEFAULT_CAST_OPTIONS;
    options.format_options = options.format_options.with_null("nothing");
    let cast = Arc::new(CastExpr::new(column("a", 0), DataType::Utf8, Some(options)));
    let error = encode_plan(projected(cast)).expect_err("formats").strip_backtrace();
    assert!(error.contains("ProjectionExec") && error.contains("formats"), "{error}");
}

/// Only some operators of a chain are checked.
#[test]
fn checked_arithmetic_arrives_equal() {
    let sum = |left, checked| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, Operator::Plus, column("b", 1)).with_fail_on_overflow(checked))
    };
    for flags in [[false, false, false], [true, false, false], [false, true, false], [false, false, true]] {
        let chain = flags.into_iter().fold(column("a", 0), sum);
        assert_expression_kept(chain);
    }
}

#[test]
fn long_chain_of_operators_arrives_equal() {
    let equals =
        |value: i64| -> Arc<dyn PhysicalExpr> { Arc::new(BinaryExpr::new(column("a", 0), Operator::Eq, lit(value))) };
    let chain =
        (1..400).map(equals).fold(equals(0), |all, next| Arc::new(BinaryExpr::new(all, Operator::Or, next)) as _);
    assert_expression_kept(chain);
}

/// What one operator fills in, all others see, below nodes of ours and of DataFusion.
#[test]
fn dynamic_filter_stays_shared() {
    let filter: Arc<dyn PhysicalExpr> = Arc::new(DynamicFilterPhysicalExpr::new(vec![column("b", 1)], lit(true)));
    let moved = Arc::clone(&filter).with_new_children(vec![column("a", 0)]).expect("moves");
    let below = FilterExec::try_new(moved, Arc::new(EmptyExec::new(schema()))).expect("fits");
    let projection = ["a", "b"].iter().enumerate().map(|(place, name)| ProjectionExpr::new(column(name, place), *name));
    let between = ProjectionExec::try_new(projection, Arc::new(below)).expect("fits");
    let sent: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(filter, Arc::new(between)).expect("fits"));
    let there = assert_kept(&sent);
    let below = find::<FilterExec>(there.children()[0]).expect("a filter");
    let filters = [&there, &below].map(|plan| {
        let predicate = plan.downcast_ref::<FilterExec>().expect("a filter").predicate();
        predicate.downcast_ref::<DynamicFilterPhysicalExpr>().expect("a dynamic one")
    });
    filters[0].update(lit(false)).expect("filled");
    assert_eq!(filters[1].current().expect("filled").to_string(), "false");
}
