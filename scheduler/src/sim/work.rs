//! What jobs compute: numbers that come from the sources and go through the stages, so that a piece that is lost, doubled,
//! or of another version than its neighbours shows in the answer.

use std::collections::BTreeMap;

use springald_core::ids::{JobId, StageId, TaskId};
use springald_proto::control::StagePlan;

use super::chance::{Chance, mix};
use crate::job::{InputSpec, StageSpec};
use crate::planner::PlannedStage;

/// Rows of one piece, at most: the larger ones are cut off, and still count in the sum.
const ROWS: usize = 8;

/// The attempts of tasks whose output may differ when they run again, that went into something: for each task, a number
/// that no other attempt has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    of: BTreeMap<(StageId, u32), u64>,
    /// Two attempts of one task went in.
    pub(super) mixed: bool,
}

impl Versions {
    fn add(&mut self, other: &Versions) {
        self.mixed |= other.mixed;
        for (task, version) in &other.of {
            self.mixed |= *self.of.entry(*task).or_insert(*version) != *version;
        }
    }

    pub(super) fn all<'a>(all: impl IntoIterator<Item = &'a Versions>) -> Versions {
        let mut together = Versions::default();
        all.into_iter().for_each(|versions| together.add(versions));
        together
    }
}

/// What a task attempt wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// The rows of each output partition.
    pub(super) pieces: BTreeMap<u32, Vec<u64>>,
    pub(super) versions: Versions,
}

/// What a job computes.
#[derive(Debug)]
pub(super) struct Work {
    salt: u64,
    pub(super) stages: Vec<StageSpec>,
    /// This task fails, as often as it is tried, because the query is wrong.
    pub(super) wrong: Option<(StageId, u32)>,
    /// Tasks fail so often, of a hundred times, for reasons that pass.
    pub(super) flaws: u64,
}

impl Work {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let stages = match chance.percent(15) {
            true => whole(chance),
            false => cut(chance),
        };
        let tasks: Vec<(StageId, u32)> =
            stages.iter().flat_map(|stage| (0..stage.tasks()).map(|task| (stage.id, task))).collect();
        let wrong = chance.percent(8).then(|| chance.one_of(&tasks)).flatten();
        Self { salt: chance.number(0, u64::MAX - 1), stages, wrong, flaws: chance.number(0, 12) }
    }

    /// The stages as a planner would give them.
    pub(super) fn planned(&self) -> Vec<PlannedStage> {
        let planned = |spec: &StageSpec| PlannedStage {
            spec: spec.clone(),
            plan: StagePlan { plan: format!("stage {}", spec.id).into(), ..StagePlan::default() },
            text: String::new(),
        };
        self.stages.iter().map(planned).collect()
    }

    pub(super) fn stage(&self, id: StageId) -> &StageSpec {
        &self.stages[id.0 as usize - 1]
    }

    /// The partitions of an input that a partition of a stage reads.
    pub(super) fn reads(&self, reader: &StageSpec, input: &InputSpec, partition: u32) -> Vec<u32> {
        let source = self.stage(input.stage);
        let all = input.broadcast || (!source.hashed && source.output_partitions != reader.partitions);
        if all { (0..source.output_partitions).collect() } else { vec![partition] }
    }

    /// Runs a task. `read` gives the rows of a partition of an input, and `version` is that of this attempt.
    pub(super) fn run(
        &self,
        stage: &StageSpec,
        task: u32,
        version: u64,
        mut read: impl FnMut(StageId, u32) -> Vec<u64>,
    ) -> BTreeMap<u32, Vec<u64>> {
        let mut pieces: BTreeMap<u32, Vec<u64>> = stage.writes(task).map(|partition| (partition, vec![])).collect();
        for partition in stage.slice(task) {
            let mut rows = vec![];
            for input in &stage.inputs {
                for read_partition in self.reads(stage, input, partition) {
                    rows.extend(read(input.stage, read_partition));
                }
            }
            for row in self.compute(stage, partition, rows, version) {
                let to = if stage.hashed { (row % u64::from(stage.output_partitions)) as u32 } else { partition };
                pieces.entry(to).or_default().push(row);
            }
        }
        // Rows come in another order each time.
        pieces.values_mut().for_each(|rows| rows.sort_by_key(|row| mix(row ^ version)));
        pieces
    }

    fn compute(&self, stage: &StageSpec, partition: u32, mut rows: Vec<u64>, version: u64) -> Vec<u64> {
        let of_stage = mix(self.salt ^ (u64::from(stage.id.0) << 32));
        let version = if stage.indeterminate { version } else { 0 };
        if stage.inputs.is_empty() {
            let source = mix(of_stage ^ u64::from(partition));
            return (0..2 + source % 3).map(|row| mix(source ^ (row << 8) ^ version)).collect();
        }
        rows.sort_unstable();
        let sum = rows.iter().fold(of_stage ^ u64::from(partition), |sum, row| mix(sum ^ row));
        rows.truncate(ROWS);
        rows.push(sum);
        rows.into_iter().map(|row| mix(row ^ of_stage ^ version)).collect()
    }

    /// The rows of the answer, sorted, if these versions went into it.
    pub(super) fn answer(&self, versions: &Versions) -> Vec<u64> {
        let mut outputs: Vec<BTreeMap<u32, Vec<u64>>> = vec![];
        for stage in &self.stages {
            let mut all: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
            for task in 0..stage.tasks() {
                let version = versions.of.get(&(stage.id, task)).copied().unwrap_or_default();
                let read = |input: StageId, partition: u32| {
                    outputs[input.0 as usize - 1].get(&partition).cloned().unwrap_or_default()
                };
                for (partition, rows) in self.run(stage, task, version, read) {
                    all.entry(partition).or_default().extend(rows);
                }
            }
            outputs.push(all);
        }
        let mut answer: Vec<u64> = outputs.pop().into_iter().flat_map(BTreeMap::into_values).flatten().collect();
        answer.sort_unstable();
        answer
    }

    /// What a task attempt that read these wrote, or would write.
    pub(super) fn versions(&self, stage: &StageSpec, task: u32, version: u64, read: &[Versions]) -> Versions {
        let mut versions = Versions::all(read);
        if stage.indeterminate {
            versions.add(&Versions { of: [((stage.id, task), version)].into(), mixed: false });
        }
        versions
    }
}

