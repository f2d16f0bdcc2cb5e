//! The command line of the shell.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What the shell is to do.
#[derive(Args, Clone, Debug)]
pub struct ShellOptions {
    /// Server, for example grpc://host:50050; several separated by commas are tried in turn.
    #[arg(long, env = "SPRINGALD_URL", hide_env_values = true, default_value = "grpc://127.0.0.1:50050")]
    pub url: String,
    /// Statements to run, separated by semicolons; repeatable.
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    pub command: Vec<String>,
    /// File with the statements to run; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Tells how long each statement took: below tables, on standard error for csv and json.
    #[arg(long)]
    pub timing: bool,
    /// Leaves out the names of columns in table and csv.
    #[arg(long)]
    pub no_header: bool,
}

impl ShellOptions {
    /// True if neither -c nor -f says what to run.
    pub(super) fn reads_standard_input(&self) -> bool {
        self.command.is_empty() && self.file.is_none()
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns in a frame.
    Table,
    /// Comma-separated values with a header; NULL is empty.
    Csv,
    /// One JSON object per row and line.
    Json,
    /// One line per column.
    Vertical,
}
