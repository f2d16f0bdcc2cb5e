//! What was started: kept in `state.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Planned;
use crate::{Error, Result, files};

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, as `scheduler-1`.
    pub name: String,
    /// Its program, with what it was started with.
    pub program: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<String>,
    /// Variables of its environment, beside those of whoever starts it.
    pub environment: Vec<(String, String)>,
    /// Its process id.
    pub pid: u32,
    /// When the process began, in the kernel's ticks: with the id, it names the process.
    pub began: u64,
    /// Its log: what it writes to standard output and standard error.
    pub log: PathBuf,
    /// Its events, where they have a file of their own: then its log is empty while all is well.
    pub events: Option<PathBuf>,
    /// Where to ask whether it is healthy.
    pub health: String,
    /// Where it listens, by what for: `flight_sql`, `rest`, `telemetry`, `http`, `client`.
    pub addresses: BTreeMap<String, String>,
}

impl Service {
    /// What it takes to start it again.
    pub(super) fn planned(&self) -> Planned {
        let Self { name, program, arguments, environment, events, health, addresses, .. } = self.clone();
        Planned { name, program, arguments, environment, events, health, addresses }
    }

    /// The files that say what it does.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.log).chain(&self.events)
    }
}

/// All of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// In the order in which they were started.
    pub services: Vec<Service>,
    /// What this machine lacks, and why.
    pub left_out: BTreeMap<String, String>,
}

impl State {
    fn path(directory: &Path) -> PathBuf {
        directory.join("state.json")
    }

    /// Reads it; `None` if nothing was started there.
    ///
    /// # Errors
    /// If there is a file that cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>> {
        let path = Self::path(directory);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let state = serde_json::from_str(&text);
        state.map(Some).map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
    }

    /// Reads it.
    ///
    /// # Errors
    /// If nothing was started there.
    pub fn expected(directory: &Path) -> Result<Self> {
        let none =
            || Error::Invalid(format!("no cluster was started in {}: `springald cluster up`", directory.display()));
        Self::load(directory)?.ok_or_else(none)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Invalid(error.to_string()))?;
        let (path, new) = (Self::path(directory), directory.join("state.json.new"));
        files::write(&new, &text)?;
        fs::rename(&new, &path).map_err(Error::file("write", &path))
    }

    /// Forgets it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(directory: &Path) -> Result<()> {
        let path = Self::path(directory);
        fs::remove_file(&path).map_err(Error::file("delete", &path))
    }

    /// The service with this name.
    ///
    /// # Errors
    /// If there is none; names those that there are.
    pub fn known(&self, name: &str) -> Result<&Service> {
        let names = || self.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.services.iter().find(|service| service.name == name);
        found.ok_or_else(|| Error::Invalid(format!("there is no {name:?}, only {}", names())))
    }
}
