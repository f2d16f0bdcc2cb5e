//! What can go wrong around a benchmark. A query that fails or answers wrongly is not an error here: it is a line of
//! the report.

use std::path::{Path, PathBuf};

use crate::tpch::Scale;

/// Result with [`BenchError`].
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Why data could not be made, or a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or directory could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as in "writing".
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A Parquet file could not be written.
    #[error("writing {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
    /// The directory for generated data holds something else, which is not overwritten.
    #[error("{} holds files that are not generated TPC-H data; give another directory or empty it", .0.display())]
    ForeignDirectory(PathBuf),
    /// A path cannot be written into an SQL statement.
    #[error("the path {} is not valid UTF-8; give another data directory", .0.display())]
    PathNotText(PathBuf),
    /// No place to keep generated data.
    #[error("no cache directory: set HOME or XDG_CACHE_HOME, or give --data-dir")]
    NoCacheDirectory,
    /// The cluster refused a statement that the run needs.
    #[error("{doing}: {source}")]
    Client {
        /// What was being done.
        doing: String,
        /// What the cluster answered.
        source: springald_client::ClientError,
    },
    /// The scheduler's REST interface did not answer as expected.
    #[error("GET {url}: {reason}")]
    Rest {
        /// The address asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A committed answer file is damaged.
    #[error("answers for scale {scale}, query {query}: {reason}")]
    Answers {
        /// Scale of the answers.
        scale: Scale,
        /// Number of the query, 1 to 22.
        query: u8,
        /// What is wrong with the file.
        reason: String,
    },
    /// An engine that is to be measured could not be started, or ended early.
    #[error("{engine}: {reason}")]
    Engine {
        /// Which process.
        engine: String,
        /// What went wrong.
        reason: String,
    },
    /// The chart could not be drawn.
    #[error("drawing {}: {reason}", path.display())]
    Chart {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A report could not be written as JSON.
    #[error("encoding the report: {0}")]
    Json(#[from] serde_json::Error),
    /// A worker of this process ended without a result.
    #[error("a worker of the data generator ended abnormally: {0}")]
    Worker(String),
}

impl BenchError {
    /// For `map_err` on I/O: what was done to which path.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// For a process of an engine: what went wrong with it.
    pub(crate) fn engine(engine: &str, reason: impl ToString) -> Self {
        Self::Engine { engine: engine.to_owned(), reason: reason.to_string() }
    }

    /// For `map_err` on statements: what was being done.
    pub fn client(doing: impl Into<String>) -> impl FnOnce(springald_client::ClientError) -> Self {
        let doing = doing.into();
        move |source| Self::Client { doing, source }
    }
}
