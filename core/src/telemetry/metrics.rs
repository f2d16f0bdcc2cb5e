//! What every process tells Prometheus of itself and its telemetry.

use foundations::telemetry::metrics::{Counter, Gauge, metrics};

/// The metrics, `springald_…`.
#[metrics(unprefixed)]
pub(crate) mod springald {
    /// 1, with the version of the process and what kind of process it is.
    pub fn build_info(version: &'static str, service: &'static str) -> Gauge;
}

/// The metrics, `springald_telemetry_…`.
#[metrics(unprefixed)]
pub(crate) mod springald_telemetry {
    /// Events written to standard output or the file.
    pub fn events_written_total() -> Counter;
    /// Bytes of events written.
    pub fn event_bytes_written_total() -> Counter;
    /// Events that were dropped, by reason: buffer_full (the writer could not keep up), write_failed (a full disk).
    pub fn events_dropped_total(reason: &'static str) -> Counter;
    /// Times that a full file of events could not be set aside: it grows on.
    pub fn event_files_not_set_aside_total() -> Counter;
    /// Spans exported to the collector of traces.
    pub fn spans_exported_total() -> Counter;
    /// Spans that were dropped, by reason: queue_full (the collector is too slow),
    /// export_failed, rejected (by the collector).
    pub fn spans_dropped_total(reason: &'static str) -> Counter;
}
