//! What a process has set up once: its writer of events, its exporter of traces, and how it shows SQL.

use std::sync::OnceLock;
use std::time::Duration;

use super::layer::Flush;
use super::line::cut;
use super::trace::Exporter;
use crate::error::{Error, Result};
use crate::secrets;
use crate::settings::TelemetrySettings;

/// How long a process that ends waits for its events to be written.
const EVENTS_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for its spans to be exported.
const SPANS_PATIENCE: Duration = Duration::from_secs(3);
/// How long a panic waits.
const PANIC_PATIENCE: Duration = Duration::from_secs(1);

static PROCESS: OnceLock<Process> = OnceLock::new();

/// How SQL is shown in events and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqlShown {
    Full,
    Redacted,
    Off,
}

pub(super) struct Process {
    pub(super) events: Flush,
    pub(super) spans: Option<Exporter>,
    pub(super) sql: SqlShown,
    pub(super) sql_bytes: usize,
    pub(super) trace_sample_percent: u8,
}

impl Process {
    /// Keeps it for the rest of the process's life.
    ///
    /// # Errors
    /// There is one already.
    pub(super) fn keep(self) -> Result<()> {
        PROCESS.set(self).map_err(|_| Error::internal("telemetry was started already"))
    }
}

impl SqlShown {
    /// As the setting says.
    ///
    /// # Errors
    /// It says something else than `full`, `redacted` or `off`.
    pub(super) fn of(settings: &TelemetrySettings) -> Result<Self> {
        match settings.sql.as_str() {
            "full" => Ok(Self::Full),
            "redacted" => Ok(Self::Redacted),
            "off" => Ok(Self::Off),
            other => Err(Error::invalid(format!("telemetry.sql: {other:?} is not full, redacted or off"))),
        }
    }

    fn show(self, statement: &str, limit: usize) -> Option<String> {
        // What is shown ends there anyway; a statement of megabytes is not looked through for it.
        let start = &statement[..statement.floor_char_boundary(limit.saturating_mul(4))];
        match self {
            Self::Full => Some(cut(&secrets::sql(start), limit)),
            Self::Redacted => Some(cut(&secrets::redacted(start), limit)),
            Self::Off => None,
        }
    }
}

/// A statement as events and traces may show it; `None`: not at all.
pub fn shown_sql(statement: &str) -> Option<String> {
    const DEFAULT_BYTES: usize = 4096;
    match PROCESS.get() {
        Some(process) => process.sql.show(statement, process.sql_bytes),
        None => SqlShown::Full.show(statement, DEFAULT_BYTES),
    }
}

pub(super) fn span_exporter() -> Option<&'static Exporter> {
    PROCESS.get()?.spans.as_ref()
}

pub(super) fn trace_sample_percent() -> u8 {
    PROCESS.get().map_or(100, |process| process.trace_sample_percent)
}

/// Writes and exports what is there; the last thing that a process does.
pub async fn shutdown() {
    let Some(process) = PROCESS.get() else { return };
    if let Some(spans) = &process.spans {
        spans.flush(SPANS_PATIENCE).await;
    }
    let events = process.events.clone();
    // Fails only when the runtime ends, and then there is nobody to write for.
    let _ = tokio::task::spawn_blocking(move || events.end(EVENTS_PATIENCE)).await;
}

/// From now on a panic is an event, and all events before it are written when it is shown.
pub(super) fn tell_of_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let error = panic.payload_as_str().unwrap_or("a panic without a message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(event = super::events::names::PROCESS_PANICKED, error, location, "a panic: this is a defect");
        if let Some(process) = PROCESS.get() {
            process.events.flush(PANIC_PATIENCE);
        }
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_statement_then_it_is_shown_as_the_setting_says_and_not_longer() {
        let statement = "SELECT 'é', 12 FROM t WHERE password = 'x'";
        assert_eq!(SqlShown::Off.show(statement, 100), None);
        assert_eq!(SqlShown::Redacted.show(statement, 100).as_deref(), Some("SELECT ?, ? FROM t WHERE password = ?"));
        let full = SqlShown::Full.show(statement, 100);
        assert_eq!(full.as_deref(), Some("SELECT 'é', 12 FROM t WHERE password = '***'"));
        assert_eq!(SqlShown::Full.show(statement, 9).as_deref(), Some("SELECT '…"));
    }
}
