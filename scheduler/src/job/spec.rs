//! What the planner says of a stage; fixed when the job is committed.

use std::ops::Range;

use springald_core::error::{Error, Result};
use springald_core::ids::StageId;

/// One input of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// The stage that is read.
    pub stage: StageId,
    /// Every task reads all of it.
    pub broadcast: bool,
}

/// The shape of a stage: everything the state machine needs to know of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpec {
    /// Number of the stage; inputs have smaller numbers.
    pub id: StageId,
    /// The stages it reads, each once.
    pub inputs: Vec<InputSpec>,
    /// Partitions of the stage's plan.
    pub partitions: u32,
    /// Partitions of its output.
    pub output_partitions: u32,
    /// Output partitions behind those, with hashes of join keys for stages that filter by them: every task writes all of
    /// them.
    pub key_partitions: u32,
    /// Rows are hashed over the output partitions, so that every task writes all of them; otherwise the plan's
    /// partition `p` is output partition `p`.
    pub hashed: bool,
    /// All partitions run together in one task, on one executor, with at most this many slots.
    pub whole: Option<u32>,
    /// Run again, it may give other rows or another order of rows.
    pub indeterminate: bool,
}

impl StageSpec {
    /// Number of tasks.
    pub fn tasks(&self) -> u32 {
        if self.whole.is_some() { 1 } else { self.partitions }
    }

    /// The partitions of the plan that a task executes.
    pub fn slice(&self, task: u32) -> Range<u32> {
        if self.whole.is_some() { 0..self.partitions } else { task..task + 1 }
    }

    /// The output partitions that a task writes.
    pub fn writes(&self, task: u32) -> impl Iterator<Item = u32> + use<> {
        let rows = if self.hashed { 0..self.output_partitions } else { self.slice(task) };
        rows.chain(self.output_partitions..self.output_partitions.saturating_add(self.key_partitions))
    }

    /// Pieces that all tasks together write, each an output partition of one task.
    pub fn pieces(&self) -> u64 {
        let rows = if self.hashed {
            u64::from(self.tasks()) * u64::from(self.output_partitions)
        } else {
            self.partitions.into()
        };
        rows + u64::from(self.tasks()) * u64::from(self.key_partitions)
    }
}

/// Checks what came out of a planner or a store: stages numbered from 1 without a gap, inputs before readers, the last
/// stage the only one without a reader.
pub(super) fn validate(stages: &[StageSpec]) -> Result<()> {
    let mut read = vec![false; stages.len()];
    for (index, stage) in stages.iter().enumerate() {
        let number = index as u32 + 1;
        if stage.id.0 != number {
            return Err(Error::internal(format!("stage {} stands where stage {number} should", stage.id)));
        }
        if !stage.hashed && stage.output_partitions != stage.partitions {
            return Err(Error::internal(format!("stage {number} keeps its partitions but changes their number")));
        }
        for input in &stage.inputs {
            match input.stage.0.checked_sub(1).and_then(|position| read.get_mut(position as usize)) {
                Some(seen) if input.stage < stage.id => *seen = true,
                _ => return Err(Error::internal(format!("stage {number} reads stage {}", input.stage))),
            }
        }
    }
    match read.split_last() {
        Some((false, others)) if others.iter().all(|seen| *seen) => Ok(()),
        _ => Err(Error::internal("a plan needs exactly one last stage, and readers for all others")),
    }
}
