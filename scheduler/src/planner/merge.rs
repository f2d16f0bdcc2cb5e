//! Stages that compute the same are computed once: a view that a query names twice, a table that is read twice for the
//! same columns.
//!
//! Equal is what is encoded equally, with equal inputs. What may come out differently each time is computed each time.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use springald_core::exchange::{ExchangeReaderExec, RuntimeFilterExec};
use springald_core::ids::StageId;

use super::cut::{CutStage, inputs_of};
use crate::job::StageSpec;

/// The stages without those that equal an earlier one, numbered anew, with their plans as `encode` encodes them.
pub(super) fn encoded(
    stages: Vec<CutStage>,
    encode: &dyn Fn(&Arc<dyn ExecutionPlan>) -> Result<Bytes>,
) -> Result<Vec<(CutStage, Bytes)>> {
    let last = stages.last().map(|stage| stage.spec.id);
    // The new number of each stage so far.
    let mut numbers: Vec<StageId> = Vec::with_capacity(stages.len());
    let mut known: HashMap<Bytes, StageId> = HashMap::new();
    let mut kept: Vec<(CutStage, Bytes)> = Vec::with_capacity(stages.len());
    for stage in stages {
        let (old, next) = (stage.spec.id, StageId(kept.len() as u32 + 1));
        let number = |id: StageId| match id == old {
            true => Some(next),
            false => (id.0 as usize).checked_sub(1).and_then(|position| numbers.get(position)).copied(),
        };
        let stage = renumber(stage, &number)?;
        let writer: Arc<dyn ExecutionPlan> = Arc::new(stage.writer.clone());
        let bytes = encode(&writer)?;
        let may_be_shared = !stage.spec.indeterminate && Some(old) != last;
        if may_be_shared && let Some(same) = known.get(&bytes) {
            numbers.push(*same);
            continue;
        }
        numbers.push(next);
        if may_be_shared {
            known.insert(bytes.clone(), next);
        }
        kept.push((stage, bytes));
    }
    Ok(kept)
}

/// Stages under the numbers of their places; inputs stand before their readers.
pub(super) fn numbered(stages: Vec<CutStage>) -> Result<Vec<CutStage>> {
    let order: Vec<StageId> = stages.iter().map(|stage| stage.spec.id).collect();
    let number = |old: StageId| order.iter().position(|id| *id == old).map(|position| StageId(position as u32 + 1));
    stages.into_iter().map(|stage| renumber(stage, &number)).collect()
}

/// A stage under the number that `number` has for it, reading those that it has for its inputs.
fn renumber(stage: CutStage, number: &dyn Fn(StageId) -> Option<StageId>) -> Result<CutStage> {
    let new = |old: StageId| match number(old) {
        Some(new) => Ok(new),
        None => internal_err!("stage {old} is read before it was written"),
    };
    let renumber = |node: Arc<dyn ExecutionPlan>| {
        if let Some(reader) = node.downcast_ref::<ExchangeReaderExec>() {
            let stage = new(reader.stage())?;
            return Ok(Transformed::yes(Arc::new(reader.with_stage(stage)) as Arc<dyn ExecutionPlan>));
        }
        if let Some(filter) = node.downcast_ref::<RuntimeFilterExec>() {
            let stage = new(filter.stage())?;
            return Ok(Transformed::yes(Arc::new(filter.with_stage(stage)) as Arc<dyn ExecutionPlan>));
        }
        Ok(Transformed::no(node))
    };
    let plan = Arc::clone(stage.writer.input()).transform_up(renumber).data()?;
    let id = new(stage.spec.id)?;
    let spec = StageSpec { id, inputs: inputs_of(&plan), ..stage.spec };
    Ok(CutStage { spec, writer: stage.writer.with_input(plan), ..stage })
}
