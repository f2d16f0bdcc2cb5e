//! What a session may give DataFusion's own settings: those with which one session could end a process that all share.
//!
//! DataFusion takes any number. Some of them it allocates, opens files or recurses by, without asking the memory pool; to
//! those there is a bound here. The others only make the session's own queries slow, or fail.

use std::ops::RangeInclusive;

use springald_core::error::{Error, Result};
use springald_core::settings::QuerySettings;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const BOUNDS: [(&str, RangeInclusive<u64>); 16] = [
    // Buffers are made for whole batches.
    ("datafusion.execution.batch_size", 1..=QuerySettings::MAX_BATCH_SIZE as u64),
    // What is read, buffered or copied at one time, partly past the memory pool.
    ("datafusion.execution.sort_spill_reservation_bytes", 0..=GIB),
    ("datafusion.execution.sort_in_place_threshold_bytes", 0..=GIB),
    ("datafusion.execution.sort_pushdown_buffer_capacity", 0..=GIB),
    ("datafusion.execution.hash_join_buffering_capacity", 0..=GIB),
    ("datafusion.execution.perfect_hash_join_small_build_threshold", 0..=16 * MIB),
    ("datafusion.execution.parquet.metadata_size_hint", 0..=64 * MIB),
    ("datafusion.execution.parquet.max_predicate_cache_size", 0..=GIB),
    ("datafusion.optimizer.hash_join_inlist_pushdown_max_size", 0..=16 * MIB),
    ("datafusion.optimizer.hash_join_inlist_pushdown_max_distinct_values", 0..=100_000),
    // Files that are open at one time.
    ("datafusion.execution.meta_fetch_concurrency", 1..=1024),
    ("datafusion.execution.max_spill_file_size_bytes", MIB..=1024 * GIB),
    // Tasks, and rounds, of planning.
    ("datafusion.execution.planning_concurrency", 0..=1024),
    ("datafusion.optimizer.max_passes", 0..=100),
    // Depth: of brackets, and of the chain of ORs that a list becomes where files are pruned by it.
    ("datafusion.sql_parser.recursion_limit", 1..=200),
    ("datafusion.execution.parquet.max_in_list_size", 0..=1000),
];

/// Refuses a value out of bounds. One that is no number is left to DataFusion.
pub(super) fn check(key: &str, value: &str) -> Result<()> {
    let bound = BOUNDS.iter().find(|(bounded, _)| *bounded == key);
    match (bound, value.trim().parse::<u64>()) {
        (Some((_, range)), Ok(number)) if !range.contains(&number) => {
            let (least, most) = (range.start(), range.end());
            Err(Error::invalid(format!("{key} must be a number from {least} to {most}, not {number}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::config::ConfigOptions;

    use super::*;

    #[test]
    fn given_a_bounded_setting_then_datafusion_has_it_and_its_default_is_within() {
        let entries = ConfigOptions::new().entries();
        for (key, range) in &BOUNDS {
            let entry = entries.iter().find(|entry| entry.key == *key).unwrap_or_else(|| panic!("{key} is no setting"));
            let default = entry.value.clone().unwrap_or_default();
            check(key, &default).expect(key);
            for bound in [range.start(), range.end()] {
                ConfigOptions::new().set(key, &bound.to_string()).expect(key);
                check(key, &bound.to_string()).expect(key);
            }
            let error = check(key, &(range.end() + 1).to_string()).expect_err(key);
            assert!(error.message().contains(&format!("from {} to {}", range.start(), range.end())), "{error}");
        }
    }
}
