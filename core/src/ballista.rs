//! What we take from `ballista-core`: the leaf that marks a stage boundary, and the settings of its planner.
//!
//! Ballista comes in here and in the scheduler's planner, and nowhere else.

pub use ballista_core::JobId as BallistaJobId;
pub use ballista_core::execution_plans::{ShuffleWriter, UnresolvedShuffleExec};

use ballista_core::config::{BALLISTA_BROADCAST_JOIN_THRESHOLD_BYTES, BallistaConfig};
use datafusion::common::Result;
use datafusion::config::ConfigOptions;

/// `options` with the settings of Ballista's planner added: a join's build side of at most `broadcast_bytes` is
/// broadcast.
pub fn planner_options(options: &ConfigOptions, broadcast_bytes: u64) -> Result<ConfigOptions> {
    let mut options = options.clone();
    options.extensions.insert(BallistaConfig::default());
    options.set(BALLISTA_BROADCAST_JOIN_THRESHOLD_BYTES, &broadcast_bytes.to_string())?;
    Ok(options)
}
