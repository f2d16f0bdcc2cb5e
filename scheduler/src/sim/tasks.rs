//! What executors do beside talking: they run tasks, read what others wrote, and take outputs over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use springald_core::error::ErrorCode;
use springald_core::ids::{JobId, StageId, TaskId};
use springald_proto::control::{Failed, FailureClass, LostInput, StageInput, TaskOutput};

use super::executor::{Key, moved};
use super::process::number_of;
use super::work::{Versions, Work, Written, version_of};
use super::world::{Place, World};

/// Waits before a fetch from a peer that refuses is tried again.
const FETCH_WAITS: [u64; 2] = [50_000, 250_000];

/// A task whose input is being read.
#[derive(Clone)]
struct Task {
    executor: u32,
    run: u64,
    key: Key,
    work: Arc<Work>,
}

/// What a task has read so far: rows by stage and partition.
#[derive(Default)]
struct Read {
    rows: BTreeMap<(StageId, u32), Vec<u64>>,
    versions: Vec<Versions>,
}

impl World {
    /// A task has started.
    pub(super) fn start_task(&mut self, number: u32, run: u64, key: Key) {
        let Some(work) = self.works.get(&key.0).cloned() else {
            return self.violated(format!("executor-{number} is to run {key:?}, of a job that nobody has submitted"));
        };
        self.task_starts(number, &key);
        let flawed = self.flawed;
        let (time, slow) = self.agenda.chance(|chance| (chance.number(5_000, 600_000), chance.percent(3)));
        let time = if slow && flawed { time * 20 } else { time };
        let task = Task { executor: number, run, key, work };
        let begin = self.agenda.chance(|chance| chance.number(500, 5_000));
        self.later_at_executor(number, begin, move |world| world.begin_task(task, time));
    }

    /// The plan is decoded, and the output begun.
    fn begin_task(&mut self, task: Task, time: u64) {
        let Some(machine) = self.executors.get_mut(&task.executor) else { return };
        let Some(running) = machine.executor.runs(task.run, &task.key) else { return };
        let inputs = running.inputs.clone();
        if !machine.executor.knows_plan(&task.key) {
            let failure = failed(FailureClass::Transient, ErrorCode::Unavailable, "the plan of the stage is not here");
            return self.end_task(&task, Err(failure));
        }
        match machine.executor.begin_taking(&task.key) {
            Ok(true) => {}
            _ => {
                let failure = failed(FailureClass::Fatal, ErrorCode::Internal, "the task has an output here already");
                return self.end_task(&task, Err(failure));
            }
        }
        let failure = self.flaw_of(&task.key, &task.work);
        if let Some(failure) = failure {
            return self.later_at_executor(task.executor, time / 2, move |world| world.end_task(&task, Err(failure)));
        }
        self.read_next(task, inputs, Read::default(), time);
    }

    /// Why a task fails, if it does.
    fn flaw_of(&mut self, key: &Key, work: &Work) -> Option<Failed> {
        if work.wrong == Some((key.1.stage, key.1.task)) {
            return Some(failed(FailureClass::Fatal, ErrorCode::Query, "divide by zero"));
        }
        if !self.flawed || !self.agenda.chance(|chance| chance.percent(work.flaws)) {
            return None;
        }
        let memory = self.agenda.chance(|chance| chance.percent(25));
        if !self.history.may_fail(key, memory) {
            return None;
        }
        Some(match memory {
            true => failed(FailureClass::OutOfMemory, ErrorCode::ResourcesExhausted, "out of memory"),
            false => failed(FailureClass::Transient, ErrorCode::Unavailable, "the object store does not answer"),
        })
    }

    /// Reads the inputs one after another, and writes the output in the end.
    fn read_next(&mut self, task: Task, mut inputs: Vec<StageInput>, read: Read, time: u64) {
        let Some(input) = inputs.pop() else {
            return self.later_at_executor(task.executor, time / 2, move |world| world.write_output(&task, &read));
        };
        let share = time / 2 / (inputs.len() as u64 + 1);
        self.later_at_executor(task.executor, share, move |world| {
            let pieces = world.pieces_of(&task, &input);
            world.fetch_next(task, pieces, (inputs, input.stage, time), read);
        });
    }

    /// The pieces of an input that a task reads.
    fn pieces_of(&self, task: &Task, input: &StageInput) -> Vec<(TaskOutput, Vec<u32>)> {
        let Some(machine) = self.executors.get(&task.executor) else { return vec![] };
        let Some(running) = machine.executor.runs(task.run, &task.key) else { return vec![] };
        let spec = task.work.stage(task.key.1.stage);
        let Some(edge) = spec.inputs.iter().find(|edge| edge.stage.0 == input.stage) else { return vec![] };
        let wanted: BTreeSet<u32> =
            running.partitions.iter().flat_map(|partition| task.work.reads(spec, edge, *partition)).collect();
        let outputs = input.outputs.iter().cloned().map(|output| {
            let partitions = output.partitions.iter().filter(|partition| wanted.contains(partition)).copied().collect();
            (output, partitions)
        });
        outputs.filter(|(_, partitions): &(TaskOutput, Vec<u32>)| !partitions.is_empty()).collect()
    }

