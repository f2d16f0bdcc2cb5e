//! Executors as processes: they join the cluster, connect to the schedulers that they see, and end.

use std::collections::BTreeSet;

use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::ExecutorId;
use springald_proto::records::{ExecutorRecord, SchedulerRecord};

use super::agenda::Happening;
use super::connection::Connection;
use super::executor::{Effect, Executor, Key};
use super::process::number_of;
use super::streams::Down;
use super::world::{Place, World};
use crate::records;
use crate::store::{Change, LeaseId, Transaction};

/// An executor's lease, as that of schedulers.
const LEASE_TTL: u64 = 3_000_000;
/// Waits between two tries to reach a scheduler: the first, and the longest.
const FIRST_WAIT: u64 = 50_000;
const LONGEST_WAIT: u64 = 1_000_000;
/// An offer is said again at least this often, as a sign of life.
const SIGN_OF_LIFE_EVERY: u64 = 500_000;
/// How long the jobs of a scheduler that is gone keep what they hold.
const JOBS_GRACE: u64 = 60_000_000;
/// How often schedulers hear which jobs something is held of.
const HELD_SAID_EVERY: u64 = 10_000_000;
/// How long one that is to leave waits for its outputs to be taken over.
const DRAIN_DEADLINE: u64 = 30_000_000;

/// An executor process.
pub(super) struct Machine {
    pub(super) executor: Executor,
    /// Stopped so many times.
    stopped: u32,
    /// What came meanwhile.
    deferred: Vec<Happening>,
    lease: Option<LeaseId>,
    /// The schedulers that it sees.
    seen: BTreeSet<u32>,
    leaving: bool,
}

impl Machine {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped > 0
    }
}

pub(super) fn executor_id(number: u32) -> ExecutorId {
    format!("executor-{number}").parse().expect("a valid id")
}

impl World {
    // === processes ===

    /// Starts a new executor.
    pub(super) fn start_executor(&mut self) {
        let number = self.new_process();
        let slots = self.agenda.chance(|chance| chance.small(1, 4));
        tracing::info!(target: "sim", "executor-{number} starts, with {slots} slots");
        let executor = Executor::new(executor_id(number), slots);
        let (deferred, seen) = (vec![], BTreeSet::new());
        let machine = Machine { executor, stopped: 0, deferred, lease: None, seen, leaving: false };
        self.executors.insert(number, machine);
        self.stay_member(number);
        self.look_for_schedulers(number);
        self.agenda.after(HELD_SAID_EVERY, move |world| world.remind(number));
        self.agenda.after(SIGN_OF_LIFE_EVERY, move |world| world.give_sign_of_life(number));
    }

    /// Ends an executor without a word; `silent`: with its machine.
    pub(super) fn kill_executor(&mut self, number: u32, silent: bool) {
        if self.executors.remove(&number).is_none() {
            return;
        }
        tracing::info!(target: "sim", "executor-{number} is killed{}", if silent { " with its machine" } else { "" });
        if silent {
            self.gone_machines.insert(Place::Executor(number));
        }
        self.executor_died(number, silent);
    }

    pub(super) fn stop_executor(&mut self, number: u32) {
        if let Some(machine) = self.executors.get_mut(&number) {
            tracing::info!(target: "sim", "executor-{number} is stopped");
            machine.stopped += 1;
        }
    }

