//! Who gets the free slots: jobs share them by their weights, and executors fill evenly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use springald_core::ids::{ExecutorId, JobId};

use super::executors::Peers;
use super::job_entry::JobEntry;
use crate::job::{Action, Event, Launch};

/// A task that wants an executor to itself waits so long for one that is idle by itself; then one is kept for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A task, as shares are counted.
const SHARE_UNIT: u64 = 1 << 24;

/// Starts whatever can start. Each free slot goes to the job that has fewest tasks running for its weight, one task at a
/// time, round the executors, the emptiest first.
pub(super) fn assign(jobs: &mut BTreeMap<JobId, JobEntry>, peers: &mut Peers) -> Vec<(JobId, Launch)> {
    peers.let_go(|job| jobs.get(job).is_some_and(waits_alone));
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
    let peer = peers.get_mut(executor)?;
    let waits = |job: &&JobEntry| job.adoption.is_none() && job.graph.ready_tasks() > 0 && peer.is_open_to(&job.id);
    let mut waiting: Vec<(u64, JobId)> = jobs.values().filter(waits).map(|job| (share(job), job.id.clone())).collect();
    waiting.sort();
    // A task of a whole query takes several slots, but not while others wait for one.
    let slots = if waiting.len() > 1 { 1 } else { free };
    for (_, id) in waiting {
        let Some(job) = jobs.get_mut(&id) else { continue };
        let event = Event::Offer { executor: executor.clone(), slots, tasks: 1, idle: peer.idle_slots() };
        for action in job.graph.apply(event) {
            if let Action::Launch(launch) = action {
                peer.launched(launch.slots);
                return Some((id, launch));
            }
        }
    }
    None
}

/// What a job would have for its weight with one task more: the less that is, the sooner it gets a slot. Shares that
/// differ at all differ in this, since weights are small.
fn share(job: &JobEntry) -> u64 {
    (u64::from(job.graph.running_tasks()) + 1) * SHARE_UNIT / u64::from(job.weight)
}

// === tasks that want an executor to themselves ===

/// Keeps executors for tasks that want one to themselves and have waited for too long: while others take each slot as soon
/// as it is free, none is ever idle. Those that have waited longest come first.
pub(super) fn keep_executors(jobs: &mut BTreeMap<JobId, JobEntry>, peers: &mut Peers, now: Instant) {
    let mut impatient = vec![];
    for job in jobs.values_mut() {
        if !waits_alone(job) {
            job.alone_since = None;
            continue;
        }
        let since = *job.alone_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PATIENCE {
            impatient.push((since, job.id.clone()));
        }
    }
    impatient.sort();
    impatient.iter().for_each(|(_, job)| peers.keep_for(job));
}

fn waits_alone(job: &JobEntry) -> bool {
    job.adoption.is_none() && job.graph.waits_alone()
}

#[cfg(test)]
mod tests {
    use springald_core::error::{ErrorCode, FailureClass};
    use springald_core::ids::StageId;
    use springald_proto::control::Hello;
    use tokio::sync::mpsc;

    use super::super::NewJob;
    use super::super::testing::{free, job};
    use super::*;
    use crate::job::Failure;

    fn entries(jobs: impl IntoIterator<Item = NewJob>) -> BTreeMap<JobId, JobEntry> {
        let entry = |job: NewJob| (job.id.clone(), JobEntry::new(job, 4).expect("a valid plan"));
        jobs.into_iter().map(entry).collect()
    }

    fn executor(number: usize) -> ExecutorId {
        format!("e{number}").parse().expect("valid")
    }

    /// Executors with so many slots, all free.
    fn executors(slots: &[u32]) -> Peers {
        let mut peers = Peers::default();
        for (number, slots) in slots.iter().copied().enumerate() {
            // Nothing is sent.
            let outbox = mpsc::channel(1).0;
            peers.connect(executor(number), Hello { slots, ..Hello::default() }, 1, outbox, Instant::now());
            peers.get_mut(&executor(number)).expect("connected").offered(free(slots, 0));
        }
        peers
    }

