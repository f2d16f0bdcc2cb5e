//! The world of one simulation: its processes, its store, its network, its clients, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use springald_core::ids::JobId;

use super::agenda::{Agenda, Happening, What};
use super::checks::History;
use super::clients::Client;
use super::faults::Plan;
use super::kv::Kv;
use super::machine::Machine;
use super::process::Process;
use super::requests::Request;
use super::store::SimWatch;
use super::streams::Stream;
use super::work::{Versions, Work};

/// Where something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Scheduler(u32),
    Executor(u32),
    Store,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Scheduler(number) => write!(f, "scheduler-{number}"),
            Place::Executor(number) => write!(f, "executor-{number}"),
            Place::Store => write!(f, "store"),
        }
    }
}

/// Everything there is.
pub(super) struct World {
    pub(super) agenda: Arc<Agenda>,
    pub(super) object_stores: Arc<dyn ObjectStoreRegistry>,
    pub(super) schedulers: BTreeMap<u32, Process>,
    pub(super) executors: BTreeMap<u32, Machine>,
    /// The control streams.
    pub(super) streams: BTreeMap<u64, Stream>,
    /// Places that went without a word: who calls them hears nothing.
    pub(super) gone_machines: BTreeSet<Place>,
    /// From where to where nothing gets through, and how many reasons there are for it.
    cuts: BTreeMap<(Place, Place), u32>,

    pub(super) kv: Kv,
    pub(super) watches: BTreeMap<u64, SimWatch>,
    /// Reasons why the store is not there.
    pub(super) store_outages: u32,
    /// Reasons why answers of the store get lost.
    pub(super) store_forgets: u32,

    pub(super) clients: Vec<Client>,
    pub(super) requests: BTreeMap<u64, Request>,
    /// What every job that was ever submitted is to compute.
    pub(super) works: BTreeMap<JobId, Arc<Work>>,
    /// Which versions of what may differ went into rows: rows name them by their place here.
    pub(super) versions: Vec<Versions>,

    pub(super) plan: Plan,
    /// Tasks may fail or be slow.
    pub(super) flawed: bool,
    pub(super) history: History,
    /// Everything has come to its end, and nothing is left.
    pub(super) settled: bool,
    /// What was not as it must be.
    pub(super) violation: Option<String>,
    next_process: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let agenda = Agenda::begin(seed);
        let plan = agenda.chance(Plan::new);
        Self {
            agenda,
            object_stores: Arc::new(DefaultObjectStoreRegistry::new()),
            schedulers: BTreeMap::new(),
            executors: BTreeMap::new(),
            streams: BTreeMap::new(),
            gone_machines: BTreeSet::new(),
            cuts: BTreeMap::new(),
            kv: Kv::default(),
            watches: BTreeMap::new(),
            store_outages: 0,
            store_forgets: 0,
            clients: vec![],
            requests: BTreeMap::new(),
            works: BTreeMap::new(),
            versions: vec![],
            plan,
            flawed: true,
            history: History::default(),
            settled: false,
            violation: None,
            next_process: 0,
        }
    }

    /// A number for a new process: none is ever used twice.
    pub(super) fn new_process(&mut self) -> u32 {
        self.next_process += 1;
        self.next_process
    }

    /// Lets things happen until `done`, or until something is not as it must be.
    pub(super) fn go_on(&mut self, done: impl Fn(&World) -> bool) {
        while self.violation.is_none() && !done(self) {
            match self.agenda.next() {
                Some(What::Happening(happening)) => happening(self),
                Some(What::Alarm(alarm)) => {
                    if alarm.ring() {
                        self.run(alarm.scheduler);
                    }
                }
                None => return self.violated("nothing will ever happen again".to_owned()),
            }
        }
    }

    /// Something is not as it must be. The first one counts.
    pub(super) fn violated(&mut self, what: String) {
        tracing::error!(target: "sim", "NOT AS IT MUST BE: {what}");
        self.violation.get_or_insert(what);
    }

    // === the network ===

    /// True if nothing gets from one place to the other; it may get back.
    pub(super) fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// True if a question from one place to the other gets no answer, because it does not arrive or the answer does not.
    pub(super) fn are_apart(&self, one: Place, other: Place) -> bool {
        self.is_cut(one, other) || self.is_cut(other, one)
    }

    /// Cuts the way from one place to the other.
    pub(super) fn cut(&mut self, from: Place, to: Place) {
        tracing::info!(target: "sim", "nothing gets from {from} to {to}");
        *self.cuts.entry((from, to)).or_default() += 1;
        if let (Place::Scheduler(number), Place::Store) = (from.min(to), from.max(to)) {
            self.break_watches(|_, scheduler| scheduler == number);
        }
    }

    /// Mends it, if there is no other reason why it is cut.
    pub(super) fn mend(&mut self, from: Place, to: Place) {
        if let Some(reasons) = self.cuts.get_mut(&(from, to)) {
            *reasons -= 1;
            if *reasons == 0 {
                tracing::info!(target: "sim", "what {from} sends reaches {to} again");
                self.cuts.remove(&(from, to));
                self.flush_streams();
            }
        }
    }

    /// True if the process there runs, and what is sent to it from here arrives and is answered.
    pub(super) fn reaches(&self, from: Place, to: Place) -> bool {
        let runs = match to {
            Place::Scheduler(number) => self.schedulers.get(&number).is_some_and(|process| !process.is_stopped()),
            Place::Executor(number) => self.executors.get(&number).is_some_and(|machine| !machine.is_stopped()),
            Place::Store => self.store_outages == 0,
        };
        runs && !self.are_apart(from, to)
    }

    /// True if the process there has ended, and its machine says so.
    pub(super) fn refuses(&self, from: Place, to: Place) -> bool {
        let there = match to {
            Place::Scheduler(number) => self.schedulers.contains_key(&number),
            Place::Executor(number) => self.executors.contains_key(&number),
            Place::Store => true,
        };
        !there && !self.are_apart(from, to) && !self.gone_machines.contains(&to)
    }

    /// How long a message takes.
    pub(super) fn latency(&self) -> u64 {
        self.agenda.chance(|chance| match chance.percent(5) {
            true => chance.number(5_000, 150_000),
            false => chance.number(100, 4_000),
        })
    }

    /// Something that happens when a place is reached, as soon as it is within `patience`; else what happens instead.
    pub(super) fn when_reached(
        &mut self,
        ends: (Place, Place),
        patience: u64,
        reached: impl FnOnce(&mut World) + Send + 'static,
        given_up: impl FnOnce(&mut World) + Send + 'static,
    ) {
        self.wait_for(ends, patience, Box::new(reached), Box::new(given_up));
    }

    fn wait_for(&mut self, (from, to): (Place, Place), patience: u64, reached: Happening, given_up: Happening) {
        const LOOK_AGAIN: u64 = 100_000;
        if self.reaches(from, to) {
            return reached(self);
        }
        if self.refuses(from, to) || patience == 0 {
            return given_up(self);
        }
        let pause = LOOK_AGAIN.min(patience);
        self.agenda.after(pause, move |world| world.wait_for((from, to), patience - pause, reached, given_up));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is due holds what belongs to the processes' code, and the other way round.
        self.schedulers.clear();
        self.agenda.clear();
        Agenda::let_go();
    }
}
