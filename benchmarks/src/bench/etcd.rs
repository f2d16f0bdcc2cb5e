//! An etcd of one member, for as long as the measurement takes.

use std::net::TcpListener;
use std::path::Path;

use super::process::{Launch, Process};
use crate::error::{BenchError, Result};
use crate::rest;

/// Ports that were free may be taken by another before etcd listens on them.
const ATTEMPTS: usize = 5;

/// Where Debian's package puts it, for a `PATH` without it.
const INSTALLED: &str = "/usr/bin/etcd";

/// Starts etcd; its process and its client URL.
///
/// # Errors
/// If there is none on the `PATH`, or it does not start.
pub(super) async fn start() -> Result<(Process, String)> {
    let mut last = BenchError::engine("etcd", "not started");
    for _ in 0..ATTEMPTS {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
        let launch = Launch::new("etcd", program())?
            .args(["--name", "bench", "--initial-cluster", &format!("bench={peer}")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .directory("--data-dir", "data");
        let mut process = launch.start()?;
        let healthy = process.wait_for("a leader", |_| async {
            let body = rest::body(&client, "/health").await.ok()?;
            String::from_utf8_lossy(&body).contains(r#""health":"true""#).then_some(())
        });
        match healthy.await {
            Ok(()) => return Ok((process, client)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn program() -> &'static Path {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| folder.join("etcd").is_file());
    Path::new(if found { "etcd" } else { INSTALLED })
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| BenchError::engine("etcd", format!("no free port: {error}")))
}
