//! The scheduler: plans queries, keeps their jobs durable, hands their tasks to executors, and answers clients.
//!
//! ```text
//!   flight_sql, rest ──▶ engine ──▶ planner ──▶ (catalog, sessions)
//!                          │
//!                          ├──▶ dispatch ──▶ job (pure)
//!                          │        └──▶ control ⇄ executors
//!                          └──▶ store ◀── membership, records
//! ```
#![forbid(unsafe_code)]

pub mod catalog;
mod clock;
mod connections;
mod control;
mod defect;
pub mod dispatch;
pub mod engine;
pub mod flight_sql;
mod follow;
pub mod job;
mod job_events;
pub mod membership;
mod metrics;
mod net;
pub mod planner;
pub mod records;
pub mod rest;
mod server;
pub mod sessions;
#[cfg(test)]
mod sim;
pub mod store;
mod sweep;
mod syntax;
mod takeover;
pub mod tickets;

pub use server::{Scheduler, SchedulerOptions};

/// Makes the metrics known, so that they are listed before anything happens.
pub fn register_metrics() {
    drop(metrics::springald_scheduler::jobs_active());
    drop(metrics::springald_store::available());
}
