//! Runtime filters across the exchange: what a finished build side knows keeps rows of the probe side from being sent.
//!
//! ```text
//!   stage 1: scan, filter ──▶ writes rows, and hashes of the join key ──┐
//!   stage 2: scan ─▶ RuntimeFilterExec [key in keys of stage 1] ◀───────┘ ──▶ writes the rows that are left
//!   stage 3: hash join of stages 1 and 2 on that key
//! ```
//!
//! The same in the other direction, where the build side has more keys than the probe side. Of both, only one: a filter
//! makes its stage wait for the other one, and stages cannot wait for each other.
//!
//! For each hash join the keys are followed down on both sides, through the operators of its stage and of the stages
//! below, to where they are read. A stage that is filtered has fewer keys itself, so that filters lead to others. The
//! filter makes stage 2 a reader of stage 1: that it starts later, that
//! stage 1's output is kept for it, and what happens when part of that is lost, follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality, Result, internal_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use springald_core::exchange::{ExchangeReaderExec, RuntimeFilterExec};
use springald_core::ids::StageId;

use super::cut::CutStage;
use super::lineage::{column_of, sources};
use super::merge::numbered;
use super::shape::count;
use crate::job::InputSpec;

/// Filters of one stage, at most: each makes it wait for another stage.
const FILTERS_PER_STAGE: usize = 4;

/// Columns of the output of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    stage: StageId,
    columns: Vec<usize>,
}

/// Rows of `probe` whose key is not among those of `build` can be dropped.
struct Opportunity {
    build: Key,
    probe: Key,
}

/// Adds runtime filters where they may pay, and puts the stages into an order in which they can run.
pub(super) fn add(mut stages: Vec<CutStage>) -> Result<Vec<CutStage>> {
    add_all(&mut stages)?;
    in_order(stages)
}

fn add_all(stages: &mut [CutStage]) -> Result<()> {
    let mut joins = vec![];
    stages.iter().for_each(|stage| find(stage.writer.input(), &mut joins));
    let forward = joins.iter().filter(|join| drops_unmatched_probe_rows(join)).flat_map(|join| opportunities_of(join));
    let backward = joins.iter().filter(|join| drops_unmatched_build_rows(join)).flat_map(|join| opportunities_of(join));
    let backward = backward.map(|Opportunity { build, probe }| Opportunity { build: probe, probe: build });
    let mut opportunities: Vec<Opportunity> = forward.chain(backward).collect();
    // One that has no use yet may get it from another.
    loop {
        let useful = |one: &Opportunity| is_selective(stages, one.build.stage);
        let Some(next) = opportunities.iter().position(useful) else { return Ok(()) };
        let Opportunity { build, probe } = opportunities.remove(next);
        place(stages, &build, probe)?;
    }
}

fn get(stages: &[CutStage], id: StageId) -> Option<&CutStage> {
    stages.get((id.0 as usize).checked_sub(1)?)
}

// === where ===

fn find<'a>(plan: &'a Arc<dyn ExecutionPlan>, joins: &mut Vec<&'a HashJoinExec>) {
    joins.extend(plan.downcast_ref::<HashJoinExec>());
    plan.children().into_iter().for_each(|child| find(child, joins));
}

/// True if rows that would not match in this join might be dropped before.
pub(super) fn is_opportunity(join: &HashJoinExec) -> bool {
    drops_unmatched_probe_rows(join)
        && join
            .on()
            .iter()
            .filter_map(|(_, probe)| column_of(probe))
            .any(|probe| !origins(join.right(), probe).is_empty())
}

fn drops_unmatched_probe_rows(join: &HashJoinExec) -> bool {
    let by_type = matches!(
        join.join_type(),
        JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi
    );
    by_type && compares_values(join)
}

