//! Random settings of sessions.

use super::case::Settings;
use super::choice::Choice;

/// Number of different settings in one run: each is a session of its own.
const PROFILES: usize = 20;

/// Percent of the queries that run with default settings.
const DEFAULTS_PERCENT: usize = 30;

/// Settings that change plans and no answers, for all engines.
const SHARED: [(&str, &str); 31] = [
    ("datafusion.optimizer.prefer_hash_join", "false"),
    ("datafusion.optimizer.prefer_hash_join", "false"),
    ("datafusion.optimizer.prefer_existing_sort", "true"),
    ("datafusion.optimizer.prefer_existing_sort", "true"),
    ("datafusion.optimizer.enable_piecewise_merge_join", "true"),
    ("datafusion.optimizer.repartition_sorts", "false"),
    ("datafusion.optimizer.repartition_windows", "false"),
    ("datafusion.optimizer.repartition_aggregations", "false"),
    ("datafusion.optimizer.repartition_joins", "false"),
    ("datafusion.optimizer.repartition_file_min_size", "0"),
    ("datafusion.optimizer.repartition_file_scans", "false"),
    ("datafusion.optimizer.preserve_file_partitions", "1"),
    ("datafusion.optimizer.enable_topk_aggregation", "false"),
    ("datafusion.optimizer.enable_window_topn", "true"),
    ("datafusion.optimizer.enable_window_limits", "false"),
    ("datafusion.optimizer.enable_topk_repartition", "false"),
    ("datafusion.optimizer.enable_distinct_aggregation_soft_limit", "false"),
    ("datafusion.optimizer.enable_sort_pushdown", "false"),
    ("datafusion.optimizer.enable_leaf_expression_pushdown", "false"),
    ("datafusion.optimizer.prefer_existing_union", "true"),
    ("datafusion.optimizer.join_reordering", "false"),
    ("datafusion.optimizer.top_down_join_key_reordering", "false"),
    ("datafusion.optimizer.filter_null_join_keys", "true"),
    ("datafusion.optimizer.subset_repartition_threshold", "1"),
    ("datafusion.execution.collect_statistics", "false"),
    ("datafusion.execution.split_file_groups_by_statistics", "true"),
    ("datafusion.execution.coalesce_batches", "false"),
    ("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", "1"),
    ("datafusion.execution.parquet.pushdown_filters", "true"),
    ("datafusion.execution.parquet.enable_page_index", "false"),
    ("datafusion.execution.time_zone", "+02:00"),
];

/// Settings of staged sessions.
const STAGED: [(&str, &str); 8] = [
    ("springald.batch_size", "3"),
    ("springald.batch_size", "3"),
    ("springald.batch_size", "1"),
    ("springald.broadcast_bytes", "10MiB"),
    ("springald.broadcast_bytes", "10MiB"),
    ("springald.partitions", "2"),
    ("springald.partitions", "9"),
    ("springald.runtime_filters", "false"),
];

/// Makes the settings of a run.
pub(crate) fn all(seed: u64) -> Vec<Settings> {
    let mut choice = Choice::new(seed ^ 0x5e77_1265);
    (0..PROFILES).map(|_| one(&mut choice)).collect()
}

/// Returns settings for one query: now and then the defaults.
pub(crate) fn pick(choice: &mut Choice, profiles: &[Settings]) -> Settings {
    if choice.percent(DEFAULTS_PERCENT) { Settings::default() } else { choice.pick(profiles).clone() }
}

fn one(choice: &mut Choice) -> Settings {
    let mut some = |settings: &[(&str, &str)], most: usize| {
        let count = choice.below(most + 1);
        let mut chosen: Vec<(String, String)> =
            choice.some(settings, count).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        chosen.sort();
        chosen.dedup_by(|later, earlier| later.0 == earlier.0);
        chosen
    };
    Settings { shared: some(&SHARED, 6), staged: some(&STAGED, 3) }
}
