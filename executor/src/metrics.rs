//! What an executor tells Prometheus.
//!
//! Gauges are shared by all executors of a process (`standalone` has several), so each adds its own part and takes it
//! away again; see [`Part`].

use std::sync::atomic::{AtomicU64, Ordering};

use foundations::telemetry::metrics::{Counter, Gauge, metrics};

/// The metrics, `springald_executor_…`.
#[metrics(unprefixed)]
pub(crate) mod springald_executor {
    /// Slots for tasks.
    pub fn slots() -> Gauge;
    /// Slots for tasks that are free.
    pub fn slots_free() -> Gauge;
    /// Tasks that ended, by outcome: succeeded, failed, aborted.
    pub fn tasks_total(outcome: &'static str) -> Counter;
    /// Tasks that run.
    pub fn tasks_running() -> Gauge;
    /// Outcomes that no scheduler has acknowledged yet.
    pub fn outcomes_pending() -> Gauge;
    /// Schedulers with a control stream to this process.
    pub fn schedulers_connected() -> Gauge;
    /// Pieces of stage outputs that are kept.
    pub fn exchange_pieces() -> Gauge;
    /// Bytes of stage outputs in memory.
    pub fn exchange_memory_bytes() -> Gauge;
    /// Bytes of stage outputs on disk.
    pub fn exchange_spilled_bytes() -> Gauge;
    /// Reads of stage outputs on disk that found them missing, cut short or changed.
    pub fn exchange_damaged_reads_total() -> Counter;
    /// Bytes of stage outputs sent to peers and schedulers.
    pub fn exchange_sent_bytes_total() -> Counter;
    /// Bytes of stage outputs received from peers.
    pub fn exchange_received_bytes_total() -> Counter;
    /// Bytes reserved in the memory pool, by operators and the exchange.
    pub fn memory_reserved_bytes() -> Gauge;
    /// Size of the memory pool.
    pub fn memory_limit_bytes() -> Gauge;
}

/// One executor's part of a gauge; taken away when dropped.
pub(crate) struct Part {
    gauge: Gauge,
    value: AtomicU64,
}

impl Part {
    /// A part of `gauge`, zero so far.
    pub(crate) fn of(gauge: Gauge) -> Self {
        Self { gauge, value: AtomicU64::new(0) }
    }

    /// Makes the part `value`.
    pub(crate) fn set(&self, value: u64) {
        let before = self.value.swap(value, Ordering::Relaxed);
        if value >= before {
            self.gauge.inc_by(value - before);
        } else {
            self.gauge.dec_by(before - value);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}
