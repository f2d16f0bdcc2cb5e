//! Stage plans, made by DataFusion and cut by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{SessionConfig, SessionContext};
use springald_core::codec::encode_plan;
use springald_core::exchange::{ExchangeKind, ExchangeReaderExec, ExchangeWriterExec};
use springald_core::ids::StageId;
use springald_core::plan_session::settings_of;
use springald_proto::control;

/// Partitions of the table, and of every exchange.
pub const PARTITIONS: usize = 4;

/// A table `t (k, v, s)` with `rows` rows in each of [`PARTITIONS`] partitions: `v` counts up, `k` is `v % 10`, `s` is
/// a text that belongs to `k`.
pub fn table(rows: i64) -> Vec<Vec<RecordBatch>> {
    let text = |number: i64| format!("the text of key number {}", number % 10);
    let partition = |partition: i64| {
        let numbers = partition * rows..(partition + 1) * rows;
        let columns: [(&str, ArrayRef); 3] = [
            ("k", Arc::new(Int64Array::from_iter_values(numbers.clone().map(|number| number % 10)))),
            ("v", Arc::new(Int64Array::from_iter_values(numbers.clone()))),
            ("s", Arc::new(StringViewArray::from_iter_values(numbers.map(text)))),
        ];
        vec![RecordBatch::try_from_iter(columns).expect("a batch")]
    };
    (0..PARTITIONS as i64).map(partition).collect()
}

/// DataFusion's plan for `sql` over [`table`].
pub async fn plan(sql: &str, rows: i64) -> Arc<dyn ExecutionPlan> {
    let config = SessionConfig::new()
        .with_target_partitions(PARTITIONS)
        .with_round_robin_repartition(false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let context = SessionContext::new_with_config(config);
    let batches = table(rows);
    let schema = batches.iter().flatten().next().expect("a batch").schema();
    let table = MemTable::try_new(schema, batches).expect("a table");
    context.register_table("t", Arc::new(table)).expect("registered");
    let frame = context.sql(sql).await.expect("parses");
    frame.create_physical_plan().await.expect("plans")
}

/// Cuts `plan` at its hash repartitions: the stages from the bottom up, the last one is the result.
pub fn cut(plan: Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut stages: Vec<Arc<dyn ExecutionPlan>> = vec![];
    let cut = |node: Arc<dyn ExecutionPlan>| {
        let Some(repartition) = node.downcast_ref::<RepartitionExec>() else { return Ok(Transformed::no(node)) };
        let (input, partitioning) = (repartition.input(), repartition.partitioning());
        stages.push(Arc::new(ExchangeWriterExec::new(Arc::clone(input), Some(partitioning.clone()))));
        let stage = StageId(stages.len() as u32);
        let kind = ExchangeKind::Repartition { preserve_order: repartition.preserve_order() };
        let reader = reader(stage, kind, partitioning.partition_count(), &node);
        Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>))
    };
    let last = plan.transform_up(cut).data().expect("cuts");
    stages.push(as_it_is(last));
    stages
}

/// A stage whose output is that of `plan`, partition by partition.
pub fn as_it_is(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(ExchangeWriterExec::new(plan, None))
}

/// A stage that reads `stage`, whose output is like that of `like`, partition by partition and changes nothing.
pub fn copy_of(stage: u32, like: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let count = like.output_partitioning().partition_count();
    as_it_is(Arc::new(reader(StageId(stage), ExchangeKind::Passthrough, count, like)))
}

/// A reader of `stage` that stands for `plan`.
fn reader(stage: StageId, kind: ExchangeKind, count: usize, plan: &Arc<dyn ExecutionPlan>) -> ExchangeReaderExec {
    let statistics = Arc::new(Statistics::new_unknown(&plan.schema()));
    ExchangeReaderExec::new(stage, kind, false, count, Arc::clone(plan.properties()), statistics)
}

/// The plan as it is launched.
pub fn encoded(plan: &Arc<dyn ExecutionPlan>) -> Option<control::StagePlan> {
    let mut options = ConfigOptions::new();
    options.set("datafusion.execution.batch_size", "1000").expect("a setting");
    let settings = settings_of(&options).expect("can be sent");
    Some(control::StagePlan { plan: encode_plan(Arc::clone(plan)).expect("encodes"), settings })
}

/// The number of operators in `plan`.
pub fn operators(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let mut count = 0;
    let counted = plan.apply(|_| {
        count += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    counted.expect("walks");
    count
}
