//! The DataFusion sessions that queries are planned in, and the settings that shape them.

mod bounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use springald_core::error::{Error, Result};
use springald_core::plan_session;
use springald_core::settings::{ByteSize, QuerySettings, Span};
use springald_core::telemetry::events::names;

use super::grouping_sets::{self, with_cleared_grouping_sets};
use super::join_modes::with_split_build_sides;
use super::top_k::with_shared_thresholds;
use super::unions::with_same_metadata;

/// The executors as far as planning depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterShape {
    /// Number of executors.
    pub executors: u32,
    /// Slots of all of them.
    pub total_slots: u32,
    /// Slots of the one that has most.
    pub largest_slots: u32,
}

/// What one query is planned with: the defaults of the scheduler, changed by the session's SET.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// Partitions of exchanges; 0: from the cluster's slots and the bytes that are read.
    pub partitions: usize,
    /// Bytes that a query reads, per partition of its exchanges.
    pub partition_bytes: u64,
    /// Rows per batch.
    pub batch_size: usize,
    /// Largest input, per slot, of a query that runs whole.
    pub whole_query_bytes: u64,
    /// Largest build side that is broadcast.
    pub broadcast_bytes: u64,
    /// Keys of finished build sides keep rows of probe sides from being exchanged.
    pub runtime_filters: bool,
    /// Longest run time; zero: no limit.
    pub deadline: std::time::Duration,
    /// DataFusion's own settings, as SET by the session.
    datafusion: BTreeMap<String, String>,
}

/// The setting that gives a session's queries more slots than others.
pub const WEIGHT: &str = "springald.weight";

/// A single executor need not exchange with anybody: it runs queries whole up to so many times the usual input.
const SINGLE_EXECUTOR_FACTOR: u64 = 8;
/// With more partitions than slots, slots fill evenly to the end, and a retry costs little.
const PARTITIONS_PER_SLOT: usize = 2;
const BYTES_PER_UNKNOWN_ROW: u64 = 32;
const PARTITIONS_AT_MOST: usize = 512;

impl QueryOptions {
    /// The options of a session with these settings over these defaults. Fails on a value that does not parse, or is out
    /// of bounds.
    pub fn new(defaults: &QuerySettings, settings: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self {
            partitions: defaults.partitions,
            partition_bytes: defaults.partition_bytes.0,
            batch_size: defaults.batch_size,
            whole_query_bytes: defaults.whole_query_bytes.0,
            broadcast_bytes: defaults.broadcast_bytes.0,
            runtime_filters: defaults.runtime_filters,
            deadline: defaults.deadline.0,
            datafusion: BTreeMap::new(),
        };
        for (key, value) in settings {
            match key.as_str() {
                "springald.partitions" => options.partitions = number(key, value)?,
                "springald.partition_bytes" => options.partition_bytes = value.parse::<ByteSize>()?.0,
                "springald.batch_size" => options.batch_size = number(key, value)?,
                "springald.whole_query_bytes" => options.whole_query_bytes = value.parse::<ByteSize>()?.0,
                "springald.broadcast_bytes" => options.broadcast_bytes = value.parse::<ByteSize>()?.0,
                "springald.runtime_filters" => options.runtime_filters = switch(key, value)?,
                "springald.deadline" => options.deadline = value.parse::<Span>()?.0,
                // Says nothing about the plan: dispatch reads it.
                WEIGHT => drop(weight(value)?),
                _ => {
                    bounds::check(key, value)?;
                    options.datafusion.insert(key.clone(), value.clone());
                }
            }
        }
        let (batch_size, partitions) = (options.batch_size, options.partitions);
        if !(1..=QuerySettings::MAX_BATCH_SIZE).contains(&batch_size) {
            let most = QuerySettings::MAX_BATCH_SIZE;
            let message = format!("springald.batch_size must be a number from 1 to {most}, not {batch_size}");
            return Err(Error::invalid(message));
        }
        if partitions > PARTITIONS_AT_MOST {
            let message = format!("springald.partitions must be at most {PARTITIONS_AT_MOST}, not {partitions}");
            return Err(Error::invalid(message));
        }
        Ok(options)
    }

    /// Input bytes up to which a query runs whole on one executor.
    pub fn whole_limit(&self, cluster: ClusterShape) -> u64 {
        let factor = if cluster.executors <= 1 { SINGLE_EXECUTOR_FACTOR } else { 1 };
        self.whole_query_bytes.saturating_mul(u64::from(cluster.largest_slots.max(1))).saturating_mul(factor)
    }

