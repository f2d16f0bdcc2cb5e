//! The file formats tables can have, and DataFusion's readers for them.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, GetExt};
use datafusion::datasource::file_format::arrow::ArrowFormatFactory;
use datafusion::datasource::file_format::csv::CsvFormatFactory;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use springald_core::error::{Error, Result};
use springald_proto::records::TableFormat;

use super::parquet::BoundedParquetFormat;

const COMPRESSION: &str = "format.compression";
const HEADER: &str = "format.has_header";

/// Format of a table's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Ndjson,
    Arrow,
}

impl Format {
    /// The format of `STORED AS name`.
    pub(super) fn from_sql(name: &str) -> Result<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PARQUET" => Ok(Self::Parquet),
            "CSV" => Ok(Self::Csv),
            "JSON" | "NDJSON" | "JSONL" => Ok(Self::Ndjson),
            "ARROW" => Ok(Self::Arrow),
            other => Err(Error::unsupported(format!(
                "STORED AS {other} is not supported: use PARQUET, CSV, JSON (one object a line) or ARROW"
            ))),
        }
    }

    /// The format of a stored record.
    pub(super) fn from_record(format: i32) -> Result<Self> {
        match TableFormat::try_from(format) {
            Ok(TableFormat::Parquet) => Ok(Self::Parquet),
            Ok(TableFormat::Csv) => Ok(Self::Csv),
            Ok(TableFormat::Ndjson) => Ok(Self::Ndjson),
            Ok(TableFormat::Arrow) => Ok(Self::Arrow),
            Ok(TableFormat::Unspecified) | Err(_) => {
                Err(Error::unsupported(format!("its file format (number {format}) is not known to this version")))
            }
        }
    }

    pub(super) fn to_record(self) -> TableFormat {
        match self {
            Self::Parquet => TableFormat::Parquet,
            Self::Csv => TableFormat::Csv,
            Self::Ndjson => TableFormat::Ndjson,
            Self::Arrow => TableFormat::Arrow,
        }
    }

    /// Every file says what its columns are.
    pub(super) fn is_self_describing(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    /// The reader, with the session's settings for what the table's own options leave open.
    ///
    /// # Errors
    /// An option that the format does not have, or a value that the option cannot have.
    pub(super) fn reader(
        self,
        session: &dyn Session,
        options: &HashMap<String, String>,
    ) -> datafusion::error::Result<Arc<dyn FileFormat>> {
        if self == Self::Arrow {
            refuse_options(options)?;
        }
        let reader = self.factory().create(session, options)?;
        Ok(if self == Self::Parquet { Arc::new(BoundedParquetFormat::new(reader)) } else { reader })
    }

    /// A reader without options, for what does not depend on them.
    pub(super) fn plain_reader(self) -> Arc<dyn FileFormat> {
        self.factory().default()
    }

    fn factory(self) -> Box<dyn FileFormatFactory> {
        match self {
            Self::Parquet => Box::new(ParquetFormatFactory::new()),
            Self::Csv => Box::new(CsvFormatFactory::new()),
            Self::Ndjson => Box::new(JsonFormatFactory::new()),
            Self::Arrow => Box::new(ArrowFormatFactory::new()),
        }
    }

    /// How the names of files in a directory may end, the most usual first.
    pub(super) fn suffixes(self, options: &HashMap<String, String>) -> Vec<String> {
        let bases: &[&str] = match self {
            Self::Parquet => &[".parquet"],
            Self::Csv => &[".csv"],
            Self::Ndjson => &[".json", ".ndjson", ".jsonl"],
            Self::Arrow => &[".arrow", ".feather", ".ipc"],
        };
        let compression = options.get(COMPRESSION).and_then(|name| FileCompressionType::from_str(name).ok());
        let compressed = compression.unwrap_or(FileCompressionType::UNCOMPRESSED).get_ext();
        bases.iter().map(|base| format!("{base}{compressed}")).collect()
    }

    /// Writes down what the files' names and the session say now, so that the table means the same later on.
    pub(super) fn settle_options(self, options: &mut HashMap<String, String>, files: &[&str], has_header: bool) {
        if self == Self::Csv {
            options.entry(HEADER.to_owned()).or_insert_with(|| has_header.to_string());
        }
        if matches!(self, Self::Csv | Self::Ndjson)
            && !options.contains_key(COMPRESSION)
            && let Some(compression) = common_compression(files)
        {
            options.insert(COMPRESSION.to_owned(), compression.to_owned());
        }
    }
}

