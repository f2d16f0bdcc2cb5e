//! `springald`: the one binary. Parses the command line and starts what it names.
#![deny(unsafe_code)]

mod allocator;
mod cli;
mod config;
mod roles;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("springald: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(roles::run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("springald: [{}] {error}", error.code());
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                eprintln!("  caused by: {next}");
                cause = next.source();
            }
            ExitCode::FAILURE
        }
    }
}
