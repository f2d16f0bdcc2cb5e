//! What the torment has shown.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::load::Tally;
use super::node::{Node, Role};

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Queries that came to an end, of any kind.
    pub queries: u64,
    /// Queries that ended with an error.
    pub failed: u64,
    /// Queries with a wrong answer.
    pub wrong: u64,
    /// Queries without an answer after three minutes.
    pub hung: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Kinds of faults that could not be injected here, and why.
    pub skipped: Option<String>,
    /// Milliseconds from the loss of a scheduler until each of its jobs went on elsewhere, ascending.
    pub takeover_millis: Vec<i64>,
    /// Tasks that ran or were finished when their scheduler was lost, and were kept.
    pub adopted: u64,
    /// Tasks that ran again because an executor was lost.
    pub recomputed: u64,
    /// Jobs that a scheduler gave up because another one owned them.
    pub fenced: u64,
    /// What was left when nothing ran any more; `None`: nothing.
    pub left: Option<String>,
    /// Minutes of faults.
    pub minutes: f64,
    /// The seed of the choices.
    pub seed: u64,
}

/// What was done to the cluster.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// Faults by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) losses: Vec<Loss>,
}

/// A scheduler was lost at this time.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) scheduler_id: String,
    pub(crate) at: DateTime<Utc>,
    /// When it was there again; `None`: never, a process that is started again is another scheduler.
    pub(crate) back_at: Option<DateTime<Utc>>,
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
            wrong: count(&tally.wrong),
            hung: count(&tally.hung),
            faults: harm.faults,
            skipped: (!cluster.has_links).then(|| no_links.to_owned()),
            takeover_millis: takeovers(&events, &harm.losses),
            adopted: sum("job taken over", "adopted"),
            recomputed: sum("tasks of a lost executor run again", "tasks") + sum("job taken over", "outputs_lost"),
            fenced: named("this scheduler does not own the job any more").count() as u64,
            left,
            minutes,
            seed,
        }
    }

    /// True if no query was lost and nothing is left.
    pub fn is_clean(&self) -> bool {
        self.queries > 0 && self.failed + self.wrong + self.hung == 0 && self.left.is_none()
    }

    /// The 99th percentile of the takeovers; 0 without any.
    pub fn takeover_p99_millis(&self) -> i64 {
        let rank = (self.takeover_millis.len() * 99).div_ceil(100);
        rank.checked_sub(1).and_then(|last| self.takeover_millis.get(last)).copied().unwrap_or_default()
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "queries": self.queries, "failed": self.failed, "wrong": self.wrong, "hung": self.hung,
            "faults": self.faults, "skipped": self.skipped,
            "takeovers": self.takeover_millis.len(), "takeover_p99_millis": self.takeover_p99_millis(),
            "takeover_max_millis": self.takeover_millis.last(),
            "takeover_p50_millis": self.takeover_millis.get(self.takeover_millis.len() / 2),
            "adopted_tasks": self.adopted, "recomputed_tasks": self.recomputed, "fenced_jobs": self.fenced,
            "left": self.left, "minutes": self.minutes, "seed": self.seed,
        })
    }
}

/// A scheduler that is back for so long loses a job for another reason than that it was away, as a store that hangs.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);

/// For each job that was taken over: the time since its scheduler was lost.
fn takeovers(events: &[Value], losses: &[Loss]) -> Vec<i64> {
    let time = |event: &Value| event["ts"].as_str()?.parse::<DateTime<Utc>>().ok();
    let mut millis = vec![];
    for claimed in events.iter().filter(|event| event["message"] == "job claimed from a scheduler that is gone") {
        let Some(claimed_at) = time(claimed) else { continue };
        let went_on = events
            .iter()
            .filter(|event| event["message"] == "job taken over" && event["job_id"] == claimed["job_id"])
            .filter_map(time)
            .filter(|at| *at >= claimed_at)
            .min();
        let lost = losses.iter().filter(|loss| {
            claimed["from"] == loss.scheduler_id.as_str()
                && loss.at <= claimed_at
                && loss.back_at.is_none_or(|back| claimed_at <= back + AFTERMATH)
        });
        if let (Some(went_on), Some(lost)) = (went_on, lost.map(|loss| loss.at).max()) {
            millis.push((went_on - lost).num_milliseconds());
        }
    }
    millis.sort_unstable();
    millis
}
