//! What a session may SET.

use std::collections::BTreeMap;

use datafusion::config::ConfigOptions;
use springald_core::error::{Error, Result};
use springald_core::plan_session;
use springald_core::settings::QuerySettings;

use crate::catalog::CATALOG;
use crate::planner::QueryOptions;

const MAX_VALUE_BYTES: usize = 4096;

const OWN_PREFIX: &str = "springald.";

/// Springald's own settings that a session can change.
const OWN: [&str; 8] = [
    "springald.partitions",
    "springald.partition_bytes",
    "springald.batch_size",
    "springald.whole_query_bytes",
    "springald.broadcast_bytes",
    "springald.runtime_filters",
    "springald.deadline",
    "springald.weight",
];

/// Two names of one setting: the one that was SET later holds.
const SAME_SETTING: [[&str; 2]; 1] = [["springald.batch_size", "datafusion.execution.batch_size"]];

/// DataFusion's settings about catalogs describe its own; these are the ones that mean something here.
const CATALOG_SETTINGS: [&str; 3] =
    ["datafusion.catalog.default_catalog", "datafusion.catalog.default_schema", "datafusion.catalog.has_header"];

/// The name in lower case, if there is a setting with this name that a session can change.
///
/// # Errors
/// Says what to change instead, where there is something.
pub(super) fn known(name: &str) -> Result<String> {
    let name = name.trim().to_ascii_lowercase();
    if name.starts_with(OWN_PREFIX) {
        return match OWN.contains(&name.as_str()) {
            true => Ok(name),
            false => Err(Error::invalid(format!("there is no setting {name}: there are {}", OWN.join(", ")))),
        };
    }
    if name == "datafusion.execution.target_partitions" {
        return Err(Error::invalid(format!("{name} follows from the cluster: use springald.partitions")));
    }
    if name.starts_with("datafusion.runtime.") {
        return Err(Error::invalid(format!("{name} belongs to whole processes: see their settings")));
    }
    if name.starts_with("datafusion.catalog.") && !CATALOG_SETTINGS.contains(&name.as_str()) {
        return Err(Error::invalid(format!("{name} cannot be changed here")));
    }
    if ConfigOptions::new().entries().iter().any(|entry| entry.key == name) {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(format!("there is no setting {shown:?}: SHOW ALL lists them")))
}

/// The name in lower case, if `value` is one that the setting can have.
///
/// # Errors
/// Those of [`known`], and what is wrong with the value.
pub(super) fn check(name: &str, value: &str) -> Result<String> {
    let name = known(name)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::invalid(format!("the value of {name} is longer than {MAX_VALUE_BYTES} bytes")));
    }
    if name == "datafusion.catalog.default_catalog" && value != CATALOG {
        return Err(Error::invalid(format!("there is one catalog, {CATALOG}")));
    }
    if !name.starts_with(OWN_PREFIX) {
        ConfigOptions::new().set(&name, value).map_err(|error| Error::invalid(error.strip_backtrace()))?;
    }
    QueryOptions::new(&QuerySettings::default(), &BTreeMap::from([(name.clone(), value.to_owned())]))?;
    Ok(name)
}

/// Sets `name` to `value` after what `settings` has: what it overrides goes, so that settings act in the order in which
/// they were SET.
pub(super) fn put<S: std::hash::BuildHasher>(
    settings: &mut std::collections::HashMap<String, String, S>,
    name: &str,
    value: &str,
) {
    let known: BTreeMap<String, String> =
        settings.iter().filter(|(key, _)| !key.starts_with(OWN_PREFIX)).map(|(k, v)| (k.clone(), v.clone())).collect();
    for overridden in plan_session::overridden(&known, name, value) {
        settings.remove(&overridden);
    }
    if let Some(other) = SAME_SETTING.iter().find(|pair| pair.contains(&name)) {
        other.iter().filter(|other| **other != name).for_each(|other| drop(settings.remove(*other)));
    }
    settings.insert(name.to_owned(), value.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_settings_with_values_that_fit_they_are_accepted_in_any_case() {
        for (name, value) in [
            ("springald.partitions", "16"),
            ("SPRINGALD.DEADLINE", "30s"),
            ("springald.broadcast_bytes", "4MiB"),
            ("springald.runtime_filters", "false"),
            ("springald.weight", "100"),
            ("datafusion.execution.time_zone", "+02:00"),
            ("datafusion.catalog.default_schema", "sales"),
        ] {
            assert_eq!(check(name, value).expect(name), name.to_ascii_lowercase());
        }
    }

    #[test]
    fn settings_act_in_the_order_of_their_set() {
        let (all, join) = (
            "datafusion.optimizer.enable_dynamic_filter_pushdown",
            "datafusion.optimizer.enable_join_dynamic_filter_pushdown",
        );
        let after = |sets: &[(&str, &str)]| {
            let mut settings = std::collections::HashMap::new();
            sets.iter().for_each(|(name, value)| put(&mut settings, name, value));
            settings.into_iter().collect::<BTreeMap<_, _>>()
        };
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(after(&[(join, "true"), (all, "false")]), of(&[(all, "false")]));
        assert_eq!(after(&[(all, "false"), (join, "true")]), of(&[(all, "false"), (join, "true")]));
        let (own, datafusion) = ("springald.batch_size", "datafusion.execution.batch_size");
        assert_eq!(after(&[(datafusion, "10"), (own, "3")]), of(&[(own, "3")]));
        assert_eq!(after(&[(own, "3"), (datafusion, "10")]), of(&[(datafusion, "10")]));
    }

    #[test]
    fn given_settings_that_do_not_exist_or_fit_the_error_says_why() {
        for (name, value, part) in [
            ("springald.nothing", "1", "springald.partitions"),
            ("springald.partitions", "many", "number"),
            ("springald.deadline", "soon", "30s"),
            ("springald.weight", "0", "1 to 100"),
            ("springald.weight", "101", "1 to 100"),
            ("springald.batch_size", "0", "from 1 to 1048576"),
            ("springald.batch_size", "100000000000000", "from 1 to 1048576"),
            ("springald.partitions", "513", "at most 512"),
            ("datafusion.execution.batch_size", "100000000000000", "from 1 to 1048576"),
            ("datafusion.execution.batch_size", "x", "batch_size"),
            ("datafusion.execution.parquet.metadata_size_hint", "100000000000", "from 0 to 67108864"),
            ("datafusion.execution.target_partitions", "4", "springald.partitions"),
            ("datafusion.runtime.memory_limit", "1G", "processes"),
            ("datafusion.catalog.location", "/etc", "cannot be changed"),
            ("datafusion.catalog.default_catalog", "other", "one catalog"),
            ("no.such", "1", "no.such"),
            ("", "1", "no setting"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.message().contains(part), "{name}: {error}");
        }
    }
}
