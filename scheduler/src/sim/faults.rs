//! What goes wrong, and when: fixed by the seed before anything happens. Whom it hits is chosen when it does.

use super::chance::Chance;
use super::clients::Client;
use super::world::{Place, World};
use crate::records;

/// Faults end by then, and everything is mended.
const UNTIL: u64 = 10_000_000;
/// So long after it, all must be as if nothing had happened: results that nobody fetched have expired, too.
const SETTLED_BY: u64 = 180_000_000;
const LOOK_EVERY: u64 = 500_000;

/// Something that goes wrong. Times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    KillScheduler { silent: bool },
    EndScheduler,
    StopScheduler { time: u64 },
    KillExecutor { silent: bool },
    StopExecutor { time: u64 },
    DrainExecutor,
    Cut { pair: Pair, ways: Ways, time: u64 },
    StoreOutage { time: u64 },
    StoreForgets { time: u64 },
    LoseLease { schedulers: bool },
    BreakStream,
    BreakWatch,
    LoseOutput,
}

/// Between whom a link is cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pair {
    SchedulerAndExecutor,
    TwoExecutors,
    TwoSchedulers,
    SchedulerAndStore,
    ExecutorAndStore,
}

/// Which ways nothing gets through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ways {
    Both,
    To,
    Back,
}

impl Ways {
    fn any(chance: &mut Chance) -> Self {
        match chance.number(0, 3) {
            0 | 1 => Ways::Both,
            2 => Ways::To,
            _ => Ways::Back,
        }
    }
}

/// What a simulation is made of.
#[derive(Debug)]
pub(super) struct Plan {
    schedulers: u32,
    executors: u32,
    clients: u32,
    faults: Vec<(u64, Fault)>,
    /// Nothing happens to executors and their links, and tasks do not fail: then no task may run twice.
    pub(super) executors_are_well: bool,
}

impl Plan {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let executors_are_well = chance.percent(20);
        let count = chance.number(0, 12);
        let faults = (0..count).map(|_| {
            let at = chance.number(200_000, UNTIL - 2_000_000);
            (at, if executors_are_well { of_schedulers(chance) } else { any(chance) })
        });
        Self {
            faults: faults.collect(),
            schedulers: chance.small(1, 3),
            executors: chance.small(1, 5),
            clients: chance.small(1, 6),
            executors_are_well,
        }
    }
}

/// Most are over before a lease ends, some are not.
fn duration(chance: &mut Chance) -> u64 {
    match chance.percent(60) {
        true => chance.number(50_000, 2_500_000),
        false => chance.number(2_500_000, 9_000_000),
    }
}

fn any(chance: &mut Chance) -> Fault {
    let time = duration(chance);
    let silent = chance.percent(30);
    let ways = Ways::any(chance);
    match chance.number(0, 15) {
        0..=3 => of_schedulers(chance),
        4 | 5 => Fault::KillExecutor { silent },
        6 => Fault::StopExecutor { time },
        7 | 8 => Fault::DrainExecutor,
        9 => Fault::Cut { pair: Pair::SchedulerAndExecutor, ways, time },
        10 => Fault::Cut { pair: Pair::TwoExecutors, ways, time },
        11 => Fault::Cut { pair: Pair::ExecutorAndStore, ways, time },
        12 => Fault::LoseLease { schedulers: false },
        13 => Fault::BreakStream,
        14 => Fault::LoseOutput,
        _ => Fault::BreakWatch,
    }
}

fn of_schedulers(chance: &mut Chance) -> Fault {
    let time = duration(chance);
    let ways = Ways::any(chance);
    match chance.number(0, 9) {
        0 | 1 => Fault::KillScheduler { silent: chance.percent(30) },
        2 => Fault::EndScheduler,
        3 | 4 => Fault::StopScheduler { time },
        5 => Fault::StoreOutage { time },
        6 => Fault::StoreForgets { time },
        7 => Fault::Cut { pair: Pair::SchedulerAndStore, ways, time },
        8 => Fault::LoseLease { schedulers: true },
        _ => Fault::Cut { pair: Pair::TwoSchedulers, ways, time },
    }
}

impl World {
    /// Puts down all that will happen of itself.
    pub(super) fn begin(&mut self) {
        tracing::info!(target: "sim", "{:?}", self.plan);
        self.flawed = !self.plan.executors_are_well;
        (0..self.plan.schedulers).for_each(|_| self.start_scheduler());
        (0..self.plan.executors).for_each(|_| self.start_executor());
        for client in 0..self.plan.clients as usize {
            let (this, at) = self.agenda.chance(|chance| (Client::new(chance), chance.number(10_000, 5_000_000)));
            self.clients.push(this);
            self.agenda.at(at, move |world| world.client_comes(client));
        }
        for (at, fault) in self.plan.faults.clone() {
            self.agenda.at(at, move |world| world.goes_wrong(fault));
        }
        self.agenda.at(UNTIL + 9_000_000, |world| {
            tracing::info!(target: "sim", "nothing more goes wrong");
            world.flawed = false;
            world.look_whether_settled();
        });
    }

