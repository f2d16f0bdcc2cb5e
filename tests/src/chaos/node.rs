//! One process of the cluster that is tormented: it can be killed, stopped, cut off and started again.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::net::Host;
use crate::process::{Process, binary};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Etcd,
    Scheduler,
    Executor,
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    Dead,
    /// It was told to end, at this time, and does so by itself.
    Leaving(Instant),
    Stopped,
    CutOff,
}

pub(crate) struct Node {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) host: Host,
    arguments: Vec<String>,
    process: Process,
    /// Processes that ended; their logs are still asked.
    past: Vec<Process>,
    pub(crate) ailment: Option<Ailment>,
    /// What it keeps across its deaths.
    _data: TempDir,
}

impl Node {
    /// Starts it; `arguments` are told its directory for data.
    pub(crate) fn start(role: Role, name: String, host: Host, arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let arguments = arguments(data.path());
        let process = spawn(role, &name, &host, &arguments);
        Self { role, name, host, arguments, process, past: vec![], ailment: None, _data: data }
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
        self.ailment = Some(Ailment::Dead);
    }

    /// Asks it to end, as an orchestrator does that replaces it.
    pub(crate) fn terminate(&mut self) {
        self.process.signal("TERM");
        self.leaves();
    }

    /// It was told to end, by whomever.
    pub(crate) fn leaves(&mut self) {
        self.ailment = Some(Ailment::Leaving(Instant::now()));
    }

    /// True while it ends by itself, for no longer than `deadline`.
    pub(crate) fn is_leaving(&mut self, deadline: Duration) -> bool {
        match self.ailment {
            Some(Ailment::Leaving(since)) => self.process.is_running() && since.elapsed() < deadline,
            _ => false,
        }
    }

    /// Stops it, as a machine does that swaps or is migrated.
    pub(crate) fn pause(&mut self) {
        self.process.signal("STOP");
        self.ailment = Some(Ailment::Stopped);
    }

    /// Cuts its link.
    pub(crate) fn cut(&mut self) {
        if self.host.set_link(false) {
            self.ailment = Some(Ailment::CutOff);
        }
    }

    /// Makes good what was done to it.
    pub(crate) fn heal(&mut self) {
        match self.ailment.take() {
            Some(Ailment::Dead | Ailment::Leaving(_)) => {
                self.process.kill();
                let fresh = spawn(self.role, &self.name, &self.host, &self.arguments);
                self.past.push(std::mem::replace(&mut self.process, fresh));
            }
            Some(Ailment::Stopped) => self.process.signal("CONT"),
            Some(Ailment::CutOff) => drop(self.host.set_link(true)),
            None => {}
        }
    }

    /// The running process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The id in the cluster of the running process; `None` for etcd, and for one that has not got that far.
    pub(crate) fn id(&self) -> Option<String> {
        let (message, field) = match self.role {
            Role::Scheduler => ("scheduler started", "scheduler_id"),
            Role::Executor => ("executor started", "executor_id"),
            Role::Etcd => return None,
        };
        let started = self.process.events().into_iter().find(|event| event["message"] == message)?;
        started[field].as_str().map(str::to_owned)
    }

    /// The running process, to look at.
    pub(crate) fn process_ref(&self) -> &Process {
        &self.process
    }

    /// The logs of all its processes, one after another.
    pub(crate) fn log(&self) -> String {
        self.past.iter().chain([&self.process]).map(|process| process.log() + &process.errors()).collect()
    }

    /// The events of all its processes.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.past.iter().chain([&self.process]).flat_map(Process::events).collect()
    }
}

fn spawn(role: Role, name: &str, host: &Host, arguments: &[String]) -> Process {
    let etcd = Path::new("etcd");
    let own;
    let program = match role {
        Role::Etcd => etcd,
        Role::Scheduler | Role::Executor => {
            own = binary();
            own.as_path()
        }
    };
    Process::start_in(name, host.namespace.as_deref(), program, arguments)
}
