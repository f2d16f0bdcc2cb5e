//! Ends parts of a cluster and starts them again.

use std::fs;
use std::time::Duration;

use super::options::RestartOptions;
use super::process;
use super::state::State;
use crate::{Error, Result};

/// One after the other, each until it is healthy again.
pub(super) async fn run(options: &RestartOptions) -> Result<bool> {
    let directory = &options.place.directory;
    let directory = fs::canonicalize(directory).map_err(Error::file("find", directory))?;
    let (mut state, patience) = (State::expected(&directory)?, Duration::from_secs(options.wait));
    for name in &options.names {
        state.known(name)?;
    }
    for name in &options.names {
        let Some(service) = state.services.iter_mut().find(|service| service.name == *name) else { continue };
        let time_to_end = if options.kill { Duration::ZERO } else { patience };
        process::stop(service, time_to_end, options.kill).await;
        *service = process::start(&service.planned(), &directory)?;
        let started = service.clone();
        state.save(&directory)?;
        process::healthy(&started, patience).await?;
        println!("{name} pid {}", started.pid);
    }
    Ok(true)
}
