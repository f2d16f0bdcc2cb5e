//! `springald cluster`: the topology of `deploy/compose` from the programs of this machine.
//!
//! ```text
//! up ──▶ programs (what is there?) ──▶ plan (pure: processes, files, ports) ──▶ start in stages, wait until healthy
//!                                                                                └─▶ state.json: pids, addresses, logs
//! status, logs, restart, down ──▶ state.json
//! ```
//!
//! All files are below one directory. Processes are known by id and start time, so that an id that was given to another
//! process meanwhile is never ended. Clients take several addresses, so there is no load balancer here.

mod down;
mod options;
mod plan;
mod process;
mod programs;
mod restart;
mod state;
mod status;
mod up;

pub use options::{ClusterCommand, UpOptions};
pub use state::{Service, State};

use crate::Result;

/// Runs a command; what it has to say goes to standard output. `false` if something is not as it should be.
///
/// # Errors
/// If it cannot be done.
pub async fn run(command: ClusterCommand) -> Result<bool> {
    match command {
        ClusterCommand::Up(options) => up::run(&options).await,
        ClusterCommand::Status(place) => status::show(&place).await,
        ClusterCommand::Logs(options) => status::logs(&options),
        ClusterCommand::Restart(options) => restart::run(&options).await,
        ClusterCommand::Down(options) => down::run(&options).await,
    }
}
