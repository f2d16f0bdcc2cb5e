//! One `springald` process: its log, its signals, and what the system says of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{START_DEADLINE, eventually};

/// Longer than a process gives its own work when it is told to end: a minute to drain, half a minute for what is left.
const STOP_DEADLINE: Duration = Duration::from_secs(100);

/// Lines of a log that are printed when a test fails.
const LINES_SHOWN: usize = 60;

/// A running `springald`. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    directory: TempDir,
}

impl Process {
    /// Starts `springald` with these arguments. `name` stands before its log when the test fails.
    ///
    /// # Panics
    /// If the binary is missing or cannot be started.
    pub fn start(name: &str, arguments: &[String]) -> Self {
        Self::start_in(name, None, &binary(), arguments)
    }

    /// Starts a program, in a network namespace if one is named.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_in(name: &str, namespace: Option<&str>, program: &Path, arguments: &[String]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = |name: &str| File::create(directory.path().join(name)).expect("a file for the log");
        let settings_of_the_caller = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with("SPRINGALD_")));
        let mut command = match namespace {
            // It becomes the program: the process id is the program's.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        for variable in settings_of_the_caller {
            command.env_remove(variable);
        }
        let child = command
            .args(arguments)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(file("log"))
            .stderr(file("errors"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, directory }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first event with this message, as soon as it is logged.
    ///
    /// # Panics
    /// If the process ends without it.
    pub async fn event(&mut self, message: &str) -> Value {
        let what = format!("{}: event {message:?}", self.name);
        eventually(&what, START_DEADLINE, async || {
            let status = self.child.try_wait().expect("a child of this process");
            if let Some(event) = self.events().into_iter().find(|event| event["message"] == message) {
                return Ok(event);
            }
            assert!(status.is_none(), "{} ended with {status:?}:\n{}", self.name, self.errors());
            Err("not logged".to_owned())
        })
        .await
    }

    /// All events logged so far. Lines that are not events are left out.
    pub fn events(&self) -> Vec<Value> {
        self.text("log").lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// All that it wrote to standard output: its events, one per line.
    pub fn log(&self) -> String {
        self.text("log")
    }

    /// Waits until it logs an event with this message, or ends.
    pub async fn ended_or_started(&mut self, message: &str) {
        let what = format!("{}: its end, or event {message:?}", self.name);
        eventually(&what, START_DEADLINE, async || {
            let ended = self.child.try_wait().expect("a child of this process").is_some();
            let started = self.events().iter().any(|event| event["message"] == message);
            if ended || started { Ok(()) } else { Err("neither".to_owned()) }
        })
        .await;
    }

    /// What it wrote to standard error.
    pub fn errors(&self) -> String {
        self.text("errors")
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of this process").is_none()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{}: end of the process", self.name);
        eventually(&what, deadline, async || {
            let status = self.child.try_wait().expect("a child of this process");
            status.ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// Asks it to end (SIGTERM), as operators and orchestrators do, and waits for it.
    ///
    /// # Panics
    /// If it does not end in time, with status 0.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended(STOP_DEADLINE).await;
        assert!(status.success(), "{} ended with {status} when it was told to end:\n{}", self.name, self.errors());
    }

    /// Sends it a signal, as `STOP`.
    ///
    /// # Panics
    /// If it has ended already.
    pub fn signal(&self, name: &str) {
        // The standard library sends no signal but SIGKILL, and every shell knows kill.
        let kill = format!("kill -{name} {}", self.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(sent.success(), "{}: {kill}: {sent}", self.name);
    }

    /// Kills it (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        // It fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(&path).expect("the process runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")).and_then(|peak| peak.parse::<u64>().ok());
        kibibytes.expect("the system says how much memory a process had") << 10
    }

    /// The files with stage outputs that its executor has on disk.
    pub fn spilled_files(&self) -> Vec<PathBuf> {
        // <temporary directory>/springald-<executor>/exchange/<job>/<piece>.arrow
        let mut level = vec![self.directory.path().to_owned()];
        for below in [None, Some("exchange"), None, None] {
            let entries = level.iter().filter_map(|path| fs::read_dir(path).ok()).flatten().filter_map(Result::ok);
            let wanted = entries.map(|entry| entry.path());
            let wanted = wanted.filter(|path| below.is_none_or(|name| path.ends_with(name)));
            level = wanted.collect();
        }
        level
    }

    /// Number of its open sockets.
    pub fn sockets(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the process runs");
        let is_socket =
            |path: PathBuf| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("socket"));
        open.filter_map(Result::ok).filter(|entry| is_socket(entry.path())).count()
    }

    /// Number of its threads.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process runs").count()
    }

    /// Number of files in its temporary directory, but for its logs.
    pub fn temporary_files(&self) -> usize {
        let (mut files, mut folders) = (0, vec![self.directory.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            // What is gone meanwhile is not there.
            for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => files += 1,
                }
            }
        }
        files
    }

    fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.directory.path().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for file in ["log", "errors"] {
                let text = self.text(file);
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
                println!("── {}, {file}, the last {} lines ──\n{}", self.name, last.len(), last.join("\n"));
            }
        }
    }
}

/// The binary that was built beside this test: `<target>/release/springald` for `<target>/release/deps/<test>`.
///
/// # Panics
/// If it was not built.
pub fn binary() -> PathBuf {
    beside_tests(&format!("springald{}", std::env::consts::EXE_SUFFIX))
}

/// A file below `<target>/release`.
///
/// # Panics
/// If it was not built.
pub fn beside_tests(path: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let folder = own.parent().expect("a program is in a folder");
    // Tests are one folder deeper than programs.
    let profile = if folder.ends_with("deps") { folder.parent().expect("deps is below the profile") } else { folder };
    let binary = profile.join(path);
    assert!(
        binary.is_file(),
        "{} is missing: these tests run the binary, and `cargo test` alone does not build it; use `make test`",
        binary.display()
    );
    binary
}
