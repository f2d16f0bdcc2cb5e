//! A process of an engine: its own directory, its log, the memory it took. It and its directory are gone when dropped.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::error::{BenchError, Result};

/// How long a process may take until it can be used.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Time between two looks at a process that starts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Last lines of standard error that are shown when a process ends early.
const LINES_SHOWN: usize = 5;

const LOG: &str = "log";
const ERRORS: &str = "errors";

/// What is to be started, with the directory that the process will have.
pub(super) struct Launch {
    name: String,
    directory: TempDir,
    command: Command,
}

/// A running process. Killed when dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    /// After the child, so that nobody writes into it while it is removed.
    directory: TempDir,
}

impl Launch {
    /// `program`, called `name` in reports.
    pub(super) fn new(name: impl Into<String>, program: &Path) -> Result<Self> {
        let name = name.into();
        let directory = tempfile::Builder::new().prefix("springald-bench-").tempdir();
        let directory = directory.map_err(|error| BenchError::engine(&name, format!("no directory: {error}")))?;
        Ok(Self { name, directory, command: Command::new(program) })
    }

    /// This program.
    pub(super) fn own(name: impl Into<String>) -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| BenchError::engine("this program", error))?;
        Self::new(name, &program)
    }

    /// Adds arguments.
    pub(super) fn args<T: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds an option whose value is a directory below the process's own.
    pub(super) fn directory(mut self, option: &str, name: &str) -> Self {
        self.command.arg(option).arg(self.directory.path().join(name));
        self
    }

    /// Starts it; standard output is its log.
    pub(super) fn start(mut self) -> Result<Process> {
        let log = self.file(LOG)?;
        self.command.stdin(Stdio::null()).stdout(log);
        self.spawn()
    }

    /// Starts it with pipes for standard input and output.
    pub(super) fn start_piped(mut self) -> Result<(Process, ChildStdin, ChildStdout)> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = self.spawn()?;
        match (process.child.stdin.take(), process.child.stdout.take()) {
            (Some(input), Some(output)) => Ok((process, input, output)),
            _ => Err(BenchError::engine(&process.name, "it has no pipes")),
        }
    }

    fn spawn(mut self) -> Result<Process> {
        let errors = self.file(ERRORS)?;
        let child = self.command.stderr(errors).spawn();
        let child = child.map_err(|error| {
            BenchError::engine(&self.name, format!("{}: {error}", Path::new(self.command.get_program()).display()))
        })?;
        Ok(Process { name: self.name, child, directory: self.directory })
    }

    fn file(&self, name: &str) -> Result<File> {
        let path = self.directory.path().join(name);
        File::create(&path).map_err(BenchError::io("creating", &path))
    }
}

impl Process {
    /// What it is called in reports.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Looks until `look` finds what is waited for, as long as the process runs.
    ///
    /// # Errors
    /// If it ends, or does not get there in time.
    pub(super) async fn wait_for<T, F>(&mut self, what: &str, mut look: impl FnMut(&Self) -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let end = Instant::now() + START_DEADLINE;
        loop {
            if let Some(found) = look(self).await {
                return Ok(found);
            }
            self.check_running()?;
            if Instant::now() >= end {
                let late = format!("{what}: not within {} s{}", START_DEADLINE.as_secs(), self.last_errors());
                return Err(BenchError::engine(&self.name, late));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// # Errors
    /// If it has ended, with what it said last.
    pub(super) fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(BenchError::engine(&self.name, format!("ended with {status}{}", self.last_errors())))
            }
            Err(error) => Err(BenchError::engine(&self.name, error)),
        }
    }

    /// The first event with this message, if it is logged already.
    pub(super) fn event(&self, message: &str) -> Option<Value> {
        let log = self.text(LOG);
        let mut events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event.get("message").and_then(Value::as_str) == Some(message))
    }

    /// Most memory that it had in the machine's, in bytes; `None` if it has ended or the system does not say.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        peak_of_status(&status)
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        // It fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of its standard error, in parentheses after a space; empty if it is silent.
    fn last_errors(&self) -> String {
        let text = self.text(ERRORS);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default();
        if last.is_empty() { String::new() } else { format!(" ({})", last.join("; ")) }
    }

    fn text(&self, file: &str) -> String {
        let path: PathBuf = self.directory.path().join(file);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `VmHWM` of `/proc/<pid>/status`, in bytes.
fn peak_of_status(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_status_of_a_process_then_its_peak_is_found() {
        assert_eq!(peak_of_status("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(peak_of_status("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[tokio::test]
    async fn given_a_process_that_ends_early_then_what_it_said_is_in_the_error() {
        let launch = Launch::new("the tool", Path::new("sh")).expect("a directory");
        let mut process = launch.args(["-c", "echo 'no luck' >&2; exit 3"]).start().expect("a shell");
        let waited = process.wait_for("readiness", |_| async { None::<()> }).await;
        let error = waited.expect_err("it ended").to_string();
        assert!(error.starts_with("the tool: ended with exit status: 3") && error.contains("no luck"), "{error}");
    }

    #[tokio::test]
    async fn given_a_log_with_events_then_one_is_found_by_its_message() {
        let launch = Launch::new("the tool", Path::new("sh")).expect("a directory");
        let script = r#"echo text; echo '{"message":"up","port":7}'; sleep 60"#;
        let mut process = launch.args(["-c", script]).start().expect("a shell");
        let found = process.wait_for("the event", |process| std::future::ready(process.event("up"))).await;
        assert_eq!(found.expect("the event")["port"], 7);
        assert!(process.event("down").is_none());
        let directory = process.directory.path().to_owned();
        drop(process);
        assert!(!directory.exists());
    }

    #[test]
    fn given_a_program_that_is_missing_then_the_error_names_it() {
        let launch = Launch::new("the tool", Path::new("/no/such/program")).expect("a directory");
        let error = launch.start().err().expect("not started").to_string();
        assert!(error.starts_with("the tool: /no/such/program: "), "{error}");
    }
}
