//! The job state machine: what runs next, what a failure means, when a job has ended.
//!
//! ```text
//!   events (offer, outcome, loss, report, move, cancel) ──▶ JobGraph::apply ──▶ actions (launch, abort, free, finish, fail)
//!   recorded outcomes of an earlier owner ──▶ JobGraph::replay
//! ```
//!
//! [`JobGraph`] is a pure, deterministic value: no clock, no network, no store, no randomness. The same events in the
//! same order give the same actions and the same graph, which is what makes recovery a replay. Everything that acts
//! on the world is in [`dispatch`](crate::dispatch).
//!
//! **Invariants**
//! - A task attempt is launched once at one executor; of a task's live attempts (one, or two if it is slow)
//!   the first to succeed counts.
//! - No two attempts of a task have the same number, whoever owned the job when they were launched.
//! - A stage starts only when all tasks of all its inputs are done.
//! - A stage's output is freed only when every task of every reader is done, and made again if a reader must run again.
//! - After the job has ended, nothing is launched.

mod event;
mod graph;
mod handover;
mod offers;
mod recovery;
mod spec;
mod speculation;
mod stage;

pub use event::{Action, Event, Failure, Launch, PartitionSize};
pub use graph::{JobGraph, Limits, Status};
pub use spec::{InputSpec, StageSpec};
pub use stage::{Progress, Stage, TaskState};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
