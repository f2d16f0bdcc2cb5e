//! The session that a stage's plan is decoded and run in: the scheduler checks plans in the same one that executors use.
//!
//! Settings travel as the differences from [`baseline`], which does not depend on the machine. A fingerprint of the
//! baseline travels with them: an executor whose DataFusion has other defaults refuses the plan.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::config::{ConfigEntry, ConfigOptions};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SessionStateDefaults, TaskContext};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorCode};

/// Key of the fingerprint among a plan's settings.
const FINGERPRINT: &str = "springald.defaults";

/// DataFusion's defaults, with fixed values for those that depend on the machine, and their fingerprint.
static BASELINE: LazyLock<(HashMap<String, Option<String>>, String)> = LazyLock::new(|| {
    let mut entries = entries(&baseline());
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let mut hash = Sha256::new();
    for entry in &entries {
        hash.update(format!("{}={:?}\n", entry.key, entry.value));
    }
    let fingerprint = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    (entries.into_iter().map(|entry| (entry.key, entry.value)).collect(), fingerprint)
});

fn baseline() -> ConfigOptions {
    let mut options = ConfigOptions::default();
    options.execution.target_partitions = 1;
    options.execution.planning_concurrency = 1;
    options
}

fn entries(options: &ConfigOptions) -> Vec<ConfigEntry> {
    options.entries()
}

/// The settings to send with a plan that is to run with `options`.
///
/// # Errors
/// A setting has a value that cannot be set by name, so that it would not arrive.
pub fn settings_of(options: &ConfigOptions) -> Result<HashMap<String, String>> {
    let (baseline, fingerprint) = &*BASELINE;
    let mut settings = HashMap::from([(FINGERPRINT.to_owned(), fingerprint.clone())]);
    for entry in entries(options) {
        if baseline.get(&entry.key) == Some(&entry.value) {
            continue;
        }
        match entry.value {
            Some(value) => drop(settings.insert(entry.key, value)),
            None => return internal_err!("setting {} has no value, and a default: it cannot be sent", entry.key),
        }
    }
    let arrived = entries(config_of(&settings)?.options());
    let arrived: HashMap<String, Option<String>> = arrived.into_iter().map(|entry| (entry.key, entry.value)).collect();
    match entries(options).into_iter().find(|entry| arrived.get(&entry.key) != Some(&entry.value)) {
        None => Ok(settings),
        Some(lost) => internal_err!("setting {} = {:?} cannot be sent to executors", lost.key, lost.value),
    }
}

/// The configuration that [`settings_of`] gave the settings of.
///
/// # Errors
/// A setting is unknown here, or the sender has other defaults.
pub fn config_of(settings: &HashMap<String, String>) -> Result<SessionConfig> {
    let sent = settings.get(FINGERPRINT).map(String::as_str);
    if sent != Some(BASELINE.1.as_str()) {
        let message = "the plan was made by a scheduler of another version, whose settings have other defaults; run the \
             same version of Springald on all schedulers and executors";
        return Err(Error::new(ErrorCode::Unsupported, message).into());
    }
    let mut options = baseline();
    let sent = settings.iter().filter(|(key, _)| *key != FINGERPRINT);
    let mut wanted: BTreeMap<&str, &str> = sent.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (key, value) in &wanted {
        set(&mut options, key, value)?;
    }
    // A setting that sets others may have changed what was not sent, too.
    for (key, default) in &BASELINE.0 {
        if let Some(default) = default {
            wanted.entry(key).or_insert(default);
        }
    }
    set_again(&mut options, &wanted)?;
    Ok(SessionConfig::from(options))
}

/// Sets those of `wanted` that other settings have changed: some settings set several at once.
fn set_again(options: &mut ConfigOptions, wanted: &BTreeMap<&str, &str>) -> Result<()> {
    for entry in entries(options) {
        if let Some(value) = wanted.get(entry.key.as_str())
            && entry.value.as_deref() != Some(*value)
        {
            set(options, &entry.key, value)?;
        }
    }
    Ok(())
}

/// Applies a session's settings, none of which overrides another. Settings that fail are passed to `report` and left out.
pub fn apply<'a>(
    options: &mut ConfigOptions,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    mut report: impl FnMut(&str, DataFusionError),
) {
    let mut applied = BTreeMap::new();
    for (key, value) in settings {
        match options.set(key, value) {
            Ok(()) => drop(applied.insert(key, value)),
            Err(error) => report(key, error),
        }
    }
    // The texts of equal values may differ ("1" and "true"): setting one again changes nothing then.
    if let Err(error) = set_again(options, &applied) {
        report("", error);
    }
}

/// The settings that change when `name` is set to `value` after `settings`: those are overridden.
pub fn overridden(settings: &BTreeMap<String, String>, name: &str, value: &str) -> Vec<String> {
    let mut options = ConfigOptions::new();
    let known: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    apply(&mut options, known, |_, _| ());
    let before = entries(&options);
    if options.set(name, value).is_err() {
        return vec![];
    }
    let changed = before.into_iter().zip(entries(&options)).filter(|(old, new)| old.value != new.value);
    changed.map(|(old, _)| old.key).filter(|key| key != name && settings.contains_key(key)).collect()
}

