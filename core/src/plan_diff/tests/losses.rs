//! Losses that were planted into operators and expressions: each is found, and named.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, Literal, UnKnownColumn, lit};
use datafusion::physical_plan::InputOrderMode;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{
    BoundedWindowAggExec, PlainAggregateWindowExpr, StandardWindowExpr, WindowAggExec, WindowExpr, WindowUDFExpr,
    create_udwf_window_expr,
};
use datafusion::prelude::SessionConfig;

use super::fixture::{Fixture, Plan, assert_differs, assert_equal, changed, config, found, plan};
use crate::plan_diff::{difference, difference_with_filters};

/// Returns the plan with its window functions made anew, as if their names were all that is known.
fn with_plain_windows(plan: &Plan) -> Plan {
    let plain = |windows: &[Arc<dyn WindowExpr>], input: &Schema| -> Vec<Arc<dyn WindowExpr>> {
        windows.iter().map(|window| plain_window(window, input)).collect()
    };
    changed(plan, |node| {
        let input = Arc::clone(node.children().first()?);
        if let Some(operator) = node.downcast_ref::<BoundedWindowAggExec>() {
            let windows = plain(operator.window_expr(), &input.schema());
            let operator = BoundedWindowAggExec::try_new(windows, input, operator.input_order_mode.clone(), true);
            return Some(Arc::new(operator.expect("fits")));
        }
        let operator = node.downcast_ref::<WindowAggExec>()?;
        let windows = plain(operator.window_expr(), &input.schema());
        Some(Arc::new(WindowAggExec::try_new(windows, input, true).expect("fits")))
    })
}

fn plain_window(window: &Arc<dyn WindowExpr>, input: &Schema) -> Arc<dyn WindowExpr> {
    let frame = Arc::clone(window.get_window_frame());
    if let Some(standard) = window.as_any().downcast_ref::<StandardWindowExpr>() {
        let function = standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>().expect("a UDF");
        let name = window.name().to_owned();
        let function = create_udwf_window_expr(function.fun(), function.args(), input, name, false).expect("fits");
        return Arc::new(StandardWindowExpr::new(function, window.partition_by(), window.order_by(), frame));
    }
    let aggregate = window.as_any().downcast_ref::<PlainAggregateWindowExpr>().expect("an aggregate");
    let aggregate = Arc::new(aggregate.get_aggregate_expr().clone());
    Arc::new(PlainAggregateWindowExpr::new(aggregate, window.partition_by(), window.order_by(), frame, None))
}

#[tokio::test]
async fn reversed_window_function_differs_from_plain() {
    let fixture = Fixture::new().await;
    let sql = "SELECT id, v, lag(v) OVER (ORDER BY id), count(*) OVER (ORDER BY id DESC) FROM t";
    let planned = fixture.plan(sql).await;
    assert_differs(&planned, &with_plain_windows(&planned), &["WindowAggExec", "window_expr[", "is_reversed", "true"]);
}

#[tokio::test]
async fn dropped_ignore_nulls_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT last_value(v) IGNORE NULLS OVER (ORDER BY id) FROM t").await;
    assert_differs(&planned, &with_plain_windows(&planned), &["WindowAggExec/window_expr[0]", "ignore_nulls"]);
}

#[tokio::test]
async fn dropped_filter_of_window_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT count(*) FILTER (WHERE v IS NOT NULL) OVER () FROM t").await;
    assert_differs(&planned, &with_plain_windows(&planned), &["WindowAggExec/window_expr[0]", "/filter", "None"]);
}

#[tokio::test]
async fn window_filter_with_function_needs_expression() {
    let fixture = Fixture::new().await;
    let sql = "SELECT count(*) FILTER (WHERE upper(s) = 'A') OVER () FROM t";
    let (left, right) = (fixture.plan(sql).await, fixture.plan(sql).await);
    let error = difference(&left, &right).expect_err("cannot be read");
    assert!(error.message().contains("window_expr[0]") && error.message().contains("filter"), "{error}");
    let known = |_: &dyn WindowExpr| Some(lit(1));
    let other = |_: &dyn WindowExpr| Some(lit(2));
    let compare = |filter| difference_with_filters((&left, &known), (&right, filter)).expect("is readable");
    assert_eq!(compare(&known), None);
    assert!(compare(&other).is_some_and(|text| text.contains("filter/literal")));
}

