//! Who gets the free slots: jobs share them fairly, and executors fill evenly.

use std::collections::BTreeMap;

use springald_core::ids::{ExecutorId, JobId};

use super::executors::Peers;
use super::job_entry::JobEntry;
use crate::job::{Action, Event, Launch};

/// Starts whatever can start. Each free slot goes to the job that has fewest tasks running, one task at a time, round
/// the executors, the emptiest first.
pub(super) fn assign(jobs: &mut BTreeMap<JobId, JobEntry>, peers: &mut Peers) -> Vec<(JobId, Launch)> {
    let mut launches = Vec::new();
    loop {
        let before = launches.len();
        for (executor, free) in peers.with_room() {
            if let Some(launch) = offer(jobs, peers, &executor, free) {
                launches.push(launch);
            }
        }
        if launches.len() == before {
            return launches;
        }
    }
}

/// Offers an executor's free slots to the jobs in turn until one takes a task.
fn offer(
    jobs: &mut BTreeMap<JobId, JobEntry>,
    peers: &mut Peers,
    executor: &ExecutorId,
    free: u32,
) -> Option<(JobId, Launch)> {
    let mut waiting: Vec<(u32, JobId)> = jobs
        .values()
        .filter(|job| job.adoption.is_none() && job.graph.ready_tasks() > 0)
        .map(|job| (job.graph.running_tasks(), job.id.clone()))
        .collect();
    waiting.sort();
    // A task of a whole query takes several slots, but not while others wait for one.
    let slots = if waiting.len() > 1 { 1 } else { free };
    for (_, id) in waiting {
        let Some(job) = jobs.get_mut(&id) else { continue };
        let peer = peers.get_mut(executor)?;
        let event = Event::Offer { executor: executor.clone(), slots, tasks: 1, idle: peer.is_idle() };
        for action in job.graph.apply(event) {
            if let Action::Launch(launch) = action {
                peer.launched(launch.slots);
                return Some((id, launch));
            }
        }
    }
    None
}
