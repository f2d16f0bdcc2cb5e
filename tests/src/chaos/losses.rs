//! How long it took until losses were noticed and made up for, by the events of the schedulers.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::node::{Node, Role};

/// What was done to the cluster.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// Faults by kind.
    pub(super) faults: BTreeMap<&'static str, u64>,
    befallen: Vec<Befallen>,
    /// When etcd as a whole went away, and came back.
    store_away: Vec<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

/// Something happened to a node.
#[derive(Clone, Debug)]
struct Befallen {
    node: usize,
    role: Role,
    /// The kind of the fault.
    fault: &'static str,
    /// The process that it happened to, by its id in the cluster.
    id: String,
    at: DateTime<Utc>,
    /// When it was made good.
    over: Option<DateTime<Utc>>,
}

/// A job that was taken over because its scheduler was lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Takeover {
    /// Kind of the fault that its scheduler was lost by.
    pub fault: &'static str,
    /// When that was.
    pub lost: DateTime<Utc>,
    /// The job.
    pub job: String,
    /// Milliseconds from the loss until another scheduler owned the job.
    pub claimed_millis: i64,
    /// Milliseconds from the loss until the job went on.
    pub millis: i64,
}

impl Takeover {
    /// As JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "fault": self.fault, "lost": self.lost.to_rfc3339(), "job_id": self.job, "millis": self.millis,
            "claimed_millis": self.claimed_millis,
        })
    }
}

/// A scheduler that is back for so long loses a job for another reason than that it was away, as a store that hangs.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);
/// What happens so long after etcd has come back may be due to its having been away.
const STORE_AFTERMATH: TimeDelta = TimeDelta::seconds(6);
/// A loss that is not made good, and not noticed by then, is not noticed.
const NOTICED_WITHIN: TimeDelta = TimeDelta::seconds(15);

impl Harm {
    /// A node is about to be harmed.
    pub(super) fn befalls(&mut self, cluster: &Cluster, node: usize, fault: &'static str) {
        let harmed = &cluster.nodes[node];
        let id = harmed.id().unwrap_or_default();
        self.befallen.push(Befallen { node, role: harmed.role, fault, id, at: Utc::now(), over: None });
    }

    /// It was made good.
    pub(super) fn is_over(&mut self, node: usize) {
        let last = self.befallen.iter_mut().rfind(|befallen| befallen.node == node);
        let Some(befallen) = last else { return };
        let now = Utc::now();
        befallen.over = Some(now);
        if befallen.role == Role::Etcd {
            // Of several members that come back, the last one counts: before, there may be no majority.
            let away =
                self.store_away.iter_mut().filter(|(_, back)| back.is_none_or(|back| now - back < STORE_AFTERMATH));
            away.for_each(|(_, back)| *back = Some(now));
        }
    }

    /// etcd goes away as a whole.
    pub(super) fn store_is_away(&mut self) {
        self.store_away.push((Utc::now(), None));
    }

    /// True if what happened between these times may be due to an etcd that was away.
    fn store_was_away(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        self.store_away.iter().any(|(away, back)| *away <= to && back.is_none_or(|back| from <= back + STORE_AFTERMATH))
    }

    /// The jobs that were taken over because their schedulers were lost; the fastest first.
    pub(super) fn takeovers(&self, events: &[Value]) -> Vec<Takeover> {
        let mut takeovers = vec![];
        for claimed in events.iter().filter(|event| event["message"] == "job claimed from a scheduler that is gone") {
            let Some(claimed_at) = time(claimed) else { continue };
            let went_on = events
                .iter()
                .filter(|event| event["message"] == "job taken over" && event["job_id"] == claimed["job_id"])
                .filter_map(time)
                .filter(|at| *at >= claimed_at)
                .min();
            // What was killed does not come back: who is started in its place is another scheduler.
            let stays = |befallen: &Befallen| !befallen.fault.starts_with("stop") && !befallen.fault.starts_with("cut");
            let lost = self.befallen.iter().filter(|befallen| {
                claimed["from"] == befallen.id.as_str()
                    && befallen.at <= claimed_at
                    && (stays(befallen) || befallen.over.is_none_or(|over| claimed_at <= over + AFTERMATH))
            });
            if let (Some(went_on), Some(loss)) = (went_on, lost.max_by_key(|loss| loss.at))
                && !self.store_was_away(loss.at, went_on)
            {
                takeovers.push(Takeover {
                    fault: loss.fault,
                    lost: loss.at,
                    job: claimed["job_id"].as_str().unwrap_or_default().to_owned(),
                    claimed_millis: (claimed_at - loss.at).num_milliseconds(),
                    millis: (went_on - loss.at).num_milliseconds(),
                });
            }
        }
        takeovers.sort_by_key(|takeover| takeover.millis);
        takeovers
    }

    /// For each executor to which one of these faults happened, and each scheduler that nothing happened to meanwhile: the
    /// milliseconds until it noticed, ascending. Losses that were over before anybody noticed are not counted.
    pub(super) fn noticed(&self, faults: &[&str], nodes: &[Node]) -> Vec<i64> {
        let mut millis = vec![];
        let schedulers = nodes.iter().enumerate().filter(|(_, node)| node.role == Role::Scheduler);
        let schedulers: Vec<(usize, Vec<Value>)> = schedulers.map(|(number, node)| (number, node.events())).collect();
        let lost = |befallen: &&Befallen| befallen.role == Role::Executor && faults.contains(&befallen.fault);
        for loss in self.befallen.iter().filter(lost) {
            for (scheduler, events) in &schedulers {
                let noticed = events
                    .iter()
                    .filter(|event| event["message"] == "executor lost" && event["executor_id"] == loss.id.as_str())
                    .filter_map(time)
                    .find(|at| *at >= loss.at && *at <= loss.over.unwrap_or(loss.at + NOTICED_WITHIN));
                if let Some(noticed) = noticed
                    && !self.was_harmed(*scheduler, loss.at, noticed)
                    && !self.store_was_away(loss.at, noticed)
                {
                    millis.push((noticed - loss.at).num_milliseconds());
                }
            }
        }
        millis.sort_unstable();
        millis
    }

    fn was_harmed(&self, node: usize, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        let of_node = self.befallen.iter().filter(|befallen| befallen.node == node);
        of_node.into_iter().any(|befallen| befallen.at <= to && befallen.over.is_none_or(|over| from <= over))
    }
}

fn time(event: &Value) -> Option<DateTime<Utc>> {
    event["ts"].as_str()?.parse().ok()
}
