//! Streams that are collected when a query is planned.

use datafusion::arrow::array::Int64Array;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::*;

#[derive(Debug)]
struct Numbers(SchemaRef, i64);

impl PartitionStream for Numbers {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let columns = [self.1, self.1 + 10].map(|value| Arc::new(Int64Array::from(vec![value, value + 1])) as _);
        let batch = RecordBatch::try_new(schema(), columns.to_vec()).expect("a batch");
        Box::pin(RecordBatchStreamAdapter::new(schema(), futures::stream::iter([Ok(batch)])))
    }
}

fn streams(infinite: bool, limit: Option<usize>) -> Arc<dyn ExecutionPlan> {
    let partitions = vec![Arc::new(Numbers(schema(), 1)) as _, Arc::new(Numbers(schema(), 5)) as _];
    let order = [PhysicalSortExpr::new_default(Arc::new(Column::new("b", 0)))].into();
    let exec = StreamingTableExec::try_new(schema(), partitions, Some(&vec![1]), [order], infinite, limit);
    Arc::new(exec.expect("streams"))
}

#[tokio::test]
async fn collected_streams_give_the_same_rows() {
    let context = Arc::new(TaskContext::default());
    for limit in [None, Some(1), Some(100)] {
        let sent = streams(false, limit);
        encode_plan(Arc::clone(&sent)).expect_err("streams");
        let collected = collect_streams(Arc::clone(&sent), &context, 1 << 20).await.expect("collects");
        let there = assert_kept(&collected);
        assert_eq!(there.schema(), sent.schema());
        assert_eq!(there.properties().output_ordering(), sent.properties().output_ordering());
        assert_eq!(there.properties().partitioning.partition_count(), 2);
        assert_eq!(there.fetch(), limit);
        for partition in 0..2 {
            let rows = |plan: &Arc<dyn ExecutionPlan>| {
                datafusion::physical_plan::common::collect(plan.execute(partition, Arc::clone(&context)).expect("runs"))
            };
            assert_eq!(rows(&there).await.expect("rows"), rows(&sent).await.expect("rows"));
        }
    }
}

#[tokio::test]
async fn streams_without_bound_are_not_collected() {
    let context = Arc::new(TaskContext::default());
    let error = collect_streams(streams(false, None), &context, 10).await.expect_err("too large");
    assert!(error.strip_backtrace().contains("more than 10 bytes"), "{error}");
    let error = collect_streams(streams(true, None), &context, 1 << 20).await.expect_err("infinite");
    assert!(error.strip_backtrace().contains("no end"), "{error}");
}

#[tokio::test]
async fn plan_without_streams_stays() {
    let plan: Arc<dyn ExecutionPlan> = Arc::new(datafusion::physical_plan::empty::EmptyExec::new(schema()));
    let same = collect_streams(Arc::clone(&plan), &Arc::new(TaskContext::default()), 0).await.expect("stays");
    assert!(Arc::ptr_eq(&plan, &same));
}

#[tokio::test]
async fn information_schema_is_collected() {
    let session = Session::with(SessionConfig::new().with_information_schema(true)).await;
    let (plan, _) = session.plan("SELECT count(*) FROM information_schema.tables x JOIN t ON x.table_name = 't'").await;
    let collected = collect_streams(plan, &session.context.task_ctx(), 1 << 20).await.expect("collects");
    let bytes = encode_plan(Arc::clone(&collected)).expect("encodes");
    let there = decode_plan(&bytes, &session.context.task_ctx()).expect("decodes");
    assert_same(&collected, &there);
    assert!(session.sorted(&there).await.join("").contains("100"));
}
