//! Limits past 32 bits, which DataFusion's encoding of some operators cuts off.

use std::sync::Arc;

use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use springald_proto::exchange::{LimitKind, LimitNode};

/// The largest number that arrives as it is.
const MOST: usize = u32::MAX as usize;

/// The limit that would not arrive, and the operator, or its input, without it.
pub(super) fn left_out(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<(LimitNode, Arc<dyn ExecutionPlan>)>> {
    // The order that a limit requires of its input matters to planning only.
    if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>() {
        let of_all = || (node(LimitKind::Global, limit.skip(), limit.fetch()), Arc::clone(limit.input()));
        return Ok((limit.skip() > MOST).then(of_all));
    }
    let fetch = plan.fetch().filter(|fetch| *fetch > MOST);
    if fetch.is_none() {
        return Ok(None);
    }
    if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
        return Ok(Some((node(LimitKind::Local, 0, fetch), Arc::clone(limit.input()))));
    }
    // All others have place for it.
    if !(plan.is::<DataSourceExec>() || plan.is::<FilterExec>() || plan.is::<CoalescePartitionsExec>()) {
        return Ok(None);
    }
    match plan.with_fetch(None) {
        Some(rest) => Ok(Some((node(LimitKind::OfInput, 0, fetch), rest))),
        None => internal_err!("{} cannot be sent to executors with its limit", plan.name()),
    }
}

fn node(kind: LimitKind, skip: usize, fetch: Option<usize>) -> LimitNode {
    LimitNode { kind: kind.into(), skip: skip as u64, fetch: fetch.map(|rows| rows as u64) }
}

/// The operator that was taken apart.
pub(super) fn restore(limit: &LimitNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let fetch = limit.fetch.map(|rows| rows as usize);
    match (limit.kind(), fetch) {
        (LimitKind::Global, fetch) => Ok(Arc::new(GlobalLimitExec::new(Arc::clone(input), limit.skip as usize, fetch))),
        (LimitKind::Local, Some(fetch)) => Ok(Arc::new(LocalLimitExec::new(Arc::clone(input), fetch))),
        (LimitKind::OfInput, Some(_)) => input
            .with_fetch(fetch)
            .ok_or_else(|| internal_datafusion_err!("{} has a limit that it does not know", input.name())),
        _ => internal_err!("a limit cannot be decoded: {limit:?}"),
    }
}
