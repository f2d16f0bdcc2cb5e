//! TPC-H for Springald: data, queries, answers from an independent engine, the demonstration that runs them, and the
//! comparison with another engine.
//!
//! ```text
//! tpch::generate ──▶ <cache>/sf1/<table>/part-<n>.parquet
//!                         │ CREATE EXTERNAL TABLE
//! tpch::queries ──SQL──▶ cluster ──batches──▶ tpch::verify ◀── benchmarks/answers (DuckDB)
//!                         │
//!                       rest ──▶ stages, tasks, bytes ──▶ demo::DemoReport (table, JSON, exit code)
//! ```
//!
//! This crate talks to a cluster as any client does, over Flight SQL and REST. It must not know how a cluster is made
//! inside: for the demonstration the binary starts one and hands in its addresses, and [`bench`] starts processes of the
//! binary by their command lines, as any user would.
#![forbid(unsafe_code)]

pub mod bench;
pub mod demo;
pub mod error;
mod figures;
mod progress;
pub mod rest;
pub mod tpch;
pub mod workload;

pub use error::{BenchError, Result};
