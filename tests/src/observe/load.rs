//! Events beside those of the cluster, as many as wanted.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Events that are written at one time, and the time between: some 20,000 a second.
const AT_ONE_TIME: u64 = 1000;
const PAUSE: Duration = Duration::from_millis(50);

/// Writes so many events to a file of their own, as a process of its own would.
pub(super) fn write(folder: PathBuf, events: u64) -> JoinHandle<Result<(), String>> {
    tokio::spawn(async move {
        if events == 0 {
            return Ok(());
        }
        let file = std::fs::File::create(folder.join("load.jsonl")).map_err(|error| error.to_string())?;
        let mut file = BufWriter::new(file);
        let instance = format!("load-{}", std::process::id());
        for first in (1..=events).step_by(usize::try_from(AT_ONE_TIME).unwrap_or(1)) {
            for sequence in first..=events.min(first + AT_ONE_TIME - 1) {
                let event = json!({
                    "v": 1, "event_id": format!("{instance}-{sequence}"), "sequence": sequence,
                    "ts": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true), "level": "info", "service": "load",
                    "instance": instance, "cluster": "local", "event": "task.succeeded", "message": "a task has succeeded",
                    "target": "springald_tests", "job_id": format!("job-{}", sequence / 100), "stage_id": 1, "rows": sequence,
                });
                writeln!(file, "{event}").map_err(|error| error.to_string())?;
            }
            file.flush().map_err(|error| error.to_string())?;
            sleep(PAUSE).await;
        }
        Ok(())
    })
}
