//! Planned stages as they are kept in the store.

use springald_core::error::{Error, Result};
use springald_core::ids::StageId;
use springald_proto::records::{StageInputRecord, StagePlanRecord};

use crate::job::{InputSpec, StageSpec};
use crate::planner::PlannedStage;

/// A stage, to be stored.
pub(super) fn to_record(stage: &PlannedStage) -> StagePlanRecord {
    let spec = &stage.spec;
    let input = |input: &InputSpec| StageInputRecord { stage: input.stage.0, broadcast: input.broadcast };
    StagePlanRecord {
        stage: spec.id.0,
        partitions: spec.partitions,
        output_partitions: spec.output_partitions,
        key_partitions: spec.key_partitions,
        hashed: spec.hashed,
        whole: spec.whole.is_some(),
        whole_slots: spec.whole.unwrap_or_default(),
        indeterminate: spec.indeterminate,
        inputs: spec.inputs.iter().map(input).collect(),
        plan: Some(stage.plan.clone()),
        text: stage.text.clone(),
    }
}

/// A stage from the store. Fails if its plan is missing.
pub(super) fn from_record(record: StagePlanRecord) -> Result<PlannedStage> {
    let input = |input: &StageInputRecord| InputSpec { stage: StageId(input.stage), broadcast: input.broadcast };
    let spec = StageSpec {
        id: StageId(record.stage),
        inputs: record.inputs.iter().map(input).collect(),
        partitions: record.partitions,
        output_partitions: record.output_partitions,
        key_partitions: record.key_partitions,
        hashed: record.hashed,
        whole: record.whole.then_some(record.whole_slots.max(1)),
        indeterminate: record.indeterminate,
    };
    let plan =
        record.plan.ok_or_else(|| Error::internal(format!("stage {} was stored without a plan", record.stage)))?;
    Ok(PlannedStage { spec, plan, text: record.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_stage_when_stored_and_read_then_it_is_the_same() {
        let inputs = vec![InputSpec { stage: StageId(1), broadcast: true }];
        let spec = StageSpec {
            id: StageId(2),
            inputs,
            partitions: 3,
            output_partitions: 5,
            key_partitions: 2,
            hashed: true,
            whole: Some(4),
            indeterminate: true,
        };
        let plan =
            springald_proto::control::StagePlan { plan: "p".into(), settings: [("a".into(), "b".into())].into() };
        let stage = PlannedStage { spec: spec.clone(), plan: plan.clone(), text: "t".to_owned() };
        let read = from_record(to_record(&stage)).expect("whole");
        assert_eq!((read.spec, read.plan, read.text), (spec, plan, "t".to_owned()));
        assert!(from_record(StagePlanRecord::default()).is_err());
    }
}