#[tokio::test]
async fn dropped_grouping_set_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT count(*) FROM t GROUP BY GROUPING SETS (())").await;
    let partial = found(&planned, |node| node.downcast_ref::<AggregateExec>().is_some_and(is_first));
    let lost = changed(&partial, |node| {
        let aggregate = node.downcast_ref::<AggregateExec>()?;
        let lost = AggregateExec::try_new(
            *aggregate.mode(),
            PhysicalGroupBy::new(vec![], vec![], aggregate.group_expr().groups().to_vec(), false),
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            Arc::clone(aggregate.input()),
            aggregate.input_schema(),
        );
        Some(Arc::new(lost.expect("fits")))
    });
    assert_differs(&partial, &lost, &["AggregateExec/group_by/has_grouping_set"]);
}

fn is_first(aggregate: &AggregateExec) -> bool {
    !matches!(aggregate.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned)
}

/// Returns a projection of one row to these expressions.
fn row(expressions: Vec<Arc<dyn PhysicalExpr>>) -> Plan {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let input = Arc::new(PlaceholderRowExec::new(schema));
    let expressions = expressions.into_iter().map(|expr| ProjectionExpr { expr, alias: "x".to_owned() });
    Arc::new(ProjectionExec::try_new(expressions.collect::<Vec<_>>(), input).expect("projects"))
}

#[test]
fn literals_of_other_types_differ() {
    let literal = |value: ScalarValue| row(vec![Arc::new(Literal::new(value))]);
    let half = half_float(1.5);
    assert_differs(&literal(half), &literal(ScalarValue::Float32(Some(1.5))), &["ProjectionExec/expr[0]/literal"]);
    let zone = |zone: &str| literal(ScalarValue::TimestampSecond(Some(1), Some(zone.into())));
    assert_differs(&zone("UTC"), &zone("+01:00"), &["ProjectionExec/expr[0]/literal", "+01:00"]);
    let zero = |zero: f64| literal(ScalarValue::Float64(Some(zero)));
    assert_differs(&zero(0.0), &zero(-0.0), &["literal", "Float64(-0)"]);
    assert_equal(&zero(f64::NAN), &zero(f64::NAN));
}

fn half_float(value: f32) -> ScalarValue {
    ScalarValue::Float32(Some(value)).cast_to(&DataType::Float16).expect("casts")
}

#[test]
fn dropped_field_metadata_is_found() {
    let metadata = FieldMetadata::from(std::collections::BTreeMap::from([("unit".to_owned(), "m".to_owned())]));
    let with = Literal::new_with_metadata(ScalarValue::Int64(Some(1)), Some(metadata));
    let without = row(vec![Arc::new(Literal::new(ScalarValue::Int64(Some(1))))]);
    assert_differs(&row(vec![Arc::new(with)]), &without, &["ProjectionExec/expr[0]/field of literal", "unit"]);
}

#[test]
fn unknown_columns_of_one_name_are_equal() {
    let condition = |name: &str| -> Plan {
        let predicate = Arc::new(UnKnownColumn::new(name));
        let partitioning = datafusion::physical_plan::Partitioning::Hash(vec![predicate], 2);
        let input = row(vec![lit(1)]);
        Arc::new(crate::exchange::ExchangeWriterExec::new(input, Some(partitioning)))
    };
    assert_equal(&condition("a"), &condition("a"));
    assert_differs(&condition("a"), &condition("b"), &["ExchangeWriterExec/output partitioning"]);
}

#[test]
fn checked_arithmetic_differs_from_wrapping() {
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::BinaryExpr;
    let sum = |checked: bool| {
        let sum = BinaryExpr::new(Arc::new(Column::new("a", 0)), Operator::Plus, lit(1i64));
        row(vec![Arc::new(sum.with_fail_on_overflow(checked))])
    };
    assert_equal(&sum(true), &sum(true));
    assert_differs(&sum(true), &sum(false), &["ProjectionExec/expr[0]/fail_on_overflow"]);
}

#[tokio::test]
async fn configuration_of_function_is_compared() {
    let fixture = Fixture::new().await;
    let zone = |zone: &str| config().set_str("datafusion.execution.time_zone", zone);
    let sessions = [fixture.session(zone("UTC")).await, fixture.session(zone("+05:00")).await];
    for sql in ["SELECT to_timestamp(s) FROM t", "SELECT upper(s) FROM t"] {
        let plans = (plan(&sessions[0], sql).await, plan(&sessions[1], sql).await);
        assert_differs(&plans.0, &plans.1, &["DataSourceExec/projection/expr[0]"]);
    }
}

#[tokio::test]
async fn dropped_merge_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT id FROM t ORDER BY id LIMIT 5").await;
    let lost = changed(&planned, |node| node.downcast_ref::<SortPreservingMergeExec>().map(|m| Arc::clone(m.input())));
    assert_differs(&planned, &lost, &["operator: ", "SortPreservingMergeExec", "SortExec"]);
    let lost = changed(&planned, |node| {
        let merge = node.downcast_ref::<SortPreservingMergeExec>()?;
        Some(Arc::new(CoalescePartitionsExec::new(Arc::clone(merge.input())).with_fetch(merge.fetch())))
    });
    assert_differs(&planned, &lost, &["CoalescePartitionsExec"]);
}

