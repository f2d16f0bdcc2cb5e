//! DataFusion's own sqllogictest scripts through Flight SQL: `make slt`.
//!
//! ```text
//! scripts of the crate `datafusion-sqllogictest` (texts only)
//!   └─ record ─┬─▶ DataFusion in this process ──────────────────▶ expected outcome ─┐
//!              └─▶ a server's session for each mode ── Flight SQL ─▶ outcome ───────┴─▶ compared
//! tables that the server cannot make ─▶ their content as files ─▶ external tables on the server
//! ```
//!
//! Expected rows are not those of the scripts but those of DataFusion in the same process. A difference is either
//! DataFusion's own ([`explain`]), or on the reviewed list (`tests/slt/expected_differences.txt`), or fails the run.

pub mod copy;
pub mod engine;
pub mod expected;
pub mod explain;
pub mod files;
pub mod mirror;
pub mod report;
pub mod rows;
pub mod run;
pub mod script;
pub mod server;
pub mod shape;
pub mod statement;

use std::path::{Path, PathBuf};

use clap::Args;

use self::expected::Expected;
use self::report::Report;
use self::run::Runner;
use self::server::Mode;
use crate::workspace;

/// Stack of the threads that run queries: plans are walked by recursion.
pub const STACK_BYTES: usize = 64 << 20;

/// Scripts to run, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory that holds `test_files`; made by `scripts/slt.sh`.
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Scripts to run, as `window*.slt`; all of them if there is none.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub files: Vec<String>,
    /// Number of scripts to run: a fixed sample, evenly taken.
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Modes of the server's sessions; all of them if there is none.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub mode: Vec<Mode>,
    /// Number of executors; 0: all roles in one process.
    #[arg(long, default_value_t = 2)]
    pub executors: usize,
    /// Goes on after a script with unexpected differences.
    #[arg(long)]
    pub keep_going: bool,
    /// Prints each script's name and time.
    #[arg(long)]
    pub verbose: bool,
    /// Writes the report to this file too, after each script.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Runs the scripts.
///
/// # Errors
/// There are no scripts, the list of expected differences cannot be read, or there is no server.
pub async fn run(options: &Options) -> Result<Report, String> {
    // Before the working directory changes.
    let json = options.json.as_ref().map(std::path::absolute).transpose().map_err(|error| error.to_string())?;
    let root = options.root.canonicalize().map_err(|error| format!("{}: {error}", options.root.display()))?;
    // Locations in scripts are relative to it.
    let own = workspace().join("tests/slt");
    std::env::set_current_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    files::generate(&root, &own).await?;
    let scripts = files::scripts(&root.join("test_files"), &options.files, options.sample)?;
    let list = own.join("expected_differences.txt");
    let text = std::fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let expected = Expected::parse(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let modes = if options.mode.is_empty() { Mode::ALL.to_vec() } else { options.mode.clone() };
    let mut runner = Runner::start(options.executors, modes, expected).await;
    for path in scripts {
        if let Err(why) = runner.run(&root, &own, &path).await {
            runner.report.aborted.push(why);
        }
        write_json(json.as_deref(), &runner.report)?;
        if options.verbose {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let unexpected = runner.report.unexpected().count();
            println!("{name}: {} records, {unexpected} unexpected differences so far", runner.report.records);
        }
        if !options.keep_going && runner.report.unexpected().next().is_some() {
            break;
        }
    }
    let report = runner.finish();
    write_json(json.as_deref(), &report)?;
    Ok(report)
}

fn write_json(path: Option<&Path>, report: &Report) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, format!("{:#}", report.to_json())).map_err(|error| format!("{}: {error}", path.display()))
}
