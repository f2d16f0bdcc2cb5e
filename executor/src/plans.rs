//! Plan instances: a stage's plan, decoded once here and shared by its tasks.
//!
//! Many operators can be executed only once per partition, and some (collected build sides, broadcasts) do work once
//! per instance for all partitions. So the partitions of a stage share an instance, and a partition that comes again
//! (a retry) gets another one; so does one that reads other versions of its inputs, because part of them was made again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use springald_core::codec::decode_plan;
use springald_core::error::{Error, Result};
use springald_core::exchange::ExchangeWriterExec;
use springald_core::ids::{JobId, StageId};
use springald_core::plan_session::{PlanSession, config_of};
use springald_proto::control;

use crate::exchange::input::Locations;

/// A decoded plan of a stage: what its tasks run.
pub(crate) struct StagePlan {
    root: Arc<dyn ExecutionPlan>,
    writer: ExchangeWriterExec,
    config: SessionConfig,
    partitions: usize,
}

impl StagePlan {
    /// The exchange writer at the root, as an operator.
    pub(crate) fn root(&self) -> &Arc<dyn ExecutionPlan> {
        &self.root
    }

    /// The exchange writer at the root.
    pub(crate) fn writer(&self) -> &ExchangeWriterExec {
        &self.writer
    }

    /// The DataFusion settings that the plan runs with.
    pub(crate) fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Number of partitions that can be executed.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }
}

/// The plans of all stages that have tasks here.
pub(crate) struct Plans {
    session: PlanSession,
    stages: Mutex<HashMap<JobId, HashMap<StageId, Arc<Stage>>>>,
}

struct Stage {
    bytes: Bytes,
    settings: HashMap<String, String>,
    /// Held while decoding, so that tasks that start together share the instance.
    instances: Mutex<Vec<Instance>>,
}

struct Instance {
    plan: Arc<StagePlan>,
    executed: BTreeSet<u32>,
    /// What it reads.
    inputs: Arc<Locations>,
}

impl Plans {
    /// No plans yet; those to come run in `runtime`, with all of DataFusion's functions.
    pub(crate) fn new(runtime: Arc<RuntimeEnv>) -> Self {
        Self { session: PlanSession::new(runtime), stages: Mutex::default() }
    }

    /// Keeps the plan of a stage. The same plan again (after a reconnect) changes nothing.
    pub(crate) fn keep(&self, job: &JobId, stage: StageId, plan: control::StagePlan) {
        let mut jobs = self.stages.lock();
        let stages = jobs.entry(job.clone()).or_default();
        let known = stages.get(&stage).is_some_and(|known| known.bytes == plan.plan && known.settings == plan.settings);
        if !known {
            let kept = Stage { bytes: plan.plan, settings: plan.settings, instances: Mutex::default() };
            stages.insert(stage, Arc::new(kept));
        }
    }

    /// An instance of the stage's plan that reads these inputs and in which none of `partitions` was executed; from now on
    /// they count as executed. Decodes the plan if there is none.
    pub(crate) fn claim(
        &self,
        job: &JobId,
        stage: StageId,
        partitions: &[u32],
        inputs: &Arc<Locations>,
    ) -> Result<Arc<StagePlan>> {
        let known = self.stages.lock().get(job).and_then(|stages| stages.get(&stage)).cloned();
        let known = known.ok_or_else(|| {
            Error::unavailable(format!("the plan of stage {stage} of job {job} is not at this executor"))
        })?;
        let mut instances = known.instances.lock();
        let fresh = |instance: &&mut Instance| {
            let unexecuted = partitions.iter().all(|partition| !instance.executed.contains(partition));
            unexecuted && instance.inputs.same_versions(inputs)
        };
        if let Some(instance) = instances.iter_mut().find(fresh) {
            instance.executed.extend(partitions);
            return Ok(Arc::clone(&instance.plan));
        }
        let plan = Arc::new(self.decode(&known).map_err(|error| error.context(format!("stage {stage} of job {job}")))?);
        // What was executed whole, or reads what there is no more, is of no more use.
        instances.retain(|instance| {
            instance.executed.len() < instance.plan.partitions && instance.inputs.same_versions(inputs)
        });
        let executed = partitions.iter().copied().collect();
        instances.push(Instance { plan: Arc::clone(&plan), executed, inputs: Arc::clone(inputs) });
        Ok(plan)
    }

    /// A task has failed in this instance: no other gets it. What an operator does once for all partitions has failed for all
    /// of them then, for good.
    pub(crate) fn give_up(&self, job: &JobId, stage: StageId, plan: &Arc<StagePlan>) {
        let known = self.stages.lock().get(job).and_then(|stages| stages.get(&stage)).cloned();
        if let Some(known) = known {
            known.instances.lock().retain(|instance| !Arc::ptr_eq(&instance.plan, plan));
        }
    }

    /// Drops the plan of a stage. Tasks that run keep theirs.
    pub(crate) fn drop_stage(&self, job: &JobId, stage: StageId) {
        let mut jobs = self.stages.lock();
        let dropped = jobs.get_mut(job).and_then(|stages| stages.remove(&stage));
        if jobs.get(job).is_some_and(HashMap::is_empty) {
            jobs.remove(job);
        }
        drop(jobs);
        drop(dropped);
    }

    /// Drops all plans of a job.
    pub(crate) fn drop_job(&self, job: &JobId) {
        let dropped = self.stages.lock().remove(job);
        drop(dropped);
    }

    /// A context with DataFusion's functions and the process's runtime, and with `config`.
    pub(crate) fn context(&self, config: SessionConfig) -> TaskContext {
        self.session.context(config)
    }

    fn decode(&self, stage: &Stage) -> Result<StagePlan> {
        let config = config_of(&stage.settings)?;
        let root = decode_plan(&stage.bytes, &self.context(config.clone()))?;
        let Some(writer) = root.downcast_ref::<ExchangeWriterExec>().cloned() else {
            return Err(Error::internal(format!("the plan's root is {}, not an exchange writer", root.name())));
        };
        let partitions = writer.input().output_partitioning().partition_count();
        Ok(StagePlan { root, writer, config, partitions })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use datafusion::config::ConfigOptions;
    use datafusion::physical_plan::empty::EmptyExec;
    use springald_core::codec::encode_plan;
    use springald_core::plan_session::settings_of;

    use super::*;

    #[test]
    fn given_an_instance_in_which_a_task_has_failed_then_no_other_task_gets_it() {
        let plans = Plans::new(Arc::default());
        let input = Arc::new(EmptyExec::new(Arc::new(Schema::empty())).with_partitions(3));
        let plan = encode_plan(Arc::new(ExchangeWriterExec::new(input, None))).expect("encodes");
        let (job, stage, inputs): (JobId, _, _) = ("j".parse().expect("valid"), StageId(1), Arc::default());
        let settings = settings_of(&ConfigOptions::new()).expect("can be sent");
        plans.keep(&job, stage, control::StagePlan { plan, settings });
        let claim = |partition: u32| plans.claim(&job, stage, &[partition], &inputs).expect("an instance");

        let first = claim(0);
        assert!(Arc::ptr_eq(&first, &claim(1)), "partitions share one");
        plans.give_up(&job, stage, &first);
        assert!(!Arc::ptr_eq(&first, &claim(2)));
    }
}