    /// The jobs that get slots now, one by one, and how many.
    fn assigned(jobs: &mut BTreeMap<JobId, JobEntry>, peers: &mut Peers) -> Vec<(String, u32)> {
        assign(jobs, peers).into_iter().map(|(job, launch)| (job.to_string(), launch.slots)).collect()
    }

    /// The first job's only task, which runs at the first executor, runs out of memory and has rested.
    fn runs_out_of_memory(jobs: &mut BTreeMap<JobId, JobEntry>) {
        let graph = &mut jobs.values_mut().next().expect("a job").graph;
        let running = graph.stages().iter().flat_map(crate::job::Stage::attempts).next();
        let (task, executor) = running.map(|(task, executor)| (task, executor.clone())).expect("it runs");
        let (class, code) = (FailureClass::OutOfMemory, ErrorCode::ResourcesExhausted);
        let failure = Failure { class, code, message: "injected".to_owned(), lost: None };
        graph.apply(Event::Failed { task, executor, failure });
        graph.apply(Event::Rested { stage: StageId(1), task: 0 });
    }

    #[test]
    fn given_two_jobs_with_many_tasks_when_one_weighs_three_times_as_much_then_it_gets_three_of_four_slots() {
        for heavy in ["a", "z"] {
            let mut jobs = entries([job(heavy, 9, &[("springald.weight", "3")]), job("m", 9, &[])]);
            let assigned = assigned(&mut jobs, &mut executors(&[4]));
            let heavier = assigned.iter().filter(|(job, _)| job == heavy).count();
            assert_eq!((heavier, assigned.len()), (3, 4), "{assigned:?}");
        }
    }

    #[test]
    fn given_weights_that_make_no_sense_then_they_are_those_of_others() {
        for (value, weight) in [("100", 100), ("0", 1), ("101", 1), ("heavy", 1)] {
            let jobs = entries([job("j", 1, &[("springald.weight", value)])]);
            assert!(jobs.values().all(|job| job.weight == weight), "{value}");
        }
    }

    #[test]
    fn given_a_task_that_wants_an_executor_to_itself_when_others_take_each_free_slot_then_one_is_kept_for_it() {
        let mut jobs = entries([job("big", 1, &[]), job("small", 100, &[])]);
        let (mut peers, start) = (executors(&[2]), Instant::now());
        let one = |job: &str| (job.to_owned(), 1u32);
        assert_eq!(assigned(&mut jobs, &mut peers), [one("big"), one("small")]);
        runs_out_of_memory(&mut jobs);
        let says = |peers: &mut Peers, free_slots, received| {
            peers.get_mut(&executor(0)).expect("connected").offered(free(free_slots, received));
        };
        says(&mut peers, 1, 2);
        keep_executors(&mut jobs, &mut peers, start);
        assert_eq!(assigned(&mut jobs, &mut peers), [one("small")], "it is not idle");

        keep_executors(&mut jobs, &mut peers, start + PATIENCE);
        says(&mut peers, 1, 3);
        assert!(assigned(&mut jobs, &mut peers).is_empty(), "it is kept");
        says(&mut peers, 2, 3);
        assert_eq!(assigned(&mut jobs, &mut peers), [("big".to_owned(), 2)]);
        says(&mut peers, 2, 5);
        assert_eq!(assigned(&mut jobs, &mut peers), [one("small"), one("small")], "it is not kept any more");
    }

    #[test]
    fn given_many_that_wait_for_an_executor_then_half_of_them_are_kept_and_let_go_with_the_jobs() {
        let mut peers = executors(&[1; 4]);
        let jobs = ["a", "b", "c"].map(|job| job.parse::<JobId>().expect("valid"));
        jobs.iter().chain(&jobs).for_each(|job| peers.keep_for(job));
        let open = |peers: &Peers, job: &JobId| {
            (0..4).filter(|number| peers.get(&executor(*number)).expect("connected").is_open_to(job)).count()
        };
        assert_eq!([open(&peers, &jobs[0]), open(&peers, &jobs[1]), open(&peers, &jobs[2])], [3, 3, 2]);
        peers.let_go(|job| *job != jobs[0]);
        assert_eq!(open(&peers, &jobs[2]), 3);
    }
}
