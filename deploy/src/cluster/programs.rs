//! What this machine has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clickhouse::OLDEST;

/// The programs that a cluster consists of, beside `springald`.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    pub etcd: Option<PathBuf>,
    pub nats: Option<PathBuf>,
    pub clickhouse: Option<PathBuf>,
    pub vector: Option<PathBuf>,
    pub prometheus: Option<PathBuf>,
    pub grafana: Option<PathBuf>,
    /// False for NATS before 2.10, which does not know `sync_interval`.
    pub nats_syncs: bool,
    /// What is missing or cannot be used, and why.
    pub missing: BTreeMap<String, String>,
}

impl Programs {
    /// Looks for all of them.
    pub(super) fn find() -> Self {
        let mut found = Self::default();
        found.etcd = found.look("etcd", "ETCD_BIN", &["etcd"]);
        found.nats = found.look("nats", "NATS_BIN", &["nats-server"]);
        found.clickhouse = found.look("clickhouse", "CLICKHOUSE_BIN", &["clickhouse", "clickhouse-server"]);
        found.vector = found.look("vector", "VECTOR_BIN", &["vector"]);
        found.prometheus = found.look("prometheus", "PROMETHEUS_BIN", &["prometheus"]);
        found.grafana = found.look("grafana", "GRAFANA_BIN", &["grafana"]);
        found.nats_syncs = found.nats.as_deref().and_then(version).is_some_and(|version| version >= (2, 10));
        if let Some(path) = &found.clickhouse {
            let version = version(path);
            if version.is_none_or(|version| version < OLDEST) {
                let seen = version.map_or_else(|| "unknown".to_owned(), |(major, minor)| format!("{major}.{minor}"));
                let why = format!("{} is version {seen}; the tables need {}.{}", path.display(), OLDEST.0, OLDEST.1);
                found.missing.insert("clickhouse".to_owned(), why);
                found.clickhouse = None;
            }
        }
        found
    }

    fn look(&mut self, name: &str, variable: &str, programs: &[&str]) -> Option<PathBuf> {
        let named = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let found = match &named {
            Some(path) => path.is_file().then(|| path.clone()),
            None => programs.iter().find_map(|program| in_path(program)),
        };
        if found.is_none() {
            let why = match named {
                Some(path) => format!("{variable} names {}, which is no file", path.display()),
                None => format!("{} is not in the PATH, and {variable} is not set", programs.join(" or ")),
            };
            self.missing.insert(name.to_owned(), why);
        }
        found
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian has servers where only root's PATH leads.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Major and minor version that a program tells.
fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

fn version_in(text: &str) -> Option<(u32, u32)> {
    let words = text.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    words
        .filter_map(|word| word.split_once('.'))
        .find_map(|(major, rest)| Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_programs_print_when_asked_for_their_version_then_it_is_found() {
        for (text, wanted) in [
            ("nats-server: v2.9.10", (2, 9)),
            ("ClickHouse server version 18.16.1.", (18, 16)),
            ("ClickHouse local version 25.3.2.39 (official build).", (25, 3)),
        ] {
            assert_eq!(version_in(text), Some(wanted), "{text}");
        }
        assert_eq!(version_in("no version"), None);
    }
}