/// A build side that is broadcast is small.
fn drops_unmatched_build_rows(join: &HashJoinExec) -> bool {
    let by_type =
        matches!(join.join_type(), JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
    by_type && *join.partition_mode() == PartitionMode::Partitioned && compares_values(join)
}

fn compares_values(join: &HashJoinExec) -> bool {
    !join.null_aware && join.null_equality() == NullEquality::NullEqualsNothing
}

/// For every two stages that keys of both sides come from: as many columns of the key as do.
fn opportunities_of(join: &HashJoinExec) -> Vec<Opportunity> {
    let (left, right) = (join.left().schema(), join.right().schema());
    let mut found: Vec<Opportunity> = vec![];
    for (build, probe) in join.on() {
        let (Some(build), Some(probe)) = (column_of(build), column_of(probe)) else { continue };
        if left.field(build).data_type() != right.field(probe).data_type() {
            continue;
        }
        for (build_stage, build_column) in origins(join.left(), build) {
            for (probe_stage, probe_column) in origins(join.right(), probe) {
                let same =
                    |known: &&mut Opportunity| known.build.stage == build_stage && known.probe.stage == probe_stage;
                match found.iter_mut().find(same) {
                    Some(known) => {
                        known.build.columns.push(build_column);
                        known.probe.columns.push(probe_column);
                    }
                    None => found.push(Opportunity {
                        build: Key { stage: build_stage, columns: vec![build_column] },
                        probe: Key { stage: probe_stage, columns: vec![probe_column] },
                    }),
                }
            }
        }
    }
    found
}

/// The stages that a column of the plan is read from, and which column of theirs it is.
fn origins(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Vec<(StageId, usize)> {
    if let Some(reader) = plan.downcast_ref::<ExchangeReaderExec>() {
        return vec![(reader.stage(), column)];
    }
    let children = plan.children();
    let below = sources(plan, &[column])
        .into_iter()
        .filter_map(|(child, columns)| Some(origins(children.get(child).copied()?, columns.first().copied()?)));
    below.flatten().collect()
}

// === whether ===

/// True if a stage is likely to have only some of the keys that there are: it drops rows, or reads one that does.
fn is_selective(stages: &[CutStage], id: StageId) -> bool {
    let drops = |id: StageId| get(stages, id).is_some_and(|stage| count(stage.writer.input(), &drops_rows) > 0);
    drops(id) || stages.iter().any(|other| drops(other.spec.id) && waits(stages, id, other.spec.id))
}

fn drops_rows(node: &Arc<dyn ExecutionPlan>) -> bool {
    let scan = node.downcast_ref::<DataSourceExec>();
    let files = scan.and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
    node.is::<FilterExec>()
        || node.is::<RuntimeFilterExec>()
        || files.is_some_and(|files| files.file_source().filter().is_some())
}

/// True if a stage may wait for the keys of `build` and drop rows: `build` does not wait for it, and no other reader misses
/// what is dropped for one.
fn may_filter(stages: &[CutStage], build: StageId, id: StageId) -> bool {
    let reads = |stage: &CutStage| {
        count(stage.writer.input(), &|node| {
            node.downcast_ref::<ExchangeReaderExec>().is_some_and(|reader| reader.stage() == id)
        })
    };
    let hashes_of = |stage: &CutStage| count(stage.writer.input(), &|node| node.is::<RuntimeFilterExec>());
    build != id
        && !waits(stages, build, id)
        && stages.iter().map(reads).sum::<usize>() == 1
        && get(stages, id).is_some_and(|stage| hashes_of(stage) < FILTERS_PER_STAGE)
}

/// True if a stage needs, directly or not, the output of another one.
fn waits(stages: &[CutStage], id: StageId, other: StageId) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([id]), vec![id]);
    while let Some(id) = next.pop() {
        let inputs = get(stages, id).map_or(&[][..], |stage| stage.spec.inputs.as_slice());
        next.extend(inputs.iter().map(|input| input.stage).filter(|input| seen.insert(*input)));
    }
    id != other && seen.contains(&other)
}

// === putting it there ===

/// A plan with the filter in it, or the stage below that should have it.
enum Placed {
    Here(Arc<dyn ExecutionPlan>),
    Below(Key),
}

/// Puts a filter by these columns above a plan.
type Filtered<'a> = &'a dyn Fn(&Arc<dyn ExecutionPlan>, &[usize]) -> Arc<dyn ExecutionPlan>;

