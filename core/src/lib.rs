//! What scheduler and executor must agree on: ids, errors, the plan codec, the exchange operators, settings,
//! object stores and telemetry.
//!
//! Knows nothing of how jobs are scheduled or where tasks run.
#![forbid(unsafe_code)]

pub mod codec;
pub mod compute;
pub mod equivalences;
pub mod error;
pub mod exchange;
pub mod ids;
pub mod object_stores;
pub mod plan_diff;
pub mod plan_session;
pub mod sample;
pub mod secrets;
pub mod settings;
pub mod telemetry;
pub mod text;
