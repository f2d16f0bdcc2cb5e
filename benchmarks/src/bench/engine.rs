//! An engine that is measured, whichever it is.

use std::path::Path;
use std::time::Duration;

use super::datafusion::DataFusion;
use super::options::{BenchOptions, EngineKind};
use super::process::Process;
use super::report::ProcessReport;
use super::springald::{Cluster, Events, Store};
use super::statement::{Outcome, Statement};
use crate::error::Result;

/// A running engine. Its processes end when it is dropped.
pub(super) enum Engine {
    Springald(Box<Cluster>),
    DataFusion(Box<DataFusion>),
}

impl Engine {
    /// Starts an engine with the options' resources.
    pub(super) async fn start(kind: EngineKind, options: &BenchOptions) -> Result<Self> {
        match kind {
            EngineKind::Springald => Self::start_springald(Store::Etcd, options).await,
            EngineKind::SpringaldSilent => {
                Ok(Self::Springald(Box::new(Cluster::start(Store::Etcd, Events::None, options).await?)))
            }
            EngineKind::DataFusion => Ok(Self::DataFusion(Box::new(DataFusion::start(options)?))),
        }
    }

    /// Starts Springald over a store.
    pub(super) async fn start_springald(store: Store, options: &BenchOptions) -> Result<Self> {
        Ok(Self::Springald(Box::new(Cluster::start(store, Events::AsUsual, options).await?)))
    }

    /// Makes a table of a Parquet file, or of the directory of them.
    pub(super) async fn register(&mut self, name: &str, path: &Path) -> Result<()> {
        match self {
            Self::Springald(cluster) => cluster.register(name, path).await,
            Self::DataFusion(worker) => worker.register(name, path).await,
        }
    }

    /// Runs a statement once and verifies its result.
    pub(super) async fn run(&mut self, statement: &Statement, limit: Duration) -> Outcome {
        match self {
            Self::Springald(cluster) => cluster.run(statement, limit).await,
            Self::DataFusion(worker) => worker.run(statement, limit).await,
        }
    }

    /// The memory that its processes took so far.
    pub(super) fn processes(&self) -> Vec<ProcessReport> {
        let processes = match self {
            Self::Springald(cluster) => cluster.processes(),
            Self::DataFusion(worker) => worker.processes(),
        };
        let report = |process: &Process| ProcessReport {
            name: process.name().to_owned(),
            peak_memory_bytes: process.peak_memory(),
        };
        processes.iter().map(report).collect()
    }
}