#[tokio::test]
async fn dropped_fetch_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT id FROM t ORDER BY id LIMIT 5").await;
    let lost = changed(&planned, |node| match node.is::<SortPreservingMergeExec>() {
        true => node.with_fetch(None),
        false => None,
    });
    assert_differs(&planned, &lost, &["SortPreservingMergeExec/fetch", "Some(5)", "None"]);
    let large = |limit: usize| -> Plan { Arc::new(GlobalLimitExec::new(row(vec![lit(1)]), 0, Some(limit))) };
    assert_differs(&large((1 << 32) + 1), &large(1), &["GlobalLimitExec/fetch", "4294967297"]);
}

#[tokio::test]
async fn stable_merge_differs_from_unstable() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT id FROM t ORDER BY id").await;
    let stable = changed(&planned, |node| {
        let merge = node.downcast_ref::<SortPreservingMergeExec>()?;
        Some(Arc::new(merge.clone().with_round_robin_repartition(false)))
    });
    assert_differs(&planned, &stable, &["SortPreservingMergeExec/enable_round_robin_repartition"]);
}

#[tokio::test]
async fn other_mode_of_window_operator_is_found() {
    let fixture = Fixture::new().await;
    let planned = fixture.plan("SELECT row_number() OVER (PARTITION BY g ORDER BY id) FROM t").await;
    let lost = changed(&planned, |node| {
        let window = node.downcast_ref::<BoundedWindowAggExec>()?;
        let (windows, input) = (window.window_expr().to_vec(), Arc::clone(window.input()));
        Some(Arc::new(BoundedWindowAggExec::try_new(windows, input, InputOrderMode::Linear, true).expect("fits")))
    });
    assert_differs(&planned, &lost, &["BoundedWindowAggExec/input_order_mode", "Linear"]);
}

/// Returns the plan with dynamic filters that are not shared: each place has a filter of its own.
fn with_separate_filters(plan: &Plan) -> Plan {
    changed(plan, |node| {
        let filter = node.downcast_ref::<FilterExec>()?;
        let predicate = Arc::clone(filter.predicate()).transform_up(|expression| {
            Ok(match expression.downcast_ref::<DynamicFilterPhysicalExpr>() {
                Some(_) => Transformed::yes(dynamic_filter()),
                None => Transformed::no(expression),
            })
        });
        let predicate = predicate.expect("replaces").data;
        Some(Arc::new(FilterExec::try_new(predicate, Arc::clone(filter.input())).expect("fits")))
    })
}

fn dynamic_filter() -> Arc<dyn PhysicalExpr> {
    Arc::new(DynamicFilterPhysicalExpr::new(vec![Arc::new(Column::new("a", 0))], lit(true)))
}

#[test]
fn separated_dynamic_filters_are_found() {
    let filtered = |filter: &Arc<dyn PhysicalExpr>, input: Plan| -> Plan {
        Arc::new(FilterExec::try_new(Arc::clone(filter), input).expect("fits"))
    };
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let leaf: Plan = Arc::new(PlaceholderRowExec::new(schema));
    let shared = || {
        let filter = dynamic_filter();
        filtered(&filter, filtered(&filter, Arc::clone(&leaf)))
    };
    assert_equal(&shared(), &shared());
    assert_differs(&shared(), &with_separate_filters(&shared()), &["FilterExec/predicate/shared expression"]);
    // One of the places is the same object in both plans.
    let filter = dynamic_filter();
    let below = filtered(&filter, Arc::clone(&leaf));
    let (left, right) = (filtered(&filter, Arc::clone(&below)), filtered(&dynamic_filter(), below));
    assert_differs(&left, &right, &["FilterExec/shared expression"]);
}

#[tokio::test]
async fn joins_that_share_filters_are_equal() {
    let fixture = Fixture::new().await;
    let config = || SessionConfig::new().with_target_partitions(1);
    let sql = "SELECT t.id FROM t JOIN u ON t.id = u.id JOIN sorted ON u.g = sorted.b ORDER BY t.id LIMIT 3";
    let plans = (plan(&fixture.session(config()).await, sql).await, plan(&fixture.session(config()).await, sql).await);
    assert_equal(&plans.0, &plans.1);
    let off = config().set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let without = plan(&fixture.session(off).await, sql).await;
    assert_differs(&plans.0, &without, &["DataSourceExec/filter"]);
}
