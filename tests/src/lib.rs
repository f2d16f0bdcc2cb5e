//! A harness for tests of whole processes: real `springald` binaries, and a real etcd.
//!
//! ```text
//! Etcd (from the PATH) ◀── leases ── Cluster: schedulers, executors     Standalone: all roles in one process
//!                                       each a Process: log, signals, /proc
//! tests ──Client──▶ Flight SQL          tests ──Http──▶ REST, metrics
//! ```
//!
//! Everything here acts from outside, as users and operators do: over Flight SQL, REST, metrics, signals and the log.
//! It knows no types of the scheduler and the executor. Whatever a test starts is killed by its process id when the
//! test ends, and when the test panics, the logs of what it started are printed.
#![forbid(unsafe_code)]

pub mod chaos;
pub mod cluster;
pub mod dashboards;
pub mod etcd;
pub mod fuzz_sql;
pub mod http;
pub mod observe;
pub mod pipeline;
pub mod process;
pub mod servers;
pub mod slt;
pub mod standalone;
pub mod tpch;
pub mod wait;

pub use cluster::{Cluster, ClusterOptions};
pub use etcd::{Etcd, EtcdOptions};
pub use http::Http;
pub use process::Process;
pub use standalone::Standalone;

use std::path::PathBuf;

/// The checkout. Asked at run time: a target directory that checkouts share keeps what another one has compiled.
///
/// # Panics
/// Outside of cargo, if there is no current directory.
pub fn workspace() -> PathBuf {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(tests) => PathBuf::from(tests).parent().expect("the workspace is above this crate").to_owned(),
        None => std::env::current_dir().expect("a current directory"),
    }
}