    fn fetch_next(
        &mut self,
        task: Task,
        mut pieces: Vec<(TaskOutput, Vec<u32>)>,
        (inputs, stage, time): (Vec<StageInput>, u32, u64),
        mut read: Read,
    ) {
        let Some((output, partitions)) = pieces.pop() else { return self.read_next(task, inputs, read, time) };
        let (executor, job) = (task.executor, task.key.0.clone());
        let source = (output.clone(), stage);
        self.fetch((executor, job), source, 0, move |world, written| match written {
            Some(written) => {
                for partition in partitions {
                    let rows = written.pieces.get(&partition).cloned().unwrap_or_default();
                    read.rows.entry((StageId(stage), partition)).or_default().extend(rows);
                }
                read.versions.push(written.versions);
                world.fetch_next(task, pieces, (inputs, stage, time), read);
            }
            None => {
                let (number, attempt, executor_id) = (output.task, output.attempt, output.executor_id);
                let lost = LostInput { stage, task: number, attempt, executor_id };
                let mut failure = failed(FailureClass::InputLost, ErrorCode::Unavailable, "an input is lost");
                failure.lost = Some(lost);
                world.end_task(&task, Err(failure));
            }
        });
    }

    /// Fetches an output, from here or from another executor; `None` if it cannot be had.
    fn fetch(
        &mut self,
        (reader, job): (u32, JobId),
        (output, stage): (TaskOutput, u32),
        tries: usize,
        then: impl FnOnce(&mut World, Option<Written>) + Send + 'static,
    ) {
        let task = TaskId { stage: StageId(stage), task: output.task, attempt: output.attempt };
        let Some(holder) = number_of(&output.address) else { return then(self, None) };
        let (from, to) = (Place::Executor(reader), Place::Executor(holder));
        if reader != holder && self.refuses(from, to) {
            return match FETCH_WAITS.get(tries) {
                Some(wait) => self.later_at_executor(reader, *wait, move |world| {
                    world.fetch((reader, job), (output, stage), tries + 1, then);
                }),
                None => then(self, None),
            };
        }
        // Both ways of going on need it, and only one comes about.
        let then = Arc::new(parking_lot::Mutex::new(Some(then)));
        let otherwise = Arc::clone(&then);
        let patience = self.agenda.chance(|chance| chance.number(5_000_000, 30_000_000));
        let key = (job, task);
        let reached = move |world: &mut World| {
            let found = world.executors.get(&holder).and_then(|machine| machine.executor.outputs.get(&key));
            let written = found.filter(|output| output.finished).map(|output| output.written.clone());
            let latency = if reader == holder { 0 } else { world.latency() };
            world.later_at_executor(reader, latency, move |world| {
                if let Some(then) = then.lock().take() {
                    then(world, written);
                }
            });
        };
        let given_up = move |world: &mut World| {
            world.at_executor(reader, move |world| {
                if let Some(then) = otherwise.lock().take() {
                    then(world, None);
                }
            });
        };
        if reader == holder { reached(self) } else { self.when_reached((from, to), patience, reached, given_up) }
    }

    fn write_output(&mut self, task: &Task, read: &Read) {
        let (job, id) = &task.key;
        let version = version_of(job, *id, task.executor, task.run);
        let spec = task.work.stage(id.stage);
        let rows = |input, partition| read.rows.get(&(input, partition)).cloned().unwrap_or_default();
        let pieces = task.work.run(spec, id.task, version, rows);
        let versions = task.work.versions(spec, id.task, version, &read.versions);
        self.end_task(task, Ok(Written { pieces, versions }));
    }

    fn end_task(&mut self, task: &Task, result: Result<Written, Failed>) {
        let Some(machine) = self.executors.get_mut(&task.executor) else { return };
        if machine.executor.runs(task.run, &task.key).is_none() {
            return;
        }
        let succeeded = result.is_ok();
        tracing::debug!(target: "sim", "executor-{}: task {} of {} {}", task.executor, task.key.1, task.key.0,
            match &result { Ok(_) => "has succeeded".to_owned(), Err(failed) => format!("has failed: {}", failed.message) });
        machine.executor.ended(task.run, &task.key, result);
        if succeeded {
            self.task_succeeded(task.executor, &task.key);
        }
        self.executor_talks(task.executor);
    }

    // === handing over ===

    /// Fetches an output that is handed over, and says so.
    pub(super) fn take_output(
        &mut self,
        number: u32,
        stream: Option<u64>,
        key: Key,
        output: TaskOutput,
        revision: u64,
    ) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let answer = move |world: &mut World, key: &Key, result: Result<(), String>| {
            if let Some(stream) = stream {
                world.say_on(stream, moved(key, revision, result));
            }
        };
        if machine.executor.draining {
            return answer(self, &key, Err("this executor is about to leave, too".to_owned()));
        }
        let source = (output, key.1.stage.0);
        self.fetch((number, key.0.clone()), source, 0, move |world, written| {
            let Some(machine) = world.executors.get_mut(&number) else { return };
            let Some(written) = written else {
                return answer(world, &key, Err("it could not be fetched".to_owned()));
            };
            match machine.executor.begin_taking(&key) {
                Ok(true) => {}
                Ok(false) => return answer(world, &key, Ok(())),
                Err(error) => return answer(world, &key, Err(error)),
            }
            let time = world.agenda.chance(|chance| chance.number(1_000, 200_000));
            world.later_at_executor(number, time, move |world| {
                let Some(machine) = world.executors.get_mut(&number) else { return };
                let taken = machine.executor.taken(&key, Some(written));
                if taken.is_ok() {
                    world.history.has(number, &key);
                }
                answer(world, &key, taken);
            });
        });
    }
}

fn failed(class: FailureClass, code: ErrorCode, message: &str) -> Failed {
    Failed { class: class.into(), code: code.as_str().to_owned(), message: message.to_owned(), lost: None }
}
