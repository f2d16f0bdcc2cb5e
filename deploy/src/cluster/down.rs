//! Ends a cluster.

use std::fs;
use std::time::Duration;

use super::options::DownOptions;
use super::process;
use super::state::State;
use crate::{Error, Result};

/// Ends everything, the last that was started first.
pub(super) async fn run(options: &DownOptions) -> Result<bool> {
    let directory = &options.place.directory;
    let state = State::expected(directory)?;
    let killed = end(&state, Duration::from_secs(options.wait)).await;
    State::remove(directory)?;
    if options.delete {
        for folder in ["config", "data", "events", "logs"] {
            let path = directory.join(folder);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(Error::file("delete", &path))?;
            }
        }
    }
    println!("ended: {}", state.services.len());
    if !killed.is_empty() {
        println!("killed, as they did not end by themselves: {}", killed.join(", "));
    }
    Ok(killed.is_empty())
}

/// Ends what lives; returns the names of those that had to be killed.
pub(super) async fn end(state: &State, patience: Duration) -> Vec<String> {
    let mut killed = vec![];
    for service in state.services.iter().rev().filter(|service| process::lives(service)) {
        if !process::stop(service, patience, false).await {
            killed.push(service.name.clone());
        }
    }
    killed
}
