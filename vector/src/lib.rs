//! Runs the VRL programs of `vrl/` as Vector does, with the same compiler, for the tests of the pipeline.
//!
//! ```text
//! config ──▶ the transform's file ──compile──▶ Program ──run(event)──▶ Passed(event) | Refused(reason)
//! ```
//!
//! It knows nothing of sources, buffers and sinks: only what happens to one event in a `remap` transform or a condition.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::{TargetValue, TimeZone};
use vrl::value::{Secrets, Value};

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The compiler refuses the program.
    #[error("{name} does not compile:\n{diagnostics}")]
    Compile {
        /// The file, or what the program is for.
        name: String,
        /// What the compiler says, with the lines.
        diagnostics: String,
    },
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on, as this.
    Passed(serde_json::Value),
    /// It goes aside as it was, for this reason (`drop_on_error`, `drop_on_abort` and `reroute_dropped` of a transform).
    Refused(String),
}

/// A compiled program.
pub struct Program {
    program: vrl::compiler::Program,
    runtime: Runtime,
}

impl Program {
    /// Compiles the program in a file.
    ///
    /// # Errors
    /// If it cannot be read or does not compile. Warnings count: a program that is committed has none.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let source = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::compile(&path.display().to_string(), &source)
    }

    /// Compiles a program that is called `name` in errors.
    ///
    /// # Errors
    /// If it does not compile, or with warnings.
    pub fn compile(name: &str, source: &str) -> Result<Self, Error> {
        let refused = |diagnostics| {
            let diagnostics = vrl::diagnostic::Formatter::new(source, diagnostics).to_string();
            Error::Compile { name: name.to_owned(), diagnostics }
        };
        let compiled = vrl::compiler::compile(source, &vrl::stdlib::all()).map_err(refused)?;
        if !compiled.warnings.is_empty() {
            return Err(refused(compiled.warnings));
        }
        Ok(Self { program: compiled.program, runtime: Runtime::default() })
    }

    /// Runs the program as a `remap` transform does.
    pub fn run(&mut self, event: serde_json::Value) -> Outcome {
        let mut target = target(event);
        match self.resolve(&mut target) {
            Ok(_) => Outcome::Passed(json(target.value)),
            Err(Terminate::Abort(error) | Terminate::Error(error)) => Outcome::Refused(error.to_string()),
        }
    }

    /// Runs the program as a condition does: true if it says so.
    pub fn holds(&mut self, event: &serde_json::Value) -> bool {
        matches!(self.resolve(&mut target(event.clone())), Ok(Value::Boolean(true)))
    }

    fn resolve(&mut self, target: &mut TargetValue) -> Result<Value, Terminate> {
        let answer = self.runtime.resolve(target, &self.program, &TimeZone::default());
        self.runtime.clear();
        answer
    }
}

fn target(event: serde_json::Value) -> TargetValue {
    TargetValue { value: event.into(), metadata: Value::Object(Default::default()), secrets: Secrets::default() }
}

/// Times come out as text, as Vector's JSON codec writes them.
fn json(value: Value) -> serde_json::Value {
    value.try_into().unwrap_or(serde_json::Value::Null)
}
