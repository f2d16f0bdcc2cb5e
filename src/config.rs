//! Puts a process's settings together: defaults, then the file, then the environment, then flags.

use std::collections::BTreeMap;
use std::ffi::OsString;

use foundations::settings::{from_yaml_str, to_yaml_string};
use serde_yaml::{Mapping, Value};
use springald_core::error::{Error, Result};
use springald_core::settings::Settings;

use crate::cli::{Common, Resources, SchedulerPorts, Store};

/// What the names of all our variables in the environment begin with: `SPRINGALD_<SECTION>_<NAME>` is a setting.
const PREFIX: &str = "SPRINGALD_";

/// Variables of the environment, by name.
pub type Environment = BTreeMap<String, OsString>;

/// One setting given on the command line: section, name, value.
type Override = (&'static str, &'static str, String);

/// Everything that the command line says, in settings.
#[derive(Default)]
pub struct Overrides(Vec<Override>);

impl Overrides {
    pub fn add(&mut self, section: &'static str, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push((section, name, value.to_string()));
        }
    }

    pub fn common(&mut self, common: &Common) {
        self.add("telemetry", "log", common.log.as_ref());
        self.add("telemetry", "port", common.telemetry_port);
        for section in ["scheduler", "executor", "telemetry"] {
            self.add(section, "bind", common.bind.as_ref());
        }
        for section in ["scheduler", "executor"] {
            self.add(section, "advertise", common.advertise.as_ref());
        }
    }

    pub fn ports(&mut self, ports: &SchedulerPorts) {
        self.add("scheduler", "flight_sql_port", ports.flight_sql_port);
        self.add("scheduler", "control_port", ports.control_port);
        self.add("scheduler", "rest_port", ports.rest_port);
    }

    pub fn resources(&mut self, resources: &Resources) {
        self.add("executor", "slots", resources.slots);
        self.add("executor", "memory", resources.memory.as_ref());
        self.add("executor", "spill_dir", resources.spill_dir.as_ref().map(|path| path.display()));
    }

    pub fn store(&mut self, store: &Store) {
        self.add("cluster", "etcd", store.etcd.as_ref());
        self.add("cluster", "name", store.cluster.as_ref());
    }
}

/// The variables of this process that may be settings.
pub fn environment() -> Environment {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    variables.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// The settings of this process. Fails on unknown names and on values of the wrong kind, saying where they came from.
pub fn load(common: &Common, overrides: &Overrides, environment: &Environment) -> Result<Settings> {
    let text = match &common.config {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(format!("cannot read the settings file {}", path.display())).with_source(error)
        })?,
        None => String::new(),
    };
    let origin = common.config.as_ref().map_or_else(|| "the settings".to_owned(), |path| path.display().to_string());
    let base: Settings = if text.trim().is_empty() {
        Settings::default()
    } else {
        from_yaml_str(&text).map_err(|error| Error::invalid(format!("{origin}: {error}")))?
    };
    let mut tree = serde_yaml::to_value(&base)
        .map_err(|error| Error::internal("the settings cannot be written as YAML").with_source(error))?;
    for (variable, value) in environment {
        let Some((section, name)) = place_of(&tree, variable) else { continue };
        let text = value.to_str().ok_or_else(|| Error::invalid(format!("{variable}: its value is not text")))?;
        if !tells_of_service(variable, text) {
            put(&mut tree, &section, &name, text, variable)?;
        }
    }
    for (section, name, value) in &overrides.0 {
        put(&mut tree, section, name, value, &format!("the flag for {section}.{name}"))?;
    }
    for given in &common.set {
        let (path, value) = given.split_once('=').ok_or_else(|| {
            Error::invalid(format!("--set {given}: write SECTION.NAME=VALUE, for example scheduler.max_jobs=50"))
        })?;
        let (section, name) = path.split_once('.').unwrap_or((path, ""));
        put(&mut tree, section, name, value, &format!("--set {given}"))?;
    }
    serde_yaml::from_value(tree).map_err(|error| Error::invalid(format!("the settings are not valid: {error}")))
}

/// All settings with their documentation, as YAML.
pub fn generate(settings: &Settings) -> Result<String> {
    to_yaml_string(settings).map_err(|error| Error::internal(format!("the settings cannot be written: {error}")))
}

/// Section and name of what a variable sets; `None` for those that are there for something else, as `SPRINGALD_URL` is.
fn place_of(tree: &Value, variable: &str) -> Option<(String, String)> {
    let (section, name) = variable.strip_prefix(PREFIX)?.split_once('_')?;
    let (section, name) = (section.to_lowercase(), name.to_lowercase());
    tree.get(section.as_str()).is_some().then_some((section, name))
}

/// True for what Kubernetes puts into the environment for a service that is called, say, `springald-scheduler`: nobody
/// meant a setting by it.
fn tells_of_service(variable: &str, value: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || (variable.ends_with("_PORT") && value.contains("://"))
        || variable.split("_PORT_").skip(1).any(numbered)
}

/// The names in a section; none if there is no such section.
fn names<'a>(tree: &'a Value, section: &str) -> Vec<&'a str> {
    let values = tree.get(section).and_then(Value::as_mapping);
    values.into_iter().flat_map(Mapping::iter).filter_map(|(name, _)| name.as_str()).collect()
}

