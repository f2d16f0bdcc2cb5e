//! How much a plan reads: what decides whether it is worth distributing.

use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

/// What the leaves of a plan read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// True if any of them reads files.
    pub(super) stored: bool,
    /// Bytes of those files, as they are stored.
    pub(super) bytes: u64,
}

/// Adds up the scans of a plan.
pub(super) fn input_of(plan: &Arc<dyn ExecutionPlan>) -> Input {
    let mut input = Input::default();
    add(plan, &mut input);
    input
}

fn add(plan: &Arc<dyn ExecutionPlan>, input: &mut Input) {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>()
        && let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>()
    {
        input.stored = true;
        for file in files.file_groups.iter().flat_map(|group| group.iter()) {
            let bytes = match &file.range {
                Some(range) => u64::try_from(range.end.saturating_sub(range.start)).unwrap_or(0),
                None => file.object_meta.size,
            };
            input.bytes = input.bytes.saturating_add(bytes);
        }
    }
    for child in plan.children() {
        add(child, input);
    }
}
