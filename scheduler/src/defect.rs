//! Defects that are put in on purpose, to see that the simulation finds them. Only this crate's own tests can switch one
//! on; anywhere else the question is a constant, and nothing of it is left in the program.

use springald_core::ids::{ExecutorId, TaskId};

use crate::job::JobGraph;

/// A defect of the kind that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The journal writes without asking whether the job is still this scheduler's.
    MissingFence,
    /// The outcome of a superseded attempt counts for the one that runs now.
    OutcomeCountedTwice,
    /// What was written of a job stays in the store when it has ended.
    ForgottenCleanup,
}

/// True if the defect is put in.
#[cfg(not(test))]
pub(crate) const fn has(_: Defect) -> bool {
    false
}

/// With [`Defect::OutcomeCountedTwice`], the attempt that the outcome of a superseded one counts for.
pub(crate) fn counted_for(graph: &JobGraph, task: TaskId) -> Option<(TaskId, ExecutorId)> {
    if !has(Defect::OutcomeCountedTwice) {
        return None;
    }
    let mut attempts = graph.stage(task.stage)?.attempts();
    attempts.find(|(live, _)| live.task == task.task).map(|(live, executor)| (live, executor.clone()))
}

#[cfg(test)]
pub(crate) use switch::{has, put_in};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static PUT_IN: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// True if the defect is put in, on this thread.
    pub(crate) fn has(defect: Defect) -> bool {
        PUT_IN.get() == Some(defect)
    }

    /// Puts a defect in, on this thread, in place of any other.
    pub(crate) fn put_in(defect: Option<Defect>) {
        PUT_IN.set(defect);
    }
}
