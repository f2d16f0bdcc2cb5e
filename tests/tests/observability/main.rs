//! What operators see of a cluster: events, metrics, traces, and no secrets.

mod collector;
mod events;
mod metrics;
mod secrets;
mod traces;