    fn look_whether_settled(&mut self) {
        match self.leftovers() {
            None => self.settled = true,
            Some(left) if self.agenda.now() > UNTIL + SETTLED_BY => {
                self.violated(format!("it does not settle: {left}"))
            }
            Some(_) => self.agenda.after(LOOK_EVERY, World::look_whether_settled),
        }
    }

    fn some_place(&self, places: impl Iterator<Item = Place>) -> Option<Place> {
        let places: Vec<Place> = places.collect();
        self.agenda.chance(|chance| chance.one_of(&places))
    }

    fn goes_wrong(&mut self, fault: Fault) {
        let scheduler = self.some_place(self.schedulers.keys().map(|number| Place::Scheduler(*number)));
        let executor = self.some_place(self.executors.keys().map(|number| Place::Executor(*number)));
        match (fault, scheduler, executor) {
            (Fault::KillScheduler { silent }, Some(Place::Scheduler(number)), _) => {
                self.kill_scheduler(number, silent);
                self.after_a_while(World::start_scheduler);
            }
            (Fault::EndScheduler, Some(Place::Scheduler(number)), _) => {
                self.end_scheduler(number);
                self.after_a_while(World::start_scheduler);
            }
            (Fault::StopScheduler { time }, Some(Place::Scheduler(number)), _) => {
                self.stop_scheduler(number);
                self.silence(Place::Scheduler(number), None, time);
                self.requests_silent(number, time);
                self.agenda.after(time, move |world| world.continue_scheduler(number));
            }
            (Fault::KillExecutor { silent }, _, Some(Place::Executor(number))) => {
                self.kill_executor(number, silent);
                self.after_a_while(World::start_executor);
            }
            (Fault::StopExecutor { time }, _, Some(Place::Executor(number))) => {
                self.stop_executor(number);
                self.silence(Place::Executor(number), None, time);
                self.agenda.after(time, move |world| world.continue_executor(number));
            }
            (Fault::DrainExecutor, _, Some(Place::Executor(number))) => {
                self.start_executor();
                self.drain_executor(number);
            }
            (Fault::Cut { pair, ways, time }, _, _) => self.cut_for(pair, ways, time),
            (Fault::StoreOutage { time }, _, _) => {
                self.store_goes();
                self.agenda.after(time, World::store_returns);
            }
            (Fault::StoreForgets { time }, _, _) => {
                tracing::info!(target: "sim", "answers of the store get lost");
                self.store_forgets += 1;
                self.agenda.after(time, |world| world.store_forgets -= 1);
            }
            (Fault::LoseLease { schedulers }, _, _) => {
                let nth = self.agenda.chance(|chance| chance.small(0, 11)) as usize;
                self.lose_lease(if schedulers { records::SCHEDULERS } else { records::EXECUTORS }, nth);
            }
            (Fault::BreakStream, _, _) => {
                let streams: Vec<u64> = self.streams.keys().copied().collect();
                let (stream, end) = self.agenda.chance(|chance| (chance.one_of(&streams), chance.percent(50)));
                stream.into_iter().for_each(|stream| self.break_stream(stream, end));
            }
            (Fault::BreakWatch, _, _) => {
                let watches: Vec<u64> = self.watches.keys().copied().collect();
                let watch = self.agenda.chance(|chance| chance.one_of(&watches));
                watch.into_iter().for_each(|watch| self.break_watch(watch));
            }
            (Fault::LoseOutput, _, Some(Place::Executor(number))) => {
                let nth = self.agenda.chance(|chance| chance.small(0, 11)) as usize;
                self.lose_output(number, nth);
            }
            // Nobody is there whom it could hit.
            _ => {}
        }
    }

    fn after_a_while(&mut self, happening: fn(&mut World)) {
        let time = self.agenda.chance(|chance| chance.number(100_000, 3_000_000));
        self.agenda.after(time, happening);
    }

    fn cut_for(&mut self, pair: Pair, ways: Ways, time: u64) {
        let schedulers: Vec<Place> = self.schedulers.keys().map(|number| Place::Scheduler(*number)).collect();
        let executors: Vec<Place> = self.executors.keys().map(|number| Place::Executor(*number)).collect();
        let store = vec![Place::Store];
        let (ones, others) = match pair {
            Pair::SchedulerAndExecutor => (schedulers, executors),
            Pair::TwoExecutors => (executors.clone(), executors),
            Pair::TwoSchedulers => (schedulers.clone(), schedulers),
            Pair::SchedulerAndStore => (schedulers, store),
            Pair::ExecutorAndStore => (executors, store),
        };
        let chosen = self.agenda.chance(|chance| Some((chance.one_of(&ones)?, chance.one_of(&others)?)));
        let Some((one, other)) = chosen.filter(|(one, other)| one != other) else { return };
        let to = matches!(ways, Ways::Both | Ways::To).then_some((one, other));
        let back = matches!(ways, Ways::Both | Ways::Back).then_some((other, one));
        for (from, to) in to.into_iter().chain(back) {
            self.cut(from, to);
            self.agenda.after(time, move |world| world.mend(from, to));
        }
        // Whoever does not get through is not answered either.
        self.silence(one, Some(other), time);
        self.silence(other, Some(one), time);
    }
}
