//! `springald`: the one binary. Parses the command line and starts what it names.
#![deny(unsafe_code)]

mod allocator;
mod cli;
mod config;
mod roles;

use std::process::ExitCode;

use clap::Parser;
use springald_core::compute::STACK_BYTES;
use springald_core::error::Error;
use springald_core::secrets;
use springald_core::telemetry::{self, events::names};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = cli::Cli::parse();
    // Schedulers plan on these threads, and executors decode plans: by recursion, one level for each link of a chain like
    // `a = 1 OR a = 2 OR …`. The longest ones that are taken need about a third of this stack.
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("springald: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(roles::run(cli.command));
    let code = ended.unwrap_or_else(|error| {
        tell(&error);
        ExitCode::FAILURE
    });
    runtime.block_on(telemetry::shutdown());
    code
}

/// Says why the process ends: to whoever started it, and to whoever reads its events.
fn tell(error: &Error) {
    tracing::error!(event = names::PROCESS_FAILED, error_code = error.code().as_str(), %error, "the process ends");
    eprintln!("springald: [{}] {error}", error.code());
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        eprintln!("  caused by: {}", secrets::text(&next.to_string()));
        cause = next.source();
    }
}