    /// A session whose plans run in one process: as DataFusion does by itself, with the slots as partitions.
    pub fn whole(&self, base: &SessionState, cluster: ClusterShape) -> SessionState {
        let adjust = |options: &mut ConfigOptions| {
            options.execution.target_partitions = cluster.largest_slots.max(1) as usize;
        };
        let rules = corrected(base.physical_optimizers());
        let mut state = self.session(base, adjust).with_physical_optimizer_rules(rules).build();
        state.mark_start_execution();
        state
    }

    /// Partitions of the exchanges of a query that reads `input_bytes`.
    fn partitions(&self, cluster: ClusterShape, input_bytes: u64) -> usize {
        if self.partitions > 0 {
            return self.partitions;
        }
        let by_slots = cluster.total_slots as usize * PARTITIONS_PER_SLOT;
        let by_bytes = input_bytes.div_ceil(self.partition_bytes.max(1)).min(PARTITIONS_AT_MOST as u64) as usize;
        by_bytes.max(by_slots).clamp(1, PARTITIONS_AT_MOST)
    }

    /// A session whose plans can be cut into stages that run apart from each other, for a query that reads
    /// `input_bytes` of files.
    pub fn distributed(&self, base: &SessionState, cluster: ClusterShape, input_bytes: u64) -> SessionState {
        let partitions = self.partitions(cluster, input_bytes);
        let adjust = |options: &mut ConfigOptions| {
            options.execution.target_partitions = partitions;
            // Small build sides are broadcast. Where only the number of rows is known, they are taken for narrow.
            options.optimizer.hash_join_single_partition_threshold = self.broadcast_bytes as usize;
            options.optimizer.hash_join_single_partition_threshold_rows =
                (self.broadcast_bytes / BYTES_PER_UNKNOWN_ROW) as usize;
            // A stage's partitions run apart: nothing may deal batches round, or wait for word from other partitions.
            // A scan's partitions must not take files from each other either: on two executors each file would be read
            // twice.
            options.execution.enable_file_stream_work_stealing = false;
            options.optimizer.enable_round_robin_repartition = false;
            options.optimizer.enable_dynamic_filter_pushdown = false;
            options.optimizer.enable_join_dynamic_filter_pushdown = false;
            options.optimizer.enable_topk_dynamic_filter_pushdown = false;
            options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        };
        let rules = corrected(&with_split_build_sides(base.physical_optimizers()));
        let mut state = self.session(base, adjust).with_physical_optimizer_rules(rules).build();
        state.mark_start_execution();
        state
    }

    fn session(&self, base: &SessionState, adjust: impl FnOnce(&mut ConfigOptions)) -> SessionStateBuilder {
        let mut config = base.config().clone();
        let options = config.options_mut();
        let batch_size = self.batch_size.to_string();
        let settings = self.datafusion.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let settings = std::iter::once(("datafusion.execution.batch_size", batch_size.as_str())).chain(settings);
        plan_session::apply(options, settings, |setting, error| {
            // Checked when it was SET; a setting that a newer version dropped must not break old sessions.
            tracing::warn!(event = names::SESSION_SETTING_IGNORED, setting, %error, "a session's setting does not apply any more");
        });
        adjust(options);
        SessionStateBuilder::new_from_existing(base.clone()).with_config(config)
    }
}

/// DataFusion's rules with those that mend what it gets wrong by itself.
fn corrected(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    // The session may have been made from one of ours.
    if rules.iter().any(|rule| rule.name() == grouping_sets::NAME) {
        return rules.to_vec();
    }
    with_same_metadata(&with_shared_thresholds(&with_cleared_grouping_sets(rules)))
}

fn number(key: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| Error::invalid(format!("{key} must be a number, not {value:?}")))
}

/// A session's share of the slots, beside sessions of weight 1.
///
/// # Errors
/// It is not a number from 1 to 100.
pub fn weight(value: &str) -> Result<u32> {
    let weight = value.parse().ok().filter(|weight| (1..=100).contains(weight));
    weight.ok_or_else(|| Error::invalid(format!("{WEIGHT} must be a number from 1 to 100, not {value:?}")))
}

fn switch(key: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| Error::invalid(format!("{key} must be true or false, not {value:?}")))
}
