//! What the torment has shown.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::load::Tally;
use super::losses::{Harm, Takeover};
use super::node::{Node, Role};

/// So many of the takeovers are told one by one.
const SLOWEST_SHOWN: usize = 5;

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Queries that came to an end, of any kind.
    pub queries: u64,
    /// Queries that ended with an error.
    pub failed: u64,
    /// Those of the failed that were not accepted, because etcd was away for longer than `scheduler.commit_timeout`.
    pub refused: u64,
    /// Queries with a wrong answer.
    pub wrong: u64,
    /// Queries without an answer after three minutes.
    pub hung: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Kinds of faults that could not be injected here, and why.
    pub skipped: Option<String>,
    /// The jobs that went on elsewhere because their schedulers were lost, the fastest first.
    pub takeovers: Vec<Takeover>,
    /// Milliseconds until a scheduler noticed that an executor's process had died, ascending.
    pub process_loss_millis: Vec<i64>,
    /// Milliseconds until a scheduler noticed that an executor was stopped or cut off, ascending.
    pub link_loss_millis: Vec<i64>,
    /// Tasks that ran or were finished when their scheduler was lost, and were kept.
    pub adopted: u64,
    /// Tasks that ran again because an executor was lost.
    pub recomputed: u64,
    /// Jobs that a scheduler gave up because another one owned them.
    pub fenced: u64,
    /// What was left when nothing ran any more; `None`: nothing.
    pub left: Option<String>,
    /// Nothing was lost but what was told to leave: then nothing may be done twice.
    pub planned: bool,
    /// Minutes of faults.
    pub minutes: f64,
    /// The seed of the choices.
    pub seed: u64,
}

impl Report {
    /// `left` is what was left at the end of so many minutes of faults, whose choices came from the seed.
    pub(crate) fn new(
        cluster: &Cluster,
        harm: Harm,
        tally: &Tally,
        left: Option<String>,
        (minutes, seed): (f64, u64),
    ) -> Self {
        let events: Vec<Value> =
            cluster.nodes.iter().filter(|node| node.role == Role::Scheduler).flat_map(Node::events).collect();
        let named = |message: &'static str| events.iter().filter(move |event| event["message"] == message);
        let sum = |message, field: &str| named(message).filter_map(|event| event[field].as_u64()).sum();
        let no_links = "cutting links needs the right to make network namespaces, and the tool ip";
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            queries: count(&tally.queries),
            failed: count(&tally.failed),
            refused: count(&tally.refused),
            wrong: count(&tally.wrong),
            hung: count(&tally.hung),
            takeovers: harm.takeovers(&events),
            process_loss_millis: harm.noticed(&["kill_executor"], &cluster.nodes),
            link_loss_millis: harm.noticed(&["stop_executor", "cut_executor"], &cluster.nodes),
            faults: harm.faults,
            skipped: (!cluster.has_links).then(|| no_links.to_owned()),
            adopted: sum("job taken over", "adopted"),
            recomputed: sum("tasks of a lost executor run again", "tasks") + sum("job taken over", "outputs_lost"),
            fenced: named("this scheduler does not own the job any more").count() as u64,
            left,
            planned: false,
            minutes,
            seed,
        }
    }

    /// True if no query was lost (but those that an etcd which was away for too long could not take), nothing is left, and
    /// nothing was done twice that need not be.
    pub fn is_clean(&self) -> bool {
        let lost = self.failed - self.refused + self.wrong + self.hung;
        self.queries > 0 && lost == 0 && self.left.is_none() && !(self.planned && self.recomputed > 0)
    }

    /// The 99th percentile of the takeovers; 0 without any.
    pub fn takeover_p99_millis(&self) -> i64 {
        percentile(&self.takeover_millis(), 99)
    }

    fn takeover_millis(&self) -> Vec<i64> {
        self.takeovers.iter().map(|takeover| takeover.millis).collect()
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let slowest: Vec<Value> = self.takeovers.iter().rev().take(SLOWEST_SHOWN).map(Takeover::to_json).collect();
        json!({
            "queries": self.queries, "failed": self.failed, "refused": self.refused, "wrong": self.wrong,
            "hung": self.hung, "faults": self.faults, "skipped": self.skipped,
            "takeovers": self.takeovers.len(), "takeover_p99_millis": self.takeover_p99_millis(),
            "takeover_p50_millis": percentile(&self.takeover_millis(), 50),
            "takeover_max_millis": self.takeovers.last().map(|takeover| takeover.millis),
            "slowest_takeovers": slowest,
            "executor_loss_process_millis": spread(&self.process_loss_millis),
            "executor_loss_link_millis": spread(&self.link_loss_millis),
            "adopted_tasks": self.adopted, "recomputed_tasks": self.recomputed, "fenced_jobs": self.fenced,
            "left": self.left, "minutes": self.minutes, "seed": self.seed,
        })
    }
}

/// Of ascending values, the one that so many of a hundred do not exceed; 0 of none.
fn percentile(ascending: &[i64], percent: usize) -> i64 {
    let rank = (ascending.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|last| ascending.get(last)).copied().unwrap_or_default()
}

fn spread(ascending: &[i64]) -> Value {
    json!({
        "count": ascending.len(), "p50": percentile(ascending, 50), "p99": percentile(ascending, 99),
        "max": ascending.last(),
    })
}
