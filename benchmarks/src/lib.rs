//! TPC-H for Springald: data, queries, answers from an independent engine, and the demonstration that runs them.
//!
//! ```text
//! tpch::generate ──▶ <cache>/sf1/<table>/part-<n>.parquet
//!                         │ CREATE EXTERNAL TABLE
//! tpch::queries ──SQL──▶ cluster ──batches──▶ tpch::verify ◀── benchmarks/answers (DuckDB)
//!                         │
//!                       rest ──▶ stages, tasks, bytes ──▶ demo::DemoReport (table, JSON, exit code)
//! ```
//!
//! This crate talks to a cluster as any client does, over Flight SQL and REST. It must not know how a cluster is made:
//! the binary starts one and hands in its addresses.
#![forbid(unsafe_code)]

pub mod demo;
pub mod error;
pub mod rest;
pub mod tpch;

pub use error::{BenchError, Result};
