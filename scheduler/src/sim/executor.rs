//! An executor as the control protocol knows it: whom it obeys, what runs, what it holds, what it still has to tell.
//!
//! A model of the `executor` crate's `tasks`, `owners`, `pull` and `exchange::store`, rule by rule: where those change,
//! this does. A plain value: what follows from a message comes back as [`Effect`]s.

use std::collections::BTreeMap;

use springald_core::ids::{ExecutorId, JobId, StageId, TaskId};
use springald_proto::control::executor_message::Message as Outgoing;
use springald_proto::control::scheduler_message::Message as Incoming;
use springald_proto::control::{
    Abort, Adopt, Failed, HandedBack, HeldJob, HeldJobs, Hello, Holdings, Launch, Move, Moved, Offer, Outcome,
    StageInput, Succeeded, TaskKey, TaskOutput, outcome,
};

use super::connection::Connection;
use super::work::Written;

/// A task attempt of a job.
pub(super) type Key = (JobId, TaskId);

/// What follows from a message.
pub(super) enum Effect {
    /// Send this to a scheduler.
    Send(u32, Outgoing),
    /// A task has started: run number, task.
    Run(u64, Key),
    /// A task is stopped: it ends in a moment.
    Stop(u64, Key),
    /// Fetch an output that is handed over, and tell this scheduler.
    Take(u32, Key, TaskOutput, u64),
}

/// An executor.
pub(super) struct Executor {
    pub(super) id: ExecutorId,
    pub(super) slots: u32,
    pub(super) free: u32,
    pub(super) draining: bool,
    owners: BTreeMap<JobId, Owner>,
    /// The jobs that have ended, and under which token.
    ended: BTreeMap<JobId, u64>,
    pub(super) connections: BTreeMap<u32, Connection>,
    pub(super) running: BTreeMap<Key, Running>,
    pub(super) outputs: BTreeMap<Key, Output>,
    plans: BTreeMap<(JobId, StageId), ()>,
    runs: u64,
}

struct Owner {
    scheduler: u32,
    revision: u64,
}

/// A task that runs.
pub(super) struct Running {
    pub(super) run: u64,
    pub(super) slots: u32,
    pub(super) partitions: Vec<u32>,
    pub(super) inputs: Vec<StageInput>,
    pub(super) stopped: bool,
}

/// What a task attempt wrote.
pub(super) struct Output {
    /// Readers see it.
    pub(super) finished: bool,
    pub(super) written: Written,
}

