//! Exchange operators and what they stand for.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Constraint, Constraints, ScalarValue, Statistics};
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{ConstExpr, EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr::{RangePartitioning, SplitPoint};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, EvaluationType, SchedulingType};
use datafusion::physical_plan::{Partitioning, PlanProperties};

use super::*;
use crate::exchange::{ExchangeKind, ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use crate::ids::StageId;

fn wide_schema() -> SchemaRef {
    let fields = ["a", "b", "c", "d", "e"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new_with_metadata(fields.to_vec(), [("k".to_owned(), "v".to_owned())].into()))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn sort(name: &str, index: usize) -> PhysicalSortExpr {
    PhysicalSortExpr::new_default(column(name, index))
}

/// Orderings, equal columns, and constants of all kinds.
fn equivalences() -> EquivalenceProperties {
    let orderings = [vec![sort("a", 0), sort("b", 1).reverse()], vec![sort("c", 2)]];
    let mut properties = EquivalenceProperties::new_with_orderings(wide_schema(), orderings);
    properties.add_equal_conditions(column("a", 0), column("d", 3)).expect("equal");
    let constants = [
        ConstExpr::new(column("b", 1), AcrossPartitions::Uniform(Some(ScalarValue::Int64(Some(7))))),
        ConstExpr::new(column("e", 4), AcrossPartitions::Heterogeneous),
    ];
    properties.add_constants(constants).expect("constant");
    let constraints = vec![Constraint::PrimaryKey(vec![0]), Constraint::Unique(vec![1, 2])];
    properties.with_constraints(Constraints::new_unverified(constraints))
}

fn statistics() -> Statistics {
    let column = ColumnStatistics {
        null_count: Precision::Exact(1),
        max_value: Precision::Inexact(ScalarValue::Float16(Some(F16::from_f32(0.1)))),
        min_value: Precision::Exact(ScalarValue::Int64(Some(-1))),
        sum_value: Precision::Absent,
        distinct_count: Precision::Inexact(3),
        byte_size: Precision::Exact(LARGE),
    };
    let columns = vec![column, ColumnStatistics::new_unknown()];
    Statistics { num_rows: Precision::Exact(LARGE), total_byte_size: Precision::Absent, column_statistics: columns }
}

fn reader(kind: ExchangeKind, properties: PlanProperties) -> Arc<dyn ExecutionPlan> {
    let (properties, statistics) = (Arc::new(properties), Arc::new(statistics()));
    Arc::new(ExchangeReaderExec::new(StageId(3), kind, true, 5, properties, statistics))
}

fn partitionings() -> Vec<Partitioning> {
    let points = [0.5, 1.5].map(|point| SplitPoint::new(vec![ScalarValue::Float16(Some(F16::from_f32(point)))]));
    let ordering = [sort("a", 0)].into();
    vec![
        Partitioning::UnknownPartitioning(5),
        Partitioning::RoundRobinBatch(5),
        Partitioning::Hash(vec![column("a", 0), lit(1)], 5),
        Partitioning::Range(RangePartitioning::try_new(ordering, points.to_vec()).expect("a range")),
    ]
}

#[test]
fn reader_arrives_with_all_properties() {
    let kinds = [
        ExchangeKind::Passthrough,
        ExchangeKind::Repartition { preserve_order: false },
        ExchangeKind::Repartition { preserve_order: true },
        ExchangeKind::Gather,
    ];
    for (kind, partitioning) in kinds.into_iter().zip(partitionings()) {
        let unbounded = Boundedness::Unbounded { requires_infinite_memory: true };
        let properties = PlanProperties::new(equivalences(), partitioning, EmissionType::Both, unbounded)
            .with_evaluation_type(EvaluationType::Eager)
            .with_scheduling_type(SchedulingType::Cooperative);
        let sent = reader(kind, properties);
        let there = assert_kept(&sent);
        let (these, those) = (sent.properties(), there.properties());
        assert_eq!(these.eq_properties.oeq_class(), those.eq_properties.oeq_class());
        let classes = |of: &EquivalenceProperties| of.eq_group().iter().cloned().collect::<Vec<_>>();
        assert_eq!(classes(&these.eq_properties), classes(&those.eq_properties));
        assert_eq!(these.eq_properties.constraints(), those.eq_properties.constraints());
        assert_eq!(these.output_ordering(), those.output_ordering());
        assert_eq!(these.partitioning.to_string(), those.partitioning.to_string());
        let read = there.downcast_ref::<ExchangeReaderExec>().expect("a reader");
        assert_eq!((read.kind(), read.statistics().as_ref()), (kind, &statistics()));
    }
}

#[test]
fn plain_reader_arrives_equal() {
    for (emission, boundedness) in [
        (EmissionType::Incremental, Boundedness::Bounded),
        (EmissionType::Final, Boundedness::Unbounded { requires_infinite_memory: false }),
    ] {
        let equivalences = EquivalenceProperties::new(schema());
        let partitioning = Partitioning::UnknownPartitioning(1);
        assert_kept(&reader(
            ExchangeKind::Gather,
            PlanProperties::new(equivalences, partitioning, emission, boundedness),
        ));
    }
}

/// Readers stand for operators of real plans: each operator's own properties arrive.
#[tokio::test]
async fn properties_of_planned_operators_arrive_equal() {
    let session = Session::new().await;
    let queries = [
        "SELECT a.id, b.s FROM t a JOIN t b ON a.id = b.v WHERE a.g = 3 ORDER BY a.id",
        "SELECT g, k, v, count(*) FROM t WHERE g = 3 GROUP BY g, k, v ORDER BY k",
        "SELECT id, row_number() OVER (PARTITION BY g ORDER BY id) FROM t WHERE g = 3",
        "SELECT id + 1 AS x, 5 AS five, s FROM t WHERE id = 7 UNION ALL SELECT g, 5, s FROM t",
    ];
    for query in queries {
        let (plan, _) = session.plan(query).await;
        let mut operators = vec![plan];
        while let Some(operator) = operators.pop() {
            assert_kept(&reader(ExchangeKind::Passthrough, operator.properties().as_ref().clone()));
            operators.extend(operator.children().into_iter().cloned());
        }
    }
}

#[test]
fn writers_and_runtime_filters_arrive_equal() {
    let equivalences = EquivalenceProperties::new(wide_schema());
    let partitioning = Partitioning::UnknownPartitioning(1);
    let properties = PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded);
    let input = reader(ExchangeKind::Gather, properties);
    let filtered: Arc<dyn ExecutionPlan> = Arc::new(RuntimeFilterExec::new(input, vec![4, 0], StageId(9), 2));
    assert_kept(&filtered);
    for split in partitionings().into_iter().map(Some).chain([None]) {
        let writer = ExchangeWriterExec::new(Arc::clone(&filtered), split).with_keys(vec![vec![0, 2], vec![]]);
        let there = assert_kept(&(Arc::new(writer) as Arc<dyn ExecutionPlan>));
        assert_eq!(there.downcast_ref::<ExchangeWriterExec>().expect("a writer").keys(), [vec![0, 2], vec![]]);
    }
}

#[test]
fn key_of_missing_column_is_an_error() {
    let input = Arc::new(datafusion::physical_plan::empty::EmptyExec::new(schema()));
    let writer = ExchangeWriterExec::new(input, None).with_keys(vec![vec![7]]);
    let bytes = encode_plan(Arc::new(writer)).expect("encodes");
    decode_plan(&bytes, &TaskContext::default()).expect_err("no such column");
}
