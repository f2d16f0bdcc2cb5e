//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is run, and what is done to it meanwhile.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// TPC-H scale factor, one with answers.
    #[arg(long, default_value = "0.1")]
    pub scale: String,
    /// How often the 22 queries run.
    #[arg(long, default_value_t = 1)]
    pub runs: u32,
    /// Slots of each of the two executors.
    #[arg(long, default_value_t = 1)]
    pub slots: u32,
    /// More events, written beside those of the cluster.
    #[arg(long, default_value_t = 0)]
    pub events: u64,
    /// Edge, NATS, aggregator and ClickHouse are each started again once meanwhile.
    #[arg(long, value_enum, default_value = "none")]
    pub restart: Restart,
    /// Writes the report to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How parts are restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Restart {
    /// Not at all.
    None,
    /// They are asked to end.
    Graceful,
    /// They are killed; what that may lose is in docs/observability.md.
    Kill,
}

impl Restart {
    /// What is restarted.
    pub fn parts(self) -> Vec<&'static str> {
        if self == Self::None { vec![] } else { vec!["edge", "nats", "aggregator", "clickhouse"] }
    }
}