/// The version that an attempt writes.
pub(super) fn version_of(job: &JobId, task: TaskId, executor: u32, run: u64) -> u64 {
    let name = format!("{job}/{task}/{executor}/{run}");
    name.bytes().fold(1, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// One stage with one task, as small queries have.
fn whole(chance: &mut Chance) -> Vec<StageSpec> {
    let partitions = chance.small(1, 3);
    vec![StageSpec {
        id: StageId(1),
        inputs: vec![],
        partitions,
        output_partitions: partitions,
        key_partitions: 0,
        hashed: false,
        whole: Some(chance.small(1, 3)),
        indeterminate: chance.percent(20),
    }]
}

/// Stages that read each other.
fn cut(chance: &mut Chance) -> Vec<StageSpec> {
    let count = chance.small(2, 5);
    let may_differ = chance.percent(25);
    let mut stages: Vec<StageSpec> = (1..=count)
        .map(|id| {
            let partitions = if id == count { chance.small(1, 2) } else { chance.small(1, 4) };
            StageSpec {
                id: StageId(id),
                inputs: vec![],
                partitions,
                output_partitions: partitions,
                key_partitions: 0,
                hashed: false,
                whole: None,
                indeterminate: may_differ && chance.percent(40),
            }
        })
        .collect();
    for id in 1..count {
        let reader = chance.small(id + 1, count);
        read(&mut stages, (id, reader), true, chance);
        if reader < count && chance.percent(25) {
            let second = chance.small(reader + 1, count);
            read(&mut stages, (id, second), false, chance);
        }
    }
    stages
}

/// Has one stage read another one; the first of its readers says how that one's output is split.
fn read(stages: &mut [StageSpec], (source, reader): (u32, u32), first: bool, chance: &mut Chance) {
    let partitions = stages[reader as usize - 1].partitions;
    let stage = &mut stages[source as usize - 1];
    let aligned = stage.partitions == partitions || partitions == 1;
    let mut broadcast = chance.percent(20);
    if first && !broadcast && !(aligned && chance.percent(40)) {
        stage.hashed = true;
        stage.output_partitions = partitions;
    }
    let fits = if stage.hashed { stage.output_partitions == partitions } else { aligned };
    broadcast |= !fits;
    stages[reader as usize - 1].inputs.push(InputSpec { stage: StageId(source), broadcast });
}
