//! Shows a cluster.

use super::options::{LogsOptions, Place};
use super::process;
use super::state::State;
use crate::Result;

/// Shows what runs; false if something does not.
pub(super) async fn show(place: &Place) -> Result<bool> {
    Ok(print(&State::expected(&place.directory)?).await)
}

/// Prints one line per process.
pub(super) async fn print(state: &State) -> bool {
    let mut all_well = true;
    for service in &state.services {
        let condition = match process::lives(service) {
            true if process::is_healthy(service).await => "healthy",
            true => "not healthy",
            false => "ended",
        };
        all_well &= condition == "healthy";
        let addresses: Vec<String> =
            service.addresses.iter().map(|(what, where_)| format!("{what} {where_}")).collect();
        println!("{:<14} {:<12} pid {:<8} {}", service.name, condition, service.pid, addresses.join("  "));
    }
    for (name, why) in &state.left_out {
        println!("{name:<14} left out     {why}");
    }
    all_well
}

/// Prints the last lines of logs, and of events.
pub(super) fn logs(options: &LogsOptions) -> Result<bool> {
    let state = State::expected(&options.place.directory)?;
    for name in &options.names {
        state.known(name)?;
    }
    for service in &state.services {
        if !options.names.is_empty() && !options.names.contains(&service.name) {
            continue;
        }
        for file in service.files() {
            println!("== {} ({})\n{}", service.name, file.display(), process::tail(file, options.lines));
        }
    }
    Ok(true)
}