impl Executor {
    pub(super) fn new(id: ExecutorId, slots: u32) -> Self {
        Self {
            id,
            slots,
            free: slots,
            draining: false,
            owners: BTreeMap::new(),
            ended: BTreeMap::new(),
            connections: BTreeMap::new(),
            running: BTreeMap::new(),
            outputs: BTreeMap::new(),
            plans: BTreeMap::new(),
            runs: 0,
        }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            cluster: "sim".to_owned(),
            executor_id: self.id.to_string(),
            exchange_address: self.id.to_string(),
            slots: self.slots,
            memory_bytes: 1 << 30,
            version: "sim".to_owned(),
            jobs: self.held(),
        }
    }

    fn held(&self) -> Vec<HeldJob> {
        let held = self.owners.iter();
        held.map(|(job, owner)| HeldJob { job_id: job.to_string(), owner_revision: owner.revision }).collect()
    }

    /// True if nothing is here, and nothing is to be told.
    pub(super) fn is_drained(&self) -> bool {
        let told = self.connections.values().all(|connection| connection.untold() == 0);
        self.running.is_empty() && self.outputs.is_empty() && told
    }

    /// What is left here, in words; `None`: nothing, and all slots are free.
    pub(super) fn leftovers(&self) -> Option<String> {
        let pending: usize = self.connections.values().map(Connection::untold).sum();
        let clean = self.running.is_empty() && self.outputs.is_empty() && pending == 0 && self.free == self.slots;
        (!clean).then(|| {
            let (running, outputs): (Vec<_>, Vec<_>) =
                (self.running.keys().collect(), self.outputs.keys().collect());
            let (id, free, slots) = (&self.id, self.free, self.slots);
            format!("{id}: running {running:?}, outputs {outputs:?}, {pending} outcomes untold, {free} of {slots} slots free")
        })
    }

    // === messages ===

    /// Takes a scheduler's message; gives what follows.
    pub(super) fn hear(&mut self, scheduler: u32, message: Incoming) -> Vec<Effect> {
        match message {
            Incoming::Welcome(_) => vec![],
            Incoming::Launch(launch) => self.launch(scheduler, launch),
            Incoming::Acknowledged(acknowledged) => {
                let connection = self.connections.get_mut(&scheduler);
                connection.into_iter().for_each(|connection| connection.acknowledged(acknowledged.sequence));
                vec![]
            }
            Incoming::Abort(abort) => self.abort(&abort),
            Incoming::StageDone(done) => {
                let job = parse(&done.job_id);
                if self.allows(&job, done.owner_revision) {
                    self.plans.remove(&(job, StageId(done.stage)));
                }
                vec![]
            }
            Incoming::FreeStage(free) => {
                let job = parse(&free.job_id);
                if self.allows(&job, free.owner_revision) {
                    self.plans.remove(&(job.clone(), StageId(free.stage)));
                    self.outputs.retain(|(of, task), _| *of != job || task.stage != StageId(free.stage));
                }
                vec![]
            }
            Incoming::FreeJob(free) => {
                let job = parse(&free.job_id);
                if !self.allows(&job, free.owner_revision) {
                    return vec![];
                }
                self.ended.insert(job.clone(), free.owner_revision);
                self.free_job(&job)
            }
            Incoming::Adopt(adopt) => self.adopt(scheduler, &adopt),
            Incoming::Move(wanted) => self.take_over(scheduler, wanted),
            Incoming::Drain(_) => {
                self.draining = true;
                vec![]
            }
        }
    }

    /// True if this is the highest fencing token heard for the job; then this scheduler is its owner from now on. Who is
    /// not obeyed (any more) is told so.
    fn obey(&mut self, job: &JobId, scheduler: u32, revision: u64) -> bool {
        if !self.allows(job, revision) {
            let token = self.token(job).max(self.ended.get(job).copied().unwrap_or_default());
            let connection = self.connections.get_mut(&scheduler);
            connection.into_iter().for_each(|connection| connection.supersede(job, token));
            return false;
        }
        let earlier = self.owners.insert(job.clone(), Owner { scheduler, revision });
        if let Some(earlier) = earlier.filter(|earlier| earlier.revision < revision)
            && let Some(connection) = self.connections.get_mut(&earlier.scheduler)
        {
            connection.forget_job(job);
            if earlier.scheduler != scheduler {
                connection.supersede(job, revision);
            }
        }
        true
    }

    fn allows(&self, job: &JobId, revision: u64) -> bool {
        self.owners.get(job).is_none_or(|owner| owner.revision <= revision)
            && self.ended.get(job).is_none_or(|ended| *ended < revision)
    }

    /// The highest token heard for a job.
    pub(super) fn token(&self, job: &JobId) -> u64 {
        self.owners.get(job).map_or(0, |owner| owner.revision)
    }

    fn launch(&mut self, scheduler: u32, launch: Launch) -> Vec<Effect> {
        let (job, stage) = (parse(&launch.job_id), StageId(launch.stage));
        if let Some(connection) = self.connections.get_mut(&scheduler) {
            connection.slots_received += launch.tasks.iter().map(|task| u64::from(task.slots)).sum::<u64>();
            connection.offered = None;
        }
        let unasked = self.owners.get(&job).is_some_and(|owner| owner.revision < launch.owner_revision);
        let mut effects = if unasked { self.free_job(&job) } else { vec![] };
        if !self.obey(&job, scheduler, launch.owner_revision) {
            return effects;
        }
        if launch.plan.is_some() {
            self.plans.insert((job.clone(), stage), ());
        }
        let mut back = vec![];
        for slice in launch.tasks {
            let key = (job.clone(), TaskId { stage, task: slice.task, attempt: slice.attempt });
            if let Some(running) = self.running.get(&key) {
                if running.stopped {
                    back.push(task_key(&key));
                }
                continue;
            }
            let slots = slice.slots.clamp(1, self.slots);
            if self.draining || self.free < slots {
                back.push(task_key(&key));
                continue;
            }
            self.free -= slots;
            self.runs += 1;
            let (run, inputs) = (self.runs, launch.inputs.clone());
            let running = Running { run, slots, partitions: slice.partitions, inputs, stopped: false };
            self.running.insert(key.clone(), running);
            effects.push(Effect::Run(run, key));
        }
        if !back.is_empty() {
            effects.push(Effect::Send(scheduler, Outgoing::HandedBack(HandedBack { tasks: back })));
        }
        effects
    }

    fn abort(&mut self, abort: &Abort) -> Vec<Effect> {
        let mut effects = vec![];
        for key in &abort.tasks {
            let key = key_of(key);
            if !self.allows(&key.0, abort.owner_revision) {
                continue;
            }
            effects.extend(self.stop(&key));
            self.outputs.remove(&key);
        }
        effects
    }

    fn stop(&mut self, key: &Key) -> Option<Effect> {
        let running = self.running.get_mut(key).filter(|running| !running.stopped)?;
        running.stopped = true;
        Some(Effect::Stop(running.run, key.clone()))
    }

    fn free_job(&mut self, job: &JobId) -> Vec<Effect> {
        let running: Vec<Key> = self.running.keys().filter(|(of, _)| of == job).cloned().collect();
        let effects = running.iter().filter_map(|key| self.stop(key)).collect();
        if let Some(owner) = self.owners.remove(job)
            && let Some(connection) = self.connections.get_mut(&owner.scheduler)
        {
            connection.forget_job(job);
        }
        self.plans.retain(|(of, _), ()| of != job);
        self.outputs.retain(|(of, _), _| of != job);
        effects
    }

    /// A scheduler is gone for good: what it owned is freed.
    pub(super) fn free_jobs_of(&mut self, scheduler: u32) -> Vec<Effect> {
        let owned = self.owners.iter().filter(|(_, owner)| owner.scheduler == scheduler);
        let jobs: Vec<JobId> = owned.map(|(job, _)| job.clone()).collect();
        self.connections.remove(&scheduler);
        jobs.iter().flat_map(|job| self.free_job(job)).collect()
    }

    fn adopt(&mut self, scheduler: u32, adopt: &Adopt) -> Vec<Effect> {
        let job = parse(&adopt.job_id);
        if !self.obey(&job, scheduler, adopt.owner_revision) {
            return vec![];
        }
        let running = self.running.iter().filter(|((of, _), running)| *of == job && !running.stopped);
        let running = running.map(|(key, _)| task_key(key)).collect();
        let finished = self.outputs.iter().filter(|((of, _), output)| *of == job && output.finished);
        let finished = finished.filter(|(key, _)| !self.running.contains_key(*key));
        let holdings = Holdings {
            job_id: adopt.job_id.clone(),
            owner_revision: adopt.owner_revision,
            running,
            finished: finished.map(|(key, output)| succeeded(key, &output.written)).collect(),
        };
        vec![Effect::Send(scheduler, Outgoing::Holdings(holdings))]
    }

    fn take_over(&mut self, scheduler: u32, wanted: Move) -> Vec<Effect> {
        let job = parse(&wanted.job_id);
        let Some(output) = wanted.output else { return vec![] };
        if !self.obey(&job, scheduler, wanted.owner_revision) {
            return vec![];
        }
        let task = TaskId { stage: StageId(wanted.stage), task: output.task, attempt: output.attempt };
        vec![Effect::Take(scheduler, (job, task), output, wanted.owner_revision)]
    }

    // === tasks ===

    /// The task of this run, if it still runs and was not stopped.
    pub(super) fn runs(&self, run: u64, key: &Key) -> Option<&Running> {
        self.running.get(key).filter(|running| running.run == run && !running.stopped)
    }

    /// True if the plan of the task's stage is here.
    pub(super) fn knows_plan(&self, key: &Key) -> bool {
        self.plans.contains_key(&(key.0.clone(), key.1.stage))
    }

    /// A task that was stopped has ended.
    pub(super) fn stopped(&mut self, run: u64, key: &Key) {
        if self.running.get(key).is_some_and(|running| running.run == run)
            && let Some(running) = self.running.remove(key)
        {
            self.free += running.slots;
            self.outputs.remove(key);
        }
    }

    /// A task has ended; its outcome goes to the job's owner.
    pub(super) fn ended(&mut self, run: u64, key: &Key, result: Result<Written, Failed>) {
        if self.runs(run, key).is_none() {
            return;
        }
        let Some(running) = self.running.remove(key) else { return };
        self.free += running.slots;
        let outcome = match result {
            Ok(written) => {
                let outcome = succeeded(key, &written);
                self.outputs.insert(key.clone(), Output { finished: true, written });
                outcome
            }
            Err(failed) => {
                self.outputs.remove(key);
                outcome_of(key, outcome::Result::Failed(failed))
            }
        };
        if let Some(owner) = self.owners.get(&key.0)
            && let Some(connection) = self.connections.get_mut(&owner.scheduler)
        {
            connection.add(outcome);
        }
    }

    /// An output is being taken over; false if it is here already.
    pub(super) fn begin_taking(&mut self, key: &Key) -> Result<bool, String> {
        match self.outputs.get(key) {
            Some(output) if output.finished => Ok(false),
            Some(_) => Err("has an output here already".to_owned()),
            None => {
                self.outputs.insert(key.clone(), Output { finished: false, written: Written::default() });
                Ok(true)
            }
        }
    }

    /// It is here, unless it was dropped meanwhile.
    pub(super) fn taken(&mut self, key: &Key, written: Option<Written>) -> Result<(), String> {
        if !self.owners.contains_key(&key.0) {
            self.outputs.remove(key);
            return Err("the job has ended meanwhile".to_owned());
        }
        match (self.outputs.get_mut(key), written) {
            (Some(output), Some(written)) => {
                *output = Output { finished: true, written };
                Ok(())
            }
            (Some(_), None) => {
                self.outputs.remove(key);
                Err("fetching it failed".to_owned())
            }
            (None, _) => Err("it was dropped meanwhile".to_owned()),
        }
    }

    // === telling ===

    /// What is to be said on the open streams now: outcomes first, then what is free.
    pub(super) fn talk(&mut self) -> Vec<Effect> {
        let (draining, free) = (self.draining, if self.draining { 0 } else { self.free });
        let mut effects = vec![];
        for (scheduler, connection) in self.connections.iter_mut().filter(|(_, known)| known.stream.is_some()) {
            for (job, owner_revision) in connection.superseded() {
                let nothing = Holdings { job_id: job.to_string(), owner_revision, ..Holdings::default() };
                effects.push(Effect::Send(*scheduler, Outgoing::Holdings(nothing)));
            }
            while let Some(report) = connection.next_report() {
                effects.push(Effect::Send(*scheduler, Outgoing::Outcomes(report)));
            }
            let offer = Offer { free_slots: free, slots_received: connection.slots_received, draining };
            if connection.offered.as_ref() != Some(&offer) {
                connection.offered = Some(offer);
                effects.push(Effect::Send(*scheduler, Outgoing::Offer(offer)));
            }
        }
        effects
    }

    /// Names the jobs that something is held of.
    pub(super) fn remind(&self) -> Option<Outgoing> {
        let jobs = self.held();
        (!jobs.is_empty()).then_some(Outgoing::Held(HeldJobs { jobs }))
    }
}

