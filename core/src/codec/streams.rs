//! Collection of streams. A source of streams (a table of the information schema, for example) has no encoding. Its
//! rows are collected when the query is planned, and are part of the plan.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;
use futures::TryStreamExt;

/// Replaces each source of streams by a scan of its rows in memory, with the same schema, partitions, order and limit.
///
/// Fails for streams without an end, and if more than `max_bytes` are collected from all of them together.
pub async fn collect_streams(
    plan: Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    max_bytes: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut sources = vec![];
    plan.apply(|node| {
        if node.is::<StreamingTableExec>() {
            sources.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if sources.is_empty() {
        return Ok(plan);
    }
    let mut left = max_bytes;
    let mut scans = Vec::with_capacity(sources.len());
    for source in &sources {
        scans.push(collect_source(source, context, &mut left, max_bytes).await?);
    }
    let replace = |node: Arc<dyn ExecutionPlan>| {
        let place = sources.iter().position(|source| Arc::ptr_eq(source, &node));
        Ok(match place {
            Some(place) => Transformed::yes(Arc::clone(&scans[place])),
            None => Transformed::no(node),
        })
    };
    plan.transform_down(replace).data()
}

async fn collect_source(
    source: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
    left: &mut usize,
    max_bytes: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(streams) = source.downcast_ref::<StreamingTableExec>() else {
        return internal_err!("{} gives no streams", source.name());
    };
    if streams.is_infinite() {
        return plan_err!("cannot collect the rows of {}: its streams have no end", source.name());
    }
    let mut partitions = Vec::with_capacity(streams.partitions().len());
    for partition in 0..streams.partitions().len() {
        // The operator's own stream is projected and limited already.
        let mut stream = source.execute(partition, Arc::clone(context))?;
        let mut batches: Vec<RecordBatch> = vec![];
        while let Some(batch) = stream.try_next().await? {
            let Some(rest) = left.checked_sub(batch.get_array_memory_size()) else {
                return plan_err!("cannot collect the rows of {}: more than {max_bytes} bytes", source.name());
            };
            *left = rest;
            batches.push(batch);
        }
        partitions.push(batches);
    }
    let schema = source.schema();
    let orderings = streams.projected_output_ordering().into_iter().collect();
    let memory = MemorySourceConfig::try_new(&partitions, schema, None)?
        .with_limit(streams.limit())
        .try_with_sort_information(orderings)?;
    Ok(DataSourceExec::from_data_source(memory))
}
