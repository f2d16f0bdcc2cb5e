//! Operators that the example queries do not have: those of unbounded inputs, and those that only settings turn on.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{JoinType, NullEquality};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::{StreamJoinPartitionMode, SymmetricHashJoinExec};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::union::InterleaveExec;

use super::fixture::{Plan, assert_differs, assert_equal};
use crate::exchange::{ExchangeWriterExec, RuntimeFilterExec};
use crate::ids::StageId;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["a", "b"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn leaf() -> Plan {
    Arc::new(EmptyExec::new(schema()))
}

fn column(index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(["a", "b"][index], index))
}

fn ordering() -> LexOrdering {
    LexOrdering::new([0, 1].map(|index| PhysicalSortExpr::new_default(column(index)))).expect("not empty")
}

fn interleaved(key: usize) -> Plan {
    let input = || -> Plan {
        Arc::new(RepartitionExec::try_new(leaf(), Partitioning::Hash(vec![column(key)], 3)).expect("fits"))
    };
    Arc::new(InterleaveExec::try_new(vec![input(), input()]).expect("fits"))
}

fn symmetric_join(mode: StreamJoinPartitionMode) -> Plan {
    let join = SymmetricHashJoinExec::try_new(
        leaf(),
        leaf(),
        vec![(column(0), column(1))],
        None,
        &JoinType::Inner,
        NullEquality::NullEqualsNothing,
        None,
        None,
        mode,
    );
    Arc::new(join.expect("fits"))
}

fn partial_sort(prefix: usize) -> Plan {
    Arc::new(PartialSortExec::new(ordering(), leaf(), prefix))
}

fn top_k(prefix: usize, kind: WindowFnKind) -> Plan {
    Arc::new(PartitionedTopKExec::try_new(leaf(), ordering(), prefix, 3, kind).expect("fits"))
}

fn runtime_filter(column: usize, stage: u32, partition: u32) -> Plan {
    Arc::new(RuntimeFilterExec::new(leaf(), vec![column], StageId(stage), partition))
}

fn writer(keys: Vec<Vec<usize>>) -> Plan {
    Arc::new(ExchangeWriterExec::new(leaf(), None).with_keys(keys))
}

/// Pairs of operators that differ in one field, and the name of that field.
pub(super) fn pairs() -> Vec<(&'static str, Plan, Plan)> {
    vec![
        ("capacity", Arc::new(BufferExec::new(leaf(), 8)), Arc::new(BufferExec::new(leaf(), 9))),
        ("fetch", Arc::new(LocalLimitExec::new(leaf(), 1)), Arc::new(LocalLimitExec::new(leaf(), 1 << 32))),
        ("operator", Arc::new(CooperativeExec::new(leaf())), leaf()),
        ("partitioning", Arc::new(EmptyExec::new(schema()).with_partitions(2)), leaf()),
        ("RepartitionExec/partitioning", interleaved(0), interleaved(1)),
        (
            "mode",
            symmetric_join(StreamJoinPartitionMode::Partitioned),
            symmetric_join(StreamJoinPartitionMode::SinglePartition),
        ),
        ("common_prefix_length", partial_sort(1), partial_sort(2)),
        ("partition_prefix_len", top_k(1, WindowFnKind::Rank), top_k(2, WindowFnKind::Rank)),
        ("fn_kind", top_k(1, WindowFnKind::Rank), top_k(1, WindowFnKind::RowNumber)),
        ("columns", runtime_filter(0, 1, 2), runtime_filter(1, 1, 2)),
        ("stage", runtime_filter(0, 1, 2), runtime_filter(0, 2, 2)),
        ("partition", runtime_filter(0, 1, 2), runtime_filter(0, 1, 3)),
        ("keys", writer(vec![vec![0]]), writer(vec![])),
    ]
}

#[test]
fn constructed_operator_differs_in_one_field() {
    for ((field, left, right), (_, left_again, right_again)) in pairs().into_iter().zip(pairs()) {
        assert_equal(&left, &left_again);
        assert_equal(&right, &right_again);
        assert_differs(&left, &right, &[field]);
    }
}