fn parse(job: &str) -> JobId {
    job.parse().expect("schedulers name jobs by valid ids")
}

pub(super) fn task_key(key: &Key) -> TaskKey {
    let (job, task) = key;
    TaskKey { job_id: job.to_string(), stage: task.stage.0, task: task.task, attempt: task.attempt }
}

fn key_of(key: &TaskKey) -> Key {
    (parse(&key.job_id), TaskId { stage: StageId(key.stage), task: key.task, attempt: key.attempt })
}

fn outcome_of(key: &Key, result: outcome::Result) -> Outcome {
    Outcome { key: Some(task_key(key)), started_micros: 0, ended_micros: 0, result: Some(result) }
}

fn succeeded(key: &Key, written: &Written) -> Outcome {
    let succeeded = Succeeded {
        partitions: written.pieces.keys().copied().collect(),
        rows: written.pieces.values().map(|rows| rows.len() as u64).collect(),
        bytes: written.pieces.values().map(|rows| 8 * rows.len() as u64).collect(),
        operators: vec![],
        spilled_bytes: 0,
    };
    outcome_of(key, outcome::Result::Succeeded(succeeded))
}

/// The answer to a request to take an output over.
pub(super) fn moved(key: &Key, owner_revision: u64, result: Result<(), String>) -> Outgoing {
    let error = result.err().unwrap_or_default();
    Outgoing::Moved(Moved { key: Some(task_key(key)), owner_revision, error })
}
