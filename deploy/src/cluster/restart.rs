//! Ends parts of a cluster and starts them again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::options::RestartOptions;
use super::process;
use super::state::{Service, State};
use crate::{Error, Result};

/// What has ended is started at once, as a scheduler is healthy only with an executor, and an executor with a scheduler.
/// What lives is ended and started one after the other, each until it is healthy again.
pub(super) async fn run(options: &RestartOptions) -> Result<bool> {
    let directory = &options.place.directory;
    let directory = fs::canonicalize(directory).map_err(Error::file("find", directory))?;
    let (mut state, patience) = (State::expected(&directory)?, Duration::from_secs(options.wait));
    for name in &options.names {
        state.known(name)?;
    }
    let has_ended = |service: &&Service| options.names.contains(&service.name) && !process::lives(service);
    let ended: Vec<String> = state.services.iter().filter(has_ended).map(|service| service.name.clone()).collect();
    for name in &ended {
        start(name, &mut state, &directory)?;
    }
    for name in &ended {
        healthy(name, &state, patience).await?;
    }
    for name in options.names.iter().filter(|name| !ended.contains(name)) {
        let time_to_end = if options.kill { Duration::ZERO } else { patience };
        process::stop(state.known(name)?, time_to_end, options.kill).await;
        start(name, &mut state, &directory)?;
        healthy(name, &state, patience).await?;
    }
    Ok(true)
}

fn start(name: &str, state: &mut State, directory: &Path) -> Result<()> {
    if let Some(service) = state.services.iter_mut().find(|service| service.name == name) {
        *service = process::start(&service.planned(), directory)?;
    }
    state.save(directory)
}

async fn healthy(name: &str, state: &State, patience: Duration) -> Result<()> {
    let service = state.known(name)?;
    process::healthy(service, patience).await?;
    println!("{name} pid {}", service.pid);
    Ok(())
}