/// Puts a filter as far down as the key of `probe` can be followed.
fn place(stages: &mut [CutStage], build: &Key, mut probe: Key) -> Result<()> {
    loop {
        if !may_filter(stages, build.stage, probe.stage) {
            return Ok(());
        }
        let Some(stage) = get(stages, probe.stage) else { return Ok(()) };
        let partition = key_partition(stages, build);
        let filtered = |plan: &Arc<dyn ExecutionPlan>, columns: &[usize]| {
            Arc::new(RuntimeFilterExec::new(Arc::clone(plan), columns.to_vec(), build.stage, partition)) as _
        };
        let may_go_below = |id| may_filter(stages, build.stage, id);
        match push_down(stage.writer.input(), &probe.columns, &filtered, &may_go_below)? {
            Placed::Below(key) => probe = key,
            Placed::Here(plan) => return commit(stages, build, probe.stage, plan),
        }
    }
}

/// The output partition of the build side's stage that has, or will have, the hashes.
fn key_partition(stages: &[CutStage], build: &Key) -> u32 {
    get(stages, build.stage).map_or(0, |stage| {
        let keys = stage.writer.keys();
        let position = keys.iter().position(|known| *known == build.columns).unwrap_or(keys.len());
        (stage.writer.output_partitions() + position) as u32
    })
}

fn push_down(
    plan: &Arc<dyn ExecutionPlan>,
    columns: &[usize],
    filtered: Filtered<'_>,
    may_go_below: &dyn Fn(StageId) -> bool,
) -> Result<Placed> {
    let here = || Ok(Placed::Here(filtered(plan, columns)));
    if let Some(reader) = plan.downcast_ref::<ExchangeReaderExec>().filter(|reader| may_go_below(reader.stage())) {
        return Ok(Placed::Below(Key { stage: reader.stage(), columns: columns.to_vec() }));
    }
    // Of the two sides of a join, the probe side: it has more rows.
    let Some((child, there)) = sources(plan, columns).pop() else { return here() };
    let mut children: Vec<Arc<dyn ExecutionPlan>> = plan.children().into_iter().cloned().collect();
    let Some(source) = children.get_mut(child) else { return here() };
    match push_down(source, &there, filtered, may_go_below)? {
        Placed::Below(key) => Ok(Placed::Below(key)),
        // A comparison costs less than a look into the set: it goes first.
        Placed::Here(_) if plan.is::<FilterExec>() => here(),
        Placed::Here(new) => {
            *source = new;
            Ok(Placed::Here(replace_children_if_necessary(Arc::clone(plan), children)?))
        }
    }
}

/// Gives `target` its new plan, and has the build side's stage write the hashes.
fn commit(stages: &mut [CutStage], build: &Key, target: StageId, plan: Arc<dyn ExecutionPlan>) -> Result<()> {
    for stage in stages.iter_mut() {
        if stage.spec.id == target {
            stage.writer = stage.writer.clone().with_input(Arc::clone(&plan));
            if !stage.spec.inputs.iter().any(|input| input.stage == build.stage) {
                stage.spec.inputs.push(InputSpec { stage: build.stage, broadcast: true });
            }
        }
        if stage.spec.id == build.stage && !stage.writer.keys().contains(&build.columns) {
            let mut keys = stage.writer.keys().to_vec();
            keys.push(build.columns.clone());
            stage.spec.key_partitions += 1;
            stage.writer = stage.writer.clone().with_keys(keys);
        }
    }
    Ok(())
}

/// Inputs before their readers, else as they were, numbered anew.
fn in_order(mut stages: Vec<CutStage>) -> Result<Vec<CutStage>> {
    let mut ordered: Vec<CutStage> = Vec::with_capacity(stages.len());
    while !stages.is_empty() {
        let done = |input: &InputSpec| ordered.iter().any(|stage| stage.spec.id == input.stage);
        let Some(next) = stages.iter().position(|stage| stage.spec.inputs.iter().all(done)) else {
            return internal_err!("stages wait for each other");
        };
        ordered.push(stages.remove(next));
    }
    numbered(ordered)
}
