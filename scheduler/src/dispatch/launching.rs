//! Sends tasks to executors.

use std::collections::BTreeMap;

use springald_core::ids::{ExecutorId, JobId, StageId};
use springald_proto::control::{Launch as LaunchMessage, TaskSlice, scheduler_message::Message};
use springald_proto::records::JobStatus;

use super::actor::Actor;
use super::journal::Entry;
use super::schedule;
use crate::job::Launch;
use crate::{clock, job_events, records};

impl Actor {
    /// Starts whatever can start.
    pub(super) fn schedule(&mut self) {
        let mut messages: BTreeMap<(ExecutorId, JobId, StageId), Vec<Launch>> = BTreeMap::new();
        for (job, launch) in schedule::assign(&mut self.jobs, &mut self.peers) {
            messages.entry((launch.executor.clone(), job, launch.task.stage)).or_default().push(launch);
        }
        for ((executor, job, stage), launches) in messages {
            self.launch_all(&executor, &job, stage, launches);
        }
    }

    pub(super) fn launch(&mut self, id: &JobId, launch: Launch) {
        let (executor, stage) = (launch.executor.clone(), launch.task.stage);
        self.launch_all(&executor, id, stage, vec![launch]);
    }

    /// Sends tasks of one stage to one executor.
    fn launch_all(&mut self, executor: &ExecutorId, id: &JobId, stage: StageId, launches: Vec<Launch>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let now = clock::now();
        let slice = |Launch { task, partitions, slots, .. }| {
            job.times.started(task, now);
            TaskSlice { task: task.task, attempt: task.attempt, partitions: Vec::from_iter(partitions), slots }
        };
        let tasks: Vec<TaskSlice> = launches.into_iter().map(slice).collect();
        let first_launch = (job.record.started_micros == 0).then(|| {
            job.record.started_micros = records::now_micros();
            job.record.set_status(JobStatus::Running);
            job_events::started(&job.record);
            let (owner_revision, record) = (job.owner_revision, job.stored_record());
            Entry::Record { job: id.clone(), owner_revision, record }
        });
        let span = job.stage_starts(stage);
        let inputs = job.inputs_of(stage, &self.peers);
        let Some(peer) = self.peers.get_mut(executor) else { return };
        let first = peer.knows.insert((id.clone(), stage));
        peer.send(Message::Launch(LaunchMessage {
            job_id: id.to_string(),
            stage: stage.0,
            plan: first.then(|| job.plans.get(&stage).cloned()).flatten(),
            inputs,
            tasks,
            trace_id: job.record.trace_id.clone(),
            owner_revision: job.owner_revision,
            traceparent: span.to_string(),
        }));
        first_launch.into_iter().for_each(|entry| self.write(entry));
    }
}
