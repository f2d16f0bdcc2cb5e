//! Says which files a task was reading when a reader failed: errors of readers seldom do.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use springald_core::error::{Error, ErrorCode};
use springald_core::telemetry::events::names;

/// Files that are named; of more, only the number.
const MAX_NAMED: usize = 3;

/// The error with the files that `partitions` of `plan` read, if it is one of reading files.
pub(crate) fn naming_files(
    error: DataFusionError,
    plan: &Arc<dyn ExecutionPlan>,
    partitions: &[u32],
) -> DataFusionError {
    if !is_of_reading(&error) {
        return error;
    }
    let files = files(plan, partitions);
    if files.is_empty() {
        return error;
    }
    let named = files.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match files.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("reading {named}{more}: {}", error.strip_backtrace());
    Error::new(ErrorCode::Query, message).with_source(error).into()
}

fn is_of_reading(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ParquetError(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::ParquetError(_)
                | ArrowError::CsvError(_)
                | ArrowError::JsonError(_)
                | ArrowError::IpcError(_)
                | ArrowError::ParseError(_)
        ),
        _ => false,
    }
}

fn files(plan: &Arc<dyn ExecutionPlan>, partitions: &[u32]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let visited = plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>();
        if let Some(scan) = scan.and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>()) {
            let store = match scan.object_store_url.as_str() {
                "file:///" => "/",
                remote => remote,
            };
            // Where partitions and groups do not correspond (below a union), all of them may be meant.
            let corresponds = scan.file_groups.len() == plan.output_partitioning().partition_count();
            for (number, group) in scan.file_groups.iter().enumerate() {
                if !corresponds || partitions.contains(&(number as u32)) {
                    found.extend(group.iter().map(|file| format!("{store}{}", file.object_meta.location)));
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = visited as Result<_> {
        tracing::debug!(event = names::PLAN_FILES_UNKNOWN, %error, "the files of a plan could not be listed");
    }
    found
}
