//! The scripts that are run, and the data that they read.

use std::fs;
use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::script;
use crate::tpch;

/// Scripts of another SQL dialect, with functions that are not DataFusion's own.
const LEFT_OUT: &str = "spark";

/// Scale factor of the TPC-H tables that scripts read.
const TPCH_SCALE: &str = "0.01";

/// Name of the file that says that the data are there; it has the text that they were made from.
const GENERATED: &str = ".generated";

/// The scripts below `folder` that match one of the patterns, by name; of those, `sample` taken evenly.
///
/// # Errors
/// There are none.
pub fn scripts(folder: &Path, patterns: &[String], sample: Option<usize>) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(folder, folder, &mut found)?;
    found.retain(|path| {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &name))
    });
    found.sort();
    if let Some(sample) = sample.filter(|sample| (1..found.len()).contains(sample)) {
        found = (0..sample).map(|number| found[number * found.len() / sample].clone()).collect();
    }
    if found.is_empty() {
        return Err(format!("no script below {} matches {patterns:?}", folder.display()));
    }
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_left_out = path.strip_prefix(root).is_ok_and(|path| path.starts_with(LEFT_OUT));
        if path.is_dir() {
            if !is_left_out && !path.ends_with("scratch") {
                collect(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
    Ok(())
}

/// True if the name, or its last segment, matches a pattern with any number of `*`.
fn matches(pattern: &str, name: &str) -> bool {
    fn all(pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
                rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| all(after, &rest[at..]))
            }),
        }
    }
    all(pattern, name) || name.rsplit('/').next().is_some_and(|last| all(pattern, last))
}

/// Makes the data that scripts read and that the crate does not hold: by the statements of `data.slt` in `own`. Other
/// rows than those of DataFusion's own runs do as well, because both sides read them.
///
/// # Errors
/// A statement fails.
pub async fn generate(root: &Path, own: &Path) -> Result<(), String> {
    let path = own.join("data.slt");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mark = root.join(GENERATED);
    if fs::read_to_string(&mark).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let tables = tpch::data(tpch::scale(TPCH_SCALE)).await.display().to_string();
    let engine = Engine::new();
    for record in script::read(own, &path)? {
        let sql = record.sql.replace("$TPCH", &tables);
        engine.execute(&sql).await.map_err(|outcome| format!("{}: {}", record.id, outcome.shown()))?;
    }
    fs::write(&mark, text).map_err(|error| format!("{}: {error}", mark.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_whole_names_or_last_segments() {
        for (pattern, name, expected) in [
            ("window*.slt", "window_limits.slt", true),
            ("window.slt", "window_limits.slt", false),
            ("array/*", "array/array_cast.slt", true),
            ("*cast*", "array/array_cast.slt", true),
            ("array", "array/array_cast.slt", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
