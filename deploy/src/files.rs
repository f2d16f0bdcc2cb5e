//! The configuration files of this folder and of `vector/`, as the binary has them.
//!
//! They name the containers of `deploy/compose` and the paths in them. Elsewhere, [`render`] puts other names in their place:
//! there is one file, not a template and its results.

use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::{Error, Result};

/// ClickHouse: migrations, views, queries.
pub static CLICKHOUSE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/clickhouse");
/// Grafana: data sources and dashboards.
pub static GRAFANA: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/grafana");
/// Prometheus: what it scrapes, and rules.
pub static PROMETHEUS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/prometheus");
/// The programs of Vector's transforms.
pub static VRL: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../vector/vrl");
/// Vector beside the processes.
pub const EDGE: &str = include_str!("../../vector/edge.yaml");
/// Vector before ClickHouse.
pub const AGGREGATOR: &str = include_str!("../../vector/aggregator.yaml");
/// The NATS server.
pub const NATS: &str = include_str!("../nats/nats.conf");
/// The stream that keeps the events.
pub const STREAM: &str = include_str!("../nats/stream.json");
/// The consumer that all aggregators share.
pub const CONSUMER: &str = include_str!("../nats/consumer.json");

/// The text with each `from` replaced by its `to`.
///
/// # Errors
/// If one of them is not there: the file has changed, and whoever renders it has not.
pub fn render(text: &str, replaced: &[(&str, &str)]) -> Result<String> {
    replaced.iter().try_fold(text.to_owned(), |text, (from, to)| match text.contains(from) {
        true => Ok(text.replace(from, to)),
        false => Err(Error::Invalid(format!("{from:?} is not in the file that names it so"))),
    })
}

/// The texts of the files of a folder with this ending, in the order of their names.
pub fn texts(folder: &Dir<'static>, ending: &str) -> Vec<(String, &'static str)> {
    let mut found: Vec<_> = folder
        .files()
        .filter(|file| file.path().extension().is_some_and(|found| found == ending))
        .filter_map(|file| Some((file.path().file_name()?.to_str()?.to_owned(), file.contents_utf8()?)))
        .collect();
    found.sort();
    found
}

/// Writes a file, and the folders above it.
///
/// # Errors
/// If the system refuses.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    fs::write(path, text).map_err(Error::file("write", path))
}

/// Writes all files of a folder below another one.
///
/// # Errors
/// If the system refuses.
pub fn write_all(folder: &Dir<'static>, to: &Path) -> Result<()> {
    for file in folder.files() {
        if let (Some(name), Some(text)) = (file.path().file_name(), file.contents_utf8()) {
            write(&to.join(name), text)?;
        }
    }
    for below in folder.dirs() {
        write_all(below, &to.join(below.path().file_name().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_that_are_there_when_rendered_then_replaced_and_refused_if_one_is_missing() {
        assert_eq!(render("a:1 b:2 a:1", &[("a:1", "c:3")]).expect("it is there"), "c:3 b:2 c:3");
        render("a:1", &[("d:4", "e:5")]).expect_err("it is not there");
    }
}
