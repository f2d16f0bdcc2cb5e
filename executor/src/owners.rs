//! Whom this process obeys in which job: the scheduler with the highest fencing token that it has heard of.

use std::collections::{HashMap, VecDeque};

use springald_core::ids::{JobId, SchedulerId};
use springald_core::telemetry::events::names;
use springald_proto::control;

use crate::tasks::Scheduler;

/// Jobs that have ended are remembered, so that what an earlier owner says late starts nothing; this many.
const ENDED_REMEMBERED: usize = 4096;

struct Owner {
    scheduler: Scheduler,
    revision: u64,
}

/// The owners of the jobs that are here.
#[derive(Default)]
pub(crate) struct Owners {
    owners: HashMap<JobId, Owner>,
    ended: HashMap<JobId, u64>,
    /// The ended jobs, oldest first.
    order: VecDeque<JobId>,
}

impl Owners {
    /// True if `revision` is the highest fencing token heard for the job; then `scheduler` is its owner from now on, and
    /// what was to be reported to an earlier one is forgotten: the new one asks for all there is. Who is not obeyed (any
    /// more) is told so: it may be cut off from the store, and hear it from nobody else.
    pub(crate) fn obey(&mut self, job: &JobId, scheduler: &Scheduler, revision: u64) -> bool {
        if !self.allows(job, revision) {
            tracing::warn!(event = names::OWNER_DISOBEYED, job_id = %job, scheduler_id = %scheduler.id, owner_revision = revision,
                "a scheduler that does not own the job any more was not obeyed");
            scheduler.outcomes.supersede(job, self.token(job));
            return false;
        }
        let owner = Owner { scheduler: scheduler.clone(), revision };
        if let Some(earlier) = self.owners.insert(job.clone(), owner)
            && earlier.revision < revision
        {
            earlier.scheduler.outcomes.forget_job(job);
            if earlier.scheduler.id != scheduler.id {
                earlier.scheduler.outcomes.supersede(job, revision);
            }
        }
        true
    }

    /// The highest token heard for the job, whether it goes on or has ended under it.
    fn token(&self, job: &JobId) -> u64 {
        let owner = self.owners.get(job).map(|owner| owner.revision);
        owner.max(self.ended.get(job).copied()).unwrap_or_default()
    }

    /// True unless a higher token was heard for the job, or it has ended under this one.
    pub(crate) fn allows(&self, job: &JobId, revision: u64) -> bool {
        self.owners.get(job).is_none_or(|owner| owner.revision <= revision)
            && self.ended.get(job).is_none_or(|ended| *ended < revision)
    }

    /// True if a lower fencing token was heard for the job, and none as high as this.
    pub(crate) fn is_new(&self, job: &JobId, revision: u64) -> bool {
        self.owners.get(job).is_some_and(|owner| owner.revision < revision)
    }

    /// Who gets the outcomes of the job's tasks.
    pub(crate) fn scheduler(&self, job: &JobId) -> Option<&Scheduler> {
        self.owners.get(job).map(|owner| &owner.scheduler)
    }

    /// The job has ended under this token.
    pub(crate) fn ended(&mut self, job: &JobId, revision: u64) {
        if self.ended.insert(job.clone(), revision).is_none() {
            self.order.push_back(job.clone());
        }
        if self.order.len() > ENDED_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// Nothing of the job is here any more, nor is anything of it to be reported.
    pub(crate) fn forget(&mut self, job: &JobId) {
        if let Some(owner) = self.owners.remove(job) {
            owner.scheduler.outcomes.forget_job(job);
        }
    }

    /// The jobs of one scheduler.
    pub(crate) fn jobs_of(&self, scheduler: &SchedulerId) -> Vec<JobId> {
        let own = self.owners.iter().filter(|(_, owner)| owner.scheduler.id == *scheduler);
        own.map(|(job, _)| job.clone()).collect()
    }

    /// All jobs, with the highest token heard for each.
    pub(crate) fn held(&self) -> Vec<control::HeldJob> {
        let held = self
            .owners
            .iter()
            .map(|(job, owner)| control::HeldJob { job_id: job.to_string(), owner_revision: owner.revision });
        held.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn scheduler() -> Scheduler {
        Scheduler { id: SchedulerId::generate(), outcomes: Arc::default() }
    }

    #[test]
    fn given_a_new_owner_when_the_earlier_one_speaks_again_then_it_is_not_obeyed() {
        let (earlier, later) = (scheduler(), scheduler());
        let job: JobId = "j".parse().expect("valid");
        let mut owners = Owners::default();
        assert!(owners.obey(&job, &earlier, 5));
        let key = control::TaskKey { job_id: "j".to_owned(), ..Default::default() };
        earlier.outcomes.add(control::Outcome { key: Some(key), ..Default::default() });
        assert!(owners.obey(&job, &later, 9));
        assert_eq!(earlier.outcomes.len(), 0, "the new owner asks for what there is");
        assert!(!owners.obey(&job, &earlier, 5) && !owners.allows(&job, 8) && owners.allows(&job, 9));
        assert_eq!(owners.jobs_of(&later.id), std::slice::from_ref(&job));
        assert!(owners.jobs_of(&earlier.id).is_empty());
    }

    #[test]
    fn given_a_new_owner_then_the_earlier_one_is_told_at_once_and_whenever_it_speaks() {
        let (earlier, later) = (scheduler(), scheduler());
        let job: JobId = "j".parse().expect("valid");
        let mut owners = Owners::default();
        assert!(owners.obey(&job, &earlier, 5) && owners.obey(&job, &earlier, 7));
        assert!(earlier.outcomes.superseded().is_empty(), "it has claimed the job again itself");
        assert!(owners.obey(&job, &later, 9));
        let told = BTreeMap::from([(job.clone(), 9)]);
        assert_eq!(earlier.outcomes.superseded(), told, "with nothing to launch it would never know");
        assert!(!owners.obey(&job, &earlier, 7));
        assert_eq!(earlier.outcomes.superseded(), told);
        owners.ended(&job, 9);
        owners.forget(&job);
        assert!(!owners.obey(&job, &earlier, 7));
        assert_eq!((earlier.outcomes.superseded(), later.outcomes.superseded()), (told, BTreeMap::new()));
    }

    #[test]
    fn given_a_job_that_has_ended_when_told_to_start_something_late_then_it_is_refused() {
        let owner = scheduler();
        let job: JobId = "j".parse().expect("valid");
        let mut owners = Owners::default();
        assert!(owners.obey(&job, &owner, 5));
        owners.ended(&job, 5);
        owners.forget(&job);
        assert!(!owners.obey(&job, &owner, 5));
        assert!(owners.held().is_empty());
        for other in 0..=ENDED_REMEMBERED {
            owners.ended(&format!("o{other}").parse().expect("valid"), 1);
        }
        assert!(owners.allows(&job, 5), "not remembered for ever");
    }
}