/// Replaces a value by a text, read as the kind of value that stands there.
fn put(tree: &mut Value, section: &str, name: &str, text: &str, origin: &str) -> Result<()> {
    let Some(place) = tree.get_mut(section).and_then(|values| values.get_mut(name)) else {
        let there_are = match names(tree, section).as_slice() {
            [] => "--generate-config shows all of them".to_owned(),
            known => format!("{section} has {}", known.join(", ")),
        };
        return Err(Error::invalid(format!("{origin}: there is no setting {section}.{name}; {there_are}")));
    };
    let wrong = |kind: &str| Error::invalid(format!("{origin}: {text:?} is not {kind}"));
    *place = match place {
        Value::Bool(_) => Value::Bool(text.parse().map_err(|_| wrong("true or false"))?),
        Value::Number(_) => Value::Number(text.parse::<u64>().map_err(|_| wrong("a number"))?.into()),
        Value::Sequence(_) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Value::String(item.to_owned()))
            .collect(),
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(given: &[(&str, &str)]) -> Environment {
        given.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
    }

    #[test]
    fn given_flags_environment_and_defaults_when_loaded_then_flags_win() {
        let mut overrides = Overrides::default();
        overrides.add("executor", "slots", Some(3));
        overrides.add("cluster", "etcd", Some("http://a:1, http://b:2"));
        let environment = variables(&[("SPRINGALD_EXECUTOR_SLOTS", "7"), ("SPRINGALD_EXECUTOR_MEMORY", "3GiB")]);
        let settings = load(&Common::default(), &overrides, &environment).expect("valid settings");
        assert_eq!(settings.executor.slots, 3);
        assert_eq!(settings.executor.memory.0, 3 << 30);
        assert_eq!(settings.cluster.etcd, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn given_unknown_or_wrong_settings_when_loaded_then_refused_by_name() {
        for (set, part) in [
            ("executor.slot=1", "executor.slot; executor has bind, "),
            ("executors.slots=1", "--generate-config"),
            ("executor.slots=many", "not a number"),
            ("executor.memory=much", "not a size"),
            ("nonsense", "SECTION.NAME=VALUE"),
        ] {
            let common = Common { set: vec![set.to_owned()], ..Common::default() };
            let error = load(&common, &Overrides::default(), &Environment::new()).expect_err(set);
            assert!(error.to_string().contains(part), "{set}: {error}");
        }
    }

    #[test]
    fn given_a_variable_of_a_section_that_is_no_setting_when_loaded_then_refused_by_its_name() {
        for (variable, value, parts) in [
            ("SPRINGALD_EXECUTOR_SLOT", "3", ["there is no setting executor.slot;", "slots"]),
            ("SPRINGALD_SCHEDULER_MAX_JOB", "3", ["there is no setting scheduler.max_job;", "max_jobs"]),
            ("SPRINGALD_TELEMETRY_", "", ["there is no setting telemetry.;", "log_file"]),
            ("SPRINGALD_EXECUTOR_SLOTS", "many", ["many", "not a number"]),
        ] {
            let environment = variables(&[(variable, value)]);
            let error = load(&Common::default(), &Overrides::default(), &environment).expect_err(variable).to_string();
            assert!(error.starts_with(variable) && parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn given_a_variable_whose_value_is_not_text_when_loaded_then_refused_by_its_name() {
        let value = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        let environment = Environment::from([("SPRINGALD_EXECUTOR_SPILL_DIR".to_owned(), value)]);
        let error = load(&Common::default(), &Overrides::default(), &environment).expect_err("not text");
        assert!(error.to_string().starts_with("SPRINGALD_EXECUTOR_SPILL_DIR"), "{error}");
    }

    #[test]
    fn given_variables_that_are_not_meant_as_settings_when_loaded_then_they_change_nothing() {
        let environment = variables(&[
            ("SPRINGALD_URL", "grpc://a:1"),
            ("SPRINGALD_SIM_SEED", "7"),
            ("SPRINGALD_SIM_SEEDS", "100"),
            // Of services that are called springald-scheduler and springald-scheduler-rest, by Kubernetes.
            ("SPRINGALD_SCHEDULER_SERVICE_HOST", "10.0.0.1"),
            ("SPRINGALD_SCHEDULER_SERVICE_PORT", "50050"),
            ("SPRINGALD_SCHEDULER_SERVICE_PORT_FLIGHT_SQL", "50050"),
            ("SPRINGALD_SCHEDULER_PORT", "tcp://10.0.0.1:50050"),
            ("SPRINGALD_SCHEDULER_PORT_50050_TCP", "tcp://10.0.0.1:50050"),
            ("SPRINGALD_SCHEDULER_PORT_50050_TCP_ADDR", "10.0.0.1"),
            ("SPRINGALD_SCHEDULER_REST_PORT", "tcp://10.0.0.1:8080"),
        ]);
        let settings = load(&Common::default(), &Overrides::default(), &environment).expect("valid settings");
        let defaults = generate(&Settings::default()).expect("settings can be written");
        assert_eq!(generate(&settings).expect("settings can be written"), defaults);
    }

    #[test]
    fn given_generated_settings_when_read_back_then_the_same() {
        let text = generate(&Settings::default()).expect("settings can be written");
        let read: Settings = from_yaml_str(&text).expect("generated settings are valid");
        assert_eq!(generate(&read).expect("settings can be written"), text);
    }

    #[test]
    fn given_the_settings_reference_then_it_says_what_the_code_says() {
        let text = generate(&Settings::default()).expect("settings can be written");
        assert!(text == include_str!("../docs/settings.yaml"), "docs/settings.yaml is old: run `make settings`");
    }
}
