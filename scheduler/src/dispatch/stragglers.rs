//! Slow tasks: one that takes much longer than its peers is tried a second time elsewhere, on a slot that nobody wants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use springald_core::ids::{ExecutorId, JobId, StageId, TaskId};
use springald_core::telemetry::events::names;

use super::actor::Actor;
use super::job_entry::JobEntry;
use crate::job::{Action, Event, Launch, Stage};
use crate::metrics::springald_scheduler as metrics;

/// A task is slow when it takes so many times as long as half of its stage's tasks did …
const FACTOR: u32 = 3;
/// … and at least so long: below that a second attempt gains nothing.
const SHORTEST: Duration = Duration::from_secs(2);

/// When the attempts of a job were started, and how long those took that have succeeded.
#[derive(Default)]
pub(super) struct Times {
    started: BTreeMap<TaskId, Instant>,
    took: BTreeMap<StageId, Vec<Duration>>,
}

impl Times {
    pub(super) fn started(&mut self, task: TaskId, now: Instant) {
        self.started.insert(task, now);
    }

    /// An attempt has ended. Its time counts only if it has succeeded.
    pub(super) fn ended(&mut self, task: TaskId, succeeded: bool, now: Instant) {
        if let (Some(started), true) = (self.started.remove(&task), succeeded) {
            self.took.entry(task.stage).or_default().push(now.duration_since(started));
        }
    }

    /// The attempts that are much slower than others of their stage were.
    fn slow(&self, stage: &Stage, now: Instant) -> Vec<TaskId> {
        let mut took = self.took.get(&stage.spec().id).cloned().unwrap_or_default();
        if took.len() * 2 < stage.spec().tasks() as usize {
            return vec![];
        }
        took.sort_unstable();
        let Some(median) = took.get(took.len() / 2) else { return vec![] };
        let limit = (*median * FACTOR).max(SHORTEST);
        let since = |task: &TaskId| self.started.get(task).map(|started| now.duration_since(*started));
        stage.attempts().map(|(task, _)| task).filter(|task| since(task).is_some_and(|time| time >= limit)).collect()
    }
}

impl Actor {
    /// Starts second attempts on slots that are left over.
    pub(super) fn speculate(&mut self, now: Instant) {
        if !self.options.speculation {
            return;
        }
        let slow = |job: &JobEntry| -> Vec<(JobId, TaskId)> {
            let tasks = job.graph.stages().iter().flat_map(|stage| job.times.slow(stage, now));
            tasks.map(|task| (job.id.clone(), task)).collect()
        };
        let candidates: Vec<(JobId, TaskId)> =
            self.jobs.values().filter(|job| job.adoption.is_none()).flat_map(slow).collect();
        for (id, task) in candidates {
            for (executor, _) in self.peers.with_room() {
                if !self.peers.get(&executor).is_some_and(|peer| peer.is_open_to(&id)) {
                    continue;
                }
                if let Some(launch) = self.second_attempt(&id, task, &executor) {
                    self.launch(&id, launch);
                    break;
                }
            }
        }
    }

    fn second_attempt(&mut self, id: &JobId, task: TaskId, executor: &ExecutorId) -> Option<Launch> {
        let job = self.jobs.get_mut(id)?;
        let actions = job.graph.apply(Event::Speculate { task, executor: executor.clone() });
        let launch = actions.into_iter().find_map(|action| match action {
            Action::Launch(launch) => Some(launch),
            _ => None,
        })?;
        self.peers.get_mut(executor)?.launched(launch.slots);
        metrics::tasks_speculated_total().inc();
        tracing::info!(event = names::TASK_SPECULATED, job_id = %id, stage_id = task.stage.0, task_id = task.task, attempt = launch.task.attempt,
            executor_id = %executor, "a slow task is tried a second time");
        Some(launch)
    }
}
