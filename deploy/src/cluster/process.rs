//! Processes that outlive the command that starts them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plan::Planned;
use super::state::Service;
use crate::{Error, Result, http};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the system may take to end what was killed: it may have to write for it first.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes at the end of a file that are looked at for each line that is wanted: files of events are large.
const LINE_BYTES: u64 = 64 << 10;

/// Starts a process in a group of its own: Ctrl-C at the terminal does not reach it.
pub(super) fn start(planned: &Planned, directory: &Path) -> Result<Service> {
    let path = directory.join("logs").join(format!("{}.log", planned.name));
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("create", &path))?;
    let errors = log.try_clone().map_err(Error::file("create", &path))?;
    let failed = |why: String| Error::Program { program: planned.program.display().to_string(), why };
    let child = Command::new(&planned.program)
        .args(&planned.arguments)
        .envs(planned.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let pid = child.id();
    let began = began(pid).ok_or_else(|| failed("ended at once".to_owned()))?;
    let Planned { name, program, arguments, environment, events, health, addresses } = planned.clone();
    Ok(Service { name, program, arguments, environment, pid, began, log: path, events, health, addresses })
}

/// When a process began; `None` if there is none, or it has ended and only waits for its parent.
pub(super) fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses, and may have some itself.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // The start is field 22, and the state is field 3.
    let began = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(began)
}

/// True while this very process lives.
pub(super) fn lives(service: &Service) -> bool {
    began(service.pid) == Some(service.began)
}

/// True if it answers that it is well.
pub(super) async fn is_healthy(service: &Service) -> bool {
    let Ok(url) = http::address(&service.health) else { return false };
    http::request(&url, &[], None).await.is_ok_and(|answer| answer.is_ok())
}

/// Waits until it is healthy.
pub(super) async fn healthy(service: &Service, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let failed = |why: &str| {
        let ends = service.files().map(|file| format!("\nthe end of {}:\n{}", file.display(), tail(file, 15)));
        Error::Program { program: service.name.clone(), why: format!("{why}{}", ends.collect::<String>()) }
    };
    loop {
        if is_healthy(service).await {
            return Ok(());
        }
        if !lives(service) {
            return Err(failed("has ended"));
        }
        if Instant::now() >= deadline {
            return Err(failed("is not healthy in time"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Tells it to end, unless it is to be killed at once, and kills it if it has not when its time is up. `false` if it had to be
/// killed.
pub(super) async fn stop(service: &Service, patience: Duration, at_once: bool) -> bool {
    if !at_once {
        signal(service, "TERM");
    }
    let deadline = Instant::now() + patience;
    while lives(service) && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    let by_itself = !lives(service);
    signal(service, "KILL");
    let deadline = Instant::now() + KILL_DEADLINE;
    while lives(service) && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
    }
    by_itself
}

fn signal(service: &Service, name: &str) {
    if !lives(service) {
        return;
    }
    // The standard library sends no signals to processes of others. It fails only when this one has ended just now.
    let kill = format!("kill -{name} {}", service.pid);
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
}

/// The last lines of a file; fewer, and the first of them cut, if they are very long.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    let bytes = end_of(path, LINE_BYTES.saturating_mul(lines as u64)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The last bytes of a file, as long as it is now.
fn end_of(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(start))?;
    let mut end = vec![];
    file.take(bytes).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_file_when_its_last_lines_are_wanted_then_they_are_given_and_no_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("e.jsonl");
        assert_eq!(tail(&path, 3), "", "there is no file");
        fs::write(&path, "a\nb\nc\n").expect("written");
        assert_eq!(tail(&path, 2), "b\nc");
        assert_eq!(tail(&path, 9), "a\nb\nc");
        assert_eq!(tail(&path, 0), "");
    }

    #[test]
    fn given_a_large_file_when_its_last_lines_are_wanted_then_only_its_end_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("e.jsonl");
        fs::write(&path, format!("{}\nthe last\n", "x".repeat(3 << 20))).expect("written");
        assert_eq!(tail(&path, 1), "the last");
        let two = tail(&path, 2);
        assert!(two.ends_with("x\nthe last") && two.len() as u64 <= 2 * LINE_BYTES, "{} bytes", two.len());
    }
}
