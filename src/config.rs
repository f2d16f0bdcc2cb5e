//! Puts a process's settings together: defaults, then the file, then the environment, then flags.

use foundations::settings::{from_yaml_str, to_yaml_string};
use serde_yaml::{Mapping, Value};
use springald_core::error::{Error, Result};
use springald_core::settings::Settings;

use crate::cli::{Common, Resources, SchedulerPorts, Store};

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

/// The settings of this process. Fails on unknown names and on values of the wrong kind, saying where they came from.
pub fn load(common: &Common, overrides: &Overrides, environment: impl Fn(&str) -> Option<String>) -> Result<Settings> {
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
    for (section, name) in names(&tree) {
        let variable = format!("SPRINGALD_{section}_{name}").to_uppercase();
        if let Some(value) = environment(&variable) {
            put(&mut tree, &section, &name, &value, &variable)?;
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

fn names(tree: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let sections = tree.as_mapping().into_iter().flat_map(Mapping::iter);
    sections
        .filter_map(|(section, values)| Some((text(section)?, values.as_mapping()?)))
        .flat_map(|(section, values)| {
            values.iter().filter_map(|(name, _)| text(name)).map(|name| (section.clone(), name)).collect::<Vec<_>>()
        })
        .collect()
}

/// Replaces a value by a text, read as the kind of value that stands there.
fn put(tree: &mut Value, section: &str, name: &str, text: &str, origin: &str) -> Result<()> {
    let Some(place) = tree.get_mut(section).and_then(|values| values.get_mut(name)) else {
        return Err(Error::invalid(format!(
            "{origin}: there is no setting {section}.{name}; --generate-config shows all of them"
        )));
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

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn given_flags_environment_and_defaults_when_loaded_then_flags_win() {
        let mut overrides = Overrides::default();
        overrides.add("executor", "slots", Some(3));
        overrides.add("cluster", "etcd", Some("http://a:1, http://b:2"));
        let environment = |name: &str| match name {
            "SPRINGALD_EXECUTOR_SLOTS" => Some("7".to_owned()),
            "SPRINGALD_EXECUTOR_MEMORY" => Some("3GiB".to_owned()),
            _ => None,
        };
        let settings = load(&Common::default(), &overrides, environment).expect("valid settings");
        assert_eq!(settings.executor.slots, 3);
        assert_eq!(settings.executor.memory.0, 3 << 30);
        assert_eq!(settings.cluster.etcd, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn given_unknown_or_wrong_settings_when_loaded_then_refused_by_name() {
        for (set, part) in [
            ("executor.slot=1", "executor.slot"),
            ("executor.slots=many", "not a number"),
            ("executor.memory=much", "not a size"),
            ("nonsense", "SECTION.NAME=VALUE"),
        ] {
            let common = Common { set: vec![set.to_owned()], ..Common::default() };
            let error = load(&common, &Overrides::default(), nothing).expect_err(set);
            assert!(error.to_string().contains(part), "{set}: {error}");
        }
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
