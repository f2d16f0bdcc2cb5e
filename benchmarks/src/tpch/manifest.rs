//! The file that says a directory of generated data is complete: written last, checked before the data is used.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Scale, Table};
use crate::error::{BenchError, Result};

/// Raised when the layout, the types or the Parquet settings of generated data change: older data is made again.
const FORMAT: u32 = 1;

const FILE_NAME: &str = "tpch-manifest.json";

/// What a complete directory holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    scale: String,
    files: Vec<DataFile>,
}

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DataFile {
    /// Relative to the directory, with `/`.
    pub path: String,
    /// Size, so that a truncated copy is noticed.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
}

/// What is found where data is to be.
#[derive(Debug, PartialEq)]
pub(super) enum State {
    /// Complete data of the right scale and format.
    Complete,
    /// Nothing, or generated data that is incomplete or of another format or scale.
    Replaceable,
    /// Something else, which must not be deleted.
    Foreign,
}

impl Manifest {
    pub(super) fn new(scale: Scale, files: Vec<DataFile>) -> Self {
        Self { format: FORMAT, scale: scale.to_string(), files }
    }

    /// Writes it into `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE_NAME);
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).map_err(BenchError::io("writing", &path))
    }

    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE_NAME)).ok()?).ok()
    }

    fn is_intact(&self, dir: &Path, scale: Scale) -> bool {
        let all_there = || {
            self.files.iter().all(|file| fs::metadata(dir.join(&file.path)).is_ok_and(|meta| meta.len() == file.bytes))
        };
        self.format == FORMAT && self.scale == scale.to_string() && all_there()
    }
}

/// Looks at `dir` before data of `scale` is put there.
pub(super) fn inspect(dir: &Path, scale: Scale) -> Result<State> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::Replaceable),
        Err(error) => return Err(BenchError::io("listing", dir)(error)),
    };
    if Manifest::read(dir).is_some_and(|manifest| manifest.is_intact(dir, scale)) {
        return Ok(State::Complete);
    }
    for entry in entries {
        let name = entry.map_err(BenchError::io("listing", dir))?.file_name();
        let ours = name == FILE_NAME || Table::ALL.iter().any(|table| name == table.name());
        if !ours {
            return Ok(State::Foreign);
        }
    }
    Ok(State::Replaceable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> Scale {
        "0.01".parse().expect("scale")
    }

    /// A directory with one data file and its manifest.
    fn complete() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(dir.path().join("nation")).expect("directory of a table");
        fs::write(dir.path().join("nation/part-0.parquet"), b"12345").expect("data file");
        let file = DataFile { path: "nation/part-0.parquet".to_owned(), bytes: 5, rows: 25 };
        Manifest::new(scale(), vec![file]).write(dir.path()).expect("manifest");
        dir
    }

    #[test]
    fn given_a_complete_directory_then_it_is_reused_for_its_scale_only() {
        let dir = complete();
        assert_eq!(inspect(dir.path(), scale()).expect("state"), State::Complete);
        let other = "0.1".parse().expect("scale");
        assert_eq!(inspect(dir.path(), other).expect("state"), State::Replaceable);
    }

    #[test]
    fn given_a_truncated_or_missing_file_then_the_data_is_made_again() {
        let dir = complete();
        fs::write(dir.path().join("nation/part-0.parquet"), b"123").expect("truncated");
        assert_eq!(inspect(dir.path(), scale()).expect("state"), State::Replaceable);
        fs::remove_file(dir.path().join("nation/part-0.parquet")).expect("removed");
        assert_eq!(inspect(dir.path(), scale()).expect("state"), State::Replaceable);
    }

    #[test]
    fn given_somebody_elses_files_then_they_are_not_replaced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(inspect(dir.path(), scale()).expect("state"), State::Replaceable);
        fs::write(dir.path().join("thesis.tex"), b"...").expect("foreign file");
        assert_eq!(inspect(dir.path(), scale()).expect("state"), State::Foreign);
    }
}
