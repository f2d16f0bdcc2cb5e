//! Runs a program on each line of standard input, as a `remap` transform behind a source of lines does:
//!
//! ```sh
//! springald-vrl vrl/edge.vrl < events.jsonl            # {"passed": event} or {"refused": reason, "line": line}, one for each
//! springald-vrl --events vrl/reduce.vrl < rows.jsonl   # the lines are events of Vector themselves
//! ```
//!
//! For tests and for trying out changes of the programs; it is no part of the pipeline.

use std::io::{BufRead, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use springald_vector::{Outcome, Program};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["--events", path] => run(Path::new(path), true),
        [path] => run(Path::new(path), false),
        _ => {
            eprintln!("springald-vrl [--events] PROGRAM < LINES");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, are_events: bool) -> Result<(), Box<dyn std::error::Error>> {
    let mut program = Program::load(path)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let event = if are_events { serde_json::from_str(&line)? } else { json!({"message": line}) };
        let answer = match program.run(event) {
            Outcome::Passed(event) => json!({"passed": event}),
            Outcome::Refused(reason) => json!({"refused": reason, "line": line}),
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()?;
    Ok(())
}