/// For a format without options, whose reader takes any and does nothing with them.
fn refuse_options(options: &HashMap<String, String>) -> datafusion::error::Result<()> {
    match options.keys().min() {
        None => Ok(()),
        Some(option) => Err(DataFusionError::Configuration(format!(
            "the option \"{option}\" is not known: files in the ARROW format have no options"
        ))),
    }
}

/// The compression that all the names speak of.
fn common_compression(files: &[&str]) -> Option<&'static str> {
    const ENDINGS: [(&str, &str); 4] = [(".gz", "gzip"), (".bz2", "bzip2"), (".xz", "xz"), (".zst", "zstd")];
    let of = |file: &str| ENDINGS.iter().find(|(ending, _)| file.ends_with(ending)).map(|(_, name)| *name);
    let first = of(files.first()?)?;
    files.iter().all(|file| of(file) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use springald_core::error::ErrorCode;

    use super::*;

    #[test]
    fn given_compressed_files_the_compression_is_taken_from_their_names() {
        let settled = |files: &[&str]| {
            let mut options = HashMap::new();
            Format::Csv.settle_options(&mut options, files, true);
            options.get(COMPRESSION).cloned()
        };
        assert_eq!(settled(&["/a.csv.gz", "/b.csv.gz"]).as_deref(), Some("gzip"));
        assert_eq!(settled(&["/a.csv.gz", "/b.csv"]), None);
        assert_eq!(settled(&["/a.csv"]), None);
    }

    #[test]
    fn given_an_option_in_the_statement_it_stays() {
        let mut options = HashMap::from([(HEADER.to_owned(), "false".to_owned())]);
        Format::Csv.settle_options(&mut options, &["/a.csv"], true);
        assert_eq!(options[HEADER], "false");
    }

    #[test]
    fn given_a_compression_option_the_files_of_a_directory_end_with_it() {
        let options = HashMap::from([(COMPRESSION.to_owned(), "gzip".to_owned())]);
        assert_eq!(Format::Csv.suffixes(&options), [".csv.gz"]);
        assert_eq!(Format::Ndjson.suffixes(&HashMap::new()), [".json", ".ndjson", ".jsonl"]);
    }

    #[test]
    fn given_an_option_that_the_format_does_not_have_it_is_refused_and_not_kept() {
        let state = SessionContext::new().state();
        for format in [Format::Arrow, Format::Csv, Format::Ndjson, Format::Parquet] {
            for option in ["aws.secret_access_key", "format.nonsense"] {
                let options = HashMap::from([(option.to_owned(), "hunter2".to_owned())]);
                let error = Error::from(format.reader(&state, &options).expect_err(option));
                assert_eq!(error.code(), ErrorCode::Invalid, "{format:?}: {error}");
                assert!(!error.message().contains("hunter2"), "{format:?}: {error}");
            }
            format.reader(&state, &HashMap::new()).expect("a reader without options");
        }
        let options = HashMap::from([(COMPRESSION.to_owned(), "gzip".to_owned())]);
        let error = Format::Arrow.reader(&state, &options).expect_err("compressed");
        assert!(error.to_string().contains("\"format.compression\" is not known"), "{error}");
    }

    #[test]
    fn given_an_unknown_format_the_error_names_the_known_ones() {
        let error = Format::from_sql("avro").expect_err("avro");
        assert!(error.message().contains("PARQUET"), "{error}");
    }
}
