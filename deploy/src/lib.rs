//! What stands around a cluster: the pipeline of events, ClickHouse's tables, Prometheus and Grafana.
//!
//! ```text
//! files (of this folder and vector/, kept in the binary)
//!   ├─▶ setup     makes the stream and its consumer in NATS, and the tables in ClickHouse; again does nothing
//!   └─▶ cluster   starts the same topology as the containers, from the programs of this machine
//! ```
//!
//! It knows processes, ports and files; nothing of queries, and no crate of the engine.
#![deny(unsafe_code)]

pub mod clickhouse;
pub mod cluster;
mod error;
pub mod files;
pub mod http;
pub mod nats;
pub mod setup;

pub use error::{Error, Result};