fn set(options: &mut ConfigOptions, key: &str, value: &str) -> Result<()> {
    options.set(key, value).map_err(|error| {
        let message = format!("setting {key} of the plan cannot be set to {value:?} here: {}", error.strip_backtrace());
        DataFusionError::from(Error::new(ErrorCode::Unsupported, message))
    })
}

/// DataFusion's functions and a process's runtime, from which the contexts of plans are made.
pub struct PlanSession {
    base: SessionState,
    /// The scalar functions that depend on settings.
    configured: Vec<Arc<ScalarUDF>>,
}

impl PlanSession {
    /// Creates a session whose plans run in `runtime`, with all of DataFusion's functions.
    pub fn new(runtime: Arc<RuntimeEnv>) -> Self {
        let base = SessionStateBuilder::new().with_runtime_env(runtime).with_default_features().build();
        let defaults = ConfigOptions::default();
        let depends = |function: &Arc<ScalarUDF>| function.inner().with_updated_config(&defaults).is_some();
        let configured = SessionStateDefaults::default_scalar_functions().into_iter().filter(depends).collect();
        Self { base, configured }
    }

    /// A context with `config`, and with the functions as `config` configures them.
    pub fn context(&self, config: SessionConfig) -> TaskContext {
        let base = TaskContext::from(&self.base);
        let mut functions = base.scalar_functions().clone();
        for function in &self.configured {
            if let Some(configured) = function.inner().with_updated_config(config.options()) {
                let configured = Arc::new(configured);
                for name in std::iter::once(configured.name()).chain(configured.aliases().iter().map(String::as_str)) {
                    functions.insert(name.to_owned(), Arc::clone(&configured));
                }
            }
        }
        TaskContext::new(
            None,
            base.session_id(),
            config,
            functions,
            base.higher_order_functions().clone(),
            base.aggregate_functions().clone(),
            base.window_functions().clone(),
            base.runtime_env(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(change: impl FnOnce(&mut ConfigOptions)) -> (ConfigOptions, SessionConfig) {
        let mut options = ConfigOptions::default();
        change(&mut options);
        let settings = settings_of(&options).expect("can be sent");
        let config = config_of(&settings).expect("is known");
        (options, config)
    }

    fn values(options: &ConfigOptions) -> Vec<(String, Option<String>)> {
        options.entries().into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    #[test]
    fn settings_arrive_whatever_the_machine() {
        for partitions in [1, 2, 64] {
            let (sent, arrived) = arrived(|options| {
                options.execution.target_partitions = partitions;
                options.execution.planning_concurrency = 3;
                options.set("datafusion.execution.time_zone", "+02:00").expect("a setting");
                options.set("datafusion.execution.parquet.metadata_size_hint", "4096").expect("a setting");
            });
            assert_eq!(values(&sent), values(arrived.options()));
        }
    }

    #[test]
    fn setting_that_sets_others_leaves_them_as_sent() {
        for umbrella in ["true", "false"] {
            for single in ["true", "false"] {
                let (sent, arrived) = arrived(|options| {
                    options.set("datafusion.optimizer.enable_dynamic_filter_pushdown", umbrella).expect("a setting");
                    options.set("datafusion.optimizer.enable_join_dynamic_filter_pushdown", single).expect("a setting");
                });
                assert_eq!(values(&sent), values(arrived.options()));
            }
        }
    }

    #[test]
    fn later_setting_overrides_those_that_it_sets() {
        let (all, aggregate) = (
            "datafusion.optimizer.enable_dynamic_filter_pushdown",
            "datafusion.optimizer.enable_aggregate_dynamic_filter_pushdown",
        );
        let settings = BTreeMap::from([(aggregate.to_owned(), "true".to_owned())]);
        assert_eq!(overridden(&settings, all, "false"), [aggregate]);
        let settings = BTreeMap::from([(all.to_owned(), "false".to_owned())]);
        assert_eq!(overridden(&settings, aggregate, "true"), Vec::<String>::new());
        let mut options = ConfigOptions::new();
        apply(&mut options, [(aggregate, "true"), (all, "false")], |key, error| panic!("{key}: {error}"));
        assert!(options.optimizer.enable_aggregate_dynamic_filter_pushdown, "it was set after the other");
        assert!(!options.optimizer.enable_join_dynamic_filter_pushdown);
    }

    #[test]
    fn unknown_setting_or_other_defaults_are_refused() {
        let mut settings = settings_of(&ConfigOptions::default()).expect("can be sent");
        settings.insert("datafusion.execution.no_such_setting".to_owned(), "1".to_owned());
        let error = config_of(&settings).expect_err("unknown");
        assert!(error.to_string().contains("no_such_setting"), "{error}");
        let other = HashMap::from([(FINGERPRINT.to_owned(), "0".to_owned())]);
        assert!(config_of(&other).expect_err("other defaults").to_string().contains("another version"));
        config_of(&HashMap::new()).expect_err("no fingerprint");
    }

    #[test]
    fn functions_follow_the_settings_of_the_plan() {
        let session = PlanSession::new(Arc::default());
        let (_, config) = arrived(|options| {
            options.set("datafusion.execution.time_zone", "+02:00").expect("a setting");
        });
        let context = session.context(config);
        let function = context.scalar_functions().get("to_timestamp").expect("a function");
        assert!(format!("{function:?}").contains("+02:00"), "{function:?}");
    }
}
