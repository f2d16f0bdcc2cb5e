//! What is run, whoever runs it: the data at a scale, and queries over it.

use std::path::{Path, PathBuf};

use crate::error::{BenchError, Result};
use crate::progress::{DATA_BAR, bar};
use crate::tpch::{self, QUERIES, Query, Scale};

/// Options of all commands that run TPC-H.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkloadOptions {
    /// TPC-H scale factor; there are answers to verify with for 0.01, 0.1, 1 and 10.
    #[arg(long, default_value = "1")]
    pub scale: Scale,
    /// Directory that keeps generated data [default: springald/tpch in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Numbers of the queries to run, as 1,5,9 [default: all].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=22))]
    pub queries: Vec<u8>,
}

impl WorkloadOptions {
    /// The directory of the data at the chosen scale: absolute.
    ///
    /// # Errors
    /// [`BenchError::NoCacheDirectory`] if none is given and the user has none.
    pub fn data_directory(&self) -> Result<PathBuf> {
        let root = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => dirs::cache_dir().ok_or(BenchError::NoCacheDirectory)?.join("springald").join("tpch"),
        };
        std::path::absolute(&root)
            .map(|root| root.join(self.scale.directory_name()))
            .map_err(BenchError::io("resolving", &root))
    }

    /// The queries to run, in the order given; all, if none was named.
    pub fn selected_queries(&self) -> Vec<&'static Query> {
        if self.queries.is_empty() {
            QUERIES.iter().collect()
        } else {
            self.queries.iter().filter_map(|number| Query::get(*number)).collect()
        }
    }

    /// Makes sure that the data is there, showing progress on standard error, and returns its directory.
    ///
    /// # Errors
    /// What [`tpch::generate`] gives, and [`BenchError::NoCacheDirectory`].
    pub async fn prepare_data(&self) -> Result<PathBuf> {
        let (dir, scale) = (self.data_directory()?, self.scale);
        let target = dir.clone();
        let generated = tokio::task::spawn_blocking(move || generate_with_progress(&target, scale)).await;
        generated.map_err(|error| BenchError::Worker(error.to_string()))??;
        Ok(dir)
    }
}

/// [`tpch::generate`] with a progress bar on standard error.
///
/// # Errors
/// As [`tpch::generate`].
pub fn generate_with_progress(dir: &Path, scale: Scale) -> Result<()> {
    let bar = bar(tpch::expected_rows(scale), DATA_BAR);
    bar.set_message(format!("TPC-H scale {scale}"));
    let result = tpch::generate(dir, scale, &|rows| bar.inc(rows));
    bar.finish_and_clear();
    result
}
