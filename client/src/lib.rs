//! Springald's Rust client: SQL over Arrow Flight SQL.
//!
//! ```no_run
//! use futures::TryStreamExt;
//! use springald_client::Client;
//!
//! # async fn example() -> springald_client::Result<()> {
//! let client = Client::connect("grpc://127.0.0.1:50050").await?;
//! let mut stream = client.query("SELECT 1 AS one").await?;
//! while let Some(batch) = stream.try_next().await? {
//!     println!("{} rows", batch.num_rows());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! Client ──GetFlightInfo──▶ server        schema, job id, one ticket per endpoint
//!   └─▶ QueryStream ──DoGet(ticket)──▶ the server, or wherever an endpoint says    batches, endpoint after endpoint
//!         └─▶ CancelHandle ──CancelFlightInfo──▶ server
//! ```
//!
//! When a server is lost, another one of those named is used: a result is read on from the row where it broke off, as
//! far as the server says that its rows are still the same (headers `springald-resume`, `springald-result-version`).
//!
//! The client speaks the public protocol only: it must not know how a cluster works, and works with any Flight SQL
//! server.
#![forbid(unsafe_code)]

mod address;
mod client;
mod connection;
mod error;
mod patience;
mod query;
mod resume;
pub mod shell;
mod tables;

pub use client::Client;
pub use connection::ConnectOptions;
pub use error::{ClientError, Result};
pub use query::{CancelHandle, CancelOutcome, QueryStream};
pub use tables::TableInfo;
