//! How executors have done lately. One on which much goes wrong gets no tasks for a while, as long as there are others.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use springald_core::error::FailureClass;
use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_core::telemetry::events::names;

use super::actor::Actor;
use crate::job::Event;
use crate::metrics::springald_scheduler as metrics;

/// So many failures, of whatever jobs …
const FAILURES: usize = 4;
/// … within this time put an executor aside …
const WINDOW: Duration = Duration::from_secs(60);
/// … for so long.
const ASIDE: Duration = Duration::from_secs(30);

/// The executors with failures of late.
#[derive(Default)]
pub(super) struct Standings {
    failures: BTreeMap<ExecutorId, VecDeque<Instant>>,
    aside: BTreeMap<ExecutorId, Instant>,
}

impl Standings {
    /// Something went wrong at an executor for which it is to blame. True if that puts it aside.
    pub(super) fn blame(&mut self, executor: &ExecutorId, now: Instant) -> bool {
        let failures = self.failures.entry(executor.clone()).or_default();
        failures.push_back(now);
        if failures.len() < FAILURES {
            return false;
        }
        failures.clear();
        self.aside.insert(executor.clone(), now + ASIDE).is_none()
    }

    /// True while an executor gets no tasks.
    pub(super) fn is_aside(&self, executor: &ExecutorId) -> bool {
        self.aside.contains_key(executor)
    }

    /// Forgets what was long ago.
    pub(super) fn pass(&mut self, now: Instant) {
        self.aside.retain(|_, until| now < *until);
        self.failures.retain(|_, failures| {
            failures.retain(|at| now.duration_since(*at) < WINDOW);
            !failures.is_empty()
        });
    }
}

impl Actor {
    /// Remembers who is to blame for a failed attempt: who ran it, or who did not have its input.
    pub(super) fn blame_for(&mut self, id: &JobId, event: &Event, now: Instant) {
        let Event::Failed { executor, failure, .. } = event else { return };
        let holds = |lost: &TaskId, holder| self.jobs.get(id).is_some_and(|job| job.graph.holds(*lost, holder));
        let blamed = match (failure.class, &failure.lost) {
            (FailureClass::Transient, _) => executor,
            (FailureClass::InputLost, Some((lost, holder))) if holder != executor && holds(lost, holder) => holder,
            _ => return,
        };
        if self.standings.blame(blamed, now) {
            metrics::executors_put_aside_total().inc();
            tracing::warn!(event = names::EXECUTOR_PUT_ASIDE, executor_id = %blamed, "too much goes wrong at an executor: it gets no tasks for a while");
            self.peers.put_aside(|executor| self.standings.is_aside(executor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_failures_when_they_are_many_in_a_short_time_then_aside_for_a_while() {
        let (executor, start): (ExecutorId, _) = ("e".parse().expect("valid"), Instant::now());
        let mut standings = Standings::default();
        for second in [0, 61, 62, 63] {
            let now = start + Duration::from_secs(second);
            standings.pass(now);
            assert!(!standings.blame(&executor, now), "the first was too long ago");
        }
        let now = start + Duration::from_secs(64);
        assert!(standings.blame(&executor, now) && standings.is_aside(&executor));
        standings.pass(now + ASIDE);
        assert!(!standings.is_aside(&executor) && standings.failures.is_empty());
    }
}