    pub(super) fn continue_executor(&mut self, number: u32) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        tracing::info!(target: "sim", "executor-{number} goes on");
        machine.stopped -= 1;
        if !machine.is_stopped() {
            std::mem::take(&mut machine.deferred).into_iter().for_each(|happening| happening(self));
        }
    }

    /// Tells an executor to drain and leave, as a signal does.
    pub(super) fn drain_executor(&mut self, number: u32) {
        self.at_executor(number, move |world| {
            if let Some(machine) = world.executors.get_mut(&number) {
                tracing::info!(target: "sim", "executor-{number} is to leave");
                machine.executor.draining = true;
                world.executor_talks(number);
            }
        });
    }

    /// Something that an executor does: when it goes on, if it is stopped; never, if it is gone.
    pub(super) fn at_executor(&mut self, number: u32, happening: impl FnOnce(&mut World) + Send + 'static) {
        match self.executors.get_mut(&number) {
            Some(machine) if machine.is_stopped() => machine.deferred.push(Box::new(happening)),
            Some(_) => happening(self),
            None => {}
        }
    }

    pub(super) fn later_at_executor(
        &mut self,
        number: u32,
        micros: u64,
        happening: impl FnOnce(&mut World) + Send + 'static,
    ) {
        self.agenda.after(micros, move |world| world.at_executor(number, happening));
    }

    /// Joins the cluster, and keeps its place there.
    fn stay_member(&mut self, number: u32) {
        let Some(lease) = self.executors.get(&number).map(|machine| machine.lease) else { return };
        let again = match self.renew_membership(number, lease) {
            Ok(()) => LEASE_TTL / 3,
            Err(_) => 250_000,
        };
        self.later_at_executor(number, again, move |world| world.stay_member(number));
    }

    fn renew_membership(&mut self, number: u32, lease: Option<LeaseId>) -> Result<()> {
        if !self.has_store(Place::Executor(number)) {
            return Err(Error::unavailable("the store does not answer"));
        }
        match lease.map(|lease| self.renew(lease)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if error.code() != ErrorCode::Fenced => return Err(error),
            _ => {}
        }
        let id = executor_id(number);
        let record = ExecutorRecord {
            executor_id: id.to_string(),
            exchange_address: id.to_string(),
            ..ExecutorRecord::default()
        };
        let lease = self.grant(LEASE_TTL);
        let put = Change::Put { key: records::executor_key(&id), value: records::encode(&record), lease: Some(lease) };
        self.transact(Place::Executor(number), &Transaction { conditions: vec![], changes: vec![put] })?;
        self.executors.get_mut(&number).into_iter().for_each(|machine| machine.lease = Some(lease));
        Ok(())
    }

    // === schedulers ===

    /// The schedulers in the store have changed: executors see it a little later.
    pub(super) fn schedulers_changed(&mut self) {
        for number in self.executors.keys().copied().collect::<Vec<_>>() {
            let latency = self.latency();
            self.later_at_executor(number, latency, move |world| world.look_for_schedulers(number));
        }
    }

    /// Connects to the schedulers that are seen now, and forgets those that are gone for long.
    fn look_for_schedulers(&mut self, number: u32) {
        if !self.has_store(Place::Executor(number)) {
            return self.later_at_executor(number, 500_000, move |world| world.look_for_schedulers(number));
        }
        let entries = self.kv.list(records::SCHEDULERS, None, usize::MAX);
        let records = entries.iter().filter_map(|entry| records::decode::<SchedulerRecord>(entry).ok());
        let now: BTreeSet<u32> = records.filter_map(|record| number_of(&record.scheduler_id)).collect();
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let before = std::mem::replace(&mut machine.seen, now.clone());
        for scheduler in now.difference(&before) {
            self.connect(number, *scheduler);
        }
        for scheduler in before.difference(&now).copied() {
            self.later_at_executor(number, JOBS_GRACE, move |world| world.forget_scheduler(number, scheduler));
        }
    }

    fn connect(&mut self, number: u32, scheduler: u32) {
        let Some(machine) = self.executors.get_mut(&number).filter(|machine| machine.seen.contains(&scheduler)) else {
            return;
        };
        let hello = machine.executor.hello();
        let connection = machine.executor.connections.entry(scheduler).or_insert_with(Connection::default);
        if connection.stream.is_none() && connection.opening.is_none() {
            let stream = self.open_stream(number, scheduler, hello);
            let machine = self.executors.get_mut(&number);
            let connection = machine.and_then(|machine| machine.executor.connections.get_mut(&scheduler));
            connection.into_iter().for_each(|connection| connection.opening = Some(stream));
        }
    }

    /// A scheduler was not seen for the whole grace time.
    fn forget_scheduler(&mut self, number: u32, scheduler: u32) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let connected = machine.executor.connections.get(&scheduler).is_some_and(|known| known.stream.is_some());
        if machine.seen.contains(&scheduler) || connected {
            return;
        }
        let effects = machine.executor.free_jobs_of(scheduler);
        self.take_effect(number, effects);
    }

    /// Something arrives on a control stream.
    pub(super) fn executor_hears(&mut self, number: u32, stream: u64, message: Down) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let found = machine
            .executor
            .connections
            .iter_mut()
            .find(|(_, connection)| connection.stream == Some(stream) || connection.opening == Some(stream));
        // A stream that was given up here.
        let Some((scheduler, connection)) = found else { return };
        let scheduler = *scheduler;
        tracing::debug!(target: "sim", "executor-{number} hears of scheduler-{scheduler}: {message:?}");
        match message {
            Down::Opened => {
                connection.opened(stream);
                connection.wait = FIRST_WAIT;
            }
            Down::Closed => {
                connection.stream = None;
                connection.opening = None;
                let wait = connection.wait.max(FIRST_WAIT);
                connection.wait = (wait * 2).min(LONGEST_WAIT);
                self.close_stream(stream);
                self.later_at_executor(number, wait, move |world| world.connect(number, scheduler));
            }
            Down::Message(message) => {
                let Some(message) = message.message else { return };
                self.before_message(number, &message);
                let Some(machine) = self.executors.get_mut(&number) else { return };
                let effects = machine.executor.hear(scheduler, message);
                self.take_effect(number, effects);
            }
        }
        self.executor_talks(number);
    }

    /// Says what is to be said, and leaves if that was all.
    pub(super) fn executor_talks(&mut self, number: u32) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let effects = machine.executor.talk();
        let (draining, drained) = (machine.executor.draining, machine.executor.is_drained());
        if draining && !std::mem::replace(&mut machine.leaving, true) {
            self.later_at_executor(number, DRAIN_DEADLINE, move |world| world.leave(number));
        }
        self.take_effect(number, effects);
        if draining && drained {
            self.later_at_executor(number, 100_000, move |world| world.leave(number));
        }
    }

    /// An executor that was to drain leaves: it is drained, or its time is over.
    fn leave(&mut self, number: u32) {
        let Some(machine) = self.executors.get(&number) else { return };
        tracing::info!(target: "sim", "executor-{number} leaves");
        if let Some(lease) = machine.lease.filter(|_| self.has_store(Place::Executor(number))) {
            let ended = self.kv.revoke(lease);
            self.publish(&ended);
        }
        self.kill_executor(number, false);
    }

    fn give_sign_of_life(&mut self, number: u32) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        machine.executor.connections.values_mut().for_each(|connection| connection.offered = None);
        self.executor_talks(number);
        self.later_at_executor(number, SIGN_OF_LIFE_EVERY, move |world| world.give_sign_of_life(number));
    }

    fn remind(&mut self, number: u32) {
        let Some(machine) = self.executors.get(&number) else { return };
        if let Some(reminder) = machine.executor.remind() {
            let streams: Vec<u64> =
                machine.executor.connections.values().filter_map(|connection| connection.stream).collect();
            streams.into_iter().for_each(|stream| self.say_on(stream, reminder.clone()));
        }
        self.later_at_executor(number, HELD_SAID_EVERY, move |world| world.remind(number));
    }

    fn take_effect(&mut self, number: u32, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(scheduler, message) => {
                    let machine = self.executors.get(&number);
                    let connection = machine.and_then(|machine| machine.executor.connections.get(&scheduler));
                    if let Some(stream) = connection.and_then(|connection| connection.stream) {
                        tracing::debug!(target: "sim", "executor-{number} tells scheduler-{scheduler}: {message:?}");
                        self.say_on(stream, message);
                    }
                }
                Effect::Run(run, key) => self.start_task(number, run, key),
                Effect::Stop(run, key) => {
                    let delay = self.agenda.chance(|chance| chance.number(0, 30_000));
                    self.later_at_executor(number, delay, move |world| {
                        if let Some(machine) = world.executors.get_mut(&number) {
                            machine.executor.stopped(run, &key);
                            world.executor_talks(number);
                        }
                    });
                }
                Effect::Take(scheduler, key, output, revision) => {
                    let stream = self.executors.get(&number).and_then(|machine| {
                        machine.executor.connections.get(&scheduler).and_then(|connection| connection.stream)
                    });
                    self.take_output(number, stream, key, output, revision);
                }
            }
        }
    }

    /// An executor loses an output without noticing, as a damaged file does.
    pub(super) fn lose_output(&mut self, number: u32, nth: usize) {
        let Some(machine) = self.executors.get_mut(&number) else { return };
        let finished: Vec<Key> =
            machine.executor.outputs.iter().filter(|(_, output)| output.finished).map(|(key, _)| key.clone()).collect();
        if let Some(key) = finished.get(nth % finished.len().max(1)) {
            tracing::info!(target: "sim", "executor-{number} loses the output of task {} of {}", key.1, key.0);
            machine.executor.outputs.remove(key);
        }
    }

    /// The lease of a process ends, for whatever reason.
    pub(super) fn lose_lease(&mut self, prefix: &str, nth: usize) {
        let keys = self.kv.list(prefix, None, usize::MAX);
        if let Some(entry) = keys.get(nth % keys.len().max(1)) {
            tracing::info!(target: "sim", "the lease of {} ends", entry.key);
            let ended = self.kv.end_lease_of(&entry.key);
            self.publish(&ended);
        }
    }
}
