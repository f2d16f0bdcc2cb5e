//! Stage plans as bytes. What is decoded equals what was encoded in every field that counts, or encoding fails with the
//! name of the operator.
//!
//! ```text
//!   operator   ─PlanEncoder─▶ our node [inputs]            ─PlanDecoder─▶ operator
//!                             DataFusion's node [children]
//!   expression ─PlanEncoder─▶ our node [operands]          ─PlanDecoder─▶ expression
//!                             DataFusion's node [children]
//! ```
//!
//! Every operator and expression passes the converter, whichever node is around it. So expressions of our own nodes
//! share what those of others share: a filter that one operator fills while it runs, and others use, is one filter
//! again.
//!
//! DataFusion encodes an operator or expression only if its encoding was compared with its fields and keeps them all
//! ([`operators`]); a new one is refused until that is done. All others are encoded here, for the reasons that
//! [`losses`] lists.

mod context;
mod converter;
mod debug_text;
mod expressions;
mod functions;
mod losses;
mod nullable;
mod operators;
mod properties;
mod streams;
#[cfg(test)]
mod tests;
mod values;
mod window_filters;

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::protobuf;
use prost::Message;

use self::converter::{PlanDecoder, PlanEncoder, RefusingCodec};
pub use self::losses::{LOSSES, Loss};
pub(crate) use self::operators::have_same_row_group_order;
pub use self::properties::sendable_properties;
pub use self::streams::collect_streams;
pub use self::window_filters::WindowFilters;

/// Encodes a stage's plan without window functions that have a FILTER, which [`encode_plan_with_filters`] takes.
pub fn encode_plan(plan: Arc<dyn ExecutionPlan>) -> Result<bytes::Bytes> {
    encode_plan_with_filters(plan, &WindowFilters::default())
}

/// Encodes a stage's plan. `filters` are those of the query's window functions.
///
/// Fails where an operator or expression cannot be read completely, and where executors could not decode it: messages
/// in messages are bounded there, so that none overflows a stack.
pub fn encode_plan_with_filters(plan: Arc<dyn ExecutionPlan>, filters: &WindowFilters) -> Result<bytes::Bytes> {
    let bytes = physical_plan_to_bytes_with_proto_converter(plan, &RefusingCodec, &PlanEncoder { filters })?;
    match protobuf::PhysicalPlanNode::decode(bytes.as_ref()) {
        Ok(_) => Ok(bytes),
        Err(error) => plan_err!("the plan is nested too deeply to be sent to an executor: {error}"),
    }
}

/// Decodes a stage's plan for `context`: with its object stores, settings, and those functions that DataFusion has not.
pub fn decode_plan(bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    physical_plan_from_bytes_with_proto_converter(bytes, context, &RefusingCodec, &PlanDecoder::default())
}
